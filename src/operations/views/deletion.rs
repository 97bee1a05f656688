//! A batch that was deleted, and how far that is.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{BatchId, Timestamp},
    store::deletions::{Deletion, Receipt},
};

/// What is left to say of a batch that was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReceiptView {
    /// The batch's name. Nothing is found under it any more.
    id: BatchId,
    /// Since when its data key is destroyed, and with it everything that was sealed under it.
    deleted_at: Timestamp,
    /// How many rows it had.
    rows: u32,
    /// When the last backup or replica is gone that can still hold it; null where none was taken in its time.
    backups_until: Option<Timestamp>,
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        let Receipt { id, deleted_at, rows, backups_until } = receipt;
        Self { id, deleted_at, rows, backups_until }
    }
}

/// How far a deletion is: its batch is gone already, what nobody can read any more goes behind it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletionView {
    /// The name that the batch had.
    id: BatchId,
    /// How many rows it had.
    rows: u32,
    /// How many of them are still to be removed.
    rows_left: u32,
}

impl From<Deletion> for DeletionView {
    fn from(deletion: Deletion) -> Self {
        Self { id: deletion.id, rows: deletion.rows, rows_left: deletion.rows_left }
    }
}
