//! The table `uploads`: uploads under way, so that nothing of one that breaks off stays behind.

use rusqlite::{Connection, params};

use super::{Tx, error::Result};
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

/// Forgets an upload: its stored file is gone. Skipped lines that it noted go with it.
pub fn forget(tx: &Tx<'_>, upload: Upload) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM skipped WHERE batch = ?")?.execute([upload.batch])?;
    tx.connection.prepare_cached("DELETE FROM uploads WHERE batch = ?")?.execute([upload.batch])?;
    Ok(())
}

/// Uploads of processes that are gone: all but those of `owner`.
pub fn abandoned(connection: &Connection, owner: ClaimOwner) -> Result<Vec<Upload>> {
    let mut statement = connection.prepare_cached("SELECT batch, id FROM uploads WHERE owner <> ? ORDER BY batch")?;
    let rows = statement.query_map([owner], |row| Ok(Upload { batch: row.get(0)?, id: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
