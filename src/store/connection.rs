//! Opening connections: every pragma of every connection is set here, and read back.
//!
//! All of them but `journal_mode` and `auto_vacuum` belong to the connection and not to the file, so a pool has to set
//! them each time it opens one (<https://www.sqlite.org/pragma.html>).

use std::{path::PathBuf, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::error::{Result, StoreError};

/// Prepared statements that a connection keeps.
const CACHED_STATEMENTS: usize = 128;
/// Page cache of the writer and of each reader, in KiB.
const WRITER_CACHE_KIB: i64 = 8 * 1024;
const READER_CACHE_KIB: i64 = 2 * 1024;
/// What the arithmetic of `data_keys` in the schema is for.
pub(super) const PAGE_BYTES: (i64, &str) = (4096, "4096");
/// `auto_vacuum`: free pages are given back when that is asked for.
const INCREMENTAL: i64 = 2;
/// How large the WAL may grow, where nothing else is configured.
const WAL_LIMIT: u64 = 64 * 1024 * 1024;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `synchronous = FULL`: a power failure. An "ok" is on disk.
    Full,
    /// `synchronous = NORMAL`: the death of the process; a power failure may take the last transactions back.
    Normal,
}

impl Durability {
    fn as_pragma(self) -> (&'static str, &'static str) {
        match self {
            Self::Full => ("FULL", "2"),
            Self::Normal => ("NORMAL", "1"),
        }
    }
}

/// How a database is opened: `[database]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// `synchronous`: `full` (an "ok" survives a power failure; the default) or `normal` (it survives the process).
    pub synchronous: Durability,
    /// `busy_timeout`: how long a connection waits for another process's transaction. Default 10s.
    pub busy_timeout: Duration,
    /// `wal_limit`: behind so many bytes of write-ahead log, reads are held back for an instant so that it can be cut to
    /// nothing. Default 64MiB.
    pub wal_limit: u64,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self { synchronous: Durability::Full, busy_timeout: Duration::from_secs(10), wal_limit: WAL_LIMIT }
    }
}

/// The one connection that writes.
pub(super) fn open_writer(path: &std::path::Path, settings: DatabaseSettings) -> Result<Connection> {
    let connection = Connection::open(path)?;
    let (synchronous, synchronous_is) = settings.synchronous.as_pragma();
    connection.busy_timeout(settings.busy_timeout)?;
    // These two have to come before the first table; without the second the file could never shrink piece by piece.
    connection.pragma_update(None, "page_size", PAGE_BYTES.0)?;
    let auto_vacuum: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if auto_vacuum != INCREMENTAL {
        // It writes, even where nothing changes; a database of a newer dripfeed has to stay as it is.
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // Deleted keys and rows are overwritten, not just unlinked.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    // Copies of the pages that an operation of a group changes, should it be taken back: no more than the group's own, and in a
    // file they would have to be written.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What a WAL that begins again at its front leaves of its file.
    connection.pragma_update(None, "journal_size_limit", i64::try_from(settings.wal_limit).unwrap_or(i64::MAX))?;
    assert_pragmas(
        &connection,
        &[
            ("page_size", PAGE_BYTES.1),
            ("journal_mode", "wal"),
            ("synchronous", synchronous_is),
            ("foreign_keys", "1"),
            ("secure_delete", "1"),
            ("temp_store", "2"),
        ],
    )?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}

/// Makes the connections of the read pool.
pub(super) struct Readers {
    pub(super) path: PathBuf,
    pub(super) busy_timeout: Duration,
}

impl r2d2::ManageConnection for Readers {
    type Connection = Connection;
    type Error = StoreError;

    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
        )?;
        connection.busy_timeout(self.busy_timeout)?;
        connection.pragma_update(None, "query_only", "ON")?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        assert_pragmas(&connection, &[("journal_mode", "wal"), ("query_only", "1")])?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<()> {
        Ok(connection.execute_batch("SELECT 1")?)
    }

    /// One whose snapshot could not be ended is closed.
    fn has_broken(&self, connection: &mut Connection) -> bool {
        !connection.is_autocommit()
    }
}

fn assert_pragmas(connection: &Connection, wanted: &[(&'static str, &'static str)]) -> Result<()> {
    for &(pragma, wanted) in wanted {
        let found = connection.pragma_query_value(None, pragma, |row| {
            row.get_ref(0).map(|value| match value {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().unwrap_or("?").to_owned(),
            })
        })?;
        if found != wanted {
            return Err(StoreError::Pragma { pragma, found, wanted });
        }
    }
    Ok(())
}
