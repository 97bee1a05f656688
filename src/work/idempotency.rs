//! The `Idempotency-Key` of a request.
//!
//! It is derived and not drawn, so that it is the same after any crash, on any machine, and for a corrected file: from
//! where the row comes from, the step, how often a person retried a rejection, and the request itself. The same
//! request of the same row always has the same key, and another request never does. The derivation is keyed with a
//! secret of the appliance, so the key tells nothing about the row, not even to somebody who guesses its content.

use crate::{
    crypto::MacKey,
    model::{BatchId, RowRef},
};

/// What a row's keys are derived from, besides the request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's key in the database: another client's file cannot name this one's rows.
    pub client: i64,
    /// The row as it first came to us.
    pub row: RowRef,
}

impl Origin {
    /// The origin of a row of `batch`: itself, or the row that its record says it was in one of our result files.
    pub fn of(client: i64, batch: BatchId, number: u32, stated: &str) -> Self {
        let row = stated.parse().unwrap_or(RowRef { batch, number });
        Self { client, row }
    }
}

/// The key of one request, 32 hexadecimal digits.
pub fn key(secret: &MacKey, origin: &Origin, step: &str, retries: u32, fingerprint: &[u8; 32]) -> String {
    let tag = secret.tag(&[
        b"idempotency-key",
        &origin.client.to_be_bytes(),
        &origin.row.batch.to_bytes(),
        &origin.row.number.to_be_bytes(),
        step.as_bytes(),
        &retries.to_be_bytes(),
        fingerprint,
    ]);
    let digits = tag[..16].iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
