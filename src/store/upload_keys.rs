//! The table `upload_keys`: the `Idempotency-Key`s of uploads that became a batch, and what they were answered.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{Tx, error::Result, values::digest};
use crate::model::Timestamp;

/// Keys that are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: u32 = 500;

/// A key as a client means it: another client's, or one for another path, is another key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadKey {
    /// The client's key in the database.
    pub client: i64,
    /// The path that was posted to.
    pub path: String,
    /// What is kept of the header's value.
    pub hash: [u8; 32],
}

/// What is remembered of the upload that first came with a key.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The batch that it became.
    pub batch: i64,
    /// Of its file and context.
    pub fingerprint: [u8; 32],
    /// Sealed under the batch's data key: the body of its answer.
    pub answer: Vec<u8>,
}

/// What is remembered under a key; nothing once it has expired or its batch is gone.
pub fn find(connection: &Connection, key: &UploadKey, now: Timestamp) -> Result<Option<Remembered>> {
    let mut statement = connection.prepare_cached(
        "SELECT batch, fingerprint, answer FROM upload_keys JOIN batches USING (batch)
         WHERE upload_keys.client = ? AND path = ? AND key_hash = ? AND expires_at > ?",
    )?;
    let found = statement
        .query_row(params![key.client, key.path, key.hash, now], |row| {
            Ok(digest(row, "fingerprint").map(|fingerprint| (row.get("batch"), fingerprint, row.get("answer"))))
        })
        .optional()?;
    found
        .map(|found| {
            let (batch, fingerprint, answer) = found?;
            Ok(Remembered { batch: batch?, fingerprint, answer: answer? })
        })
        .transpose()
}

/// Remembers a key until `expires_at`, in place of what has expired under it.
pub fn remember(tx: &Tx<'_>, key: &UploadKey, what: &Remembered, expires_at: Timestamp) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO upload_keys (client, path, key_hash, fingerprint, batch, answer, expires_at)
             VALUES (:client, :path, :hash, :fingerprint, :batch, :answer, :expires_at)",
        )?
        .execute(named_params! {
            ":client": key.client, ":path": key.path, ":hash": key.hash, ":fingerprint": what.fingerprint,
            ":batch": what.batch, ":answer": what.answer, ":expires_at": expires_at,
        })?;
    Ok(())
}

/// Whether there are keys that have expired.
pub fn any_expired(connection: &Connection, now: Timestamp) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM upload_keys WHERE expires_at <= ?)")?;
    Ok(statement.query_row([now], |row| row.get(0))?)
}

/// Forgets a piece of the keys that have expired; whether more may be left.
pub fn forget_expired(tx: &Tx<'_>) -> Result<bool> {
    let forgotten = tx
        .connection
        .prepare_cached(
            "DELETE FROM upload_keys WHERE (client, path, key_hash) IN
                 (SELECT client, path, key_hash FROM upload_keys INDEXED BY upload_keys_by_end
                  WHERE expires_at <= ? LIMIT ?)",
        )?
        .execute(params![tx.now, FORGOTTEN_AT_ONCE])?;
    Ok(forgotten == FORGOTTEN_AT_ONCE as usize)
}
