//! A dispatch run: one tick of the scheduler, that grants each client its rows.

use std::sync::{Mutex, TryLockError};

use serde::Serialize;

use crate::{
    appliance::Appliance,
    model::AskedBy,
    store::{
        StoreError,
        audit::{self, Deed},
        grants::{self, Granted, Run, RunOutcome},
    },
};

/// What came of asking for a run, as the API tells it.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct DispatchAnswer {
    /// `granted`, `already_running`, `too_early` or `paused`.
    pub outcome: &'static str,
    /// The run's number, where there was one.
    pub run: Option<i64>,
    /// Rows granted to all clients together.
    pub rows: u64,
    /// Rows by client.
    pub granted: Vec<Granted>,
}

impl DispatchAnswer {
    fn nothing(outcome: &'static str) -> Self {
        Self { outcome, run: None, rows: 0, granted: Vec::new() }
    }
}

impl From<Run> for DispatchAnswer {
    fn from(run: Run) -> Self {
        Self { outcome: "granted", run: Some(run.run), rows: run.rows, granted: run.granted }
    }
}

/// One run at a time: a second call while one is under way is told so and grants nothing.
#[derive(Default)]
pub struct Dispatcher(Mutex<()>);

impl Dispatcher {
    /// One dispatch run. Where one is made, `deed` is noted with it: who made it by hand.
    pub fn run(
        &self,
        appliance: &Appliance,
        asked_by: AskedBy,
        deed: Option<Deed>,
    ) -> Result<DispatchAnswer, StoreError> {
        if asked_by == AskedBy::Call {
            // Whatever comes of it: that a call was too early, or that dispatch is paused, is no silence.
            appliance.dispatch_watch.called(&appliance.clock);
        }
        let _running = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let answer = DispatchAnswer::nothing("already_running");
                appliance.metrics.runs.ended(answer.outcome, 0);
                return Ok(answer);
            }
        };
        let settings = &appliance.config.dispatch;
        let (default_rows, min_interval) = (settings.rows_per_client_per_run, settings.min_interval);
        let ran = appliance.store.write(move |tx| {
            let outcome = grants::run(tx, asked_by, default_rows, min_interval)?;
            if let (Some(deed), RunOutcome::Granted(run)) = (deed, &outcome) {
                let why = format!("run {}: {} rows", run.run, run.rows);
                audit::note(tx, &Deed { why: Some(why), ..deed })?;
            }
            Ok(outcome)
        });
        let outcome = ran.inspect_err(|_| appliance.metrics.runs.ended("error", 0))?;
        let answer = match outcome {
            RunOutcome::Granted(run) => run.into(),
            RunOutcome::TooEarly => DispatchAnswer::nothing("too_early"),
            RunOutcome::Paused => DispatchAnswer::nothing("paused"),
        };
        appliance.metrics.runs.ended(answer.outcome, answer.rows);
        tracing::info!(
            event = "dispatch.ran",
            outcome = answer.outcome,
            asked_by = asked_by.as_str(),
            run = answer.run,
            rows = answer.rows,
            clients = answer.granted.len(),
            "dispatch run"
        );
        appliance.work_bell.ring();
        Ok(answer)
    }
}
