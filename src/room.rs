//! Room on the disk: what is kept back of it, and for whom.
//!
//! A full disk stops the database, and with it everything that is under way. So a reserve is kept back
//! (`storage.reserve`): uploads are refused and extraction waits while what they need would reach into it. Dispatch goes on
//! into it, and stops where only the last part is left ([`OUTCOMES_SHARE`]): that is for the outcomes of rows under way.
//! Settles and deletions ask nobody, and may write down to the last byte.
//!
//! What an upload needs is estimated: its stored file where that lies on this disk, as many bytes again for its rows,
//! and a fixed number for each row ([`ROW_BYTES`], [`WORKED_BYTES`]). What was promised to uploads under way, and what
//! accepted batches have still to write, counts as if it were written already.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::{
    config::{self, Config, tell_size},
    store::{
        batches::Batch,
        queue::Owed,
        sizes::{self, Sizes},
    },
};

/// What a row takes in the work table besides its text: its record's seal, its line, and the table's own. Measured on
/// the built-in workflow.
const ROW_BYTES: u64 = 100;
/// What it takes more until it is finished: what its steps saved, and their history, sealed. Measured on the built-in
/// workflow, which has three steps.
const WORKED_BYTES: u64 = 500;
/// Where nothing is configured, a twentieth of the disk is kept back, and not more than this.
const MOST_RESERVE: u64 = 1 << 30;
const RESERVE_SHARE: u64 = 20;

/// This part of the reserve is for the outcomes of rows under way: no other row is sent while no more is free, so that an answer
/// that comes finds room.
const OUTCOMES_SHARE: u64 = 8;

/// What is kept back of a disk of this size.
pub fn reserve(configured: Option<u64>, disk_bytes: u64) -> u64 {
    configured.unwrap_or_else(|| MOST_RESERVE.min(disk_bytes / RESERVE_SHARE))
}

/// That there is not enough. In these words for whoever runs the appliance: how full its disk is concerns nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} are free on the disk, {} are kept back (storage.reserve), and {} more are needed", tell_size(*.free), tell_size(*.reserve), tell_size(*.needed))]
pub struct NoRoom {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that are kept back.
    pub reserve: u64,
    /// Bytes that are needed besides, also for what was promised before.
    pub needed: u64,
}

/// The room of one data folder.
pub struct Room {
    data_dir: PathBuf,
    reserve: Option<u64>,
    files_are_here: bool,
    /// Bytes that uploads under way were promised, and have not written yet.
    promised: Mutex<u64>,
}

/// What is known of a file that is coming in.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSoFar {
    /// What was announced: more may come, where it is compressed.
    pub announced: u64,
    /// What its workflow takes: nothing more is promised, whatever was announced.
    pub most: MostOfFile,
    /// Bytes that came.
    pub bytes: u64,
    /// Lines in them.
    pub lines: u64,
    /// Bytes of what was found wrong in them and goes into the database; it lies aside already.
    pub findings: u64,
}

/// How large a file may be.
#[derive(Debug, Clone, Copy, Default)]
pub struct MostOfFile {
    /// Bytes, inflated.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// An upload's part of the room. Dropped, it is free for others.
pub struct Place<'a> {
    room: &'a Room,
    promised: u64,
}

impl Room {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        Self {
            data_dir: config.storage.data_dir.clone(),
            reserve: config.storage.reserve,
            files_are_here: matches!(config.objects, config::Objects::Local),
            promised: Mutex::new(0),
        }
    }

    /// A place for an upload that needs nothing yet.
    pub fn place(&self) -> Place<'_> {
        Place { room: self, promised: 0 }
    }

    /// Whether the rows of this batch that are not in the work table yet would reach into the reserve.
    pub fn for_rows_of(&self, batch: &Batch) -> Result<(), NoRoom> {
        let (total, left) = (u64::from(batch.counts.total), u64::from(batch.counts.total - batch.extracted));
        self.beside_the_reserve(batch.file_bytes / total.max(1) * left + left * ROW_BYTES)
    }

    /// Whether anything at all is left beside the reserve.
    pub fn for_a_piece(&self) -> Result<(), NoRoom> {
        self.beside_the_reserve(0)
    }

    /// Whether more is left than the outcomes of rows under way are to find.
    pub fn for_more_rows(&self) -> Result<(), NoRoom> {
        self.beside(|total| reserve(self.reserve, total) / OUTCOMES_SHARE, 0)
    }

    /// Whether the data folder is on a disk that holds so many more bytes. Where the system does not tell, it does.
    fn beside_the_reserve(&self, needed: u64) -> Result<(), NoRoom> {
        self.beside(|total| reserve(self.reserve, total), needed)
    }

    /// The same of what is to be kept back of a disk of this size.
    fn beside(&self, kept_back: impl Fn(u64) -> u64, needed: u64) -> Result<(), NoRoom> {
        let Sizes { disk_free_bytes: Some(free), disk_total_bytes: Some(total), .. } = sizes::of(&self.data_dir) else {
            return Ok(());
        };
        let reserve = kept_back(total);
        if free >= reserve.saturating_add(needed) { Ok(()) } else { Err(NoRoom { free, reserve, needed }) }
    }

    /// What a file will still take, with everything that becomes of it.
    fn need_of(&self, file: FileSoFar) -> u64 {
        let bytes = file.bytes.max(file.announced.min(file.most.bytes));
        let to_store = if self.files_are_here { bytes - file.bytes } else { 0 };
        // As many lines in the rest as there were in the beginning.
        let lines = u128::from(file.lines) * u128::from(bytes) / u128::from(file.bytes.max(1));
        let rows = lines.min(u128::from(file.most.rows)) as u64 * (ROW_BYTES + WORKED_BYTES);
        to_store.saturating_add(bytes).saturating_add(rows).saturating_add(file.findings)
    }
}

impl Place<'_> {
    /// Promises what this file needs, or says why that cannot be. `owed` is what accepted batches have still to write.
    pub fn promise(&mut self, file: FileSoFar, owed: Owed) -> Result<(), NoRoom> {
        let need = self.room.need_of(file);
        let mut promised = self.room.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let others = *promised - self.promised;
        let owed = owed.row_bytes + owed.unextracted * ROW_BYTES + owed.unfinished * WORKED_BYTES;
        self.room.beside_the_reserve(need.saturating_add(others).saturating_add(owed))?;
        *promised = others + need;
        self.promised = need;
        Ok(())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.room.promised.lock().unwrap_or_else(PoisonError::into_inner) -= self.promised;
    }
}
