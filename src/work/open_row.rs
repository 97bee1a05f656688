//! A stored row, opened for somebody who may see it.

use super::{error_payload::ErrorPayload, open_batch::OpenBatch, progress::Progress};
use crate::{crypto::Purpose, model::record::Record, store::rows::StoredRow};

/// What is sealed of a row. What does not open is shown as empty: its status and its codes are worth showing still.
pub struct OpenRow {
    /// Its cells, and where it first came from.
    pub record: Record,
    /// What its steps came to.
    pub progress: Progress,
    /// The private part of its last error.
    pub error: Option<ErrorPayload>,
}

impl OpenRow {
    /// Opens a row of this batch.
    pub fn of(batch: &OpenBatch, row: &StoredRow) -> Self {
        let number = row.row.number();
        let opened = |purpose, sealed: &[u8]| batch.key.open(batch.place(purpose, number), sealed).ok();
        let record = opened(Purpose::Row, &row.data).and_then(|bytes| Record::decode(&bytes));
        let progress = row.progress.as_deref().and_then(|sealed| opened(Purpose::Progress, sealed));
        let progress = progress.and_then(|bytes| Progress::decode(&bytes));
        Self {
            record: record.unwrap_or_default(),
            progress: progress.unwrap_or_default(),
            error: row.error.as_ref().map(|last| ErrorPayload::open(batch, number, last)),
        }
    }
}
