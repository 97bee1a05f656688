//! The moves of extraction: claim a batch, write its rows piece by piece, queue it.
//!
//! `extracted` moves in the transaction that writes the rows, so an extraction that dies goes on exactly where its
//! last commit ended. Every move asks for the owner, so one whose claim was taken over changes nothing any more.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, named_params};

use super::{Held, Tx, batches, batches::Batch, error::Result, settle::end_batch_if_done};
use crate::model::{BatchEvent, BatchStatus, ClaimOwner, RowId, Timestamp};

/// Rows in one INSERT: fewer statements to step, at no cost in memory.
const ROWS_PER_INSERT: usize = 10;

/// Looks at entries of an index of the batches that are to be extracted, and at no batch.
const DUE: &str = "SELECT client, min(batch) FROM batches INDEXED BY batches_pending
                   WHERE status = 'pending' AND coalesce(next_attempt_at, 0) <= ?
                   GROUP BY client ORDER BY client";

/// A row to be written: the line of its file, and its sealed record.
#[derive(Debug, Clone)]
pub struct NewRow {
    /// The line on which its record starts.
    pub line: u64,
    /// The sealed record.
    pub data: Vec<u8>,
}

/// A batch whose extraction is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its client.
    pub client: i64,
    /// Its key in the database.
    pub batch: i64,
}

/// The oldest batch of each client whose extraction is due, by client.
pub fn due(connection: &Connection, now: Timestamp) -> Result<Vec<Due>> {
    let mut statement = connection.prepare_cached(DUE)?;
    let due = statement.query_map([now], |row| Ok(Due { client: row.get(0)?, batch: row.get(1)? }))?;
    Ok(due.collect::<rusqlite::Result<_>>()?)
}

impl Due {
    /// The batch, unless it was claimed, cancelled or deleted since.
    pub fn batch(self, connection: &Connection) -> Result<Option<Batch>> {
        let still = connection
            .prepare_cached("SELECT 1 FROM batches WHERE batch = ? AND status = 'pending'")?
            .exists([self.batch])?;
        still.then(|| batches::by_key(connection, self.batch)).transpose()
    }
}

/// Claims this batch for extraction; `None` where it is not `pending`.
pub fn claim(tx: &Tx<'_>, batch: i64, owner: ClaimOwner, expires_at: Timestamp) -> Result<Option<Batch>> {
    let claimed = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET status = :claimed, owner = :owner, claim_expires_at = :expires_at,
                                extraction_attempts = extraction_attempts + 1, next_attempt_at = NULL
             WHERE batch = :batch AND status = 'pending' AND cancelled_at IS NULL
             RETURNING batch",
        )?
        .query_row(
            named_params! {
                ":claimed": BatchStatus::Pending.on(BatchEvent::ClaimForExtraction)?,
                ":batch": batch, ":owner": owner, ":expires_at": expires_at,
            },
            |row| row.get(0),
        )
        .optional()?;
    claimed.map(|batch| batches::by_key(tx.connection, batch)).transpose()
}

/// Frees this batch's claim if it has expired, so that it can be claimed by name.
pub fn release_expired(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE batches SET status = :released, owner = NULL, claim_expires_at = NULL
             WHERE batch = :batch AND status = 'processing' AND claim_expires_at <= :now",
        )?
        .execute(named_params! {
            ":released": BatchStatus::Processing.on(BatchEvent::ReleaseExtraction)?,
            ":batch": batch, ":now": tx.now,
        })?;
    Ok(())
}

/// Writes the batch's next rows, those behind `extracted`, and renews the claim.
pub fn write_rows(
    tx: &Tx<'_>,
    batch: i64,
    owner: ClaimOwner,
    expires_at: Timestamp,
    first_number: u32,
    rows: &[NewRow],
) -> Result<Held> {
    let moved = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET extracted = extracted + :rows, claim_expires_at = :expires_at
             WHERE batch = :batch AND status = 'processing' AND owner = :owner AND cancelled_at IS NULL
               AND extracted = :before",
        )?
        .execute(named_params! {
            ":batch": batch,
            ":owner": owner,
            ":expires_at": expires_at,
            ":rows": rows.len() as i64,
            ":before": first_number - 1,
        })?;
    if moved == 0 {
        return Ok(Held::No);
    }
    let mut number = first_number;
    for group in rows.chunks(ROWS_PER_INSERT) {
        let mut insert = tx.connection.prepare_cached(insert_of(group.len()))?;
        // Bound in place: a million rows are not copied once more to become parameters.
        for (row, place) in group.iter().zip((1..).step_by(3)) {
            insert.raw_bind_parameter(place, RowId::new(batch, number))?;
            insert.raw_bind_parameter(place + 1, row.line as i64)?;
            insert.raw_bind_parameter(place + 2, &row.data[..])?;
            number += 1;
        }
        insert.raw_execute()?;
    }
    Ok(Held::Yes)
}

/// The INSERT of so many rows, up to [`ROWS_PER_INSERT`].
fn insert_of(rows: usize) -> &'static str {
    static STATEMENTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let of = |rows| {
            let values = vec!["(?, ?, 'pending', ?)"; rows].join(", ");
            format!("INSERT INTO rows (row, line, status, data) VALUES {values}")
        };
        (1..=ROWS_PER_INSERT).map(of).collect()
    });
    &STATEMENTS[rows - 1]
}

/// `processing` -> `queued`: every row is in the work table.
pub fn finish(tx: &Tx<'_>, batch: i64, owner: ClaimOwner) -> Result<Held> {
    let queued = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET status = :queued, owner = NULL, claim_expires_at = NULL, extracted_at = :now,
                                error_code = NULL, error_message = NULL
             WHERE batch = :batch AND status = 'processing' AND owner = :owner AND cancelled_at IS NULL
               AND extracted = total",
        )?
        .execute(named_params! {
            ":queued": BatchStatus::Processing.on(BatchEvent::FinishExtraction)?,
            ":batch": batch, ":owner": owner, ":now": tx.now,
        })?;
    if queued == 0 {
        return Ok(Held::No);
    }
    // Rows that a person ran by hand may all have ended before the last one was written.
    end_batch_if_done(tx, batch)?;
    Ok(Held::Yes)
}

/// `processing` -> `pending`, to be tried again at `next_attempt_at`; the reason is kept to be shown.
pub fn release(
    tx: &Tx<'_>,
    batch: i64,
    owner: ClaimOwner,
    next_attempt_at: Timestamp,
    reason: Option<(&str, &str)>,
) -> Result<Held> {
    let released = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET status = :released, owner = NULL, claim_expires_at = NULL, next_attempt_at = :next,
                                error_code = :code, error_message = :message
             WHERE batch = :batch AND status = 'processing' AND owner = :owner",
        )?
        .execute(named_params! {
            ":released": BatchStatus::Processing.on(BatchEvent::ReleaseExtraction)?,
            ":batch": batch,
            ":owner": owner,
            ":next": next_attempt_at,
            ":code": reason.map(|(code, _)| code),
            ":message": reason.map(|(_, message)| message),
        })?;
    if released == 0 {
        return Ok(Held::No);
    }
    // A cancel may have come while it was being extracted.
    end_batch_if_done(tx, batch)?;
    Ok(Held::Yes)
}

/// `processing` -> `failed`: it can never be extracted. What was not worked counts as cancelled.
pub fn fail(tx: &Tx<'_>, batch: i64, owner: ClaimOwner, code: &str, message: &str) -> Result<Held> {
    let failed = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET status = :failed, owner = NULL, claim_expires_at = NULL, finished_at = :now,
                                error_code = :code, error_message = :message,
                                cancelled = cancelled + pending, pending = 0
             WHERE batch = :batch AND status = 'processing' AND owner = :owner",
        )?
        .execute(named_params! {
            ":failed": BatchStatus::Processing.on(BatchEvent::FailExtraction)?,
            ":batch": batch, ":owner": owner, ":now": tx.now, ":code": code, ":message": message,
        })?;
    if failed == 0 {
        return Ok(Held::No);
    }
    super::counts::look(tx, batch)?;
    super::deliveries::announce(tx, batch)?;
    Ok(Held::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_found_without_a_look_at_any_batch() {
        let connection = Connection::open_in_memory().expect("sqlite");
        connection.execute_batch(crate::store::migrate::SCHEMA).expect("the schema");
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {DUE}")).expect("a plan");
        let steps = plan.query_map([0], |row| row.get::<_, String>("detail")).expect("steps");
        let steps: Vec<_> = steps.map(|step| step.expect("a step")).collect();
        // The whole of a partial index: as many entries as there are batches to be extracted.
        assert_eq!(steps, ["SEARCH batches USING COVERING INDEX batches_pending (status=?)"]);
    }
}
