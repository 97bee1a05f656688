//! A row's work: from the claim, through its steps, to the settle.
//!
//! Read [`row_work`] first: it is the way of a claimed row ([`worker`]); `leave` is what has to be so before a request leaves,
//! and [`ending`] how the claim ends. [`pool`] are the rows under way. Two threads write for them: [`noter`] that a
//! request is about to leave, by `noting`, and `settler` how the claim ended, by `settling`, each
//! transaction of theirs a `group`; `recent` knows how the last rows of each batch ended. [`under_way`] are the rows that are in hand: rescue leaves
//! them alone, and for how many there is memory says [`fitting`].
//! What steps there are says the batch's own version of its workflow ([`workflows`]).

pub mod ending;
pub mod error_payload;
pub mod fitting;
mod group;
pub mod idempotency;
mod leave;
pub mod missing;
pub mod noter;
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
pub mod under_way;
mod unkeyed;
mod unknown;
pub mod unspent;
pub mod upgrade;
pub mod worker;
pub mod workflows;
