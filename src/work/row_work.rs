//! One claimed row through its steps.
//!
//! For each step: is it still allowed to be sent -> render it -> write down that it leaves, where repeating it is not
//! harmless -> take a permit -> send it -> keep what the answer saved. The claim ends in one settle, whatever happens.
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
    noting::{self, Leaving, Noting},
    settling::{self, Settling},
    worker::{self, LONGEST_WAIT_BETWEEN_RENEWALS, Patience, Worker},
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    downstream::{Permit, Request, Reservation},
    model::{
        FailureCode, Step, StepFailure, backoff,
        outcome::{Effect, Outcome},
        workflow::Repeat,
    },
    store::{
        Held, StoreError,
        claims::{ClaimedRow, LastError},
        settle,
    },
    template::Scope,
};

/// How long a row that was given back without an attempt waits at least: it should not come straight back.
const SHORTEST_RELEASE: Duration = Duration::from_millis(250);
/// And at most, however far its slot is: an operator may raise the rate. It is claimed only when there is room for it.
const LONGEST_RELEASE: Duration = Duration::from_secs(5);
/// 409 Conflict (RFC 9110, section 15.5.10).
const CONFLICT: u16 = 409;

/// How far a row came.
pub(super) enum Walked {
    /// To the end of its claim, which is still to be written.
    Ended(Box<Settling>),
    /// To a request that has to be noted before it leaves: with [`go_on`] it goes on.
    Noting(Box<Noting>),
    /// The claim was taken over: it is somebody else's.
    TakenOver,
}

impl Walked {
    fn ended(settling: Settling) -> Self {
        Self::Ended(Box::new(settling))
    }
}

/// Works a claimed row until its claim has ended.
pub fn work(
    appliance: &Appliance,
    claimed: ClaimedRow,
    reservation: &mut Reservation,
    patience: Patience,
) -> Result<Ended, StoreError> {
    let begun = begin(appliance, claimed, reservation, patience)?;
    to_its_end(appliance, begun, reservation)
}

/// The rest of a row's way, with its notes and its settle written here and now.
pub(super) fn to_its_end(
    appliance: &Appliance,
    mut walked: Walked,
    reservation: &mut Reservation,
) -> Result<Ended, StoreError> {
    loop {
        walked = match walked {
            Walked::Ended(settling) => return settling.write_until_taken(appliance),
            Walked::TakenOver => return Ok(Ended::TakenOver),
            Walked::Noting(noting) => {
                let held = noting::write_one(appliance, &noting.note);
                go_on(appliance, *noting, held, reservation)?
            }
        }
    }
}

/// Begins with a claimed row.
pub(super) fn begin(
    appliance: &Appliance,
    claimed: ClaimedRow,
    reservation: &mut Reservation,
    patience: Patience,
) -> Result<Walked, StoreError> {
    let claimed = Arc::new(claimed);
    match Worker::open(appliance, &claimed, patience) {
        Ok(worker) => Ok(worker.walk(None, reservation)),
        Err(unopened) => ending::of_unopened(appliance, &claimed, unopened).map(Walked::ended),
    }
}

/// Goes on with a row whose request was noted, or could not be.
pub(super) fn go_on(
    appliance: &Appliance,
    noting: Noting,
    held: Result<Held, StoreError>,
    reservation: &mut Reservation,
) -> Result<Walked, StoreError> {
    let (mut worker, leaving) = noting.take_up(appliance);
    match held.map_err(Stop::from).and_then(still_held) {
        Ok(()) => Ok(worker.walk(Some(leaving), reservation)),
        Err(stop) => {
            worker.standing.sent = leaving.sent_before;
            Ok(worker.end(Err(stop)))
        }
    }
}

impl<'a> Worker<'a> {
    /// Through all the steps that are left, beginning with a request that is noted, where there is one.
    fn walk(mut self, noted: Option<Leaving>, reservation: &mut Reservation) -> Walked {
        match self.steps(noted, reservation) {
            Ok(Some(leaving)) => Walked::Noting(Box::new(self.lay_aside(leaving))),
            Ok(None) => self.end(Ok(())),
            Err(stop) => self.end(Err(stop)),
        }
    }

    fn end(mut self, stopped: Result<(), Stop>) -> Walked {
        let settling = self.ending(stopped);
        self.trace_end(settling.as_ref());
        match settling {
            Some(settling) => Walked::ended(settling),
            None => {
                settling::taken_over(self.appliance, self.batch.id, self.claimed.row.number());
                Walked::TakenOver
            }
        }
    }

    /// Step by step, until one's request has to be noted first: that request.
    fn steps(&mut self, mut noted: Option<Leaving>, reservation: &mut Reservation) -> Result<Option<Leaving>, Stop> {
        let batch = self.batch.clone();
        while let Some(step) = batch.kept.workflow.steps.get(self.standing.step as usize) {
            let leaving = match noted.take() {
                Some(leaving) => leaving,
                None => {
                    self.check_repeatable(step)?;
                    self.check_time_left()?;
                    let leaving = self.prepare(step)?;
                    if step.repeat == Repeat::Never || (step.repeat == Repeat::IdempotencyKey && !self.is_noted) {
                        return Ok(Some(leaving));
                    }
                    leaving
                }
            };
            let (outcome, was_probe) = self.send(step, &leaving, reservation)?;
            let outcome = if leaving.sent_before.is_some() { of_a_repeat(step, outcome) } else { outcome };
            self.take(step, outcome, was_probe)?;
        }
        Ok(None)
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
        if leaving.differs() { Err(differs(step).into()) } else { Ok(leaving) }
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
        if allowed { Ok(()) } else { Err(never_answered(step).into()) }
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

    /// Permit, request, answer, and whether it was the probe of a closed gate. What is noted before and after is what
    /// a later claim relies on.
    fn send(&mut self, step: &Step, leaving: &Leaving, reservation: &mut Reservation) -> Result<(Outcome, bool), Stop> {
        let Leaving { request, key, sent_before } = leaving;
        let permit = self.permit(step, request, reservation);
        let permit = permit.and_then(|permit| self.may_leave().map(|()| permit));
        let permit = permit.inspect_err(|_| self.standing.sent = sent_before.clone())?;
        let was_probe = permit.is_probe();
        crash_point("request.leaving");
        let left_at = self.appliance.clock.now();
        self.standing.first_request_at.get_or_insert(left_at);
        let refused = self.was_refused();
        let (outcome, duration) = self.appliance.downstream.send(request, key.as_deref(), permit, refused);
        crash_point("request.ended");
        let effect = outcome.effect();
        self.standing.sent = match effect {
            Effect::NotSent | Effect::Nothing => sent_before.clone(),
            Effect::Perhaps => Some(leaving.sent(left_at)),
            Effect::Done => None,
        };
        self.trace_request(step, duration, http_status(&outcome), failure_of(&outcome));
        if effect != Effect::NotSent {
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
        Ok((outcome, was_probe))
    }

    /// Whether the row had a 401 before, at the step that it is at.
    fn was_refused(&self) -> bool {
        let last = self.claimed.last_error.as_ref().filter(|_| self.claimed.step == self.standing.step);
        last.is_some_and(|last| last.code == FailureCode::Unauthorized)
    }

    /// A permit, and a claim that outlasts the request.
    fn permit(&mut self, step: &Step, request: &Request, reservation: &mut Reservation) -> Result<Permit, Stop> {
        let (longest, gives_up) = match self.patience {
            Patience::Brief(longest) => (longest, true),
            Patience::Unlimited => (LONGEST_WAIT_BETWEEN_RENEWALS, false),
        };
        loop {
            self.keep_claim(step, longest)?;
            let downstream = &self.appliance.downstream;
            let permit = match self.patience {
                Patience::Brief(_) => downstream.permit(request, longest),
                Patience::Unlimited => downstream.permit_by_hand(request, longest),
            };
            let wait = match permit {
                Ok(permit) => {
                    reservation.spend();
                    return Ok(permit);
                }
                Err(wait) => wait,
            };
            let now = self.appliance.clock.now();
            if gives_up || self.appliance.closing.is_closed() {
                let at = now.after(wait.until.since(now).clamp(SHORTEST_RELEASE, LONGEST_RELEASE));
                return Err(Stop::End(End::Again { at, failure: None }));
            }
            self.appliance.closing.wait(wait.until.since(now).clamp(SHORTEST_RELEASE, longest));
        }
    }

    /// A row that stands still is given back between its steps; one that somebody asked for goes on, whatever is paused.
    fn may_leave(&self) -> Result<(), Stop> {
        let Patience::Brief(_) = self.patience else { return Ok(()) };
        let Appliance { standstill, store, clock, .. } = self.appliance;
        match standstill.of_batch(store, self.claimed.row.batch())? {
            true => Err(Stop::End(End::Again { at: clock.now(), failure: None })),
            false => Ok(()),
        }
    }

    /// Renews the claim where it would not outlast the wait and the request.
    fn keep_claim(&mut self, step: &Step, wait: Duration) -> Result<(), Stop> {
        let timeout = self.appliance.config.dependencies.get(&step.dependency).map_or(Duration::ZERO, |it| it.timeout);
        let now = self.appliance.clock.now();
        let needed_until = now.after(timeout + wait);
        // One that lasts longer than any can was made before the clock was set back: it has been cut since.
        let is_true = self.claim_expires_at <= now.after(worker::longest_claim(&self.appliance.config));
        if is_true && self.claim_expires_at > needed_until {
            return Ok(());
        }
        let expires_at = needed_until.after(self.appliance.config.workers.claim_ttl);
        let (row, claim) = (self.claimed.row, self.claimed.claim);
        let held = self.appliance.store.write(move |tx| settle::renew(tx, row, claim, expires_at))?;
        self.claim_expires_at = expires_at;
        still_held(held)
    }

    /// What an outcome means for the row.
    fn take(&mut self, step: &Step, outcome: Outcome, was_probe: bool) -> Result<(), Stop> {
        match outcome {
            Outcome::Success { saved, .. } => {
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
                Err(perhaps_done(step, failure).into())
            }
            Outcome::Transient { failure, counted, retry_after, .. } => {
                self.standing.attempts += u32::from(counted);
                self.spent |= counted;
                if self.standing.attempts >= self.workflow().max_attempts || self.is_out_of_time() {
                    return Err(failure.into());
                }
                let wait = backoff::wait(self.standing.attempts.max(1), &mut rand::rng());
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

/// What a person is asked to do about a request that may have been carried out.
const ASK: &str =
    "find out at the downstream what became of it, then retry this row with code=outcome_unknown, or leave it.";

fn outcome_unknown(message: String) -> StepFailure {
    StepFailure { code: FailureCode::OutcomeUnknown, http_status: None, message, body: None }
}

fn never_answered(step: &Step) -> StepFailure {
    let name = &step.name;
    outcome_unknown(format!(
        "A request of {name} left, and its answer never came. Sending it again could do things twice: {ASK}"
    ))
}

fn differs(step: &Step) -> StepFailure {
    let name = &step.name;
    outcome_unknown(format!(
        "A request of {name} left that may have been carried out, and what would be sent now is another one. Sending that \
         could do things twice: {ASK}"
    ))
}

/// What came of a request that is never sent again, by an answer that does not say whether it was carried out.
fn perhaps_done(step: &Step, failure: StepFailure) -> StepFailure {
    let (name, why) = (&step.name, &failure.message);
    let message = format!(
        "A request of {name} left and may have been carried out ({why}). Sending it again could do things twice: {ASK}"
    );
    StepFailure { code: FailureCode::OutcomeUnknown, message, ..failure }
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
        Outcome::Transient { failure, .. } | Outcome::Permanent { failure, .. } => failure.http_status,
    }
}

fn failure_of(outcome: &Outcome) -> Option<&StepFailure> {
    match outcome {
        Outcome::Success { .. } => None,
        Outcome::Transient { failure, .. } | Outcome::Permanent { failure, .. } => Some(failure),
    }
}
