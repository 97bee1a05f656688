//! What `on_invalid_row = "skip"` leaves out, noted while the file is checked.

use crate::{
    appliance::Appliance,
    intake::Finding,
    store::{
        StoreError,
        skipped::{self, Skipped},
        uploads::Upload,
    },
};

/// Skipped lines that are noted in one transaction.
const SKIPPED_AT_ONCE: usize = 500;

/// Notes what `on_invalid_row = "skip"` leaves out, in pieces.
pub(super) struct Skipping<'a> {
    appliance: &'a Appliance,
    upload: Upload,
    noted: u64,
    waiting: Vec<Skipped>,
}

impl<'a> Skipping<'a> {
    pub(super) fn new(appliance: &'a Appliance, upload: Upload) -> Self {
        Self { appliance, upload, noted: 0, waiting: Vec::new() }
    }

    /// Notes what waits.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        let (batch, first, faults) = (self.upload.batch, self.noted, std::mem::take(&mut self.waiting));
        self.noted += faults.len() as u64;
        self.appliance.store.write(move |tx| skipped::add(tx, batch, first, &faults))
    }

    /// One more fault of a record that is left out.
    pub(super) fn skip(&mut self, finding: &Finding) -> std::io::Result<()> {
        self.waiting.push(Skipped {
            line: finding.line,
            column: finding.column.clone(),
            column_number: finding.column_number,
            code: finding.code.as_str().to_owned(),
            message: finding.message.clone(),
        });
        if self.waiting.len() < SKIPPED_AT_ONCE { Ok(()) } else { self.flush().map_err(std::io::Error::other) }
    }
}
