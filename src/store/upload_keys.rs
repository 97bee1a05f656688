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

#[cfg(test)]
mod tests {
    use super::super::{DatabaseSettings, Store, clients};
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn what_has_expired_is_forgotten_in_pieces_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual(Timestamp(1_786_000_000_000));
        let store = Store::open(folder.path(), DatabaseSettings::default(), clock.clone()).expect("a new database");
        let (now, pieces) = (clock.now(), 2 * FORGOTTEN_AT_ONCE + 1);
        let kept = store.write(move |tx| {
            for client in [1, 2] {
                clients::add(tx, &format!("client-{client}"), [client; 32], None)?;
                for number in 0..pieces {
                    let mut hash = [client; 32];
                    hash[..4].copy_from_slice(&number.to_be_bytes());
                    let key = UploadKey { client: client.into(), path: "/v2/x".to_owned(), hash };
                    let what = Remembered { batch: 1, fingerprint: [0; 32], answer: vec![1] };
                    // Of the second client's only one has expired.
                    let lasts = client == 2 && number > 0;
                    let expires_at = if lasts { Timestamp(now.0 + 1) } else { now };
                    remember(tx, &key, &what, expires_at)?;
                }
            }
            Ok(pieces - 1)
        });
        let kept = kept.expect("written");
        assert!(store.read(|connection| any_expired(connection, now)).expect("read"));
        let mut writes = 1;
        while store.write(forget_expired).expect("written") {
            writes += 1;
        }
        let left = store.read(|connection| {
            let sql = "SELECT count(*), min(client) FROM upload_keys";
            Ok(connection.query_row(sql, [], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?)))?)
        });
        assert_eq!((writes, left.expect("read")), (3, (kept, 2)));
        assert!(!store.read(|connection| any_expired(connection, now)).expect("read"));
    }
}
