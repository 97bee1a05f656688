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

use serde_json::Value;

use crate::{
    appliance::Appliance,
    model::{BatchId, FailureCode, Outline, RowRef, RowStatus, Workflow},
    store::{
        StoreError, batches,
        retries::{StepSet, Which},
        rows::{self, Filter, StoredRow},
    },
    work::{open_batch::OpenBatch, open_row::OpenRow},
};

/// Our columns, behind the file's own.
const COLUMNS: [&str; 9] =
    ["_batch", "_row", "_line", "_status", "_check_id", "_error_step", "_error_code", "_error_message", "_cells"];
/// Rows of a piece, at most.
const ROWS_PER_PIECE: u32 = 500;
/// What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection), and our own mark.
const PROTECTED: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\''];
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
    /// Leaves cells as they are, for programs; else those that a spreadsheet would run get a `'` in front.
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

/// A result file in the making.
pub struct Results {
    appliance: Arc<Appliance>,
    open: Arc<OpenBatch>,
    selection: Selection,
    /// The row behind which the next piece begins; `None` at the end.
    after: Option<u32>,
}

impl Results {
    /// Of an open batch.
    pub fn new(appliance: Arc<Appliance>, open: Arc<OpenBatch>, selection: Selection) -> Self {
        Self { appliance, open, selection, after: Some(0) }
    }

    /// The first line.
    pub fn header(&self) -> Result<Vec<u8>, ResultsError> {
        let names = self.open.details.header.kept().map(|column| column.name.as_str());
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(names.chain(COLUMNS).map(|name| self.cell(name).into_owned()))?;
        finished(csv)
    }

    /// The next rows, or none of them although there may be more; `None` at the end. Blocks for one short read.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, ResultsError> {
        let Some(after) = self.after else { return Ok(None) };
        let (id, filter) = (self.open.id, self.selection.filter(&self.open.kept.workflow));
        let page = self.appliance.store.read(|connection| {
            let Some(batch) = batches::find(connection, id)? else { return Ok(None) };
            let page = rows::page(connection, &batch, filter, after, ROWS_PER_PIECE)?;
            Ok(Some(page))
        })?;
        let page = page.ok_or(ResultsError::Deleted)?;
        self.after = page.next;
        let mut csv = csv::Writer::from_writer(Vec::new());
        for row in &page.rows {
            self.write_row(&mut csv, row)?;
        }
        finished(csv).map(Some)
    }

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
            opened.progress.result.as_ref().map(told).unwrap_or_default().into(),
            failed_at.map_or("", |step| step.name.as_str()).into(),
            row.error.as_ref().map_or("", |last| last.code.as_str()).into(),
            opened.error.map(|error| error.message).unwrap_or_default().into(),
            (if self.selection.raw { "raw" } else { "safe" }).into(),
        ];
        for cell in &ours {
            csv.write_field(self.cell(cell).as_bytes())?;
        }
        Ok(csv.write_record(None::<&[u8]>)?)
    }

    fn origin(&self, row: &StoredRow, opened: &OpenRow) -> RowRef {
        let itself = RowRef { batch: self.open.id, number: row.row.number() };
        opened.record.origin.parse().unwrap_or(itself)
    }

    fn cell<'c>(&self, cell: &'c str) -> Cow<'c, str> {
        if !self.selection.raw && cell.starts_with(PROTECTED) { format!("'{cell}").into() } else { cell.into() }
    }
}

fn finished(csv: csv::Writer<Vec<u8>>) -> Result<Vec<u8>, ResultsError> {
    csv.into_inner().map_err(|error| ResultsError::Csv(error.into_error().into()))
}

/// A saved value as a cell: a text is itself, anything else is JSON.
fn told(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the file is called where it is saved.
pub fn file_name(id: BatchId, selection: Selection) -> String {
    let what = selection.status.map_or("results", RowStatus::as_str);
    let code = selection.code.map(|code| format!("-{}", code.as_str())).unwrap_or_default();
    let raw = if selection.raw { "-raw" } else { "" };
    format!("{id}-{what}{code}{raw}.csv")
}
