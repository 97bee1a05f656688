//! The nouns of dripfeed and their rules: no I/O, and nothing of ours imported.
//!
//! Everything else speaks in these types, so one reading of this folder gives the vocabulary: what a batch and a row
//! are, which statuses they have and who may change them, what a workflow asks for, and how an attempt can end.

pub mod alert;
pub mod backoff;
pub mod batch;
pub mod dependency;
pub mod id;
mod nearest;
pub mod nesting;
pub mod outcome;
pub mod outline;
pub mod quota;
pub mod record;
pub mod role;
pub mod row;
pub mod run;
pub mod safe_cell;
pub mod saved;
mod schema;
pub mod scope;
pub mod time;
pub mod workflow;

pub use alert::AlertKind;
pub use batch::{BatchEvent, BatchStatus, Counts};
pub use dependency::{Concurrency, Dependency};
pub use id::{BatchId, ClaimNumber, ClaimOwner, RowId, RowRef};
pub use nearest::nearest;
pub use outcome::{FailureCode, StepFailure};
pub use outline::Outline;
pub use role::Role;
pub use row::{RowEvent, RowStatus};
pub use run::AskedBy;
pub use saved::Saved;
pub use schema::words;
pub use scope::{Scope, Scopes};
pub use time::Timestamp;
pub use workflow::{Column, ColumnKind, Step, Workflow};

/// A move that the state machine of a batch or a row does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {noun} that is {status} cannot {event}")]
pub struct IllegalTransition {
    /// `batch` or `row`.
    pub noun: &'static str,
    /// The status it has.
    pub status: &'static str,
    /// What was asked of it.
    pub event: &'static str,
}
