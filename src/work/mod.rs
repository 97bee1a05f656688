//! A row's work: from the claim, through its steps, to the settle.
//!
//! Read [`row_work`] first: it is the way of a claimed row ([`worker`]), and [`ending`] is how the claim ends. [`pool`] are
//! the threads that walk it, and `settler` is the one that writes down how it ended, by `settling`.

pub mod ending;
pub mod error_payload;
pub mod idempotency;
pub mod open_batch;
pub mod open_row;
pub mod pool;
pub mod progress;
pub mod row_work;
mod settler;
mod settling;
mod traced;
pub mod worker;
