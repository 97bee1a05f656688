//! Intake: bytes of a CSV in, findings or rows out. One streaming pass, in bounded memory, whatever the file.
//!
//! The way of a file: [`decode`] inflates and counts it, [`records`] cuts it into records with their lines, [`header`]
//! finds out which column is which, [`checks`] looks at every cell, [`unique`] finds the same value twice, and
//! [`pass`] leads through all of them and hands the bytes on to whoever stores them. Later [`stored`] reads the stored
//! file again, without checks.
//!
//! It knows nothing of HTTP, of the database, or of sealing.

pub mod checks;
pub mod decode;
pub mod finding;
pub mod header;
pub mod pass;
pub mod records;
pub mod stored;
pub mod unique;

pub use checks::check_column;
pub use finding::{FINDINGS_TOLD, Finding, FindingCode, Report};
pub use header::Header;
pub use pass::{Accepted, Options, Refused, SkippedSink, run};
pub use stored::StoredRecords;
