//! A stored file read again, for extraction: its records by their lines, without any check.
//!
//! The file passed once, so nothing is looked for; what did not pass in it (`on_invalid_row = "skip"`) is left out by
//! the caller, who knows the lines.

use std::{borrow::Cow, io::Read};

use super::{
    header::Header,
    layout::{Layout, Provenance},
    records::{Record, RecordError, Records},
};
use crate::model::RowRef;

/// Gives the records of a stored file, in order, in bounded memory.
pub struct Rows<R> {
    records: Records<R>,
    layout: Layout,
}

impl<R: Read> Rows<R> {
    /// Opens a stored file with the header that was kept of it.
    pub fn open(stored: R, header: &Header) -> Result<Self, RecordError> {
        let mut records = Records::new(stored, header.delimiter.as_byte());
        records.read()?;
        Ok(Self { records, layout: Layout::of(header) })
    }

    /// The next record; `None` at the end. One that cannot have passed may come without its cells, but has its line.
    pub fn read(&mut self) -> Result<Option<StoredRow<'_>>, RecordError> {
        let record = match self.records.read() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(RecordError::TooLong { line }) => Record::empty(line),
            Err(error) => return Err(error),
        };
        let provenance = self.layout.provenance(&record).unwrap_or_default();
        Ok(Some(StoredRow { record, provenance, layout: &self.layout }))
    }
}

/// One record of a stored file, until the next is read.
pub struct StoredRow<'a> {
    record: Record<'a>,
    provenance: Provenance,
    layout: &'a Layout,
}

impl StoredRow<'_> {
    /// The line it starts on.
    pub fn line(&self) -> u64 {
        self.record.line
    }

    /// The row that it was in one of our result files.
    pub fn origin(&self) -> Option<RowRef> {
        self.provenance.origin
    }

    /// The kept cells, in the order of [`Header::kept`].
    pub fn cells(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.layout.kept_cells(self.record, self.provenance)
    }
}
