//! How claims of rows end, by workflow.

use std::{collections::BTreeMap, sync::Arc};

use prometheus::{IntCounter, IntCounterVec, Result};

use super::{REMOVED, families::Families};
use crate::model::{FailureCode, Workflow};

/// The tallies of all workflows, and what is counted of claims whatever their workflow.
pub struct Rows {
    by_workflow: BTreeMap<String, Arc<Tally>>,
    removed: Arc<Tally>,
    /// Batches that paused themselves because too many of their rows failed.
    pub paused_batches: IntCounter,
    freed: IntCounterVec,
}

/// What is counted of one workflow's rows.
pub struct Tally {
    completed: IntCounter,
    released: IntCounter,
    /// By the name of the step, and by [`FailureCode`].
    failed: BTreeMap<String, Vec<IntCounter>>,
    /// Of steps that the configuration does not have any more.
    failed_elsewhere: Vec<IntCounter>,
}

struct All {
    completed: IntCounterVec,
    released: IntCounterVec,
    failed: IntCounterVec,
}

impl Rows {
    pub(super) fn new<'w>(families: &Families<'_>, workflows: impl Iterator<Item = &'w Workflow>) -> Result<Self> {
        let all = All {
            completed: families.counters(
                "dripfeed_rows_completed_total",
                "Rows that went through their last step, by workflow.",
                &["workflow"],
            )?,
            released: families.counters(
                "dripfeed_rows_released_total",
                "Claims that ended with the row given back for another try, by workflow.",
                &["workflow"],
            )?,
            failed: families.counters(
                "dripfeed_rows_failed_total",
                "Rows that failed for good, by workflow, step and code.",
                &["workflow", "step", "code"],
            )?,
        };
        let tally = |name: &str, steps: Vec<&str>| Arc::new(Tally::new(&all, name, &steps));
        let of_workflow = |workflow: &Workflow| {
            let steps = workflow.steps.iter().map(|step| step.name.as_str()).collect();
            (workflow.name.clone(), tally(&workflow.name, steps))
        };
        Ok(Self {
            by_workflow: workflows.map(of_workflow).collect(),
            removed: tally(REMOVED, Vec::new()),
            paused_batches: families.counter(
                "dripfeed_batches_auto_paused_total",
                "Batches that paused themselves because too many of their rows failed.",
            )?,
            freed: families.counters(
                "dripfeed_claims_freed_total",
                "Claims that were freed because their owner went silent or ended, by what was claimed and reason.",
                &["kind", "reason"],
            )?,
        }
        .ready())
    }

    /// So that a rate has something to begin with.
    fn ready(self) -> Self {
        for reason in ["expired", "dead_server", "shutdown"] {
            self.freed(reason, 0, 0);
        }
        self
    }

    /// The tally of a workflow.
    pub fn of(&self, workflow: &str) -> Arc<Tally> {
        self.by_workflow.get(workflow).unwrap_or(&self.removed).clone()
    }

    /// Lost claims were freed, for this reason.
    pub fn freed(&self, reason: &str, rows: usize, batches: usize) {
        for (kind, claims) in [("row", rows), ("batch", batches)] {
            self.freed.with_label_values(&[kind, reason]).inc_by(claims as u64);
        }
    }
}

impl Tally {
    fn new(all: &All, workflow: &str, steps: &[&str]) -> Self {
        let of_step = |step: &str| {
            let of_code = |code: &FailureCode| all.failed.with_label_values(&[workflow, step, code.as_str()]);
            FailureCode::ALL.iter().map(of_code).collect::<Vec<_>>()
        };
        Self {
            completed: all.completed.with_label_values(&[workflow]),
            released: all.released.with_label_values(&[workflow]),
            failed: steps.iter().map(|step| ((*step).to_owned(), of_step(step))).collect(),
            failed_elsewhere: of_step(REMOVED),
        }
    }

    /// A row went through its last step.
    pub fn completed(&self) {
        self.completed.inc();
    }

    /// A row was given back.
    pub fn released(&self) {
        self.released.inc();
    }

    /// A row failed at the step of this name.
    pub fn failed(&self, step: &str, code: FailureCode) {
        self.failed.get(step).unwrap_or(&self.failed_elsewhere)[code as usize].inc();
    }
}
