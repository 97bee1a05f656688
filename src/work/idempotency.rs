//! The `Idempotency-Key` of a request.
//!
//! It is derived and not drawn, so that it is the same after any crash, on any machine, and for a corrected file: from
//! where the row comes from, the step, how often a person retried a rejection, and the request itself. The same
//! request of the same row always has the same key, and another request never does. The derivation is keyed with a
//! secret of the appliance, so the key tells nothing about the row, not even to somebody who guesses its content.

use std::fmt;

use crate::{
    crypto::MacKey,
    model::{BatchId, RowRef},
};

/// What the keys of a batch's rows are derived from that came with an `Idempotency-Key` of its own: the same upload, sent again
/// after a restore, is the same batch to every vendor.
pub type BatchOrigin = [u8; 16];

/// Where the upload came from, by its client, its path, its key (as it is kept: by a keyed hash) and the file's SHA-256.
pub fn origin_of_upload(secret: &MacKey, client: i64, path: &str, key: &[u8], sha256: &[u8; 32]) -> BatchOrigin {
    let tag = secret.tag(&[b"upload-origin", &client.to_be_bytes(), path.as_bytes(), key, sha256]);
    std::array::from_fn(|place| tag[place])
}

/// What a row's keys are derived from, besides the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client's key in the database: another client's file cannot name this one's rows.
    pub client: i64,
    /// The row as it first came to us.
    pub row: Place,
}

/// The first place of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a batch that nothing else is known of.
    Row(RowRef),
    /// In an upload with a key: the line on which its record starts, whatever else of the file is skipped.
    Line(BatchOrigin, u64),
}

/// Who a record says that it was in one of our result files, and where that came from: `BATCH/NUMBER`, and behind an `@` the
/// origin of that batch, in hexadecimal digits, and the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// The row.
    pub row: RowRef,
    /// Where it came from, if its batch came with a key.
    pub origin: Option<(BatchOrigin, u64)>,
}

impl Stated {
    /// What a record has of it; nothing where it is a record of its own.
    pub fn of(text: &str) -> Option<Self> {
        let (row, origin) = text.split_once('@').unwrap_or((text, ""));
        let origin = origin.split_once('/').and_then(|(hex, line)| {
            let number = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32)?;
            Some((number.to_be_bytes(), line.parse().ok()?))
        });
        Some(Self { row: row.parse().ok()?, origin })
    }
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.row)?;
        match self.origin {
            Some((origin, line)) => write!(f, "@{:032x}/{line}", u128::from_be_bytes(origin)),
            None => Ok(()),
        }
    }
}

/// A row of a batch, as far as its origin needs it.
#[derive(Debug, Clone, Copy)]
pub struct OfBatch {
    /// The client's key in the database.
    pub client: i64,
    /// The batch.
    pub batch: BatchId,
    /// Of the batch, where its upload had a key.
    pub origin: Option<BatchOrigin>,
}

impl Origin {
    /// The origin of a row: itself, or the row that its record says it was in one of our result files.
    pub fn of(batch: OfBatch, number: u32, line: u64, stated: &str) -> Self {
        let OfBatch { client, batch, origin } = batch;
        let row = match (Stated::of(stated), origin) {
            (Some(Stated { origin: Some((origin, line)), .. }), _) => Place::Line(origin, line),
            (Some(Stated { row, .. }), _) => Place::Row(row),
            (None, Some(origin)) => Place::Line(origin, line),
            (None, None) => Place::Row(RowRef { batch, number }),
        };
        Self { client, row }
    }
}

/// The key of one request, 32 hexadecimal digits.
pub fn key(secret: &MacKey, origin: &Origin, step: &str, retries: u32, fingerprint: &[u8; 32]) -> String {
    let (batch, place) = match origin.row {
        Place::Row(RowRef { batch, number }) => (batch.to_bytes(), number.to_be_bytes().to_vec()),
        // Eight bytes and not four: no line is taken for a number.
        Place::Line(origin, line) => (origin, line.to_be_bytes().to_vec()),
    };
    let tag = secret.tag(&[
        b"idempotency-key",
        &origin.client.to_be_bytes(),
        &batch,
        &place,
        step.as_bytes(),
        &retries.to_be_bytes(),
        fingerprint,
    ]);
    let digits = tag[..16].iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_states_is_read_as_it_was_written() {
        let row = RowRef { batch: BatchId::random(), number: 7 };
        for origin in [None, Some(([0xA5; 16], 12)), Some(([0; 16], u64::MAX))] {
            let stated = Stated { row, origin };
            assert_eq!(Stated::of(&stated.to_string()), Some(stated));
        }
        assert_eq!(Stated::of(""), None);
        assert_eq!(Stated::of(&format!("{row}@short/1")).map(|stated| stated.origin), Some(None));
    }

    #[test]
    fn an_upload_with_a_key_is_the_same_again_in_another_batch_and_rows_that_name_it_too() {
        let secret = MacKey::generate();
        let origin = origin_of_upload(&secret, 1, "/p", b"key", &[1; 32]);
        for (client, path, key, sha256) in [
            (2, "/p", b"key", [1; 32]),
            (1, "/q", b"key", [1; 32]),
            (1, "/p", b"kez", [1; 32]),
            (1, "/p", b"key", [2; 32]),
        ] {
            assert_ne!(origin_of_upload(&secret, client, path, key, &sha256), origin);
        }
        let of = |origin, number, line, stated: &str| {
            Origin::of(OfBatch { client: 1, batch: BatchId::random(), origin }, number, line, stated)
        };
        let first = of(Some(origin), 3, 9, "");
        assert_eq!(of(Some(origin), 2, 9, ""), first, "another record may be skipped by now");
        assert_ne!(of(Some(origin), 3, 10, ""), first);
        let stated = Stated { row: RowRef { batch: BatchId::random(), number: 3 }, origin: Some((origin, 9)) };
        assert_eq!(of(None, 1, 2, &stated.to_string()), first);
        assert_ne!(of(None, 3, 9, ""), of(None, 3, 9, ""), "others are their own batch's");
    }
}
