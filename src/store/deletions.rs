//! The table `deletions`: batches that somebody deleted, as far as they are not gone to the last byte.
//!
//! Deleting takes effect in one transaction, whatever the batch's size: the batch and with it its data key are gone,
//! and nothing of it can be found, counted or opened any more. Its rows, its skipped lines and its stored file, which
//! nobody can read without that key, go piece by piece behind it.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Tx, error::Result};
use crate::model::{BatchId, BatchStatus, RowId, Timestamp};

/// Rows, and skipped lines, that one transaction removes.
pub const REMOVED_AT_ONCE: u32 = 1_000;

/// What became of asking for a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The batch is gone.
    Deleted(Receipt),
    /// There is no such batch (any more).
    Missing,
    /// It is not finished: nothing was changed.
    Unfinished(BatchStatus),
    /// Somebody works on one of its rows: nothing was changed.
    Claimed,
}

/// What is left to say of a batch that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The batch's name.
    pub id: BatchId,
    /// Since when it is gone.
    pub deleted_at: Timestamp,
    /// Rows that it had in the work table.
    pub rows: u32,
    /// When the last backup that can hold it is gone; `None` where none was taken in its time.
    pub backups_until: Option<Timestamp>,
}

/// A deletion that is not carried out to the end.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// The key that the batch had in the database.
    pub batch: i64,
    /// The name that it had.
    pub id: BatchId,
    /// Its stored file; `None` once that is gone.
    pub object: Option<String>,
    /// Rows that it had in the work table.
    pub rows: u32,
    /// Rows that are still there.
    pub rows_left: u32,
    /// Whether it is noted beside the backups.
    pub is_listed: bool,
}

impl Deletion {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (rows, next_row): (u32, u32) = (row.get("rows")?, row.get("next_row")?);
        Ok(Self {
            batch: row.get("batch")?,
            id: row.get("id")?,
            object: row.get("object")?,
            rows,
            rows_left: (rows + 1).saturating_sub(next_row),
            is_listed: row.get("listed")?,
        })
    }
}

/// How long copies are kept that can hold what is deleted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiesKept {
    /// Backups, as long as others follow them.
    pub backups: Duration,
    /// What else copies the database all the time, if something does.
    pub replicas: Option<Duration>,
}

/// Deletes a finished batch of which nothing is in flight.
pub fn begin(tx: &Tx<'_>, id: BatchId, kept: CopiesKept) -> Result<Asked> {
    let Some(batch) = super::batches::find(tx.connection, id)? else { return Ok(Asked::Missing) };
    if !batch.status.is_finished() {
        return Ok(Asked::Unfinished(batch.status));
    }
    if is_claimed(tx.connection, batch.batch)? {
        return Ok(Asked::Claimed);
    }
    tx.connection
        .prepare_cached(
            "INSERT INTO deletions (batch, id, client, object, rows, deleted_at) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![batch.batch, batch.id, batch.client, batch.object, batch.extracted, tx.now])?;
    super::data_keys::destroy(tx, batch.batch)?;
    // The answer to its upload is sealed under its key, and whoever asks with that Idempotency-Key begins anew.
    for sql in [
        "DELETE FROM upload_keys WHERE batch = ?",
        "DELETE FROM failures WHERE batch = ?",
        "DELETE FROM retries WHERE batch = ?",
        "DELETE FROM batch_details WHERE batch = ?",
        "DELETE FROM batches WHERE batch = ?",
    ] {
        tx.connection.prepare_cached(sql)?.execute([batch.batch])?;
    }
    super::workflows::forget_unneeded(tx, batch.workflow_version)?;
    Ok(Asked::Deleted(Receipt {
        id: batch.id,
        deleted_at: tx.now,
        rows: batch.extracted,
        backups_until: copies_until(tx, batch.created_at, kept)?,
    }))
}

/// When the last copy is gone of what was there since `created_at`.
fn copies_until(tx: &Tx<'_>, created_at: Timestamp, kept: CopiesKept) -> Result<Option<Timestamp>> {
    let backup = last_backup_since(tx.connection, created_at)?.map(|(at, is_scheduled)| {
        let until = at.after(kept.backups);
        // The last whole one stays until another follows it, however old it is, and that one is overdue.
        if is_scheduled && until <= tx.now { tx.now.after(kept.backups) } else { until }
    });
    Ok(backup.max(kept.replicas.map(|kept| tx.now.after(kept))))
}

fn is_claimed(connection: &Connection, batch: i64) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM rows INDEXED BY rows_claimed
                        WHERE row >= ? AND row < ? AND status = 'processing')",
    )?;
    Ok(statement.query_row([RowId::new(batch, 0), RowId::new(batch + 1, 0)], |row| row.get(0))?)
}

/// Of which moment it is, and whether the server took it by itself.
fn last_backup_since(connection: &Connection, since: Timestamp) -> Result<Option<(Timestamp, bool)>> {
    let mut statement =
        connection.prepare_cached("SELECT at, name IS NOT NULL FROM backups WHERE at >= ? ORDER BY at DESC LIMIT 1")?;
    Ok(statement.query_row([since], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Deletions that are under way, oldest first, at most `limit`; those that wait for nothing but their stored file come
/// last.
pub fn under_way(connection: &Connection, limit: u32) -> Result<Vec<Deletion>> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM deletions ORDER BY next_row > rows AND object IS NOT NULL, batch LIMIT ?")?;
    let deletions = statement.query_map([limit], Deletion::from_row)?;
    Ok(deletions.collect::<rusqlite::Result<_>>()?)
}

/// Deletions behind `after` whose stored file is still there, oldest first.
pub fn with_file(connection: &Connection, after: i64, limit: u32) -> Result<Vec<Deletion>> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM deletions WHERE batch > ? AND object IS NOT NULL ORDER BY batch LIMIT ?")?;
    let deletions = statement.query_map(params![after, limit], Deletion::from_row)?;
    Ok(deletions.collect::<rusqlite::Result<_>>()?)
}

/// A deletion that is to be noted beside the backups.
#[derive(Debug, Clone, Copy)]
pub struct Unlisted {
    /// The key that the batch had in the database.
    pub batch: i64,
    /// The name that it had.
    pub id: BatchId,
    /// Since when it is gone.
    pub deleted_at: Timestamp,
}

/// Deletions that are not noted there yet, oldest first.
pub fn unlisted(connection: &Connection, limit: u32) -> Result<Vec<Unlisted>> {
    let mut statement = connection
        .prepare_cached("SELECT batch, id, deleted_at FROM deletions WHERE listed = 0 ORDER BY batch LIMIT ?")?;
    let unlisted = statement
        .query_map([limit], |row| Ok(Unlisted { batch: row.get(0)?, id: row.get(1)?, deleted_at: row.get(2)? }))?;
    Ok(unlisted.collect::<rusqlite::Result<_>>()?)
}

/// They are noted there.
pub fn note_listed(tx: &Tx<'_>, listed: &[Unlisted]) -> Result<()> {
    let mut statement = tx.connection.prepare_cached("UPDATE deletions SET listed = 1 WHERE batch = ?")?;
    for deletion in listed {
        statement.execute([deletion.batch])?;
    }
    Ok(())
}

/// How many deletions are under way.
pub fn count(connection: &Connection) -> Result<u64> {
    Ok(connection.query_row("SELECT count(*) FROM deletions", [], |row| row.get::<_, i64>(0))? as u64)
}

/// Removes the next [`REMOVED_AT_ONCE`] rows and skipped lines. Returns whether that was the last piece.
pub fn remove_piece(tx: &Tx<'_>, deletion: &Deletion) -> Result<bool> {
    let batch = deletion.batch;
    let next_row: u32 = tx
        .connection
        .prepare_cached("SELECT next_row FROM deletions WHERE batch = ?")?
        .query_row([batch], |row| row.get(0))?;
    let end = next_row.saturating_add(REMOVED_AT_ONCE).min(deletion.rows + 1);
    tx.connection
        .prepare_cached("DELETE FROM rows WHERE row >= ? AND row < ?")?
        .execute([RowId::new(batch, next_row), RowId::new(batch, end)])?;
    tx.connection.prepare_cached("UPDATE deletions SET next_row = ? WHERE batch = ?")?.execute(params![end, batch])?;
    let skipped = super::skipped::remove_piece(tx, batch, REMOVED_AT_ONCE)?;
    Ok(end == deletion.rows + 1 && skipped < REMOVED_AT_ONCE as usize)
}

/// Notes that the stored file is gone.
pub fn note_object_gone(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection.prepare_cached("UPDATE deletions SET object = NULL WHERE batch = ?")?.execute([batch])?;
    Ok(())
}

/// Forgets a deletion: nothing of its batch is left anywhere.
pub fn forget(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM deletions WHERE batch = ?")?.execute([batch])?;
    Ok(())
}
