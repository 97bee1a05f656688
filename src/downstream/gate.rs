//! A dependency's gate: open, closed until a time, or half open while one probe finds out whether it may open. A pure
//! state machine: it is told the time, and keeps nothing itself.
//!
//! ```text
//!            429, 503, or gate_after failures in a row
//!   open ------------------------------------------------> closed until T
//!    ^                                                        |  T has come
//!    |            the probe succeeds                          v
//!    +--------------------------------------------------- half open: one probe
//!                                                             |  the probe fails
//!                                                             v
//!                                                      closed again, for longer
//! ```

use std::{fmt, str::FromStr, time::Duration};

use rand::{Rng, RngExt};

use crate::model::Timestamp;

/// How long a gate closes the first time, where the dependency does not say.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Pauses double each time a probe fails, up to this.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 60);
/// Every pause is made longer by up to this share of itself, so that several of us do not probe at the same instant.
pub const JITTER: f64 = 0.1;

/// The part of a gate that is kept and shown. `Default` is an open gate that never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateState {
    /// While the gate is closed: until when, and why. From then on one probe may pass.
    pub closed: Option<Closed>,
    /// How often it closed since a request last succeeded; the pauses grow with it.
    pub closings: u32,
}

/// Until when a gate is closed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Wall-clock time.
    pub until: Timestamp,
    /// What closed it.
    pub reason: GateReason,
}

/// What closed a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateReason {
    /// It answered 429: it wants fewer requests.
    RateLimited,
    /// It answered 503: it is not there for anybody.
    Unavailable,
    /// `gate_after` requests in a row got no answer, or a 5xx.
    Failing,
}

impl GateReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::RateLimited, Self::Unavailable, Self::Failing];

    /// As the schema spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Failing => "failing",
        }
    }
}

/// For a person.
impl fmt::Display for GateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RateLimited => "it answered 429 (too many requests)",
            Self::Unavailable => "it answered 503 (service unavailable)",
            Self::Failing => "its last requests all failed",
        })
    }
}

impl FromStr for GateReason {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(())
    }
}

/// What a request tells about its dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers, whatever it answers.
    Well,
    /// No connection, no answer in time, or a 5xx.
    Failing,
    /// 429 or 503: it asks to be left alone, perhaps for so long.
    Busy { reason: GateReason, retry_after: Option<Duration> },
}

/// How a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The gate is open.
    Free,
    /// It is half open, and this would be its probe.
    Probe,
}

/// Why no request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// It is closed, and will be for so long from now.
    Closed(Closed, Duration),
    /// It is half open, and its probe is under way.
    Probing(Closed),
}

/// The gate as one process has it.
#[derive(Debug)]
pub struct Gate {
    state: GateState,
    gate_after: u32,
    /// A `Retry-After` beyond this is cut to it: no answer may close a gate for days.
    max_retry_after: Duration,
    failures: u32,
    probing: bool,
}

impl Gate {
    /// A gate as it was kept, which closes after `gate_after` failures in a row, and for at most `max_retry_after`
    /// because an answer asks for it.
    pub fn new(state: GateState, gate_after: u32, max_retry_after: Duration) -> Self {
        Self { state, gate_after: gate_after.max(1), max_retry_after, failures: 0, probing: false }
    }

    /// What is kept and shown of it.
    pub fn state(&self) -> GateState {
        self.state
    }

    /// Takes over what another process found out.
    pub fn adopt(&mut self, state: GateState) {
        self.state = state;
    }

    /// Whether requests pass freely.
    pub fn is_open(&self) -> bool {
        self.state.closed.is_none()
    }

    /// Whether a request may pass at this time. Changes nothing.
    pub fn passage(&self, now: Timestamp) -> Result<Passage, Shut> {
        let Some(closed) = self.state.closed else { return Ok(Passage::Free) };
        // A wall clock that was set back must not keep a gate closed for as long as it was set back.
        let left = closed.until.since(now);
        let longest = self.max_retry_after.max(LONGEST_PAUSE).mul_f64(1.0 + JITTER);
        let left = if left > longest { Duration::ZERO } else { left };
        match (left.is_zero(), self.probing) {
            (false, _) => Err(Shut::Closed(closed, left)),
            (true, true) => Err(Shut::Probing(closed)),
            (true, false) => Ok(Passage::Probe),
        }
    }

    /// A request passes. Only as [`Gate::passage`] allowed it.
    pub fn pass(&mut self, passage: Passage) {
        self.probing |= passage == Passage::Probe;
    }

    /// A request that passed was never sent: where it was the probe, the next one is.
    pub fn not_sent(&mut self, passage: Passage) {
        self.probing &= passage != Passage::Probe;
    }

    /// A request that passed has ended. Says whether the state to keep has changed.
    ///
    /// While the gate is closed, only its probe opens it: an answer to a request that left before tells nothing new,
    /// unless it asks for a longer pause.
    pub fn report(&mut self, passage: Passage, health: Health, now: Timestamp, rng: &mut impl Rng) -> bool {
        self.not_sent(passage);
        let before = self.state;
        match health {
            Health::Well => {
                self.failures = 0;
                if passage == Passage::Probe {
                    self.state = GateState::default();
                }
            }
            Health::Failing => {
                self.failures = self.failures.saturating_add(1);
                if passage == Passage::Probe || (self.is_open() && self.failures >= self.gate_after) {
                    self.close(GateReason::Failing, None, now, rng);
                }
            }
            Health::Busy { reason, retry_after } => {
                if passage == Passage::Probe || self.is_open() {
                    self.close(reason, retry_after, now, rng);
                } else if let (Some(closed), Some(wait)) = (&mut self.state.closed, retry_after) {
                    closed.until = closed.until.max(now.after(spread(wait.min(self.max_retry_after), rng)));
                }
            }
        }
        self.state != before
    }

    fn close(&mut self, reason: GateReason, retry_after: Option<Duration>, now: Timestamp, rng: &mut impl Rng) {
        let pause = match retry_after {
            Some(wait) => wait.min(self.max_retry_after),
            None => FIRST_PAUSE.saturating_mul(1 << self.state.closings.min(16)).min(LONGEST_PAUSE),
        };
        self.failures = 0;
        self.state.closed = Some(Closed { until: now.after(spread(pause, rng)), reason });
        self.state.closings = self.state.closings.saturating_add(1);
    }
}

fn spread(pause: Duration, rng: &mut impl Rng) -> Duration {
    pause.mul_f64(rng.random_range(1.0..=1.0 + JITTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);

    const HOUR: Duration = Duration::from_secs(3_600);

    fn gate() -> Gate {
        Gate::new(GateState::default(), 3, HOUR)
    }

    /// Reports what a request that may pass now came to.
    fn send(gate: &mut Gate, now: Timestamp, health: Health) -> bool {
        let passage = gate.passage(now).expect("the gate lets it pass");
        gate.pass(passage);
        gate.report(passage, health, now, &mut rand::rng())
    }

    fn until(gate: &Gate) -> Timestamp {
        gate.state().closed.expect("closed").until
    }

    #[test]
    fn failures_in_a_row_close_it_and_a_success_between_them_does_not() {
        let mut gate = gate();
        for health in [Health::Failing, Health::Failing, Health::Well, Health::Failing, Health::Failing] {
            assert!(!send(&mut gate, NOW, health));
        }
        assert!(send(&mut gate, NOW, Health::Failing), "the third in a row");
        assert_eq!(gate.state().closed.map(|closed| closed.reason), Some(GateReason::Failing));
        assert!(gate.passage(NOW).is_err());
        let pause = until(&gate).since(NOW);
        assert!((FIRST_PAUSE..=FIRST_PAUSE.mul_f64(1.0 + JITTER)).contains(&pause), "{pause:?}");
    }

    #[test]
    fn after_the_pause_exactly_one_probe_passes_and_its_success_opens() {
        let mut gate = gate();
        send(&mut gate, NOW, Health::Busy { reason: GateReason::RateLimited, retry_after: Some(FIRST_PAUSE) });
        let then = until(&gate);
        assert_eq!(gate.passage(then), Ok(Passage::Probe));
        gate.pass(Passage::Probe);
        assert!(matches!(gate.passage(then), Err(Shut::Probing(_))));
        gate.not_sent(Passage::Probe);
        gate.pass(gate.passage(then).expect("the next one is the probe"));
        assert!(gate.report(Passage::Probe, Health::Well, then, &mut rand::rng()));
        assert_eq!(gate.state(), GateState::default());
    }

    #[test]
    fn pauses_grow_while_probes_fail_and_have_an_end() {
        let mut gate = gate();
        let mut now = NOW;
        for _ in 0..3 {
            send(&mut gate, now, Health::Failing);
        }
        let mut pauses = vec![until(&gate).since(now)];
        for _ in 0..10 {
            now = until(&gate);
            send(&mut gate, now, Health::Failing);
            pauses.push(until(&gate).since(now));
        }
        assert!(pauses[..6].is_sorted_by(|one, next| one < next), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE.mul_f64(1.0 + JITTER)), "{pauses:?}");
        let first_minute = pauses.iter().scan(0.0, |at, pause| {
            *at += pause.as_secs_f64();
            Some(*at)
        });
        assert!(first_minute.take_while(|at| *at < 60.0).count() <= 5, "a dead API costs a handful of calls a minute");
    }

    #[test]
    fn what_left_before_it_closed_neither_opens_it_nor_makes_it_worse() {
        let mut gate = gate();
        let busy =
            |seconds| Health::Busy { reason: GateReason::Unavailable, retry_after: Some(Duration::from_secs(seconds)) };
        send(&mut gate, NOW, busy(10));
        let first = gate.state();
        for health in [Health::Well, Health::Failing, Health::Failing, Health::Failing, busy(1)] {
            assert!(!gate.report(Passage::Free, health, NOW, &mut rand::rng()), "{health:?}");
        }
        assert_eq!(gate.state(), first);
        assert!(gate.report(Passage::Free, busy(60), NOW, &mut rand::rng()), "it asked for longer");
        assert!(until(&gate) >= NOW.after(Duration::from_secs(60)));
    }

    #[test]
    fn no_answer_and_no_clock_keeps_it_closed_for_days() {
        let mut gate = gate();
        let week = Duration::from_secs(7 * 24 * 3_600);
        send(&mut gate, NOW, Health::Busy { reason: GateReason::RateLimited, retry_after: Some(week) });
        assert!(until(&gate).since(NOW) <= HOUR.mul_f64(1.0 + JITTER));
        assert_eq!(gate.passage(NOW.before(week)), Ok(Passage::Probe), "the clock was set back");
    }
}
