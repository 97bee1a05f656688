//! What may be known of a workflow without a key: the names of its steps, whom they call, and how often that may be.

use serde::{Deserialize, Serialize};

use super::{Workflow, workflow::Repeat};

/// The outline of a workflow. Nothing of what is sent is in it, so it lies in the database as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// How long the downstream honours an `Idempotency-Key`, in milliseconds.
    pub repeat_window_ms: u64,
    /// The steps, in order.
    pub steps: Vec<StepOutline>,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutline {
    /// Its name.
    pub name: String,
    /// The dependency that it calls.
    pub dependency: String,
    /// What makes a second request harmless.
    pub repeat: Repeat,
}

impl Outline {
    /// Of this workflow.
    pub fn of(workflow: &Workflow) -> Self {
        let step = |step: &super::Step| StepOutline {
            name: step.name.clone(),
            dependency: step.dependency.clone(),
            repeat: step.repeat,
        };
        Self {
            repeat_window_ms: u64::try_from(workflow.repeat_window.as_millis()).unwrap_or(u64::MAX),
            steps: workflow.steps.iter().map(step).collect(),
        }
    }

    /// The place of the step with this name, counted from 0.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// The first dependency of a step that is not among those there are.
    pub fn missing(&self, is_there: impl Fn(&str) -> bool) -> Option<&str> {
        self.steps.iter().map(|step| step.dependency.as_str()).find(|dependency| !is_there(dependency))
    }
}

/// Why batches stand still whose workflow calls a dependency that nobody knows, and what ends that.
pub fn why_missing(workflow: &str, dependency: &str) -> String {
    format!(
        "workflow `{workflow}` calls the dependency `{dependency}`, which is not configured: configure it, and restart the server"
    )
}
