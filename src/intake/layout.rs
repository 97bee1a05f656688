//! Where in a record the things stand that we need: the kept cells, and what our own result files add.
//!
//! A result file protects spreadsheet users: what a spreadsheet could take for a formula has a `'` in front, and `_cells`
//! says `safe`. Here that is undone, before anything else looks at the cell. `_batch` and `_row` say which row
//! it was, so that the same request of the same row carries the same key however often its file goes around.

use std::borrow::Cow;

use super::{
    check,
    finding::{Fault, FindingCode},
    header::{Header, Role},
    records::Record,
};
use crate::model::{BatchId, RowRef, safe_cell};

/// The places of a header's columns.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) width: usize,
    /// The places of the kept columns, in order.
    pub(super) kept: Vec<usize>,
    batch: Option<usize>,
    row: Option<usize>,
    cells: Option<usize>,
}

/// What the columns of a result file say of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Provenance {
    /// The row that it was; `None` for a record of its own.
    pub(super) origin: Option<RowRef>,
    /// Whether its cells are protected.
    pub(super) is_protected: bool,
}

impl Layout {
    pub(super) fn of(header: &Header) -> Self {
        let place = |role| header.columns.iter().position(|column| column.role == role);
        let columns = header.columns.iter().enumerate();
        Self {
            width: header.columns.len(),
            kept: columns.filter(|(_, column)| column.role.is_kept()).map(|(position, _)| position).collect(),
            batch: place(Role::Batch),
            row: place(Role::Row),
            cells: place(Role::Cells),
        }
    }

    /// What the record says of itself, or what is wrong with that and in which column.
    pub(super) fn provenance(&self, record: &Record) -> Result<Provenance, (usize, Fault)> {
        Ok(Provenance { origin: self.origin(record)?, is_protected: self.is_protected(record)? })
    }

    fn origin(&self, record: &Record) -> Result<Option<RowRef>, (usize, Fault)> {
        let (Some(batch_place), Some(row_place)) = (self.batch, self.row) else { return Ok(None) };
        let (batch, row) = (record.field(batch_place).trim(), record.field(row_place).trim());
        let missing = |message| Fault::new(FindingCode::MissingValue, message);
        let invalid = |message| Fault::new(FindingCode::InvalidValue, message);
        match (batch.is_empty(), row.is_empty()) {
            (true, true) => return Ok(None),
            (true, false) => return Err((batch_place, missing("a row with a _row needs its _batch, or neither"))),
            (false, true) => return Err((row_place, missing("a row with a _batch needs its _row, or neither"))),
            (false, false) => {}
        }
        let batch: BatchId = batch
            .parse()
            .map_err(|_| (batch_place, invalid("expected the id of a batch, as our result files have it")))?;
        let row: RowRef = format!("{batch}/{row}")
            .parse()
            .map_err(|_| (row_place, invalid("expected the number of a row, as our result files have it")))?;
        Ok(Some(row))
    }

    fn is_protected(&self, record: &Record) -> Result<bool, (usize, Fault)> {
        let Some(place) = self.cells else { return Ok(false) };
        match record.field(place) {
            "safe" => Ok(true),
            "raw" => Ok(false),
            other if check::is_missing(other) => Ok(false),
            _ => {
                Err((place, Fault::new(FindingCode::InvalidValue, "expected safe or raw, as our result files have it")))
            }
        }
    }

    /// The cells that are kept, in order, as they were before they were protected.
    pub(super) fn kept_cells<'r>(
        &self,
        record: Record<'r>,
        provenance: Provenance,
    ) -> impl Iterator<Item = Cow<'r, str>> {
        self.kept.iter().map(move |&place| cell(record, place, provenance))
    }
}

/// One cell, as it was before it was protected.
pub(super) fn cell(record: Record<'_>, place: usize, provenance: Provenance) -> Cow<'_, str> {
    let field = record.field(place);
    if provenance.is_protected { safe_cell::restored(field) } else { field.into() }
}
