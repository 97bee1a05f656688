//! One claimed row through its steps.
//!
//! For each step: is it still allowed to be sent -> render it -> write down that it leaves, where repeating it is not
//! harmless -> take a permit -> send it -> keep what the answer saved. The claim ends in one settle, whatever happens.
//!
//! What makes "never twice" hold over a crash: before a request leaves that is not `safe` to repeat, everything that
//! it was built from is on disk, and that it left ([`Worker::note_leaving`]). Whoever claims the row after us builds
//! the very same request with the very same key, or sees that only a person may decide.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    error_payload::ErrorPayload,
    idempotency::{self, Origin},
    open_batch::{OpenBatch, OpenBatchError},
    progress::Progress,
};
use crate::{
    appliance::Appliance,
    crypto::Purpose,
    downstream::{Permit, Request, Reservation},
    model::{
        FailureCode, Step, StepFailure, Timestamp, Workflow, backoff,
        outcome::{Outcome, Reached},
        record::Record,
        workflow::Repeat,
    },
    store::{
        Held, StoreError, batches,
        claims::{ClaimedRow, LastError},
        settle::{self, Ending, Failure, Standing},
    },
    template::Scope,
};

/// How long a row that was given back without an attempt waits at least: it should not come straight back.
const SHORTEST_RELEASE: Duration = Duration::from_millis(250);
/// Somebody who waits without limit renews the claim at least this often.
const LONGEST_WAIT_BETWEEN_RENEWALS: Duration = Duration::from_secs(5);
/// A settle that the database refuses is tried again after this pause.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

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

/// How long a row may hold its thread while it waits for a permit.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// So long; then it is given back and its thread goes on with another row.
    Brief(Duration),
    /// As long as it takes: somebody asked for this very row.
    Unlimited,
}

/// A claimed row being worked.
struct Worker<'a> {
    appliance: &'a Appliance,
    claimed: &'a ClaimedRow,
    batch: Arc<OpenBatch>,
    workflow: &'a Workflow,
    origin: Origin,
    cells: BTreeMap<String, String>,
    progress: Progress,
    standing: Standing,
    /// Whether an attempt was counted since the claim.
    spent: bool,
    claim_expires_at: Timestamp,
    patience: Patience,
}

/// Why the steps stopped before the last one succeeded.
enum Stop {
    /// The row is to end so.
    End(End),
    /// The claim is not ours any more.
    TakenOver,
    /// The database did not take a write; nothing more may leave.
    Store(StoreError),
}

enum End {
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

/// Works a claimed row until its claim ends.
pub fn work(
    appliance: &Appliance,
    claimed: &ClaimedRow,
    reservation: &mut Reservation,
    patience: Patience,
) -> Result<Ended, StoreError> {
    match Worker::open(appliance, claimed, patience) {
        Ok(mut worker) => {
            let stopped = worker.walk(reservation);
            worker.settle(stopped)
        }
        Err(unopened) => settle_unopened(appliance, claimed, unopened),
    }
}

impl<'a> Worker<'a> {
    fn open(appliance: &'a Appliance, claimed: &'a ClaimedRow, patience: Patience) -> Result<Self, Unopened> {
        let batch = appliance.open_batch(claimed.row.batch())?;
        let workflow = appliance.config.workflows.get(&batch.workflow).ok_or(Unopened::NoWorkflow)?;
        let number = claimed.row.number();
        let opened = batch.key.open(batch.place(Purpose::Row, number), &claimed.data).map_err(|_| Unopened::Row)?;
        let record = Record::decode(&opened).ok_or(Unopened::Row)?;
        let progress = match &claimed.progress {
            None => Progress::default(),
            Some(sealed) => {
                let opened = batch.key.open(batch.place(Purpose::Progress, number), sealed);
                let opened = opened.map_err(|_| Unopened::Row)?;
                serde_json::from_slice(&opened).map_err(|_| Unopened::Row)?
            }
        };
        Ok(Self {
            origin: Origin::of(batch.client, batch.id, number, &record.origin),
            cells: template_cells(workflow, batch.named_cells(record.cells)),
            progress,
            standing: Standing {
                step: claimed.step,
                attempts: claimed.attempts,
                progress: None,
                first_request_at: claimed.first_request_at,
                sent_at: claimed.sent_at,
            },
            spent: false,
            claim_expires_at: claimed.claim_expires_at,
            appliance,
            claimed,
            batch,
            workflow,
            patience,
        })
    }

    /// Through all the steps that are left.
    fn walk(&mut self, reservation: &mut Reservation) -> Result<(), Stop> {
        while let Some(step) = self.workflow.steps.get(self.standing.step as usize) {
            self.check_repeatable(step)?;
            self.check_time_left()?;
            let cells = self.cells.iter().map(|(name, cell)| (name.as_str(), cell.as_str()));
            let scope = Scope::new(cells, &self.progress.saved(), &self.batch.details.context);
            let index = self.standing.step as usize;
            let request = self.appliance.downstream.prepare(&self.workflow.name, index, &scope)?;
            let outcome = self.send(step, &request, reservation)?;
            self.take(step, outcome)?;
        }
        Ok(())
    }

    /// A request of this step that left before, and whose answer is not known, may stand in the way.
    fn check_repeatable(&self, step: &Step) -> Result<(), Stop> {
        let Some(sent_at) = self.standing.sent_at else { return Ok(()) };
        let now = self.appliance.clock.now();
        let allowed = match step.repeat {
            Repeat::Safe => true,
            Repeat::IdempotencyKey => now.since(sent_at) < self.workflow.repeat_window,
            Repeat::Never => false,
        };
        if allowed { Ok(()) } else { Err(outcome_unknown(step).into()) }
    }

    /// A row ends at last, whatever stands in its way: with the code of its last error.
    fn check_time_left(&self) -> Result<(), Stop> {
        match (self.is_out_of_time(), &self.claimed.last_error) {
            (true, Some(last)) => Err(self.reopen_failure(last).into()),
            _ => Ok(()),
        }
    }

    fn is_out_of_time(&self) -> bool {
        let now = self.appliance.clock.now();
        self.standing.first_request_at.is_some_and(|first| now.since(first) >= self.workflow.give_up_after)
    }

    fn reopen_failure(&self, last: &LastError) -> StepFailure {
        let payload = ErrorPayload::open(&self.batch, self.claimed.row.number(), last);
        StepFailure { code: last.code, http_status: last.http_status, message: payload.message, body: payload.body }
    }

    /// Permit, request, answer. What is noted before and after is what a later claim relies on.
    fn send(&mut self, step: &Step, request: &Request, reservation: &mut Reservation) -> Result<Outcome, Stop> {
        let sent_before = self.standing.sent_at;
        let key = (step.repeat == Repeat::IdempotencyKey).then(|| {
            let fingerprint = request.fingerprint();
            idempotency::key(&self.appliance.identity, &self.origin, &step.name, self.claimed.retries, &fingerprint)
        });
        if step.repeat != Repeat::Safe {
            self.note_leaving().inspect_err(|_| self.standing.sent_at = sent_before)?;
        }
        let permit = self.permit(step, request, reservation).inspect_err(|_| self.standing.sent_at = sent_before)?;
        let left_at = self.appliance.clock.now();
        self.standing.first_request_at.get_or_insert(left_at);
        let (outcome, duration) = self.appliance.downstream.send(request, key.as_deref(), permit);
        let reached = match &outcome {
            Outcome::Transient { reached, .. } => *reached,
            Outcome::Success { .. } | Outcome::Permanent(_) => Reached::Answered,
        };
        self.standing.sent_at = match reached {
            Reached::NotSent => sent_before,
            Reached::Unanswered => sent_before.or(Some(left_at)),
            Reached::Answered => None,
        };
        if reached != Reached::NotSent {
            self.progress.note_request(self.standing.step as usize, left_at, duration, http_status(&outcome));
        }
        Ok(outcome)
    }

    /// Commits everything that the request is built from, and that it leaves.
    fn note_leaving(&mut self) -> Result<(), Stop> {
        let now = self.appliance.clock.now();
        let standing = Standing {
            progress: Some(self.sealed_progress()),
            sent_at: self.standing.sent_at.or(Some(now)),
            first_request_at: self.standing.first_request_at.or(Some(now)),
            ..self.standing.clone()
        };
        self.standing = Standing { progress: None, ..standing.clone() };
        let (row, owner) = (self.claimed.row, self.claimed.owner);
        let expires_at = now.after(self.appliance.config.workers.claim_ttl);
        let held = self.appliance.store.write(move |tx| settle::checkpoint(tx, row, owner, &standing, expires_at))?;
        self.claim_expires_at = expires_at;
        still_held(held)
    }

    /// A permit, and a claim that outlasts the request.
    fn permit(&mut self, step: &Step, request: &Request, reservation: &mut Reservation) -> Result<Permit, Stop> {
        let (longest, gives_up) = match self.patience {
            Patience::Brief(longest) => (longest, true),
            Patience::Unlimited => (LONGEST_WAIT_BETWEEN_RENEWALS, false),
        };
        loop {
            self.keep_claim(step, longest)?;
            let wait = match self.appliance.downstream.permit(request, longest) {
                Ok(permit) => {
                    reservation.spend();
                    return Ok(permit);
                }
                Err(wait) => wait,
            };
            let now = self.appliance.clock.now();
            if gives_up || self.appliance.closing.is_closed() {
                let at = wait.until.max(now.after(SHORTEST_RELEASE));
                return Err(Stop::End(End::Again { at, failure: None }));
            }
            self.appliance.closing.wait(wait.until.since(now).clamp(SHORTEST_RELEASE, longest));
        }
    }

    /// Renews the claim where it would not outlast the wait and the request.
    fn keep_claim(&mut self, step: &Step, wait: Duration) -> Result<(), Stop> {
        let timeout = self.appliance.config.dependencies.get(&step.dependency).map_or(Duration::ZERO, |it| it.timeout);
        let needed_until = self.appliance.clock.now().after(timeout + wait);
        if self.claim_expires_at > needed_until {
            return Ok(());
        }
        let expires_at = needed_until.after(self.appliance.config.workers.claim_ttl);
        let (row, owner) = (self.claimed.row, self.claimed.owner);
        let held = self.appliance.store.write(move |tx| settle::renew(tx, row, owner, expires_at))?;
        self.claim_expires_at = expires_at;
        still_held(held)
    }

    /// What an outcome means for the row.
    fn take(&mut self, step: &Step, outcome: Outcome) -> Result<(), Stop> {
        match outcome {
            Outcome::Success { saved, .. } => {
                self.progress.note_success(self.standing.step as usize, saved, step.result.as_deref());
                self.standing.step += 1;
                self.standing.attempts = 0;
                self.spent = true;
                Ok(())
            }
            Outcome::Permanent(failure) => {
                self.standing.attempts += 1;
                self.spent = true;
                Err(failure.into())
            }
            Outcome::Transient { reached: Reached::Unanswered, .. } if step.repeat == Repeat::Never => {
                self.standing.attempts += 1;
                self.spent = true;
                Err(outcome_unknown(step).into())
            }
            Outcome::Transient { failure, counted, .. } => {
                self.standing.attempts += u32::from(counted);
                self.spent |= counted;
                if self.standing.attempts >= self.workflow.max_attempts || self.is_out_of_time() {
                    return Err(failure.into());
                }
                let wait = backoff::wait(self.standing.attempts.max(1), &mut rand::rng());
                let at = self.appliance.clock.now().after(wait);
                Err(Stop::End(End::Again { at, failure: Some(failure) }))
            }
        }
    }

    /// Ends the claim. The outcome of a request must not be lost to a database that is busy or full for a while, so the
    /// settle is tried again until it is taken, or the claim is somebody else's. Any other fault, and a server that has
    /// to end, get as long as the claim lasts; after that whoever claims the row next repeats the request.
    fn settle(&mut self, stopped: Result<(), Stop>) -> Result<Ended, StoreError> {
        let (ending, ended) = match stopped {
            Ok(()) => (Ending::Completed, Ended::Completed),
            Err(Stop::TakenOver) => return Ok(self.taken_over()),
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
        let (row, owner, spent) = (self.claimed.row, self.claimed.owner, self.spent);
        let standing = Standing { progress: Some(self.sealed_progress()), ..self.standing.clone() };
        loop {
            let (standing, ending) = (standing.clone(), ending.clone());
            let settled =
                self.appliance.store.write(move |tx| settle::settle(tx, row, owner, &standing, &ending, spent));
            match settled {
                Ok(Held::Yes) => return Ok(ended),
                Ok(Held::No) => return Ok(self.taken_over()),
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) if self.has_lapsed() && (!error.is_passing() || self.appliance.closing.is_closed()) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(batch = %self.batch.id, row = row.number(), %error, "a settle was refused; trying again");
                    std::thread::sleep(SETTLE_AGAIN);
                }
            }
        }
    }

    fn has_lapsed(&self) -> bool {
        self.appliance.clock.now() >= self.claim_expires_at
    }

    fn taken_over(&self) -> Ended {
        tracing::warn!(batch = %self.batch.id, row = self.claimed.row.number(), "the claim was taken over; nothing was changed");
        Ended::TakenOver
    }

    fn sealed_progress(&self) -> Vec<u8> {
        let plain = serde_json::to_vec(&self.progress).unwrap_or_default();
        self.batch.key.seal(self.batch.place(Purpose::Progress, self.claimed.row.number()), &plain)
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

/// Why a claimed row cannot even be begun.
enum Unopened {
    Batch(OpenBatchError),
    NoWorkflow,
    Row,
}

impl From<OpenBatchError> for Unopened {
    fn from(error: OpenBatchError) -> Self {
        Self::Batch(error)
    }
}

/// The cells as templates see them: an optional column that the file does not have is empty.
fn template_cells(workflow: &Workflow, cells: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let absent = workflow.columns.iter().map(|column| (column.name.clone(), String::new()));
    absent.chain(cells).collect()
}

/// A row that does not open fails at once: no retry could change that.
fn settle_unopened(appliance: &Appliance, claimed: &ClaimedRow, why: Unopened) -> Result<Ended, StoreError> {
    let number = claimed.row.number();
    let key = claimed.row.batch();
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
        Held::No => Ok(Ended::TakenOver),
    }
}

/// Nothing can be sealed for a row whose key does not open: the code alone says what is wrong.
fn undecryptable() -> Ending {
    Ending::Failed(Failure { code: FailureCode::Undecryptable, http_status: None, sealed: Vec::new() })
}

fn outcome_unknown(step: &Step) -> StepFailure {
    StepFailure {
        code: FailureCode::OutcomeUnknown,
        http_status: None,
        message: format!(
            "A request of {} left, and its answer never came. Sending it again could do things twice: find out at the \
             downstream what became of it, then retry this row with code=outcome_unknown, or leave it.",
            step.name
        ),
        body: None,
    }
}

fn still_held(held: Held) -> Result<(), Stop> {
    match held {
        Held::Yes => Ok(()),
        Held::No => Err(Stop::TakenOver),
    }
}

fn http_status(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Success { http_status, .. } => Some(*http_status),
        Outcome::Transient { failure, .. } | Outcome::Permanent(failure) => failure.http_status,
    }
}
