//! The table `backups`, and a copy of the database as it is at one moment.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension,
    backup::{Backup, StepResult},
    params,
};

use super::{
    Store, Tx,
    error::{Result, StoreError},
    integrity,
};
use crate::model::Timestamp;

/// Pages that are copied in one step: 10 MiB.
const PAGES_AT_ONCE: i32 = 2_560;
/// How often, and how far apart, it is tried to have a closed database for oneself.
const FOLD_TRIES: u32 = 200;
const FOLD_AGAIN: Duration = Duration::from_millis(50);

/// A backup that is whole.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct LastBackup {
    /// The moment whose state it holds.
    pub at: Timestamp,
    /// Where it is.
    pub place: String,
}

/// Notes a backup before its copy begins, so that from here on nobody thinks that what is deleted is in none.
pub fn begin(tx: &Tx<'_>, place: &str) -> Result<i64> {
    tx.connection.prepare_cached("INSERT INTO backups (at, place) VALUES (?, ?)")?.execute(params![tx.now, place])?;
    Ok(tx.connection.last_insert_rowid())
}

/// Notes that the backup is whole and verified.
pub fn finish(tx: &Tx<'_>, backup: i64) -> Result<()> {
    tx.connection
        .prepare_cached("UPDATE backups SET finished_at = ? WHERE backup = ? AND finished_at IS NULL")?
        .execute(params![tx.now, backup])?;
    Ok(())
}

/// The last backup that is whole.
pub fn last(connection: &Connection) -> Result<Option<LastBackup>> {
    let mut statement = connection
        .prepare_cached("SELECT at, place FROM backups WHERE finished_at IS NOT NULL ORDER BY backup DESC LIMIT 1")?;
    Ok(statement.query_row([], |row| Ok(LastBackup { at: row.get(0)?, place: row.get(1)? })).optional()?)
}

impl Store {
    /// Copies the database as it is now into the new file `target`, durably, while others go on writing.
    ///
    /// All pages come from one read transaction. SQLite's backup begins anew whenever another process commits between
    /// two of its steps, and so would never end beside a busy server; inside a transaction its source stands still
    /// (<https://www.sqlite.org/c3ref/backup_finish.html>, <https://www.sqlite.org/isolation.html>). The price is that
    /// the WAL grows by what is written meanwhile, which is why pages are copied as they are: `VACUUM INTO` would build
    /// every index again, and hold the snapshot several times as long.
    pub fn copy_to(&self, target: &Path) -> Result<()> {
        let mut connection = self.readers.get()?;
        let snapshot = connection.transaction()?;
        // The snapshot begins with the first read, and not with BEGIN.
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mut copy = Connection::open(target)?;
        // Nobody reads it before it is whole, and it is synced as a whole below.
        copy.pragma_update(None, "synchronous", "OFF")?;
        let copying = Backup::new(&snapshot, &mut copy)?;
        loop {
            match copying.step(PAGES_AT_ONCE)? {
                StepResult::More => {}
                StepResult::Done => break,
                _ => return Err(StoreError::Busy),
            }
        }
        drop(copying);
        // One plain file, with no WAL beside it.
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error)?;
        let synced = File::open(target).and_then(|file| file.sync_all());
        synced.map_err(|source| StoreError::File { path: target.display().to_string(), source })
    }
}

/// A database file that nobody has open: a copy, to be looked at.
pub struct Copy {
    connection: Connection,
}

impl Copy {
    /// Opens it to be read only.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { connection: Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)? })
    }

    /// What SQLite's own check finds wrong; nothing, in a sound file.
    pub fn faults(&self) -> Result<Vec<String>> {
        integrity::faults(&self.connection, integrity::Depth::Full)
    }

    /// The version of its schema.
    pub fn schema(&self) -> Result<i64> {
        Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    /// Stored files of batches behind the batch `after`, with their batch's key.
    pub fn stored_files(&self, after: i64, limit: u32) -> Result<Vec<(i64, String)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT batch, object FROM batches WHERE batch > ? ORDER BY batch LIMIT ?")?;
        let files = statement.query_map(params![after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(files.collect::<rusqlite::Result<_>>()?)
    }

    /// The ids of the keys without which something in here cannot be opened.
    pub fn keys(&self) -> Result<Vec<String>> {
        Ok(super::keys::proofs(&self.connection)?.into_iter().map(|proof| proof.key_id).collect())
    }
}

/// Makes a database that this process has just closed one plain file, with no WAL beside it. The threads of a pool may
/// still be closing their connections; until they have, SQLite refuses, and does so without waiting.
pub fn fold(path: &Path) -> Result<()> {
    for _ in 0..FOLD_TRIES {
        let connection = Connection::open(path)?;
        let mode = connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0));
        match mode.map_err(StoreError::from) {
            Ok(mode) if mode == "delete" => return connection.close().map_err(|(_, error)| error.into()),
            Ok(_) | Err(StoreError::Busy) => std::thread::sleep(FOLD_AGAIN),
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Busy)
}

/// The files that SQLite may keep for a database in this folder.
pub fn database_files(data_dir: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| data_dir.join(format!("{}{suffix}", super::FILE_NAME)))
}
