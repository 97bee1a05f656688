//! How a claim ends: in one settle, whatever stopped the steps.
//!
//! The outcome of a request must not be lost to a database that is busy or full for a while, so a settle that is refused
//! is tried again until it is taken, or the claim is somebody else's: then it changes nothing. Any other fault, and a
//! server that has to end, get as long as the claim lasts; after that whoever claims the row next repeats the request
//! by the rules of its step.

use std::sync::atomic::Ordering;

use super::{
    error_payload::ErrorPayload,
    open_batch::OpenBatchError,
    worker::{Unopened, Worker},
};
use crate::{
    appliance::Appliance,
    model::{
        BatchId, ClaimOwner, FailureCode, RowId, StepFailure, Timestamp, Workflow, backoff, workflow::FailureLimit,
    },
    store::{
        Held, StoreError,
        batches::{self, Batch},
        claims::ClaimedRow,
        settle::{self, Ending, Failure, Standing},
    },
};

/// A settle that the database refuses is tried again after this pause.
const SETTLE_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How a claim ended, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The row is completed.
    Completed,
    /// It failed for good.
    Failed(FailureCode),
    /// It will be tried again then.
    Released(Timestamp),
    /// The claim was taken over; nothing was changed.
    TakenOver,
}

/// Why the steps stopped before the last one succeeded.
pub(super) enum Stop {
    /// The row is to end so.
    End(End),
    /// The claim is not ours any more.
    TakenOver,
    /// The database did not take a write; nothing more may leave.
    Store(StoreError),
}

pub(super) enum End {
    Failed(StepFailure),
    Again { at: Timestamp, failure: Option<StepFailure> },
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<StepFailure> for Stop {
    fn from(failure: StepFailure) -> Self {
        Self::End(End::Failed(failure))
    }
}

impl Worker<'_> {
    /// Ends the claim.
    pub(super) fn settle(&self, stopped: Result<(), Stop>) -> Result<Ended, StoreError> {
        let (ending, ended) = match stopped {
            Ok(()) => (Ending::Completed, Ended::Completed),
            Err(Stop::TakenOver) => {
                return Ok(fenced(self.appliance, self.batch.id, self.claimed, Held::No, Ended::TakenOver));
            }
            Err(Stop::Store(error)) => {
                tracing::warn!(batch = %self.batch.id, row = self.claimed.row.number(), %error, "nothing was sent");
                let at = self.appliance.clock.now().after(backoff::FIRST_WAIT);
                (Ending::Released { next_attempt_at: at, failure: self.last_failure() }, Ended::Released(at))
            }
            Err(Stop::End(End::Failed(failure))) => {
                (Ending::Failed(self.sealed_failure(&failure)), Ended::Failed(failure.code))
            }
            Err(Stop::End(End::Again { at, failure })) => {
                let failure = failure.map(|failure| self.sealed_failure(&failure)).or_else(|| self.last_failure());
                (Ending::Released { next_attempt_at: at, failure }, Ended::Released(at))
            }
        };
        let standing = Standing { progress: Some(self.sealed_progress()), ..self.standing.clone() };
        let settling = Settling::new(self.claimed, self.workflow, standing, ending, self.spent);
        let held = self.write_until_taken(&settling)?;
        Ok(fenced(self.appliance, self.batch.id, self.claimed, held, ended))
    }

    fn write_until_taken(&self, settling: &Settling) -> Result<Held, StoreError> {
        loop {
            match settling.write(self.appliance, self.batch.id) {
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) if self.has_lapsed() && (!error.is_passing() || self.appliance.closing.is_closed()) => {
                    return Err(error);
                }
                Err(error) => {
                    let (batch, row) = (&self.batch.id, self.claimed.row.number());
                    tracing::warn!(%batch, row, %error, "a settle was refused; trying again");
                    std::thread::sleep(SETTLE_AGAIN);
                }
                written => return written,
            }
        }
    }

    fn has_lapsed(&self) -> bool {
        self.appliance.clock.now() >= self.claim_expires_at
    }

    fn sealed_failure(&self, failure: &StepFailure) -> Failure {
        let sealed = ErrorPayload::of(failure).seal(&self.batch, self.claimed.row.number());
        Failure { code: failure.code, http_status: failure.http_status, sealed }
    }

    fn last_failure(&self) -> Option<Failure> {
        let last = self.claimed.last_error.as_ref()?;
        Some(Failure { code: last.code, http_status: last.http_status, sealed: last.sealed.clone() })
    }
}

/// A row that does not open fails at once: no retry could change that.
pub(super) fn settle_unopened(appliance: &Appliance, claimed: &ClaimedRow, why: Unopened) -> Result<Ended, StoreError> {
    let (number, key) = (claimed.row.number(), claimed.row.batch());
    let Batch { id: batch, workflow, .. } = appliance.store.read(move |connection| batches::by_key(connection, key))?;
    let (ending, ended) = match why {
        Unopened::Batch(OpenBatchError::Store(error)) => return Err(error),
        Unopened::NoWorkflow => {
            tracing::error!(%batch, row = number, "a row's workflow is not configured any more");
            let at = appliance.clock.now().after(backoff::LONGEST_WAIT);
            (Ending::Released { next_attempt_at: at, failure: None }, Ended::Released(at))
        }
        Unopened::Batch(error) => {
            tracing::error!(%batch, row = number, %error, "a row cannot be opened");
            (undecryptable(), Ended::Failed(FailureCode::Undecryptable))
        }
        Unopened::Row => {
            tracing::error!(%batch, row = number, "a row cannot be opened: it is damaged, or its batch's key is another");
            (undecryptable(), Ended::Failed(FailureCode::Undecryptable))
        }
    };
    let standing = Standing {
        step: claimed.step,
        attempts: claimed.attempts,
        progress: None,
        first_request_at: claimed.first_request_at,
        sent_at: claimed.sent_at,
    };
    let settling = Settling::new(claimed, appliance.config.workflows.get(&workflow), standing, ending, false);
    let held = settling.write(appliance, batch)?;
    Ok(fenced(appliance, batch, claimed, held, ended))
}

/// Nothing can be sealed for a row whose key does not open: the code alone says what is wrong.
fn undecryptable() -> Ending {
    Ending::Failed(Failure { code: FailureCode::Undecryptable, http_status: None, sealed: Vec::new() })
}

/// What ends a claim, to be written as often as it takes.
#[derive(Clone)]
struct Settling {
    row: RowId,
    owner: ClaimOwner,
    standing: Standing,
    ending: Ending,
    spent: bool,
    limit: FailureLimit,
    /// The name of the step that the row is at.
    step: String,
}

impl Settling {
    fn new<'w>(
        claimed: &ClaimedRow,
        workflow: impl Into<Option<&'w Workflow>>,
        standing: Standing,
        ending: Ending,
        spent: bool,
    ) -> Self {
        let workflow = workflow.into();
        let step = workflow.and_then(|workflow| workflow.steps.get(standing.step as usize));
        Self {
            row: claimed.row,
            owner: claimed.owner,
            limit: workflow.map_or(FailureLimit::DEFAULT, |workflow| workflow.failure_limit),
            step: step.map(|step| step.name.clone()).unwrap_or_default(),
            standing,
            ending,
            spent,
        }
    }

    /// The settle, and with a row that failed the look whether too many have: in one transaction, so that not one claim
    /// more is made of a batch that pauses itself.
    fn write(&self, appliance: &Appliance, batch: BatchId) -> Result<Held, StoreError> {
        let Self { row, owner, standing, ending, spent, limit, step } = self.clone();
        let (held, paused) = appliance.store.write(move |tx| {
            let held = settle::settle(tx, row, owner, &standing, &ending, spent)?;
            let paused = match (held, &ending) {
                (Held::Yes, Ending::Failed(failure)) => {
                    settle::pause_if_failing(tx, row.batch(), limit, failure, &step)?
                }
                _ => None,
            };
            Ok((held, paused))
        })?;
        if let Some(reason) = paused {
            tracing::warn!(%batch, reason, "a batch has paused itself");
        }
        Ok(held)
    }
}

/// What the fence kept out is counted: it means that claims expire while somebody still works on them.
fn fenced(appliance: &Appliance, batch: BatchId, claimed: &ClaimedRow, held: Held, ended: Ended) -> Ended {
    match held {
        Held::Yes => ended,
        Held::No => {
            appliance.late_settles.fetch_add(1, Ordering::Relaxed);
            let row = claimed.row.number();
            tracing::warn!(%batch, row, "the claim was taken over; nothing was changed");
            Ended::TakenOver
        }
    }
}
