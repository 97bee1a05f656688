//! One HTTP call of a step: what is sent, when it may leave, and what its answer means.
//!
//! Knows nothing of the store: what must be durable goes through the trait [`Ledger`].

pub mod gate;
pub mod ledger;
pub mod rate;

pub use gate::{Closed, GateReason, GateState};
pub use ledger::{DependencyState, Lease, LeaseAsk, Ledger, LedgerError};
