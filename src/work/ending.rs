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
    model::{FailureCode, StepFailure, Timestamp, backoff},
    store::{
        Held, StoreError, Tx, batches,
        claims::ClaimedRow,
        error,
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
            Err(Stop::TakenOver) => return Ok(taken_over(self.appliance, self.claimed)),
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
        self.write_until_taken(&standing, &ending).map(|held| match held {
            Held::Yes => ended,
            Held::No => taken_over(self.appliance, self.claimed),
        })
    }

    fn write_until_taken(&self, standing: &Standing, ending: &Ending) -> Result<Held, StoreError> {
        loop {
            match self.write_ending(standing, ending) {
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

    /// The settle, and with a row that failed the look whether too many have: in one transaction, so that not one claim
    /// more is made of a batch that pauses itself.
    fn write_ending(&self, standing: &Standing, ending: &Ending) -> Result<Held, StoreError> {
        let (row, owner, spent) = (self.claimed.row, self.claimed.owner, self.spent);
        let limit = self.workflow.failure_limit;
        let step = self.workflow.steps.get(standing.step as usize).map(|step| step.name.clone()).unwrap_or_default();
        let (standing, ending) = (standing.clone(), ending.clone());
        let write = move |tx: &Tx<'_>| -> error::Result<(Held, Option<String>)> {
            let held = settle::settle(tx, row, owner, &standing, &ending, spent)?;
            let paused = match (held, &ending) {
                (Held::Yes, Ending::Failed(failure)) => {
                    settle::pause_if_failing(tx, row.batch(), limit, failure, &step)?
                }
                _ => None,
            };
            Ok((held, paused))
        };
        let (held, paused) = self.appliance.store.write(write)?;
        if let Some(reason) = paused {
            tracing::warn!(batch = %self.batch.id, reason, "a batch has paused itself");
        }
        Ok(held)
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
    let batch = appliance.store.read(move |connection| batches::by_key(connection, key))?.id;
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
    let (row, owner) = (claimed.row, claimed.owner);
    match appliance.store.write(move |tx| settle::settle(tx, row, owner, &standing, &ending, false))? {
        Held::Yes => Ok(ended),
        Held::No => Ok(taken_over(appliance, claimed)),
    }
}

/// Nothing can be sealed for a row whose key does not open: the code alone says what is wrong.
fn undecryptable() -> Ending {
    Ending::Failed(Failure { code: FailureCode::Undecryptable, http_status: None, sealed: Vec::new() })
}

/// What the fence kept out is counted: it means that claims expire while somebody still works on them.
fn taken_over(appliance: &Appliance, claimed: &ClaimedRow) -> Ended {
    appliance.late_settles.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(row = claimed.row.number(), "the claim was taken over; nothing was changed");
    Ended::TakenOver
}
