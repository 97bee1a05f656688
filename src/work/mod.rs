//! A row's work: from the claim, through its steps, to the settle.
//!
//! Read [`row_work`] first: it is the way of a claimed row ([`worker`]), and [`ending`] is how the claim ends.
//! [`pool`] are the threads that walk it, whose `turns` come row by row. Two threads write for them: `noter` that a
//! request is about to leave, by `noting`, and `settler` how the claim ended, by `settling`, where
//! `recent` knows how the last rows of each batch ended. [`under_way`] are the rows that are in hand: rescue leaves them alone.
//! What steps there are says the batch's own version of its workflow ([`workflows`]).

pub mod ending;
pub mod error_payload;
pub mod idempotency;
pub mod missing;
mod noter;
mod noting;
pub mod open_batch;
pub mod open_row;
pub mod pool;
pub mod progress;
pub mod recent;
pub mod row_work;
mod settler;
mod settling;
pub mod standstill;
mod traced;
mod turns;
pub mod under_way;
pub mod upgrade;
pub mod worker;
pub mod workflows;
