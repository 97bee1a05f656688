//! A dependency's gate: open, closed until a time, or half open while one probe finds out. A pure state machine.

use std::{fmt, str::FromStr, time::Duration};

use crate::model::Timestamp;

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

/// The first pause of a dependency that keeps failing; it doubles each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Spread over this much behind a `Retry-After`, so that several appliances do not come back at once.
const LARGEST_JITTER: Duration = Duration::from_millis(500);

/// Whether a request may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It may.
    Open,
    /// It may, alone: how it ends decides for all others.
    Probe,
    /// Not before then.
    Closed(Timestamp),
}

/// How a request ended, as far as its gate is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// The dependency is well: it answered anything but what follows.
    Well,
    /// It answered 429 or 503, perhaps with a `Retry-After`.
    Asked { reason: GateReason, retry_after: Option<Duration> },
    /// No answer, or a 5xx.
    Failed,
}

/// A gate: the kept state, and what only this process needs to know.
#[derive(Debug)]
pub(super) struct Gate {
    state: GateState,
    gate_after: u32,
    failures: u32,
    probing: bool,
}

impl Gate {
    pub(super) fn new(state: GateState, gate_after: u32) -> Self {
        Self { state, gate_after, failures: 0, probing: false }
    }

    pub(super) fn state(&self) -> GateState {
        self.state
    }

    /// Another process may have closed or opened it.
    pub(super) fn set_state(&mut self, state: GateState) {
        self.state = state;
    }

    /// Whether a request may leave now. A probe counts as taken only by [`Gate::begin`].
    pub(super) fn pass(&self, now: Timestamp) -> Pass {
        match self.state.closed {
            None => Pass::Open,
            Some(closed) if now < closed.until => Pass::Closed(closed.until),
            // One probe is out; the others find out soon how it went.
            Some(_) if self.probing => Pass::Closed(now.after(LARGEST_JITTER)),
            Some(_) => Pass::Probe,
        }
    }

    /// A request leaves, as the probe or not.
    pub(super) fn begin(&mut self, probe: bool) {
        self.probing |= probe;
    }

    /// A request ended; whether the kept state changed.
    pub(super) fn end(&mut self, probe: bool, signal: Signal, now: Timestamp, jitter: f64) -> bool {
        self.probing &= !probe;
        let before = self.state;
        match signal {
            Signal::Well => {
                self.failures = 0;
                // What left before the gate closed and came back late tells nothing about now; the probe does.
                if probe || self.state.closed.is_none() {
                    self.state = GateState::default();
                }
            }
            Signal::Asked { reason, retry_after } => {
                let wait = retry_after.unwrap_or_else(|| pause(self.state.closings));
                self.close(now.after(wait + LARGEST_JITTER.mul_f64(jitter)), reason, probe);
            }
            Signal::Failed => {
                self.failures = self.failures.saturating_add(1);
                if probe || (self.failures >= self.gate_after && self.state.closed.is_none()) {
                    let wait = pause(self.state.closings).mul_f64(0.75 + jitter / 4.0);
                    self.close(now.after(wait), GateReason::Failing, probe);
                }
            }
        }
        self.state != before
    }

    /// Closes it, or keeps it closed for longer; several requests that were under way together close it once.
    fn close(&mut self, until: Timestamp, reason: GateReason, probe: bool) {
        if probe || self.state.closed.is_none() {
            self.state.closings = self.state.closings.saturating_add(1);
        }
        let until = self.state.closed.map_or(until, |closed| closed.until.max(until));
        self.state.closed = Some(Closed { until, reason });
    }
}

fn pause(closings: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << closings.min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn at(ms: i64) -> Timestamp {
        Timestamp(NOW.0 + ms)
    }

    fn closed_until(gate: &Gate) -> Option<i64> {
        gate.state().closed.map(|closed| closed.until.0 - NOW.0)
    }

    #[test]
    fn too_many_requests_close_it_for_all_until_retry_after_then_one_probe_opens_it() {
        let mut gate = Gate::new(GateState::default(), 5);
        let asked = Signal::Asked { reason: GateReason::RateLimited, retry_after: Some(Duration::from_secs(7)) };
        assert!(gate.end(false, asked, NOW, 0.0));
        assert_eq!(gate.pass(at(6_999)), Pass::Closed(at(7_000)));
        assert_eq!(gate.pass(at(7_000)), Pass::Probe);
        gate.begin(true);
        assert!(matches!(gate.pass(at(7_000)), Pass::Closed(_)), "one probe at a time");
        assert!(gate.end(true, Signal::Well, at(7_100), 0.0));
        assert_eq!(gate.pass(at(7_100)), Pass::Open);
    }

    #[test]
    fn failures_in_a_row_close_it_for_longer_and_longer() {
        let mut gate = Gate::new(GateState::default(), 3);
        gate.end(false, Signal::Failed, NOW, 1.0);
        gate.end(false, Signal::Failed, NOW, 1.0);
        gate.end(false, Signal::Well, NOW, 1.0);
        gate.end(false, Signal::Failed, NOW, 1.0);
        gate.end(false, Signal::Failed, NOW, 1.0);
        assert_eq!(gate.pass(NOW), Pass::Open, "not three in a row");
        gate.end(false, Signal::Failed, NOW, 1.0);
        assert_eq!(closed_until(&gate), Some(2_000));
        gate.end(false, Signal::Failed, NOW, 1.0);
        assert_eq!(closed_until(&gate), Some(2_000), "what was under way does not close it further");
        let mut waits = Vec::new();
        let mut now = at(2_000);
        for _ in 0..8 {
            gate.begin(true);
            gate.end(true, Signal::Failed, now, 1.0);
            let until = gate.state().closed.expect("closed").until;
            waits.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [4, 8, 16, 32, 64, 120, 120, 120]);
    }

    #[test]
    fn a_late_success_does_not_open_a_closed_gate() {
        let mut gate = Gate::new(GateState::default(), 1);
        gate.end(false, Signal::Failed, NOW, 1.0);
        assert!(!gate.end(false, Signal::Well, at(100), 0.0));
        assert!(matches!(gate.pass(at(100)), Pass::Closed(_)));
    }
}
