//! What a row has been through: the requests of each step, and what their answers saved.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Timestamp;

/// The history of a row, one entry for each step of which a request left. Sealed before it is stored.
///
/// Steps go by their names: the batch may be moved to a version of its workflow in which they have other places.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Progress {
    /// By step, in the order in which the row came to them.
    pub steps: Vec<StepProgress>,
    /// The value that the workflow calls its result (`check_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// What one step came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepProgress {
    /// The step's name.
    pub name: String,
    /// Every request that left, answered or not.
    pub requests: u32,
    /// The last answer's status.
    pub http_status: Option<u16>,
    /// When the last request left, in milliseconds since 1970.
    pub at: Option<i64>,
    /// How long the last one took.
    pub duration_ms: Option<u64>,
    /// What its answer saved; `None` until it succeeded.
    pub saved: Option<BTreeMap<String, Value>>,
}

impl Progress {
    /// Everything that the steps saved, by name; where two steps save the same name, the later one's value.
    pub fn saved(&self) -> BTreeMap<String, Value> {
        self.steps.iter().filter_map(|step| step.saved.clone()).flatten().collect()
    }

    /// What the step of this name came to; nothing where no request of it left.
    pub fn of(&self, step: &str) -> Option<&StepProgress> {
        self.steps.iter().find(|noted| noted.name == step)
    }

    /// Notes that a request of this step left and how it ended.
    pub fn note_request(&mut self, step: &str, at: Timestamp, duration: Duration, http_status: Option<u16>) {
        let noted = self.step(step);
        noted.requests += 1;
        noted.at = Some(at.0);
        noted.duration_ms = Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        noted.http_status = http_status;
    }

    /// Notes what the answer of this step saved, and whether that is the row's result.
    pub fn note_success(&mut self, step: &str, saved: BTreeMap<String, Value>, result: Option<&str>) {
        if let Some(value) = result.and_then(|name| saved.get(name)) {
            self.result = Some(value.clone());
        }
        self.step(step).saved = Some(saved);
    }

    fn step(&mut self, step: &str) -> &mut StepProgress {
        let noted = self.steps.iter().position(|noted| noted.name == step).unwrap_or_else(|| {
            self.steps.push(StepProgress { name: step.to_owned(), ..StepProgress::default() });
            self.steps.len() - 1
        });
        &mut self.steps[noted]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_what_each_step_saved_and_the_result() {
        let mut progress = Progress::default();
        progress.note_request("link", Timestamp(5), Duration::from_millis(7), Some(200));
        progress.note_success("link", BTreeMap::from([("link".into(), json!("l1"))]), None);
        progress.note_request("invite", Timestamp(6), Duration::ZERO, None);
        progress.note_request("invite", Timestamp(9), Duration::ZERO, Some(201));
        progress.note_success("invite", BTreeMap::from([("check_id".into(), json!("chk_1"))]), Some("check_id"));

        let stored = serde_json::to_vec(&progress).expect("our own type");
        let progress: Progress = serde_json::from_slice(&stored).expect("our own bytes");
        assert_eq!(progress.result, Some(json!("chk_1")));
        assert_eq!(progress.saved().len(), 2);
        let noted = progress.of("invite").map(|noted| (noted.requests, noted.http_status));
        assert_eq!((noted, progress.steps.len()), (Some((2, Some(201))), 2));
    }
}
