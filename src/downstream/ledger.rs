//! What must outlive a process, or be seen by another one: how far each dependency's line of slots is given out, the
//! rate that an operator set, and the state of its gate.
//!
//! This file knows the shapes only. Whoever keeps them durably (the store) implements [`Ledger`]; the arithmetic that
//! a lease needs is [`super::rate::advance`], so that no implementation repeats it.

use std::sync::Arc;

use super::gate::GateState;

/// Where rates and gates are kept. Every call may block on a disk, and none is made while a lock is held.
pub trait Ledger: Send + Sync {
    /// Moves the dependency's line forward, durably, in one write: reads the line's mark, lets
    /// [`super::rate::advance`] compute the lease, and keeps `(ask.boot, lease.end)` as the new mark before it returns.
    fn lease(&self, ask: &LeaseAsk) -> Result<Lease, LedgerError>;

    /// What others may have changed since. `None` where nothing was ever kept for this dependency.
    fn load(&self, dependency: &str) -> Result<Option<DependencyState>, LedgerError>;

    /// Keeps the gate as it is now, so that a restart and other processes see it.
    fn save_gate(&self, dependency: &str, gate: &GateState) -> Result<(), LedgerError>;
}

/// A wish for the next stretch of a dependency's line. All times are steady nanoseconds (`Clock::steady`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAsk {
    /// Whose line.
    pub dependency: String,
    /// Which start of the machine the times count from.
    pub boot: Arc<str>,
    /// The asker's now.
    pub now: i64,
    /// A line whose mark lies before this has been idle, and begins again at `floor`.
    pub floor_reset: i64,
    /// The earliest slot that an idle line may give: `burst - 1` slots ago.
    pub floor: i64,
    /// From one slot to the next; more than zero.
    pub spacing_ns: i64,
    /// How many slots; at least one.
    pub slots: u32,
}

/// A stretch of a dependency's line that belongs to the asker alone: `start` is its first slot, and nothing of it lies
/// at or after `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Steady nanoseconds.
    pub start: i64,
    /// Steady nanoseconds; the line's new mark.
    pub end: i64,
}

/// What is kept of a dependency.
#[derive(Debug, Clone, PartialEq)]
pub struct DependencyState {
    /// The rate that an operator set; `None` leaves the configured one.
    pub rate_per_second: Option<f64>,
    /// The gate as the last process that changed it left it.
    pub gate: GateState,
}

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the durable state of rates and gates cannot be used: {0}")]
pub struct LedgerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
