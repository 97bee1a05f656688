//! The five counts of a batch: moved with the rows, and counted anew where they do not fit, and with them the bytes that its rows
//! keep of answers.
//!
//! They are for showing, and for whom a run grants something; that a batch is completed is decided from its rows. So a count that
//! drifted, by a fault of ours or by somebody's hand in the database, must not stop anything: whoever moves one looks
//! whether they fit, and where they do not they are counted anew in the same transaction, from the rows as they are, and that is
//! told. A CHECK would refuse every settle of the batch for ever instead, and with it every start.
//!
//! Counting a million rows of 500 bytes takes half a second where they are at hand, and as long as it takes to read 500 MB
//! where they are not; no other write goes on meanwhile. To know whether it is needed takes a few look-ups into indexes.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{
    Tx,
    batches::{Batch, by_key},
    error::Result,
    failures,
    settle::end_batch_if_done,
};
use crate::model::{Counts, RowStatus, quota::KEPT_OF_A_ROW};

/// Whether the counts of a batch can be right, as far as they tell themselves.
pub(super) const FIT: &str = "(min(pending, processing, completed, failed, cancelled, saved_bytes) >= 0
                    AND pending + processing + completed + failed + cancelled = total
                    AND (finished_at IS NULL OR pending + processing = 0))";

/// How the counts of a batch were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Whether they could be right: [`FIT`].
    pub fit: bool,
    /// The rows that were counted as pending.
    pub pending: i64,
}

/// Counts rows of the batch that went from one status to another. Whoever moved rows is to [`look`] when all that it moved is
/// counted: in between they cannot fit.
pub(super) fn moved(tx: &Tx<'_>, batch: i64, from: RowStatus, to: RowStatus, rows: u32) -> Result<()> {
    let (from, to) = (from.as_str(), to.as_str());
    tx.connection
        .prepare_cached(&format!("UPDATE OR FAIL batches SET {from} = {from} - ?1, {to} = {to} + ?1 WHERE batch = ?2"))?
        .execute(params![rows, batch])?;
    Ok(())
}

/// Counts rows of the batch that were claimed, and moves its cursor to `next_row`, where it is not there yet. Whoever knows
/// whether the counts can be right before says so, and spares the look.
pub(super) fn claimed(tx: &Tx<'_>, batch: i64, rows: u32, next_row: u32, before: Option<Before>) -> Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE OR FAIL batches SET pending = pending - ?1, processing = processing + ?1,
                                        next_row = max(next_row, ?2)
             WHERE batch = ?3",
        )?
        .execute(params![rows, next_row, batch])?;
    match before {
        Some(Before { fit: true, pending }) if pending >= i64::from(rows) => Ok(()),
        Some(_) => recount(tx, batch),
        None => look(tx, batch),
    }
}

/// Counts the batch's rows anew where the counts cannot be right. To be called after whatever else changed them.
pub(super) fn look(tx: &Tx<'_>, batch: i64) -> Result<()> {
    let fit: Option<bool> = tx
        .connection
        .prepare_cached(&format!("SELECT {FIT} FROM batches WHERE batch = ?"))?
        .query_row([batch], |row| row.get(0))
        .optional()?;
    if fit == Some(false) { recount(tx, batch) } else { Ok(()) }
}

/// Unfinished batches behind `after` whose counts do not fit their rows, among the next `limit`; and the last one that was
/// looked at, where there was one. Each takes a few look-ups, and counts no rows but those that are under way.
pub fn misfits(connection: &Connection, after: i64, limit: u32) -> Result<(Vec<i64>, Option<i64>)> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT batch,
                NOT {FIT}
                OR failed <> (SELECT coalesce(sum(failures.failed), 0) FROM failures
                              WHERE failures.batch = batches.batch)
                OR processing <> (SELECT count(*) FROM rows INDEXED BY rows_claimed
                                  WHERE row > batch << 24 AND row <= (batch << 24) + total
                                    AND rows.status = 'processing')
                OR (status = 'queued' AND cancelled_at IS NULL
                    AND (pending > 0) <> (
                        EXISTS (SELECT 1 FROM rows
                                WHERE row >= (batch << 24) + next_row AND row <= (batch << 24) + total
                                  AND rows.status = 'pending')
                        OR EXISTS (SELECT 1 FROM rows INDEXED BY rows_waiting
                                   WHERE row >> 24 = batch AND rows.status = 'pending'
                                     AND rows.next_attempt_at IS NOT NULL)))
         FROM batches
         WHERE batch IN (SELECT batch FROM batches INDEXED BY batches_unfinished
                         WHERE status IN ('pending', 'processing', 'queued') AND batch > ? ORDER BY batch LIMIT ?)
         ORDER BY batch"
    ))?;
    let looked_at = statement.query_map(params![after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let looked_at = looked_at.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?;
    let last = looked_at.last().map(|(batch, _)| *batch);
    Ok((looked_at.into_iter().filter_map(|(batch, misfits)| misfits.then_some(batch)).collect(), last))
}

/// Counts the rows of a batch anew, and ends it where nothing is left of it. One that was deleted meanwhile is no matter.
pub fn mend(tx: &Tx<'_>, batch: i64) -> Result<()> {
    let mut statement = tx.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM batches WHERE batch = ?)")?;
    if statement.query_row([batch], |row| row.get(0))? {
        recount(tx, batch)?;
        end_batch_if_done(tx, batch)?;
    }
    Ok(())
}

fn recount(tx: &Tx<'_>, batch: i64) -> Result<()> {
    let stored = by_key(tx.connection, batch)?;
    let counted = count(tx.connection, &stored)?;
    tx.connection
        .prepare_cached(
            "UPDATE batches SET pending = :pending, processing = :processing, completed = :completed, failed = :failed,
                                cancelled = :cancelled,
                                saved_bytes = (SELECT coalesce(sum(max(coalesce(length(progress), 0)
                                                                       + coalesce(length(error), 0) - :kept, 0)), 0)
                                               FROM rows WHERE row > :batch << 24 AND row <= (:batch << 24) + total)
             WHERE batch = :batch",
        )?
        .execute(named_params! {
            ":batch": batch,
            ":pending": counted.pending,
            ":processing": counted.processing,
            ":completed": counted.completed,
            ":failed": counted.failed,
            ":cancelled": counted.cancelled,
            ":kept": KEPT_OF_A_ROW as i64,
        })?;
    failures::recount(tx, batch)?;
    tx.after_commit(move || {
        let Counts { pending, processing, completed, failed, cancelled, .. } = counted;
        let (batch, was) = (stored.id, format!("{:?}", stored.counts));
        tracing::warn!(
            event = "batch.recounted",
            %batch,
            was,
            pending,
            processing,
            completed,
            failed,
            cancelled,
            "the counts of a batch did not fit its rows, and were counted anew"
        );
    });
    Ok(())
}

/// A row that is `pending` in a batch that was cancelled or cannot be extracted is cancelled; so is one that is not in the
/// work table yet, or that is missing there.
fn count(connection: &Connection, batch: &Batch) -> Result<Counts> {
    let mut statement = connection.prepare_cached(
        "SELECT status, count(*) FROM rows WHERE row > ?1 << 24 AND row <= (?1 << 24) + ?2 GROUP BY status",
    )?;
    let found = statement.query_map(params![batch.batch, batch.counts.total], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found = found.collect::<rusqlite::Result<Vec<(RowStatus, u32)>>>()?;
    let of = |status| found.iter().find(|(found, _)| *found == status).map_or(0, |(_, rows)| *rows);
    let (processing, completed, failed) = (of(RowStatus::Processing), of(RowStatus::Completed), of(RowStatus::Failed));
    let unextracted = batch.counts.total.saturating_sub(batch.extracted);
    let is_over = batch.cancelled_at.is_some() || batch.status.is_finished();
    let pending = if is_over { 0 } else { of(RowStatus::Pending) + unextracted };
    let cancelled = batch.counts.total.saturating_sub(pending + processing + completed + failed);
    Ok(Counts { total: batch.counts.total, pending, processing, completed, failed, cancelled })
}
