//! The table `backups`, and a copy of the database as it is at one moment.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
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
/// How often it is looked whether a check is to be broken off.
const LOOK_FOR_END: Duration = Duration::from_millis(100);

/// A backup that is whole.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct LastBackup {
    /// The moment whose state it holds.
    pub at: Timestamp,
    /// Where it is.
    pub place: String,
}

/// Notes a backup before its copy begins, so that from here on nobody thinks that what is deleted is in none. `name` is
/// that of a scheduled one.
pub fn begin(tx: &Tx<'_>, place: &str, name: Option<&str>) -> Result<i64> {
    tx.connection
        .prepare_cached("INSERT INTO backups (at, place, name) VALUES (?, ?, ?)")?
        .execute(params![tx.now, place, name])?;
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

/// The moment whose state the last whole scheduled backup holds.
pub fn last_scheduled(connection: &Connection) -> Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached(
        "SELECT at FROM backups WHERE finished_at IS NOT NULL AND name IS NOT NULL ORDER BY backup DESC LIMIT 1",
    )?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

/// Whether this database began the scheduled backup `name`.
pub fn has_begun(connection: &Connection, name: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM backups WHERE name = ?)")?;
    Ok(statement.query_row([name], |row| row.get(0))?)
}

/// Forgets scheduled backups that were begun before this, but never the last whole one: whatever there is of them is
/// gone. At most `limit`; says how many.
pub fn forget(tx: &Tx<'_>, before: Timestamp, limit: u32) -> Result<usize> {
    let forgotten = tx
        .connection
        .prepare_cached(
            "DELETE FROM backups WHERE backup IN (
                 SELECT backup FROM backups
                 WHERE name IS NOT NULL AND at < ?
                   AND backup < (SELECT max(backup) FROM backups WHERE name IS NOT NULL AND finished_at IS NOT NULL)
                 ORDER BY backup LIMIT ?)",
        )?
        .execute(params![before, limit])?;
    Ok(forgotten)
}

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Pages that are copied.
    pub copied: u64,
    /// Pages that there are.
    pub pages: u64,
}

impl Store {
    /// How many bytes a copy of the database takes.
    pub fn bytes(&self) -> Result<u64> {
        self.read(|connection| {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            Ok(pragma("page_count")?.saturating_mul(pragma("page_size")?) as u64)
        })
    }

    /// Copies the database as it is now into the new file `target`, durably, while others go on writing.
    ///
    /// All pages come from one read transaction. SQLite's backup begins anew whenever another process commits between
    /// two of its steps, and so would never end beside a busy server; inside a transaction its source stands still
    /// (<https://www.sqlite.org/c3ref/backup_finish.html>, <https://www.sqlite.org/isolation.html>). The price is that
    /// the WAL grows by what is written meanwhile, which is why pages are copied as they are: `VACUUM INTO` would build
    /// every index again, and hold the snapshot several times as long.
    ///
    /// Behind each piece the copy is synced, so that no commit has to wait for a disk that has all of it to write at
    /// once, and `goes_on` is asked, which hears how far it is. Says whether the copy came to its end.
    pub fn copy_to(&self, target: &Path, mut goes_on: impl FnMut(Progress) -> bool) -> Result<bool> {
        let mut connection = self.readers.get()?;
        let snapshot = connection.transaction()?;
        // The snapshot begins with the first read, and not with BEGIN.
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mut copy = Connection::open(target)?;
        // Nobody reads it before it is whole, and it is synced as a whole below.
        copy.pragma_update(None, "synchronous", "OFF")?;
        let file_error = |source| StoreError::File { path: target.display().to_string(), source };
        let file = File::options().append(true).open(target).map_err(file_error)?;
        let copying = Backup::new(&snapshot, &mut copy)?;
        loop {
            match copying.step(PAGES_AT_ONCE)? {
                StepResult::More => {}
                StepResult::Done => break,
                _ => return Err(StoreError::Busy),
            }
            file.sync_data().map_err(file_error)?;
            let progress = copying.progress();
            let [pages, left] = [progress.pagecount, progress.remaining].map(|pages| pages.max(0) as u64);
            if !goes_on(Progress { copied: pages.saturating_sub(left), pages }) {
                return Ok(false);
            }
        }
        drop(copying);
        drop(snapshot);
        // One plain file, with no WAL beside it.
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error)?;
        file.sync_all().map_err(file_error)?;
        Ok(true)
    }
}

/// The stored file of a batch.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Its batch's key in the database.
    pub batch: i64,
    /// Its name among the objects.
    pub object: String,
    /// The size of what is sealed in it, which is nearly its own.
    pub bytes: u64,
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

    /// The same; `None` where `is_ended` became true before the check came to its end.
    pub fn faults_unless(&self, is_ended: impl Fn() -> bool + Sync) -> Result<Option<Vec<String>>> {
        let (handle, is_done) = (self.connection.get_interrupt_handle(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (is_ended, is_done) = (&is_ended, &is_done);
            let watcher = scope.spawn(move || {
                while !is_done.load(Ordering::Acquire) {
                    if is_ended() {
                        handle.interrupt();
                    }
                    std::thread::park_timeout(LOOK_FOR_END);
                }
            });
            let found = self.faults();
            is_done.store(true, Ordering::Release);
            watcher.thread().unpark();
            if is_ended() { Ok(None) } else { found.map(Some) }
        })
    }

    /// The version of its schema.
    pub fn schema(&self) -> Result<i64> {
        Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    /// Stored files of batches behind the batch `after`, in the order of their batches.
    pub fn stored_files(&self, after: i64, limit: u32) -> Result<Vec<StoredFile>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT batch, object, file_bytes FROM batches WHERE batch > ? ORDER BY batch LIMIT ?")?;
        let files = statement.query_map(params![after, limit], |row| {
            Ok(StoredFile { batch: row.get(0)?, object: row.get(1)?, bytes: row.get::<_, i64>(2)? as u64 })
        })?;
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
