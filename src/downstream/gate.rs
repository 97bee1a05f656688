//! A dependency's gate: open, closed until a time, or half open while one probe finds out whether it may open. A pure
//! state machine: it is told the time, and keeps nothing itself.
//!
//! ```text
//!            429, 503, gate_after failures in a row, or five times 401
//!   open ------------------------------------------------------> closed until T
//!    ^                                                            |  T has come   ^  ^
//!    | 31 successes                                               v               |  |
//!    |                                                    half open: one probe    |  |
//!    |                                                            |      |        |  |
//!    |                                  the probe succeeds        |      +--------+  | for longer
//!    |                                                            v      it fails    |
//!    +---------------------- opening: 1, 2, 4, ... under way ----------------------->+
//!                                              429, 503, or two failures in a row
//! ```
//!
//! **Two clocks.** Every wait is measured on the steady clock, so that a wall clock that is set neither stalls a gate
//! nor opens it. Wall times are what is kept and shown; a wait that is read back from one is cut to the longest that
//! there can be.
//!
//! **Who may speak.** Requests overlap: when a gate closes, others are still under way, and their ends say how it was
//! before. Each passage therefore carries the number of the closing that it followed, and only those of the present
//! one open a gate, or close it again. A late answer can do one thing: ask for a longer pause.

mod reason;

use std::time::Duration;

use rand::{Rng, RngExt};

pub use self::reason::GateReason;
use crate::model::{Timestamp, backoff};

/// How long a gate closes the first time.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Pauses double with each closing, up to this, where no answer asks for more.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 60);
/// Every pause is made longer by up to this share of itself, so that several of us do not probe at the same instant.
pub const JITTER: f64 = 0.1;
/// So many 401 in a row are the credential, and no longer the row that one of them was for.
pub const UNAUTHORIZED_AFTER: u32 = 5;
/// A request that left no longer than this before another one left after the other one's row had been refused before: rows
/// are not tried again sooner.
const NO_SOONER: i64 = (backoff::FIRST_WAIT.as_nanos() / 2) as i64;
/// Of requests that are never sent twice so many are probes of one closing: where those were lost, a person decides.
pub const RISKY_PROBES: u32 = 5;
/// So many failures in a row close a gate that is opening. One alone is what any API has now and then: were it enough,
/// an API that errs once in twenty would hardly ever get through its thirty-one successes, and its pauses would grow.
const OPENING_FAILURES: u32 = 2;
/// An API that answered so many requests well since it was closed, and then asks for a pause, has found its measure: the pauses
/// begin anew. Were they to double still, one row that is always turned away would shut everybody else out.
const MOSTLY_WELL: u32 = 5;
/// Its first pause is shorter then: it is up, and what it counts by the second has begun anew after that.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// This part of its good answers still speaks for it at the next closing: two refusals may follow each other by chance.
const REMEMBERED: u32 = 4;
/// One that answered so many well is no worse than before: the pause is the one that it had.
const NO_WORSE: u32 = 3;
/// An opening gate that would let so many requests be under way lets all of them: rate and concurrency bound the rest.
/// What a burst of the first ones could do to an API that just came back is over by then.
pub const WIDE_OPEN: u32 = 32;

/// The same instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of `Clock::steady`: what waits are measured by.
    pub steady: i64,
    /// What is kept and shown.
    pub wall: Timestamp,
}

/// The part of a gate that is kept and shown. `Default` is an open gate that never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateState {
    /// While the gate is closed: until when, and why. From then on one probe may pass.
    pub closed: Option<Closed>,
    /// How often it closed, and got worse, since it was last well; the pauses grow with it. More than 0 while it is not closed:
    /// it is opening, a few requests at a time.
    pub closings: u32,
    /// Probes since it was last open that are never to be sent twice, and that left.
    pub risked: u32,
}

/// Until when a gate is closed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Wall-clock time.
    pub until: Timestamp,
    /// What closed it.
    pub reason: GateReason,
}

/// What a request tells about its dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers, whatever it answers.
    Well,
    /// No connection, no answer in time, or a 5xx.
    Failing,
    /// 429, 503, or 403 with `Retry-After`: it asks to be left alone, perhaps for so long.
    Busy {
        /// What it answered.
        reason: GateReason,
        /// What its `Retry-After` says; zero for a date that has passed.
        retry_after: Option<Duration>,
    },
    /// 401: it does not take the credential, or not for this request.
    Unauthorized,
}

/// How a request may pass. It belongs to one request, from [`Gate::pass`] to [`Gate::report`] or [`Gate::not_sent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    is_probe: bool,
    /// Whether it is a probe that is never to be sent twice.
    is_risky: bool,
    /// Its place in the order in which requests left.
    number: u64,
    /// Which closing of this process it follows.
    after: u64,
    /// Steady nanoseconds.
    left_at: i64,
}

impl Passage {
    /// Whether the gate is half open, and this request is its probe.
    pub fn is_probe(self) -> bool {
        self.is_probe
    }

    /// Whether it is a probe that is never to be sent twice, and left.
    pub fn is_risky(self) -> bool {
        self.is_risky
    }

    /// Its place in the order in which requests of this process left.
    pub fn number(self) -> u64 {
        self.number
    }

    /// When this request left, in steady nanoseconds.
    pub fn left_at(self) -> i64 {
        self.left_at
    }
}

/// Why no request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// It is closed, and will be for so long from now.
    Closed(Closed, Duration),
    /// It is half open, and its probe is under way.
    Probing(Closed),
}

/// How far an opening gate is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    /// So many requests may be under way.
    allowed: u32,
    /// So many of them have succeeded: a round is over when all have.
    succeeded: u32,
}

impl Opening {
    const FIRST: Self = Self { allowed: 1, succeeded: 0 };

    /// After one more success; `None` where it is through.
    fn after_success(self) -> Option<Self> {
        let succeeded = self.succeeded + 1;
        if succeeded < self.allowed {
            return Some(Self { succeeded, ..self });
        }
        let allowed = self.allowed * 2;
        (allowed < WIDE_OPEN).then_some(Self { allowed, succeeded: 0 })
    }
}

/// The gate as one process has it.
#[derive(Debug)]
pub struct Gate {
    state: GateState,
    /// Steady nanoseconds: from then on a probe may pass. Of a gate that is closed.
    opens_at: i64,
    /// Of a gate that is neither closed nor wide open.
    opening: Option<Opening>,
    /// Good answers since it last closed.
    good: u32,
    gate_after: u32,
    /// A `Retry-After` beyond this is cut to it: no answer may close a gate for days.
    max_retry_after: Duration,
    failures: u32,
    /// Answers of 401 since one was good, whatever else came between.
    unauthorized: u32,
    /// When the last 401 came, and when the latest request left that was answered well since the process started.
    unauthorized_at: i64,
    well_left_at: i64,
    /// Whether a request was answered well that left after the last 401 had come.
    is_vindicated: bool,
    probing: bool,
    /// How many requests have passed.
    passed: u64,
    /// Counts the closings that this process knows of.
    era: u64,
    /// Requests under way that left before the last closing.
    late: u32,
    /// Requests under way that left after it.
    under_way: u32,
}

impl Gate {
    /// A gate as it was kept, which closes after `gate_after` failures in a row, and for at most `max_retry_after`
    /// because an answer asks for it.
    pub fn new(state: GateState, gate_after: u32, max_retry_after: Duration, now: Now) -> Self {
        let mut gate = Self {
            state: GateState::default(),
            opens_at: now.steady,
            opening: None,
            good: 0,
            gate_after: gate_after.max(1),
            max_retry_after,
            failures: 0,
            unauthorized: 0,
            unauthorized_at: i64::MIN,
            well_left_at: i64::MIN,
            is_vindicated: false,
            probing: false,
            passed: 0,
            era: 0,
            late: 0,
            under_way: 0,
        };
        gate.adopt(state, now);
        gate
    }

    /// What is kept of it.
    pub fn state(&self) -> GateState {
        self.state
    }

    /// Until when it is closed and why, in wall-clock time as it is now: what is shown.
    pub fn closed(&self, now: Now) -> Option<Closed> {
        self.state.closed.map(|closed| Closed { until: now.wall.after(whole_millis(self.left(now))), ..closed })
    }

    /// From when on a probe may pass (steady nanoseconds), where it is closed.
    pub fn opens_at(&self) -> Option<i64> {
        self.state.closed.map(|_| self.opens_at)
    }

    /// Takes over what another process found out, or the last start. The wait is a wall-clock time, so it is cut to
    /// what it can be: the clock may have been set since.
    pub fn adopt(&mut self, state: GateState, now: Now) {
        if state.closed != self.state.closed {
            self.opening = None;
        }
        if let Some(closed) = state.closed.filter(|closed| self.state.closed != Some(*closed)) {
            self.opens_at = later(now.steady, closed.until.since(now.wall).min(self.longest()));
            self.turn();
        }
        self.state = state;
        if self.is_open() {
            self.opening = if state.closings == 0 { None } else { self.opening.or(Some(Opening::FIRST)) };
        }
    }

    /// Whether requests pass, if perhaps only a few at a time.
    pub fn is_open(&self) -> bool {
        self.state.closed.is_none()
    }

    /// The most requests that may be under way, those that left before it closed among them, while it is opening. They
    /// bound nobody: a slow API that came back need not be waited for until the last of them has timed out.
    pub fn allowance(&self) -> Option<u32> {
        self.opening.map(|opening| opening.allowed.saturating_add(self.late))
    }

    /// Whether a request left before the gate last closed. Its end tells how the dependency was, not how it is.
    pub fn is_late(&self, passage: Passage) -> bool {
        passage.after != self.era
    }

    /// Whether a request may pass at this time, as far as [`Gate::allowance`] has room. Changes nothing.
    pub fn passage(&self, now: Now) -> Result<Passage, Shut> {
        let passage = |is_probe| {
            Ok(Passage { is_probe, is_risky: false, number: self.passed + 1, after: self.era, left_at: now.steady })
        };
        let Some(closed) = self.closed(now) else { return passage(false) };
        let left = self.left(now);
        match (left.is_zero(), self.probing) {
            (false, _) => Err(Shut::Closed(closed, left)),
            (true, true) => Err(Shut::Probing(closed)),
            (true, false) => passage(true),
        }
    }

    /// A request passes. Only as [`Gate::passage`] allowed it.
    pub fn pass(&mut self, passage: Passage) {
        self.probing |= passage.is_probe;
        self.passed += 1;
        self.under_way += 1;
    }

    /// The number of the request that left last.
    pub fn last(&self) -> u64 {
        self.passed
    }

    /// Whether the next probe may be a request that is never sent twice.
    pub fn may_risk(&self) -> bool {
        self.state.risked < RISKY_PROBES
    }

    /// The probe that has just passed is such a request.
    pub fn risk(&mut self, passage: &mut Passage) {
        passage.is_risky = true;
        self.state.risked += 1;
    }

    /// Whether the credential was taken from others since the row of this request was last refused, where it was before:
    /// then it is the row that is refused. To be asked before its 401 is reported.
    pub fn takes_others(&self, passage: Passage) -> bool {
        let lately = self.well_left_at >= passage.left_at.saturating_sub(NO_SOONER);
        !self.is_late(passage) && self.is_open() && (self.is_vindicated || lately)
    }

    /// A request that passed was never sent: where it was the probe, the next one is. Says whether the state to keep has changed.
    pub fn not_sent(&mut self, passage: Passage) -> bool {
        self.ended(passage);
        self.not_risked(passage)
    }

    /// A probe did not leave after all.
    fn not_risked(&mut self, passage: Passage) -> bool {
        let takes_back = passage.is_risky && self.state.risked > 0;
        self.state.risked -= u32::from(takes_back);
        takes_back
    }

    fn ended(&mut self, passage: Passage) {
        self.probing &= !passage.is_probe;
        let ended = if self.is_late(passage) { &mut self.late } else { &mut self.under_way };
        *ended = ended.saturating_sub(1);
    }

    /// A request that passed has ended. Says whether the state to keep has changed.
    pub fn report(&mut self, passage: Passage, health: Health, now: Now, rng: &mut impl Rng) -> bool {
        self.ended(passage);
        let before = self.state;
        match health {
            Health::Busy { reason, retry_after } if self.is_late(passage) => {
                self.put_off(reason, retry_after.unwrap_or_default(), now, rng);
            }
            _ if self.is_late(passage) => {}
            Health::Well => {
                self.well_left_at = self.well_left_at.max(passage.left_at);
                self.is_vindicated |= passage.left_at > self.unauthorized_at;
                self.well(passage);
            }
            Health::Failing => self.failing(passage, now, rng),
            Health::Unauthorized => self.unauthorized(passage, now, rng),
            // While it is closed nobody of the present closing is under way but its probe.
            Health::Busy { reason, retry_after } => self.close(reason, retry_after.unwrap_or_default(), now, rng),
        }
        self.state != before
    }

    /// A good answer. `closings` does not go back to 0 with the first of them: an API that takes one request after
    /// each pause and refuses the next is not well, and with every probe starting afresh it would be called at the
    /// shortest pause for ever.
    fn well(&mut self, passage: Passage) {
        (self.failures, self.unauthorized, self.state.risked) = (0, 0, 0);
        self.good = self.good.saturating_add(1);
        if passage.is_probe && !self.is_open() {
            self.state.closed = None;
            self.opening = Some(Opening::FIRST);
        } else if let Some(opening) = self.opening {
            self.opening = opening.after_success();
            if self.opening.is_none() {
                self.state.closings = 0;
            }
        }
    }

    fn failing(&mut self, passage: Passage, now: Now, rng: &mut impl Rng) {
        self.failures = self.failures.saturating_add(1);
        let most = if self.opening.is_some() { self.gate_after.min(OPENING_FAILURES) } else { self.gate_after };
        if passage.is_probe || self.failures >= most {
            self.close(GateReason::Failing, Duration::ZERO, now, rng);
        }
    }

    /// An answer all the same, so no failure in a row of failures. One alone may be its row's own affair, also while the
    /// gate opens; a probe is all that is known, so there it counts at once.
    fn unauthorized(&mut self, passage: Passage, now: Now, rng: &mut impl Rng) {
        self.failures = 0;
        (self.unauthorized_at, self.is_vindicated) = (now.steady, false);
        self.unauthorized = self.unauthorized.saturating_add(1);
        if passage.is_probe || self.unauthorized >= UNAUTHORIZED_AFTER {
            self.close(GateReason::Unauthorized, Duration::ZERO, now, rng);
        }
    }

    /// Closes it for as long as it asks for, and never for less than the pause that grows with every closing: otherwise
    /// `Retry-After: 0`, or a date that has passed, would leave an API that refuses everything at its full rate.
    fn close(&mut self, reason: GateReason, retry_after: Duration, now: Now, rng: &mut impl Rng) {
        let good = self.good;
        self.good = good.min(WIDE_OPEN) / REMEMBERED;
        let no_worse = self.opening.is_some() && good >= NO_WORSE;
        match good {
            MOSTLY_WELL.. => self.state.closings = 0,
            _ if no_worse => self.state.closings = self.state.closings.saturating_sub(1),
            _ => {}
        }
        let growing = match (self.state.closings, reason) {
            (0, GateReason::RateLimited) if good >= MOSTLY_WELL => SHORT_PAUSE,
            (closings, _) => FIRST_PAUSE.saturating_mul(1 << closings.min(16)).min(LONGEST_PAUSE),
        };
        let pause = spread(growing.max(retry_after.min(self.max_retry_after)), rng);
        self.failures = 0;
        self.opening = None;
        self.shut_for(reason, pause, now);
        self.state.closings = self.state.closings.saturating_add(1);
        self.turn();
    }

    /// A request that left before the gate last closed came back and asks for a pause: it is had where it is the longer
    /// one. It is no closing of its own, so that the pauses do not grow by how many were under way.
    fn put_off(&mut self, reason: GateReason, retry_after: Duration, now: Now, rng: &mut impl Rng) {
        let pause = spread(retry_after.min(self.max_retry_after), rng);
        if pause <= self.left(now) {
            return;
        }
        let was_open = self.is_open();
        let reason = self.state.closed.map_or(reason, |closed| closed.reason);
        self.shut_for(reason, pause, now);
        if was_open {
            self.opening = None;
            self.turn();
        }
    }

    fn shut_for(&mut self, reason: GateReason, pause: Duration, now: Now) {
        self.opens_at = later(now.steady, pause);
        self.state.closed = Some(Closed { until: now.wall.after(pause), reason });
    }

    /// From here on whoever is under way is late.
    fn turn(&mut self) {
        self.era += 1;
        self.late = self.late.saturating_add(std::mem::take(&mut self.under_way));
    }

    fn left(&self, now: Now) -> Duration {
        let left = if self.is_open() { 0 } else { self.opens_at.saturating_sub(now.steady) };
        Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    }

    /// The longest that a gate is ever closed for.
    fn longest(&self) -> Duration {
        self.max_retry_after.max(LONGEST_PAUSE).mul_f64(1.0 + JITTER)
    }
}

fn later(steady: i64, by: Duration) -> i64 {
    steady.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX))
}

fn spread(pause: Duration, rng: &mut impl Rng) -> Duration {
    whole_millis(pause.mul_f64(rng.random_range(1.0..=1.0 + JITTER)))
}

/// Rounded up to what wall-clock times are told in, so that whoever comes at the time that was told finds it open. With a
/// remainder it would open a little later: on a clock that is turned by hand, never.
fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
