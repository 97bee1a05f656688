//! From the bytes of an upload to a verdict: the whole file, every row, in one pass and in bounded memory.
//!
//! ```text
//! upload ─ decode ─┬─ records ─ header ─┬─ check ──┬─ findings ─ Refused
//!                  │                    └─ unique ─┘          └ Accepted
//!                  └─ tee (sealing, storage)
//! stored file ─ rows ─ extraction
//! ```
//!
//! [`pass::run`] is the upload, and `validate_only` with a tee that keeps nothing; [`rows::Rows`] reads a stored file
//! again. Everything here blocks, and nothing here knows of HTTP, of the store, or of keys.

pub mod check;
mod decode;
mod encoding;
pub mod example;
pub mod finding;
pub mod header;
mod layout;
pub mod pass;
pub mod records;
pub mod rows;
mod rules;
mod sorter;
mod unique;

#[cfg(test)]
mod tests;

pub use finding::{Finding, FindingCode, Report};
pub use header::{Delimiter, Header, HeaderColumn, Role};
pub use pass::{Accepted, Options, Refused};
pub use rows::{Rows, StoredRow};
pub use rules::Rules;
