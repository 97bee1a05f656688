//! The table `rows`, as it is looked at.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{batches::Batch, claims::LastError, error::Result, failures::Kind, retries::Which};
use crate::model::{FailureCode, RowId, RowStatus, Timestamp};

/// Rows that one page looks through to find those with a given status; a page may come back short, with a cursor.
const ROWS_PER_LOOK: u32 = 20_000;

/// A row as it is stored.
#[derive(Debug, Clone)]
pub struct StoredRow {
    /// Batch and number.
    pub row: RowId,
    /// The line on which its record starts.
    pub line: u64,
    /// Where it is on its way.
    pub status: RowStatus,
    /// The sealed record.
    pub data: Vec<u8>,
    /// How many of its steps are done.
    pub step: u32,
    /// Counted attempts of the step it is at.
    pub attempts: u32,
    /// Sealed: what its steps saved, and their history.
    pub progress: Option<Vec<u8>>,
    /// When it is due again.
    pub next_attempt_at: Option<Timestamp>,
    /// The last failure.
    pub error: Option<LastError>,
}

/// Which rows of a batch to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only those with this status.
    pub status: Option<RowStatus>,
    /// Only those whose last failure has this code; without a status, only those that stand failed with it.
    pub code: Option<FailureCode>,
    /// Of failed rows, only those that such a retry would put back.
    pub retried_by: Option<Which>,
}

/// A page of rows.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows, by number.
    pub rows: Vec<StoredRow>,
    /// The number behind which the next page begins; `None` at the end.
    pub next: Option<u32>,
}

fn from_row(row: &Row<'_>, batch: &Batch) -> rusqlite::Result<StoredRow> {
    let code: Option<FailureCode> = row.get("error_code")?;
    let sealed: Option<Vec<u8>> = row.get("error")?;
    let http_status = row.get("error_status")?;
    let stored: RowStatus = row.get("status")?;
    Ok(StoredRow {
        row: row.get("row")?,
        line: row.get::<_, i64>("line")? as u64,
        status: shown_status(stored, batch),
        data: row.get("data")?,
        step: row.get("step")?,
        attempts: row.get("attempts")?,
        progress: row.get("progress")?,
        next_attempt_at: if is_ended(batch) { None } else { row.get("next_attempt_at")? },
        error: code.zip(sealed).map(|(code, sealed)| LastError { code, http_status, sealed }),
    })
}

/// Ending a batch of a million touches the batch alone: its rows that are still `pending` are cancelled by that.
fn shown_status(stored: RowStatus, batch: &Batch) -> RowStatus {
    if stored == RowStatus::Pending && is_ended(batch) { RowStatus::Cancelled } else { stored }
}

fn is_ended(batch: &Batch) -> bool {
    batch.cancelled_at.is_some() || batch.status == crate::model::BatchStatus::Failed
}

/// One row of a batch; `None` where it has no such row, or not yet.
pub fn find(connection: &Connection, batch: &Batch, number: u32) -> Result<Option<StoredRow>> {
    let mut statement = connection.prepare_cached("SELECT * FROM rows WHERE row = ?")?;
    let row = RowId::new(batch.batch, number);
    Ok(statement.query_row([row], |row| from_row(row, batch)).optional()?)
}

/// Up to `limit` rows behind the number `after`. What it costs depends on the page and not on the batch: it looks
/// through at most [`ROWS_PER_LOOK`] rows, and for those that failed or are being worked on through an index of them.
pub fn page(connection: &Connection, batch: &Batch, filter: Filter, after: u32, limit: u32) -> Result<Page> {
    match filter {
        Filter { status: Some(RowStatus::Failed), .. } | Filter { status: None, code: Some(_), .. } => {
            page_of_failed(connection, batch, filter, after, limit)
        }
        Filter { status: Some(RowStatus::Processing), .. } => {
            page_of_processing(connection, batch, filter, after, limit)
        }
        _ => page_of_all(connection, batch, filter, after, limit),
    }
}

fn page_of_all(connection: &Connection, batch: &Batch, filter: Filter, after: u32, limit: u32) -> Result<Page> {
    let last = after.saturating_add(ROWS_PER_LOOK).min(RowId::MAX_NUMBER);
    let mut statement = connection.prepare_cached(
        "SELECT * FROM rows
         WHERE row > :after AND row <= :last
           AND (:status IS NULL OR CASE WHEN :ended AND status = 'pending' THEN 'cancelled' ELSE status END = :status)
           AND (:code IS NULL OR error_code = :code)
         ORDER BY row LIMIT :limit",
    )?;
    let rows = statement.query_map(
        named_params! {
            ":after": RowId::new(batch.batch, after),
            ":last": RowId::new(batch.batch, last),
            ":status": filter.status,
            ":code": filter.code,
            ":ended": is_ended(batch),
            ":limit": limit,
        },
        |row| from_row(row, batch),
    )?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let full = rows.len() == limit as usize;
    let seen = if full { rows.last().map_or(last, |row| row.row.number()) } else { last };
    Ok(Page { next: (seen < batch.extracted).then_some(seen), rows })
}

/// Through the index of failed rows: what it costs does not depend on how many others there are between.
fn page_of_failed(connection: &Connection, batch: &Batch, filter: Filter, after: u32, limit: u32) -> Result<Page> {
    let mut statement = connection.prepare_cached(
        "SELECT row, step, error_code, error_status FROM rows INDEXED BY rows_failed
         WHERE status = 'failed' AND row > ? AND row < ? ORDER BY row",
    )?;
    let mut failed = statement.query([RowId::new(batch.batch, after), RowId::new(batch.batch + 1, 0)])?;
    let (mut numbers, mut seen, mut looked) = (Vec::new(), after, 0);
    let next = loop {
        let Some(found) = failed.next()? else { break None };
        if numbers.len() == limit as usize || looked == ROWS_PER_LOOK {
            break Some(seen);
        }
        let row: RowId = found.get(0)?;
        let kind = Kind { step: found.get(1)?, code: found.get(2)?, http_status: found.get(3)? };
        (seen, looked) = (row.number(), looked + 1);
        let is_of_code = filter.code.is_none_or(|wanted| wanted == kind.code);
        if is_of_code && filter.retried_by.is_none_or(|retry| retry.means(kind)) {
            numbers.push(row.number());
        }
    };
    let rows = numbers.into_iter().filter_map(|number| find(connection, batch, number).transpose());
    Ok(Page { rows: rows.collect::<Result<_>>()?, next })
}

/// Through the index of claimed rows: there are never more of them than workers.
fn page_of_processing(connection: &Connection, batch: &Batch, filter: Filter, after: u32, limit: u32) -> Result<Page> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM rows INDEXED BY rows_claimed
         WHERE status = 'processing' AND row > :after AND row < :end AND (:code IS NULL OR error_code = :code)
         ORDER BY row LIMIT :limit",
    )?;
    let rows = statement.query_map(
        named_params! {
            ":after": RowId::new(batch.batch, after),
            ":end": RowId::new(batch.batch + 1, 0),
            ":code": filter.code,
            ":limit": limit,
        },
        |row| from_row(row, batch),
    )?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|row| row.row.number());
    Ok(Page { rows, next })
}
