//! What is old enough to go.

use rusqlite::{Connection, params};

use super::error::Result;
use crate::model::{BatchId, BatchStatus, Timestamp};

/// A batch that was finished long ago.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OldBatch {
    /// Its name.
    pub id: BatchId,
    /// Whose it is.
    pub client: String,
    /// How it ended.
    pub status: BatchStatus,
    /// How many rows it has.
    pub rows: u32,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its key in the database: with the time of its end, the cursor of the list.
    #[serde(skip)]
    pub batch: i64,
}

/// Batches that were finished before this, the oldest first, behind another one.
pub fn old_batches(
    connection: &Connection,
    before: Timestamp,
    after: Option<&OldBatch>,
    limit: u32,
) -> Result<Vec<OldBatch>> {
    let (at, batch) = after.map_or((Timestamp(i64::MIN), 0), |old| (old.finished_at, old.batch));
    let mut statement = connection.prepare_cached(
        "SELECT batch, id, name, status, total, finished_at FROM batches INDEXED BY batches_finished
         JOIN clients USING (client)
         WHERE finished_at IS NOT NULL AND finished_at < ?1 AND (finished_at, batch) > (?2, ?3)
         ORDER BY finished_at, batch LIMIT ?4",
    )?;
    let batches = statement.query_map(params![before, at, batch, limit], |row| {
        Ok(OldBatch {
            batch: row.get(0)?,
            id: row.get(1)?,
            client: row.get(2)?,
            status: row.get(3)?,
            rows: row.get(4)?,
            finished_at: row.get(5)?,
        })
    })?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// How many batches were finished before this.
pub fn count_old_batches(connection: &Connection, before: Timestamp) -> Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM batches INDEXED BY batches_finished WHERE finished_at IS NOT NULL AND finished_at < ?",
    )?;
    Ok(statement.query_row([before], |row| row.get::<_, i64>(0))? as u64)
}
