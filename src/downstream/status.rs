//! How a dependency is, for operators: what `GET /ops/v1/dependencies` shows.

use super::{
    gate::{GateReason, Shut},
    lane::Lane,
};
use crate::model::Timestamp;

/// Behind why a gate is closed, for an operator.
const ASKS_FOR_A_PERSON: &str = "of rows that are never sent twice none is tried any more to find out if it is back, until one is run by hand: \
     `dripfeed row run BATCH/NUMBER`";

/// One dependency, as it is now.
#[derive(Debug, Clone, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct DependencyStatus {
    /// Its name.
    pub name: String,
    /// The rate that holds, whoever set it.
    pub rate_per_second: f64,
    /// The rate at which it is called now: less, for a while, where it answers that this is too fast.
    pub adapted_rate_per_second: f64,
    /// Requests that may leave at once.
    pub burst: u32,
    /// Requests that may be under way at once, as it is now.
    pub concurrency: u32,
    /// Requests of this process in the last minute.
    pub calls_last_minute: u32,
    /// ... and in each of the last sixty, oldest first; the last one is not over yet.
    pub calls_by_minute: Vec<u32>,
    /// Requests of this process under way.
    pub in_flight: u32,
    /// Its gate.
    pub gate: GateStatus,
}

/// A gate, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct GateStatus {
    /// Whether requests pass freely.
    pub open: bool,
    /// Until when they do not; from then on one probe may.
    pub until: Option<Timestamp>,
    /// Why, for a person.
    pub reason: Option<String>,
}

impl Lane {
    /// How many requests could be under way before long.
    pub(super) fn reach(&self) -> u32 {
        let reach = self.lock().concurrency.reach();
        reach.min(u32::try_from(self.places.most()).unwrap_or(u32::MAX)).max(1)
    }

    /// Whether its gate is not closed.
    pub(super) fn is_open(&self) -> bool {
        self.lock().gate.is_open()
    }

    /// Why its gate is closed, where no request that is never sent twice finds out any more whether it opens: too many of
    /// those were lost. A row that is run by hand does, and so does a request that may be repeated.
    pub(super) fn asks_for_a_person(&self) -> Option<GateReason> {
        let (now, state) = (self.now(), self.lock());
        let closed = state.gate.closed(now).filter(|_| !state.gate.may_risk())?;
        // The last of them may still be under way.
        let is_probing = matches!(state.gate.passage(now), Err(Shut::Probing(_)));
        (!is_probing).then_some(closed.reason)
    }

    /// How the dependency is now.
    pub(super) fn status(&self) -> DependencyStatus {
        let asks_for_a_person = self.asks_for_a_person().is_some();
        let now = self.now();
        let mut state = self.lock();
        let closed = state.gate.closed(now);
        DependencyStatus {
            name: self.settings.name.clone(),
            rate_per_second: state.rate,
            adapted_rate_per_second: state.line.pace().per_second(),
            burst: state.line.pace().burst(),
            concurrency: state.concurrency.limit(),
            calls_last_minute: state.calls.last_minute(now.steady),
            calls_by_minute: state.calls.by_minute(now.steady),
            in_flight: state.in_flight,
            gate: GateStatus {
                open: closed.is_none(),
                until: closed.map(|closed| closed.until),
                reason: closed.map(|closed| match asks_for_a_person {
                    true => format!("{}; {}", closed.reason, ASKS_FOR_A_PERSON),
                    false => closed.reason.to_string(),
                }),
            },
        }
    }
}
