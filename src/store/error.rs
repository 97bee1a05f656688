//! What can go wrong with the database, sorted by what the caller can do about it.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::panics;

/// A fault of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process held the database for longer than we wait. Nothing was changed; try again.
    #[error("the database is locked by another process, which did not let go within `database.busy_timeout`")]
    Busy,
    /// As many writes as may wait for the database do so, and none of them moves. Nothing was changed; try again.
    #[error("too many writes wait for the database, which another process has locked or whose disk is too slow")]
    Crowded,
    /// No room left. Nothing of the operation was kept.
    #[error("the disk is full: free some space on the volume of the data folder")]
    DiskFull,
    /// The file is not what it should be.
    #[error("the database is damaged ({0}): stop dripfeed and restore a backup")]
    Corrupt(#[source] rusqlite::Error),
    /// It was written by a newer dripfeed.
    #[error(
        "the database has version {found}, this dripfeed knows versions up to {known}: use the dripfeed that wrote it, or a newer one, or restore a backup that was taken before the upgrade"
    )]
    Newer {
        /// The version in the file.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A step towards our version failed.
    #[error(
        "the database could not be upgraded from version {found} to {known}, and is as it was: {source}; go on with the dripfeed that wrote it"
    )]
    Upgrade {
        /// The version in the file.
        found: i64,
        /// The version known here.
        known: i64,
        /// What went wrong.
        source: rusqlite::Error,
    },
    /// The steps towards our version tore something apart.
    #[error(
        "the database could not be upgraded from version {found} to {known}, and is as it was: a record would refer to something that is gone; go on with the dripfeed that wrote it"
    )]
    UpgradeDangles {
        /// The version in the file.
        found: i64,
        /// The version known here.
        known: i64,
    },
    /// A connection is not set up as it must be.
    #[error("this database connection has {pragma} = {found}, and needs {wanted}")]
    Pragma {
        /// Which setting.
        pragma: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A value in the database that this version does not understand.
    #[error("the database holds a {what} that this version does not know")]
    Unknown {
        /// Which kind of value.
        what: &'static str,
    },
    /// A move that the state machine does not know.
    #[error(transparent)]
    Illegal(#[from] crate::model::IllegalTransition),
    /// A read held its snapshot for too long, and was broken off.
    #[error("a read took longer than it may, and was broken off so that the write-ahead log can shrink")]
    ReadTooLong,
    /// No connection of the read pool came free in time.
    #[error("all database connections stayed busy")]
    NoReader(#[from] r2d2::Error),
    /// The writer has stopped, by shutdown or by a fault that it reported before.
    #[error("the database writer has stopped")]
    Closed,
    /// The folder or file could not be made.
    #[error("{path}: {source}")]
    File {
        /// What was to be made or opened.
        path: String,
        /// Why it was not.
        source: std::io::Error,
    },
    /// SQLite gave up the whole transaction because of another operation in it.
    #[error("the database rolled the whole transaction back")]
    RolledBack,
    /// The group of writes that this one was committed with failed as a whole.
    #[error("the transaction could not be committed: {0}")]
    Commit(#[source] Arc<StoreError>),
    /// Anything else that SQLite says.
    #[error("database error: {0}")]
    Sqlite(#[source] rusqlite::Error),
}

impl StoreError {
    /// Whether the same operation may succeed later, without anything of it having been kept.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.cause(),
            Self::Busy | Self::Crowded | Self::DiskFull | Self::ReadTooLong | Self::NoReader(_) | Self::RolledBack
        )
    }

    /// What went wrong, whichever operation of the group it befell.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Commit(cause) => cause.cause(),
            other => other,
        }
    }
}

/// Memory that SQLite could not have ends the process here, as memory that we cannot have does everywhere else.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::OutOfMemory) => panics::end_for_want_of_memory(),
            Some(ErrorCode::OperationInterrupted) => Self::ReadTooLong,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            _ => Self::Sqlite(error),
        }
    }
}

/// The result of everything in the store.
pub type Result<T> = std::result::Result<T, StoreError>;
