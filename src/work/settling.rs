//! The settle that ends a claim: one row's, or those of many in one transaction.
//!
//! The outcome of a request must not be lost to a database that is busy or full for a while, so a settle that is refused
//! is tried again until it is taken, or the claim is somebody else's: then it changes nothing. Any other fault, and a
//! server that has to end, get as long as the claim lasts; after that whoever claims the row next repeats the request
//! by the rules of its step.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    ending::Ended,
    recent::{Coming, Recent, TooMany},
};
use crate::{
    appliance::Appliance,
    model::{BatchId, RowId, Timestamp, Workflow, workflow::FailureLimit},
    store::{
        Held, StoreError, Tx,
        settle::{self, Ending, Failure, Settle},
    },
    telemetry::metrics::Tally,
};

/// A settle that the database refuses is tried again after this pause.
pub(super) const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// What ends a claim, to be written as often as it takes.
pub(super) struct Settling {
    batch: BatchId,
    settle: Settle,
    ended: Ended,
    limit: FailureLimit,
    /// The name of the step that the row is at.
    step: String,
    tally: Arc<Tally>,
    claim_expires_at: Timestamp,
    /// Counts a failure until this is written.
    _coming: Option<Coming>,
}

impl Settling {
    pub(super) fn new(
        appliance: &Appliance,
        batch: BatchId,
        workflow: Option<&Workflow>,
        settle: Settle,
        ended: Ended,
        claim_expires_at: Timestamp,
        tally: Arc<Tally>,
    ) -> Self {
        let step = workflow.and_then(|workflow| workflow.steps.get(settle.standing.step as usize));
        let limit = workflow.map_or(FailureLimit::DEFAULT, |workflow| workflow.failure_limit);
        let step = step.map(|step| step.name.clone()).unwrap_or_default();
        let has_failed = matches!(ended, Ended::Failed(_));
        let coming = has_failed.then(|| appliance.recent.coming(settle.row.batch()));
        Self { batch, settle, ended, limit, step, tally, claim_expires_at, _coming: coming }
    }

    /// Writes it, however long that takes.
    pub(super) fn write_until_taken(self, appliance: &Appliance) -> Result<Ended, StoreError> {
        let alone = [Arc::new(self)];
        loop {
            match write(appliance, &alone) {
                Ok(mut ended) => return ended.pop().ok_or(StoreError::Closed),
                Err(error) if !alone[0].is_worth_another_try(appliance, &error) => return Err(error),
                Err(_) => {
                    refused(1);
                    std::thread::sleep(SETTLE_AGAIN);
                }
            }
        }
    }

    /// Whether it may still be written after this error; says so.
    pub(super) fn is_worth_another_try(&self, appliance: &Appliance, error: &StoreError) -> bool {
        let (batch, row) = (&self.batch, self.row().number());
        let has_lapsed = appliance.clock.now() >= self.claim_expires_at;
        let is_hopeless = has_lapsed && (!error.is_passing() || appliance.closing.is_closed());
        if is_hopeless || matches!(error, StoreError::Closed) {
            tracing::error!(event = "row.unsettled", %batch, row, %error, "a claim could not be ended; it expires");
            return false;
        }
        tracing::debug!(event = "row.settle_refused", %batch, row, %error, "the settle was refused");
        true
    }

    /// How the claim ended, now that this is on disk.
    fn told(&self) -> Ended {
        let (batch, row, step) = (&self.batch, self.row().number(), &self.step);
        match &self.settle.ending {
            Ending::Completed => tracing::debug!(event = "row.completed", %batch, row, "row completed"),
            Ending::Failed(Failure { code, http_status, .. }) => {
                let code = code.as_str();
                tracing::debug!(event = "row.failed", %batch, row, step, code, http_status, "row failed");
            }
            Ending::Released { next_attempt_at, .. } => {
                tracing::debug!(event = "row.released", %batch, row, step, %next_attempt_at, "row will be tried again");
            }
        }
        self.ended.clone()
    }

    /// How the claim ends.
    pub(super) fn ended(&self) -> &Ended {
        &self.ended
    }

    fn count(&self) {
        match &self.ended {
            Ended::Completed => self.tally.completed(),
            Ended::Failed(code) => self.tally.failed(&self.step, *code),
            Ended::Released(_) => self.tally.released(),
            Ended::TakenOver => {}
        }
    }

    /// What is written of the row, but for a few numbers.
    pub(super) fn bytes(&self) -> usize {
        let failure = match &self.settle.ending {
            Ending::Failed(failure) | Ending::Released { failure: Some(failure), .. } => failure.sealed.len(),
            Ending::Completed | Ending::Released { failure: None, .. } => 0,
        };
        self.settle.standing.bytes() + failure
    }

    /// Whose claim it ends.
    pub(super) fn row(&self) -> RowId {
        self.settle.row
    }
}

/// Writes settles in one transaction, all or none. With the rows that failed goes the look whether too many have, so
/// that not one claim more is made of a batch that pauses itself.
pub(super) fn write(appliance: &Appliance, group: &[Arc<Settling>]) -> Result<Vec<Ended>, StoreError> {
    let (ours, recent) = (group.to_vec(), appliance.recent.clone());
    let (held, judged) = appliance.store.write(move |tx| {
        let held = settle::settle_all(tx, ours.iter().map(|settling| &settling.settle))?;
        let settled: Vec<_> =
            ours.iter().zip(&held).filter(|(_, held)| **held == Held::Yes).map(|(it, _)| it).collect();
        let of_batches = settled.chunk_by(|one, next| one.row().batch() == next.row().batch());
        let judged = of_batches.map(|rows| judge(tx, &recent, rows)).collect::<Result<Vec<_>, _>>()?;
        Ok((held, judged))
    })?;
    judged.into_iter().for_each(|judged| judged.keep(appliance));
    let ended = |(settling, held): (&Arc<Settling>, Held)| match held {
        Held::Yes => {
            settling.count();
            settling.told()
        }
        Held::No => taken_over(appliance, settling.batch, settling.row().number()),
    };
    Ok(group.iter().zip(held).map(ended).collect())
}

/// What rows that ended mean for their batch: to be kept once it is on disk that they did.
struct Judged {
    batch: i64,
    limit: FailureLimit,
    /// `true`: failed.
    ended: Vec<bool>,
    verdict: Verdict,
}

enum Verdict {
    GoesOn,
    /// It stood still before, or is over.
    StandsStill,
    PausedItself(BatchId, String),
}

fn judge(tx: &Tx<'_>, recent: &Recent, rows: &[&Arc<Settling>]) -> Result<Judged, StoreError> {
    let ended = rows.iter().filter_map(|settling| match settling.settle.ending {
        Ending::Completed => Some(false),
        Ending::Failed(_) => Some(true),
        Ending::Released { .. } => None,
    });
    let ended: Vec<bool> = ended.collect();
    let (batch, limit) = (rows[0].row().batch(), rows[0].limit);
    let last = rows.iter().rev().find_map(|settling| match &settling.settle.ending {
        Ending::Failed(failure) => Some((settling, failure)),
        _ => None,
    });
    let verdict = match last {
        None => Verdict::GoesOn,
        Some(_) if !settle::is_at_work(tx, batch)? => Verdict::StandsStill,
        Some((settling, failure)) => match recent.judge(batch, limit, &ended) {
            None => Verdict::GoesOn,
            Some(TooMany { failed, of }) => {
                let reason = settle::pause_itself(tx, batch, (failed, of), failure, &settling.step)?;
                Verdict::PausedItself(settling.batch, reason)
            }
        },
    };
    Ok(Judged { batch, limit, ended, verdict })
}

impl Judged {
    fn keep(self, appliance: &Appliance) {
        match self.verdict {
            Verdict::GoesOn => appliance.recent.note(self.batch, self.limit, &self.ended),
            Verdict::StandsStill => appliance.recent.forget(self.batch),
            Verdict::PausedItself(batch, reason) => {
                appliance.recent.forget(self.batch);
                appliance.metrics.rows.paused_batches.inc();
                tracing::warn!(event = "batch.paused_itself", %batch, reason, "a batch has paused itself");
            }
        }
    }
}

/// Once a round, however many they are: the database has said the same of each of them.
pub(super) fn refused(rows: usize) {
    tracing::warn!(event = "settles.refused", rows, "a settle was refused; trying again until it is taken");
}

/// What the fence kept out is counted: it means that claims expire while somebody still works on them.
pub(super) fn taken_over(appliance: &Appliance, batch: BatchId, row: u32) -> Ended {
    appliance.late_settles.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(event = "row.settled_late", %batch, row, "the claim was taken over; nothing was changed");
    Ended::TakenOver
}
