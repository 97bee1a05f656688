//! One claimed row through its steps.
//!
//! For each step: is it still allowed to be sent -> render it -> what has to be so before it leaves ([`super::leave`]: noted,
//! where repeating it is not harmless, and permitted) -> send it -> keep what the answer saved. The claim ends in one settle,
//! whatever happens. Nothing here blocks: a row that waits holds no thread.
//!
//! What makes "never twice" hold over a crash: before a request leaves that is not `safe` to repeat, everything that
//! it was built from is on disk, and that it leaves: noted by the claim itself where that suffices
//! ([`crate::store::claims`]), else by a note of its own (`noting`). Whoever claims the row after us builds the very
//! same request with the very same key, or sees that only a person may decide.

use std::{sync::Arc, time::Duration};

use super::{
    ending::{self, End, Ended, Stop},
    error_payload::ErrorPayload,
    idempotency,
    noter::Notes,
    noting::Leaving,
    settling::{self, Settling},
    unknown,
    worker::{Patience, Sealed, Worker},
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    downstream::{Permit, Reservation, Sent},
    model::{
        FailureCode, Step, StepFailure, backoff,
        outcome::{Effect, Outcome},
        saved::MOST_OF_A_ROW,
        workflow::Repeat,
    },
    store::{
        StoreError,
        claims::{ClaimedRow, LastError},
    },
    template::Scope,
};

/// Statuses that are about the API and not about the row, the first time that it gets one (RFC 9110, section 15; RFC 6585).
const REFUSALS: [u16; 4] = [401, 403, 429, 503];
/// 409 Conflict (RFC 9110, section 15.5.10).
const CONFLICT: u16 = 409;

/// A claimed row, opened.
pub(super) enum Opened {
    /// Its steps can be gone through.
    Worker(Box<Worker>),
    /// It cannot be worked: so its claim ends.
    Ended(Box<Settling>),
}

/// Opens a claimed row. May read the database.
pub(super) fn open(
    appliance: &Arc<Appliance>,
    mut claimed: ClaimedRow,
    patience: Patience,
) -> Result<Opened, StoreError> {
    let sealed = Sealed::out_of(&mut claimed);
    let (claimed, by_hand) = (Arc::new(claimed), matches!(patience, Patience::Unlimited));
    match Worker::open(appliance, &claimed, sealed, patience) {
        Ok(worker) => Ok(Opened::Worker(Box::new(worker))),
        Err(unopened) => Ok(Opened::Ended(Box::new(ending::of_unopened(appliance, &claimed, unopened, by_hand)?))),
    }
}

/// Works a claimed row here and now, until its claim has ended.
pub fn work(
    appliance: &Arc<Appliance>,
    claimed: ClaimedRow,
    reservation: Reservation,
    patience: Patience,
    notes: Notes,
) -> Result<Ended, StoreError> {
    let settling = match open(appliance, claimed, patience)? {
        Opened::Worker(worker) => {
            let way = appliance.downstream.wait_for(async move { worker.walk(reservation, &notes).await });
            way.ok_or(StoreError::Closed)?
        }
        Opened::Ended(settling) => Some(settling),
    };
    settling.map_or(Ok(Ended::TakenOver), |settling| settling.write_until_taken(appliance))
}

impl Worker {
    /// Through all the steps that are left. How the claim ends then, to be written; nothing where it is not ours any more.
    pub(super) async fn walk(mut self, mut reservation: Reservation, notes: &Notes) -> Option<Box<Settling>> {
        let mut stopped = self.steps(&mut reservation, notes).await;
        // A thousand rows fail without a call in the time that it takes to write down that fifty did.
        if !self.has_sent
            && matches!(stopped, Err(Stop::End(End::Failed(_))))
            && let Err(stop) = self.check_goes_on().await
        {
            stopped = Err(stop);
        }
        if reservation.unspent_from() < self.workflow().steps.len() {
            let step = u32::try_from(reservation.unspent_from()).unwrap_or(u32::MAX);
            self.appliance.unspent.note(self.batch.client, self.claimed.version, step);
        }
        drop(reservation);
        let settling = self.ending(stopped);
        self.trace_end(settling.as_ref());
        if settling.is_none() {
            settling::taken_over(&self.appliance, self.batch.id, self.claimed.row.number());
        }
        settling.map(Box::new)
    }

    async fn steps(&mut self, reservation: &mut Reservation, notes: &Notes) -> Result<(), Stop> {
        let batch = self.batch.clone();
        while let Some(step) = batch.kept.workflow.steps.get(self.standing.step as usize) {
            self.check_repeatable(step)?;
            self.check_time_left()?;
            let mut leaving = self.prepare(step)?;
            let mut permit = match self.may_leave(step, &leaving, reservation, notes).await {
                Ok(permit) => permit,
                Err(stop) => {
                    self.standing.sent = leaving.sent_before;
                    return Err(stop);
                }
            };
            let mut was_probe = permit.is_probe();
            let mut again = false;
            let outcome = loop {
                if let Some(outcome) = self.send(step, &leaving, permit, again).await? {
                    break outcome;
                }
                (leaving.sent_before, again) = (self.standing.sent.clone(), true);
                permit = self.may_leave_again(step, &leaving, notes).await?;
                was_probe = permit.is_probe();
            };
            let outcome = if leaving.sent_before.is_some() { of_a_repeat(step, outcome) } else { outcome };
            self.take(step, outcome, was_probe)?;
            self.check_room()?;
            let next = batch.kept.workflow.steps.get(self.standing.step as usize);
            // One with a key is noted before it waits, and with it everything before.
            if step.repeat == Repeat::Never && next.is_some_and(|next| next.repeat != Repeat::IdempotencyKey) {
                self.keep(notes).await?;
            }
        }
        Ok(())
    }

    /// The request of this step.
    fn prepare(&self, step: &Step) -> Result<Leaving, Stop> {
        let saved = self.progress.saved();
        let scope = Scope::new(self.named_cells(), &saved, &self.batch.details.context);
        let index = self.standing.step as usize;
        let request = self.way.prepare(index, &scope)?;
        let key = (step.repeat == Repeat::IdempotencyKey).then(|| {
            let fingerprint = request.fingerprint();
            idempotency::key(&self.appliance.identity, &self.origin, &step.name, self.claimed.retries, &fingerprint)
        });
        let leaving = Leaving { request, key, sent_before: self.standing.sent.clone() };
        if leaving.differs() { Err(unknown::differs(step).into()) } else { Ok(leaving) }
    }

    /// A request of this step that left before, and whose answer is not known, may stand in the way.
    fn check_repeatable(&self, step: &Step) -> Result<(), Stop> {
        let Some(sent) = &self.standing.sent else { return Ok(()) };
        let now = self.appliance.clock.now();
        let allowed = match step.repeat {
            Repeat::Safe => true,
            Repeat::IdempotencyKey => now.since(sent.at) < self.workflow().repeat_window,
            Repeat::Never => false,
        };
        if allowed { Ok(()) } else { Err(unknown::never_answered(step).into()) }
    }

    /// A row is put down between two steps where what was saved made it so wide that there is no room for it beside the others.
    fn check_room(&self) -> Result<(), Stop> {
        let Some(next) = self.workflow().steps.get(self.standing.step as usize) else { return Ok(()) };
        if self.appliance.under_way.took_step(self.claimed.row, self.width, &next.dependency) {
            return Ok(());
        }
        Err(Stop::End(End::Again { at: self.appliance.clock.now(), failure: None }))
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
        self.standing.first_request_at.is_some_and(|first| now.since(first) >= self.workflow().give_up_after)
    }

    fn reopen_failure(&self, last: &LastError) -> StepFailure {
        let payload = ErrorPayload::open(&self.batch, self.claimed.row.number(), last);
        StepFailure { code: last.code, http_status: last.http_status, message: payload.message, body: payload.body }
    }

    /// Request and answer; nothing where it has to be sent `again`, since its connection was given up. What is noted before and
    /// after is what a later claim relies on.
    async fn send(
        &mut self,
        step: &Step,
        leaving: &Leaving,
        permit: Permit,
        again: bool,
    ) -> Result<Option<Outcome>, Stop> {
        let Leaving { request, key, sent_before } = leaving;
        crash_point("request.leaving");
        let left_at = self.appliance.clock.now();
        let first_before = self.standing.first_request_at;
        self.standing.first_request_at.get_or_insert(left_at);
        let sent = request.send(key.as_deref(), permit, self.was_refused(), again).await;
        crash_point("request.ended");
        let (outcome, duration) = match sent {
            Sent::Ended(outcome, duration) => (outcome, duration),
            Sent::GivenUp(duration) => {
                self.has_sent = true;
                self.standing.sent = Some(leaving.sent(left_at));
                self.trace_request(step, duration, None, None);
                self.progress.note_request(&step.name, left_at, duration, None);
                return Ok(None);
            }
            // As if it had not been tried: nothing left.
            Sent::Not(wait) => {
                (self.standing.sent, self.standing.first_request_at) = (sent_before.clone(), first_before);
                return Err(self.put_back(wait));
            }
        };
        let effect = outcome.effect();
        self.standing.sent = match effect {
            Effect::NotSent | Effect::Nothing => sent_before.clone(),
            Effect::Perhaps => Some(leaving.sent(left_at)),
            Effect::Done => None,
        };
        self.trace_request(step, duration, http_status(&outcome), failure_of(&outcome));
        if effect != Effect::NotSent {
            self.has_sent = true;
            self.progress.note_request(&step.name, left_at, duration, http_status(&outcome));
        }
        tracing::debug!(
            event = "call.ended",
            batch = %self.batch.id,
            row = self.claimed.row.number(),
            step = step.name,
            dependency = step.dependency,
            http_status = http_status(&outcome),
            code = failure_of(&outcome).map(|failure| failure.code.as_str()),
            duration_ms = duration.as_millis() as u64,
            "call ended"
        );
        Ok(Some(outcome))
    }

    /// The status that the row got before at the step that it is at, where its API wanted to be left alone, or did not take the
    /// credential.
    fn was_refused(&self) -> Option<u16> {
        let last = self.claimed.last_error.as_ref().filter(|_| self.claimed.step == self.standing.step)?;
        last.http_status.filter(|status| REFUSALS.contains(status))
    }

    /// How long a row waits at least that is turned away like this once more, uncounted: each time half as long again. While its
    /// API takes others, one row that it never takes must not close the gate each time that it opens.
    fn patience_with(&self, failure: &StepFailure) -> Duration {
        let last = self.claimed.last_error.as_ref().filter(|_| self.claimed.step == self.standing.step);
        let again = last.is_some_and(|last| last.code == failure.code);
        let since = self.standing.first_request_at.filter(|_| again);
        since.map_or(Duration::ZERO, |first| (self.appliance.clock.now().since(first) / 2).min(backoff::LONGEST_WAIT))
    }

    /// What an outcome means for the row.
    fn take(&mut self, step: &Step, outcome: Outcome, was_probe: bool) -> Result<(), Stop> {
        match outcome {
            Outcome::Success { http_status, saved }
                if self.progress.saved_bytes_with(&step.name, &saved) > MOST_OF_A_ROW =>
            {
                self.standing.attempts += 1;
                self.spent = true;
                Err(saves_too_much(step, http_status).into())
            }
            Outcome::Success { saved, .. } => {
                self.width += saved.values().map(|value| value.json().len()).sum::<usize>();
                self.progress.note_success(&step.name, saved, step.result.as_deref());
                self.standing.step += 1;
                self.standing.attempts = 0;
                self.is_noted = false;
                self.spent = true;
                Ok(())
            }
            Outcome::Permanent { failure, .. } => {
                self.standing.attempts += 1;
                self.spent = true;
                Err(failure.into())
            }
            Outcome::Transient { failure, effect: Effect::Perhaps, .. } if step.repeat == Repeat::Never => {
                self.standing.attempts += 1;
                self.spent = true;
                Err(unknown::perhaps_done(step, failure).into())
            }
            Outcome::Transient { failure, counted, retry_after, .. } => {
                self.standing.attempts += u32::from(counted);
                self.spent |= counted;
                if self.standing.attempts >= self.workflow().max_attempts || self.is_out_of_time() {
                    return Err(failure.into());
                }
                let wait = backoff::wait(self.standing.attempts.max(1), &mut rand::rng());
                let wait = if counted { wait } else { wait.max(self.patience_with(&failure)) };
                let wait = wait.max(retry_after.unwrap_or_default().min(backoff::LONGEST_HELD_BACK));
                let mut from = self.appliance.clock.now();
                if was_probe || counted {
                    // The next probe takes another row: one that makes the API fail must not hold up the rest.
                    from = self.appliance.downstream.gate_opens_at(&step.dependency).unwrap_or(from).max(from);
                }
                let at = from.after(wait);
                Err(Stop::End(End::Again { at, failure: Some(failure) }))
            }
        }
    }
}

/// A conflict that the repeat of a noted request meets is most likely about that request itself, still under way there:
/// worth asking again, with the same key.
fn of_a_repeat(step: &Step, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Permanent { failure, effect }
            if step.repeat == Repeat::IdempotencyKey && failure.http_status == Some(CONFLICT) =>
        {
            Outcome::Transient { failure, effect, counted: true, retry_after: None }
        }
        other => other,
    }
}

/// It was done, and the row cannot go on: as where an answer lacks what is asked for.
fn saves_too_much(step: &Step, http_status: u16) -> StepFailure {
    let (name, most) = (&step.dependency, MOST_OF_A_ROW / 1024);
    let message =
        format!("{name} answered {http_status}, and with that more than {most} KiB would be saved of the row");
    StepFailure { code: FailureCode::BadAnswer, http_status: Some(http_status), message, body: None }
}

fn http_status(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Success { http_status, .. } => Some(*http_status),
        Outcome::Transient { failure, .. } | Outcome::Permanent { failure, .. } => failure.http_status,
    }
}

fn failure_of(outcome: &Outcome) -> Option<&StepFailure> {
    match outcome {
        Outcome::Success { .. } => None,
        Outcome::Transient { failure, .. } | Outcome::Permanent { failure, .. } => Some(failure),
    }
}
