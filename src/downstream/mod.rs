//! One HTTP call of a step: what is sent, when it may leave, and what its answer means.
//!
//! [`request`] fills a step's templates, [`dependency`] gives the permit (a slot of the [`rate`], a place among the
//! requests under way, an open [`gate`]: all or none), [`client`] makes the call, [`classify`] says what the answer
//! means. Knows nothing of rows or of the store: what must be durable goes through the trait [`Ledger`].

mod classify;
mod client;
mod dependency;
pub mod gate;
pub mod ledger;
pub mod rate;
mod request;
mod resolver;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dependency::Gatekeeper;
pub use dependency::{Permit, Wait};
use gate::Signal;
pub use gate::{Closed, GateReason, GateState};
pub use ledger::{DependencyState, Lease, LeaseAsk, Ledger, LedgerError};
use request::CompiledStep;
pub use request::Request;
use serde::Serialize;

use crate::{
    clock::Clock,
    model::{
        Dependency, FailureCode, StepFailure, Timestamp, Workflow,
        outcome::{Outcome, Reached},
    },
    template::{self, TemplateError},
};

/// The dependencies, and the steps that call them.
pub struct Downstream {
    dependencies: Vec<Arc<Gatekeeper>>,
    workflows: BTreeMap<String, Vec<CompiledStep>>,
    clock: Clock,
}

/// Why calls cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum DownstreamError {
    /// A template cannot be compiled.
    #[error("workflows.{workflow}, step {step}: {error}")]
    Template {
        /// The workflow's name.
        workflow: String,
        /// The step's name.
        step: String,
        /// What is wrong with it.
        error: TemplateError,
    },
    /// A step calls a dependency that is not there.
    #[error("workflows.{workflow}, step {step}: its dependency is not configured")]
    Dependency {
        /// The workflow's name.
        workflow: String,
        /// The step's name.
        step: String,
    },
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A dependency, for whoever watches.
#[derive(Debug, Clone, Serialize)]
pub struct DependencyStatus {
    /// Its name.
    pub name: String,
    /// The limit that is in force.
    pub rate_per_second: f64,
    /// Requests that may leave at once after a quiet time.
    pub burst: u32,
    /// Requests that may be under way at once.
    pub concurrency: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Requests that left in the last sixty seconds.
    pub calls_last_minute: u32,
    /// Whether anything may leave.
    pub gate: GateStatus,
}

/// A gate, for whoever watches.
#[derive(Debug, Clone, Serialize)]
pub struct GateStatus {
    /// Whether it is open.
    pub open: bool,
    /// Until when it is closed.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// Calls that a row which is being worked has still to make. What it does not make is given back when it is dropped.
pub struct Reservation(Vec<(Arc<Gatekeeper>, u32)>);

impl Reservation {
    fn made_one(&mut self, dependency: &Arc<Gatekeeper>) {
        let reserved = self.0.iter_mut().find(|(reserved, _)| Arc::ptr_eq(reserved, dependency));
        if let Some((_, calls @ 1..)) = reserved {
            *calls -= 1;
            dependency.unreserve(1);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.iter().for_each(|(dependency, calls)| dependency.unreserve(*calls));
    }
}

impl Downstream {
    /// Compiles the steps, and takes up rates and gates where the ledger says they were left.
    pub fn new(
        dependencies: &BTreeMap<String, Dependency>,
        workflows: &BTreeMap<String, Workflow>,
        ledger: Arc<dyn Ledger>,
        clock: Clock,
    ) -> Result<Self, DownstreamError> {
        let gatekeepers = dependencies
            .values()
            .map(|settings| Gatekeeper::new(settings.clone(), ledger.clone(), clock.clone()).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let compile = |(name, workflow): (&String, &Workflow)| {
            let steps = workflow.steps.iter().map(|step| {
                let place = || (name.clone(), step.name.clone());
                let dependency = dependencies.keys().position(|known| *known == step.dependency).ok_or_else(|| {
                    let (workflow, step) = place();
                    DownstreamError::Dependency { workflow, step }
                })?;
                CompiledStep::compile(step, dependency).map_err(|error| {
                    let (workflow, step) = place();
                    DownstreamError::Template { workflow, step, error }
                })
            });
            Ok((name.clone(), steps.collect::<Result<Vec<_>, DownstreamError>>()?))
        };
        let workflows = workflows.iter().map(compile).collect::<Result<_, DownstreamError>>()?;
        Ok(Self { dependencies: gatekeepers, workflows, clock })
    }

    fn steps(&self, workflow: &str) -> &[CompiledStep] {
        self.workflows.get(workflow).map_or(&[], Vec::as_slice)
    }

    fn named(&self, dependency: &str) -> Option<&Arc<Gatekeeper>> {
        self.dependencies.iter().find(|known| known.settings.name == dependency)
    }

    /// A step filled in for a row; `values` has `row`, `context` and `saved`.
    pub fn prepare(&self, workflow: &str, step: usize, values: &serde_json::Value) -> Result<Request, StepFailure> {
        let compiled = self.steps(workflow).get(step).ok_or_else(|| StepFailure {
            code: FailureCode::Template,
            http_status: None,
            message: "The workflow has no such step any more.".to_owned(),
            body: None,
        })?;
        compiled.render(workflow, step, &template::values(values))
    }

    /// Calls that a row at this step has still to make, by dependency; the next one's dependency first.
    fn needs(&self, workflow: &str, step: usize) -> Vec<(&Arc<Gatekeeper>, u32)> {
        let mut needs: Vec<(&Arc<Gatekeeper>, u32)> = Vec::new();
        for step in self.steps(workflow).iter().skip(step) {
            let dependency = &self.dependencies[step.dependency];
            match needs.iter_mut().find(|(known, _)| Arc::ptr_eq(known, dependency)) {
                Some((_, calls)) => *calls += 1,
                None => needs.push((dependency, 1)),
            }
        }
        needs
    }

    /// How many rows at this step could be started now: every dependency that they have still to call takes them.
    pub fn room(&self, workflow: &str, step: usize) -> usize {
        let needs = self.needs(workflow, step);
        let rooms = needs.iter().enumerate().map(|(at, (dependency, calls))| dependency.room(*calls, at == 0));
        rooms.min().unwrap_or(0)
    }

    /// Reserves what a row at this step has still to call.
    pub fn reserve(&self, workflow: &str, step: usize) -> Reservation {
        let needs = self.needs(workflow, step);
        needs.iter().for_each(|(dependency, calls)| dependency.reserve(*calls));
        Reservation(needs.into_iter().map(|(dependency, calls)| (dependency.clone(), calls)).collect())
    }

    /// A permit for one request, waited for at most `patience`.
    pub fn permit(&self, dependency: &str, reservation: &mut Reservation, patience: Duration) -> Result<Permit, Wait> {
        let dependency = self.named(dependency).ok_or_else(|| Wait { until: self.clock.now() })?;
        let permit = dependency.permit(patience)?;
        reservation.made_one(dependency);
        Ok(permit)
    }

    /// Makes the call, and says what its answer means and how long it took.
    pub fn send(&self, request: &Request, idempotency_key: Option<&str>, permit: Permit) -> (Outcome, Duration) {
        let begun = Instant::now();
        let answered = permit.gatekeeper().client.call(request, idempotency_key);
        let duration = begun.elapsed();
        let step = &self.workflows[&request.step.0][request.step.1].step;
        let (outcome, signal) = match &answered {
            Ok(answer) => {
                let retry_after = classify::retry_after(&answer.headers, self.clock.now());
                let signal = match answer.status {
                    429 => Signal::Asked { reason: GateReason::RateLimited, retry_after },
                    503 => Signal::Asked { reason: GateReason::Unavailable, retry_after },
                    500.. => Signal::Failed,
                    _ => Signal::Well,
                };
                (classify::classify(step, answer), signal)
            }
            Err(silence) => (classify::classify_silence(step, silence), Signal::Failed),
        };
        let outcome = uncounted_probe(outcome, permit.probe);
        permit.end(signal);
        (outcome, duration)
    }

    /// Until when the dependency's gate is closed.
    pub fn closed_until(&self, dependency: &str) -> Option<Timestamp> {
        self.named(dependency)?.closed_until()
    }

    /// Takes over what other processes changed of rates and gates.
    pub fn refresh(&self) {
        self.dependencies.iter().for_each(|dependency| dependency.refresh());
    }

    /// Another rate for a dependency, from the next request on; `false` where there is no such dependency.
    pub fn set_rate(&self, dependency: &str, rate_per_second: f64) -> bool {
        let known = self.named(dependency);
        known.iter().for_each(|dependency| dependency.set_rate(rate_per_second));
        known.is_some()
    }

    /// Every dependency, for whoever watches.
    pub fn status(&self) -> Vec<DependencyStatus> {
        self.dependencies.iter().map(|dependency| dependency.status()).collect()
    }

    /// Nothing leaves any more.
    pub fn close(&self) {
        self.dependencies.iter().for_each(|dependency| dependency.close());
    }
}

/// A probe of a closed gate that gets no answer costs its row nothing.
fn uncounted_probe(outcome: Outcome, probe: bool) -> Outcome {
    match outcome {
        Outcome::Transient { failure, reached, counted } => {
            let counted = counted && !(probe && reached != Reached::Answered);
            Outcome::Transient { failure, reached, counted }
        }
        other => other,
    }
}
