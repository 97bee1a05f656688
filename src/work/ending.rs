//! How a claim ends: what is to be written of it, whatever stopped the steps. [`super::settling`] writes it.

use std::fmt::Display;

use super::{
    error_payload::ErrorPayload,
    open_batch::OpenBatchError,
    settling::Settling,
    worker::{Patience, Unopened, Worker},
    workflows::VersionError,
};
use crate::{
    appliance::Appliance,
    model::{BatchId, FailureCode, StepFailure, Timestamp, backoff, workflow::FailureLimit},
    store::{
        StoreError,
        batches::{self, Batch},
        claims::ClaimedRow,
        settle::{Ending, Failure, Settle, Standing},
    },
};

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

impl Worker {
    /// What is to be written at the end of the claim; nothing where it is not ours any more.
    pub(super) fn ending(&self, stopped: Result<(), Stop>) -> Option<Settling> {
        let (ending, ended) = match stopped {
            Ok(()) => (Ending::Completed, Ended::Completed),
            Err(Stop::TakenOver) => return None,
            Err(Stop::Store(error)) => {
                let (batch, row) = (&self.batch.id, self.claimed.row.number());
                tracing::warn!(event = "row.nothing_sent", %batch, row, %error, "nothing was sent");
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
        let standing = Standing { progress: self.sealed_progress(), ..self.standing.clone() };
        let (row, claim, spent) = (self.claimed.row, self.claimed.claim, self.spent);
        Some(Settling::new(
            &self.appliance,
            self.batch.id,
            Some(self.workflow()),
            Settle { row, claim, version: self.claimed.version, standing, ending, spent },
            ended,
            self.claim_expires_at,
            self.appliance.metrics.rows.of(&self.workflow().name),
        ))
    }

    /// Whether its batch will pause itself for what is known already.
    pub(super) fn is_about_to_pause(&self) -> bool {
        let (batch, limit) = (self.claimed.row.batch(), self.workflow().failure_limit);
        matches!(self.patience, Patience::Brief(_)) && self.appliance.recent.is_about_to_pause(batch, limit)
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
/// Where its batch stands still it is given back, unless somebody asked for it by hand.
pub(super) fn of_unopened(
    appliance: &Appliance,
    claimed: &ClaimedRow,
    why: Unopened,
    by_hand: bool,
) -> Result<Settling, StoreError> {
    let (number, key) = (claimed.row.number(), claimed.row.batch());
    let kept = appliance.workflow(claimed.version).ok();
    let limit = kept.as_ref().map_or(FailureLimit::DEFAULT, |kept| kept.workflow.failure_limit);
    // Asked before the database is: once that knows of the pause, what led to it is forgotten here.
    let is_about_to_pause = appliance.recent.is_about_to_pause(key, limit);
    let Batch { id: batch, workflow, paused_at, .. } =
        appliance.store.read(move |connection| batches::by_key(connection, key))?;
    let (ending, ended) = match why {
        Unopened::Batch(OpenBatchError::Store(error) | OpenBatchError::Workflow(VersionError::Store(error))) => {
            return Err(error);
        }
        Unopened::NoWay(error) => without_workflow(appliance, batch, number, &error),
        Unopened::Batch(OpenBatchError::Workflow(error)) => without_workflow(appliance, batch, number, &error),
        Unopened::Batch(error) => {
            tracing::error!(event = "row.undecryptable", %batch, row = number, %error, "a row cannot be opened");
            (undecryptable(), Ended::Failed(FailureCode::Undecryptable))
        }
        Unopened::Row => {
            tracing::error!(
                event = "row.undecryptable",
                %batch,
                row = number,
                "a row cannot be opened: it is damaged, or its batch's key is another"
            );
            (undecryptable(), Ended::Failed(FailureCode::Undecryptable))
        }
    };
    let (ending, ended) = match ended {
        Ended::Failed(_) if !by_hand && (is_about_to_pause || paused_at.is_some()) => {
            let at = appliance.clock.now().after(backoff::FIRST_WAIT);
            (Ending::Released { next_attempt_at: at, failure: None }, Ended::Released(at))
        }
        as_it_is => (ending, as_it_is),
    };
    let standing = Standing {
        step: claimed.step,
        attempts: claimed.attempts,
        progress: None,
        first_request_at: claimed.first_request_at,
        sent: claimed.sent.clone(),
    };
    let (row, claim, version) = (claimed.row, claimed.claim, claimed.version);
    let settle = Settle { row, claim, version, standing, ending, spent: false };
    let tally = appliance.metrics.rows.of(&workflow);
    let workflow = kept.as_ref().map(|kept| &kept.workflow);
    Ok(Settling::new(appliance, batch, workflow, settle, ended, claimed.claim_expires_at, tally))
}

/// A row that nobody knows what to do with is given back: a person can mend that.
fn without_workflow(appliance: &Appliance, batch: BatchId, row: u32, error: &dyn Display) -> (Ending, Ended) {
    tracing::error!(event = "row.without_workflow", %batch, row, %error, "a row's workflow cannot be worked by");
    let at = appliance.clock.now().after(backoff::LONGEST_WAIT);
    (Ending::Released { next_attempt_at: at, failure: None }, Ended::Released(at))
}

/// Nothing can be sealed for a row whose key does not open: the code alone says what is wrong.
fn undecryptable() -> Ending {
    Ending::Failed(Failure { code: FailureCode::Undecryptable, http_status: None, sealed: Vec::new() })
}
