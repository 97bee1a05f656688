//! A dependency's gate: open, closed until a time, or half open while one probe finds out. A pure state machine.

use std::{fmt, str::FromStr};

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
