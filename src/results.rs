//! Results: a batch as a CSV, in the file's own order and columns, with ours behind them.
//!
//! It is made piece by piece, each from one short read by a range of keys: memory stays the same whatever the batch, and
//! no reader is open for as long as a slow download takes, for the WAL could not be put back all that time. A download
//! can begin while work goes on; it holds the rows that are in the work table when their turn comes, each as it stands
//! then. Once a batch is finished, every download has the same bytes.
//!
//! A result file can be uploaded again as it is. `_batch` and `_row` say which row it was at first, also where the batch
//! itself came out of such a file: the keys under which its requests are known downstream are derived from that.

use std::{borrow::Cow, sync::Arc};

use crate::{
    appliance::Appliance,
    model::{BatchId, FailureCode, Outline, RowRef, RowStatus, Workflow, safe_cell},
    store::{
        StoreError, batches,
        pages::Most,
        retries::{StepSet, Which},
        rows::{self, Filter, StoredRow},
    },
    work::{idempotency::Stated, open_batch::OpenBatch, open_row::OpenRow},
};

/// Our columns, behind the file's own.
const COLUMNS: [&str; 9] =
    ["_batch", "_row", "_line", "_status", "_check_id", "_error_step", "_error_code", "_error_message", "_cells"];
/// A piece, at most.
const PIECE: Most = Most { entries: 500, bytes: 128 << 10 };
/// What a piece has room for, where no row by itself needs more.
pub const PIECE_BYTES: usize = 2 * PIECE.bytes;
/// What somebody sees in place of a value who may not see it.
pub const MASK: &str = "•••";

/// What to put into a result file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// Only rows with this status. `failed` without a `code` leaves out what a retry without one would leave alone: who
    /// corrects that file and uploads it again would do twice what was perhaps, or probably, done already.
    pub status: Option<RowStatus>,
    /// Only rows whose last failure has this code.
    pub code: Option<FailureCode>,
    /// Leaves cells as they are, for programs; else what a spreadsheet would run or change gets a `'` in front.
    pub raw: bool,
    /// Hides every value of the file.
    pub masked: bool,
}

impl Selection {
    fn filter(self, workflow: &Workflow) -> Filter {
        let is_for_another_try = self.status == Some(RowStatus::Failed) && self.code.is_none();
        let retry = || Which { safe_steps: StepSet::safe(&Outline::of(workflow)), ..Which::default() };
        Filter { status: self.status, code: self.code, retried_by: is_for_another_try.then(retry) }
    }
}

/// Why a download breaks off.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The batch was deleted meanwhile.
    #[error("the batch was deleted")]
    Deleted,
    /// A cell could not be written.
    #[error("a result could not be written: {0}")]
    Csv(#[from] csv::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What comes next of a result file.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes: rows, or none of them although there may be more.
    Rows(Vec<u8>),
    /// A row, or the header, needs more room by itself.
    TooLong,
    /// Nothing more.
    End,
}

/// A result file in the making.
pub struct Results {
    appliance: Arc<Appliance>,
    open: Arc<OpenBatch>,
    selection: Selection,
    has_header: bool,
    /// The row behind which the next piece begins; `None` at the end.
    after: Option<u32>,
}

impl Results {
    /// Of an open batch.
    pub fn new(appliance: Arc<Appliance>, open: Arc<OpenBatch>, selection: Selection) -> Self {
        Self { appliance, open, selection, has_header: false, after: Some(0) }
    }

    /// The next rows, behind the header at first, as far as there is room for so many bytes. Blocks for one short read.
    pub fn next_piece(&mut self, room: usize) -> Result<Piece, ResultsError> {
        let Some(after) = self.after else { return Ok(Piece::End) };
        let (id, filter) = (self.open.id, self.selection.filter(&self.open.kept.workflow));
        let page = self.appliance.store.read(|connection| {
            let Some(batch) = batches::find(connection, id)? else { return Ok(None) };
            let page = rows::page(connection, &batch, filter, after, PIECE)?;
            Ok(Some(page))
        })?;
        let page = page.ok_or(ResultsError::Deleted)?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        // Behind which row the piece could end, and at how many bytes.
        let mut end = None;
        if !self.has_header {
            self.write_header(&mut csv)?;
            let length = csv.get_ref().len();
            if length > room {
                return Ok(Piece::TooLong);
            }
            end = Some((after, length));
        }
        for row in &page.rows {
            self.write_row(&mut csv, row)?;
            if csv.get_ref().len() > room {
                let Some((after, length)) = end else { return Ok(Piece::TooLong) };
                (self.after, self.has_header) = (Some(after), true);
                let mut piece = finished(csv)?;
                piece.truncate(length);
                return Ok(Piece::Rows(piece));
            }
            end = Some((row.row.number(), csv.get_ref().len()));
        }
        (self.after, self.has_header) = (page.next, true);
        finished(csv).map(Piece::Rows)
    }

    fn write_header(&self, csv: &mut csv::Writer<Vec<u8>>) -> Result<(), ResultsError> {
        let names = self.open.details.header.kept().map(|column| column.name.as_str());
        csv.write_record(names.chain(COLUMNS).map(|name| self.cell(name).into_owned()))?;
        Ok(csv.flush().map_err(csv::Error::from)?)
    }

    /// Every byte of it, so that it is known how many there are.
    fn write_row(&self, csv: &mut csv::Writer<Vec<u8>>, row: &StoredRow) -> Result<(), ResultsError> {
        let opened = OpenRow::of(&self.open, row);
        // A row that does not open has no cells, and the columns are there all the same.
        let cells = opened.record.cells.iter().map(String::as_str).chain(std::iter::repeat(""));
        for cell in cells.take(self.open.details.header.kept().count()) {
            let cell = if self.selection.masked { MASK } else { cell };
            csv.write_field(self.cell(cell).as_bytes())?;
        }
        let origin = self.origin(row, &opened);
        let steps = &self.open.kept.workflow.steps;
        let failed_at = row.error.as_ref().and_then(|_| steps.get(row.step as usize));
        let ours: [Cow<'_, str>; COLUMNS.len()] = [
            origin.batch.to_string().into(),
            origin.number.to_string().into(),
            row.line.to_string().into(),
            row.status.as_str().into(),
            opened.progress.result.as_ref().map(|value| value.told().into_owned()).unwrap_or_default().into(),
            failed_at.map_or("", |step| step.name.as_str()).into(),
            row.error.as_ref().map_or("", |last| last.code.as_str()).into(),
            opened.error.map(|error| error.message).unwrap_or_default().into(),
            (if self.selection.raw { "raw" } else { "safe" }).into(),
        ];
        for cell in &ours {
            csv.write_field(self.cell(cell).as_bytes())?;
        }
        csv.write_record(None::<&[u8]>)?;
        Ok(csv.flush().map_err(csv::Error::from)?)
    }

    fn origin(&self, row: &StoredRow, opened: &OpenRow) -> RowRef {
        let itself = RowRef { batch: self.open.id, number: row.row.number() };
        Stated::of(&opened.record.origin).map_or(itself, |stated| stated.row)
    }

    fn cell<'c>(&self, cell: &'c str) -> Cow<'c, str> {
        if self.selection.raw { cell.into() } else { safe_cell::protected(cell) }
    }
}

fn finished(csv: csv::Writer<Vec<u8>>) -> Result<Vec<u8>, ResultsError> {
    csv.into_inner().map_err(|error| ResultsError::Csv(error.into_error().into()))
}

/// What the file is called where it is saved.
pub fn file_name(id: BatchId, selection: Selection) -> String {
    let what = selection.status.map_or("results", RowStatus::as_str);
    let code = selection.code.map(|code| format!("-{}", code.as_str())).unwrap_or_default();
    let raw = if selection.raw { "-raw" } else { "" };
    format!("{id}-{what}{code}{raw}.csv")
}
