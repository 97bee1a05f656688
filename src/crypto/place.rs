//! What sealed bytes are bound to.

use crate::model::BatchId;

/// What sealed bytes are for. Each has a byte that is part of what was sealed: never renumber, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// The cells of a row.
    Row = 1,
    /// The values that a row's steps have saved so far.
    Progress = 2,
    /// What a failed row shows: message and answer body.
    Error = 3,
    /// What is known of the request that brought the batch.
    Context = 4,
    /// The uploaded file.
    File = 5,
    /// A batch's data key, under the ring.
    DataKey = 6,
    /// A named secret of the installation, under the ring.
    Secret = 7,
    /// Nothing, under a ring key: shows later that the key still is the same.
    Proof = 8,
    /// What an upload was answered, to be answered again.
    Answer = 9,
    /// Findings that lie aside while a file is checked.
    Findings = 10,
}

/// Where sealed bytes belong. They open there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// What they are for.
    pub purpose: Purpose,
    /// The batch that they are part of.
    pub batch: BatchId,
    /// The row's number; 0 for what belongs to the batch as a whole.
    pub row: u32,
}

impl Place {
    /// The place of something that a row has.
    pub fn row(purpose: Purpose, batch: BatchId, row: u32) -> Self {
        Self { purpose, batch, row }
    }

    /// The place of something that a batch has once.
    pub fn batch(purpose: Purpose, batch: BatchId) -> Self {
        Self { purpose, batch, row: 0 }
    }

    /// Purpose, batch and row: always 21 bytes, so that no two places have the same.
    pub(super) fn to_bytes(self) -> [u8; 21] {
        let mut bytes = [0; 21];
        bytes[0] = self.purpose as u8;
        bytes[1..17].copy_from_slice(&self.batch.to_bytes());
        bytes[17..].copy_from_slice(&self.row.to_be_bytes());
        bytes
    }
}
