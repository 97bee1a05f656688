//! What may be wrong, as the database tells it: what alerts are made of. Every list is bounded, and found by an index that
//! holds nothing else.

use rusqlite::{Connection, params};

use super::error::Result;
use crate::model::{BatchId, Timestamp};

/// A batch that could not be extracted.
#[derive(Debug, Clone)]
pub struct FailedBatch {
    /// Its name.
    pub batch: BatchId,
    /// When it failed.
    pub at: Timestamp,
    /// Why, as a code.
    pub code: String,
}

/// A batch that paused itself.
#[derive(Debug, Clone)]
pub struct PausedBatch {
    /// Its name.
    pub batch: BatchId,
    /// When it did.
    pub at: Timestamp,
    /// Why: counts, a code and a step.
    pub reason: String,
}

/// Claims that expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Of rows.
    pub rows: u64,
    /// Of batches.
    pub batches: u64,
    /// When the first of them did; `None` where there is none.
    pub first_at: Option<Timestamp>,
}

/// Batches that could not be extracted since `since`, the oldest first.
pub fn failed_batches(connection: &Connection, since: Timestamp, limit: u32) -> Result<Vec<FailedBatch>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, finished_at, error_code FROM batches INDEXED BY batches_failed
         WHERE status = 'failed' AND finished_at > ? ORDER BY finished_at LIMIT ?",
    )?;
    let batches = statement.query_map(params![since, limit], |row| {
        Ok(FailedBatch { batch: row.get(0)?, at: row.get(1)?, code: row.get(2)? })
    })?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// Batches that paused themselves and still are, the oldest first.
pub fn paused_batches(connection: &Connection, limit: u32) -> Result<Vec<PausedBatch>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, paused_at, coalesce(paused_reason, '') FROM batches INDEXED BY batches_unfinished
         WHERE status IN ('pending', 'processing', 'queued') AND paused_itself = 1 AND cancelled_at IS NULL
         ORDER BY batch LIMIT ?",
    )?;
    let batches = statement
        .query_map([limit], |row| Ok(PausedBatch { batch: row.get(0)?, at: row.get(1)?, reason: row.get(2)? }))?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// Batches with rows that no key opens, and how many those are, the oldest first.
pub fn undecryptable(connection: &Connection, limit: u32) -> Result<Vec<(BatchId, u64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, sum(failures.failed) FROM failures INDEXED BY failures_undecryptable JOIN batches USING (batch)
         WHERE code = 'undecryptable' GROUP BY batch ORDER BY batch LIMIT ?",
    )?;
    let batches = statement.query_map([limit], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// Claims that expired by then, and were not freed: there are no more of them than workers.
pub fn expired(connection: &Connection, by: Timestamp) -> Result<Expired> {
    let mut of_rows = connection.prepare_cached(
        "SELECT count(*), min(claim_expires_at) FROM rows INDEXED BY rows_claimed
         WHERE status = 'processing' AND claim_expires_at <= ?",
    )?;
    let mut of_batches = connection.prepare_cached(
        "SELECT count(*), min(claim_expires_at) FROM batches INDEXED BY batches_claimed
         WHERE status = 'processing' AND claim_expires_at <= ?",
    )?;
    let count = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Option<Timestamp>>(1)?));
    let (rows, row_at) = of_rows.query_row([by], count)?;
    let (batches, batch_at) = of_batches.query_row([by], count)?;
    Ok(Expired { rows, batches, first_at: row_at.into_iter().chain(batch_at).min() })
}
