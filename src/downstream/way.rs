//! The way of a workflow's rows: its steps, compiled, and the dependency of each. A way can be made at any time, since batches
//! keep workflows that the configuration does not have any more.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    Call, PlanError, Request,
    admission::{self, Reservation, Room},
    client::Client,
    gate::GateReason,
    lane::Lane,
    permit::Wait,
    request::Plan,
};
use crate::{
    model::{FailureCode, StepFailure, Workflow, outline, workflow::Repeat},
    template::Scope,
};

/// A workflow's way. To clone it costs nothing.
#[derive(Clone)]
pub struct Way {
    calls: Arc<[Arc<Call>]>,
    lanes: Arc<[Arc<Lane>]>,
}

/// Why rows cannot go a workflow's way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WayError {
    /// A step calls somebody whom the configuration does not know.
    #[error("{}", outline::why_missing(.workflow, .dependency))]
    MissingDependency {
        /// The workflow's name.
        workflow: String,
        /// Whom.
        dependency: String,
    },
    /// A step that cannot be sent.
    #[error("workflow `{workflow}`, step `{step}`: {error}")]
    Step {
        /// The workflow's name.
        workflow: String,
        /// The step's.
        step: String,
        /// What is wrong with it.
        error: PlanError,
    },
}

impl Way {
    pub(super) fn new(
        workflow: &Workflow,
        lanes: &BTreeMap<String, Arc<Lane>>,
        clients: &BTreeMap<String, Arc<Client>>,
    ) -> Result<Self, WayError> {
        let calls = workflow.steps.iter().map(|step| {
            let found = lanes.get(&step.dependency).zip(clients.get(&step.dependency));
            let (lane, client) = found.ok_or_else(|| WayError::MissingDependency {
                workflow: workflow.name.clone(),
                dependency: step.dependency.clone(),
            })?;
            let plan = Plan::new(step).map_err(|error| WayError::Step {
                workflow: workflow.name.clone(),
                step: step.name.clone(),
                error,
            })?;
            Ok(Arc::new(Call { plan, client: client.clone(), lane: lane.clone() }))
        });
        let calls: Arc<[Arc<Call>]> = calls.collect::<Result<_, WayError>>()?;
        let lanes = calls.iter().map(|call| call.lane.clone()).collect();
        Ok(Self { calls, lanes })
    }

    /// The request of a step, counted from 0, for these values. The failure's code is `template`.
    pub fn prepare(&self, step: usize, scope: &Scope<'_>) -> Result<Request, StepFailure> {
        let call = self.calls.get(step).ok_or_else(|| StepFailure {
            code: FailureCode::Template,
            http_status: None,
            message: format!("the workflow has no step {}", step + 1),
            body: None,
        })?;
        Ok(Request { call: call.clone(), filled: Arc::new(call.plan.fill(scope)?) })
    }

    /// How many rows could be started now at a step, counted from 0, where so many lie already before it and each of those
    /// behind it, which are counted from it. Where that is none because as many lie before a later step as may, and the step's
    /// own gate is closed too, one may find out whether that opens: of two closed gates each is probed when it is due.
    pub fn room(&self, step: usize, lying: impl Fn(usize) -> usize) -> Room {
        let lanes = self.lanes.get(step..).unwrap_or_default();
        let room = admission::room(lanes, &lying);
        match lanes.first() {
            Some(first) if room.rows == 0 && lanes.len() > 1 && !first.is_open() => {
                admission::room(&lanes[..1], &lying)
            }
            _ => room,
        }
    }

    /// Reserves the calls that a claimed row has still to make, from `step` on.
    pub fn reserve(&self, step: usize) -> Reservation {
        Reservation::new(self.lanes.clone(), step)
    }

    /// What keeps rows from starting at a step, counted from 0: the dependency, and the wait for it.
    pub fn obstacle(&self, step: usize) -> Option<(String, Wait)> {
        admission::obstacle(self.lanes.get(step..)?).map(|(lane, wait)| (lane.settings.name.clone(), wait))
    }

    /// The dependency that keeps rows from going on behind a step, counted from 0, until a person runs one of them, and what
    /// its gate is closed for: what they would send is never sent twice, and too much of that was lost.
    pub fn asks_for_a_person(&self, step: usize) -> Option<(String, GateReason)> {
        let call = self.calls.get(step..)?.iter().find(|call| !call.lane.is_open())?;
        let reason = call.lane.asks_for_a_person().filter(|_| call.plan.repeat == Repeat::Never)?;
        Some((call.lane.settings.name.clone(), reason))
    }
}

/// Only how long it is: the rest is compiled.
impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("steps", &self.calls.len()).finish_non_exhaustive()
    }
}
