//! The table `rows`, as it is looked at.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{batches::Batch, claims::LastError, error::Result, failures::Kind, pages::Most, retries::Which};
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

impl StoredRow {
    /// How much it takes, all but what each row takes.
    fn bytes(&self) -> usize {
        let sealed = [self.progress.as_ref(), self.error.as_ref().map(|error| &error.sealed)];
        self.data.len() + sealed.into_iter().flatten().map(Vec::len).sum::<usize>()
    }
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

/// The line on which a row's record starts; `None` where there is no such row.
pub fn line(connection: &Connection, row: RowId) -> Result<Option<u64>> {
    let mut statement = connection.prepare_cached("SELECT line FROM rows WHERE row = ?")?;
    Ok(statement.query_row([row], |row| row.get::<_, i64>(0)).optional()?.map(|line| line as u64))
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

/// Up to `most` rows behind the number `after`; one at least, where there is any: they can be a megabyte wide. What it costs depends on the page and not
/// on the batch: it looks through at most [`ROWS_PER_LOOK`] rows, and for those that failed or are being worked on through
/// an index of them.
pub fn page(connection: &Connection, batch: &Batch, filter: Filter, after: u32, most: Most) -> Result<Page> {
    let filling = Filling { rows: Vec::new(), bytes: 0, most };
    match filter {
        Filter { status: Some(RowStatus::Failed), .. } | Filter { status: None, code: Some(_), .. } => {
            page_of_failed(connection, batch, filter, after, filling)
        }
        Filter { status: Some(RowStatus::Processing), .. } => {
            page_of_processing(connection, batch, filter, after, filling)
        }
        _ => page_of_all(connection, batch, filter, after, filling),
    }
}

/// A page that is being read.
struct Filling {
    rows: Vec<StoredRow>,
    bytes: usize,
    most: Most,
}

impl Filling {
    fn add(&mut self, row: StoredRow) {
        self.bytes += row.bytes();
        self.rows.push(row);
    }

    fn is_full(&self) -> bool {
        self.most.is_reached(self.rows.len(), self.bytes)
    }

    /// Takes rows until it is full, or there are no more.
    fn fill(&mut self, mut found: rusqlite::Rows<'_>, batch: &Batch) -> Result<()> {
        while !self.is_full()
            && let Some(row) = found.next()?
        {
            self.add(from_row(row, batch)?);
        }
        Ok(())
    }

    /// The number of its last row, where it is full.
    fn full_at(&self) -> Option<u32> {
        self.rows.last().filter(|_| self.is_full()).map(|row| row.row.number())
    }
}

fn page_of_all(
    connection: &Connection,
    batch: &Batch,
    filter: Filter,
    after: u32,
    mut filling: Filling,
) -> Result<Page> {
    let last = after.saturating_add(ROWS_PER_LOOK).min(RowId::MAX_NUMBER);
    let mut statement = connection.prepare_cached(
        "SELECT * FROM rows
         WHERE row > :after AND row <= :last
           AND (:status IS NULL OR CASE WHEN :ended AND status = 'pending' THEN 'cancelled' ELSE status END = :status)
           AND (:code IS NULL OR error_code = :code)
         ORDER BY row",
    )?;
    let found = statement.query(named_params! {
        ":after": RowId::new(batch.batch, after),
        ":last": RowId::new(batch.batch, last),
        ":status": filter.status,
        ":code": filter.code,
        ":ended": is_ended(batch),
    })?;
    filling.fill(found, batch)?;
    let seen = filling.full_at().unwrap_or(last);
    Ok(Page { next: (seen < batch.extracted).then_some(seen), rows: filling.rows })
}

/// Through the index of failed rows: what it costs does not depend on how many others there are between.
fn page_of_failed(
    connection: &Connection,
    batch: &Batch,
    filter: Filter,
    after: u32,
    mut filling: Filling,
) -> Result<Page> {
    let mut statement = connection.prepare_cached(
        "SELECT row, step, error_code, error_status FROM rows INDEXED BY rows_failed
         WHERE status = 'failed' AND row > ? AND row < ? ORDER BY row",
    )?;
    let mut failed = statement.query([RowId::new(batch.batch, after), RowId::new(batch.batch + 1, 0)])?;
    let (mut seen, mut looked) = (after, 0);
    let next = loop {
        let Some(found) = failed.next()? else { break None };
        if filling.is_full() || looked == ROWS_PER_LOOK {
            break Some(seen);
        }
        let row: RowId = found.get(0)?;
        let kind = Kind { step: found.get(1)?, code: found.get(2)?, http_status: found.get(3)? };
        (seen, looked) = (row.number(), looked + 1);
        let is_of_code = filter.code.is_none_or(|wanted| wanted == kind.code);
        if is_of_code && filter.retried_by.is_none_or(|retry| retry.means(kind)) {
            find(connection, batch, row.number())?.into_iter().for_each(|row| filling.add(row));
        }
    };
    Ok(Page { rows: filling.rows, next })
}

/// Through the index of claimed rows: there are never more of them than workers.
fn page_of_processing(
    connection: &Connection,
    batch: &Batch,
    filter: Filter,
    after: u32,
    mut filling: Filling,
) -> Result<Page> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM rows INDEXED BY rows_claimed
         WHERE status = 'processing' AND row > :after AND row < :end AND (:code IS NULL OR error_code = :code)
         ORDER BY row",
    )?;
    let found = statement.query(named_params! {
        ":after": RowId::new(batch.batch, after),
        ":end": RowId::new(batch.batch + 1, 0),
        ":code": filter.code,
    })?;
    filling.fill(found, batch)?;
    Ok(Page { next: filling.full_at(), rows: filling.rows })
}
