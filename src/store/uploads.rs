//! The table `uploads`: uploads under way, so that nothing of one that breaks off stays behind.

use rusqlite::{Connection, params};

use super::{Tx, error::Result, skipped};
use crate::model::{BatchId, ClaimOwner};

/// An upload that has begun and is not a batch yet.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    /// The key that its batch will have in the database.
    pub batch: i64,
    /// The id that its batch will have, and the name of its stored file.
    pub id: BatchId,
}

/// Notes an upload before its first byte is stored.
pub fn begin(tx: &Tx<'_>, id: BatchId, owner: ClaimOwner) -> Result<Upload> {
    tx.connection
        .prepare_cached("INSERT INTO uploads (id, owner, started_at) VALUES (?, ?, ?)")?
        .execute(params![id, owner, tx.now])?;
    Ok(Upload { batch: tx.connection.last_insert_rowid(), id })
}

/// Skipped lines of an upload that one transaction removes.
const REMOVED_AT_ONCE: u32 = 1_000;

/// Forgets an upload whose stored file is gone, with the next piece of the skipped lines that it noted. Returns whether that
/// was the last piece, and nothing of it is left.
pub fn forget_piece(tx: &Tx<'_>, upload: Upload) -> Result<bool> {
    if skipped::remove_piece(tx, upload.batch, REMOVED_AT_ONCE)? >= REMOVED_AT_ONCE as usize {
        return Ok(false);
    }
    tx.connection.prepare_cached("DELETE FROM uploads WHERE batch = ?")?.execute([upload.batch])?;
    Ok(true)
}

/// Uploads of processes that are gone: all but those of `owner`.
pub fn abandoned(connection: &Connection, owner: ClaimOwner) -> Result<Vec<Upload>> {
    let mut statement = connection.prepare_cached("SELECT batch, id FROM uploads WHERE owner <> ? ORDER BY batch")?;
    let rows = statement.query_map([owner], |row| Ok(Upload { batch: row.get(0)?, id: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
