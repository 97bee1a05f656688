//! The only place with SQL: one writer, a pool of readers, and a file for each table.
//!
//! It keeps bytes and statuses. What is sealed arrives sealed and leaves sealed, and no function here calls anything
//! over a network or waits for anything but the database. A function that takes a [`Tx`] runs inside a write
//! transaction; one that takes a [`Connection`] reads, from either.

pub mod batches;
pub mod claims;
pub mod clients;
pub mod connection;
pub mod dependencies;
pub mod error;
pub mod extraction;
pub mod grants;
pub mod keys;
mod migrate;
pub mod rows;
pub mod settle;
pub mod skipped;
pub mod stuck;
pub mod uploads;
mod values;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

pub use connection::Durability;
pub use error::{Result, StoreError};
use rusqlite::Connection;
pub use writer::Tx;

use crate::clock::Clock;

/// The database's file in the data folder.
pub const FILE_NAME: &str = "dripfeed.db";
/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a reader waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(10);

/// An open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    writer: Arc<writer::Writer>,
    readers: r2d2::Pool<connection::Readers>,
}

impl Store {
    /// Opens the database in `data_dir`, creating or upgrading it. Several processes may have it open at once.
    pub fn open(data_dir: &Path, durability: Durability, clock: Clock) -> Result<Self> {
        let file_error = |source| StoreError::File { path: data_dir.display().to_string(), source };
        std::fs::create_dir_all(data_dir).map_err(file_error)?;
        let path = data_dir.join(FILE_NAME);
        let mut connection = connection::open_writer(&path, durability)?;
        migrate::migrate(&mut connection)?;
        let readers = r2d2::Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            .connection_timeout(READER_WAIT)
            .build(connection::Readers { path })?;
        Ok(Self { writer: Arc::new(writer::Writer::start(connection, clock)?), readers })
    }

    /// Reads from one consistent state. Blocks; not for async threads.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.readers.get()?;
        let snapshot = connection.transaction()?;
        let value = work(&snapshot)?;
        snapshot.finish()?;
        Ok(value)
    }

    /// Runs `work` in a write transaction and returns after its commit. Blocks; not for async threads.
    ///
    /// Others' operations share the transaction, so `work` must be short and wait for nothing.
    pub fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.writer.write(work)
    }
}
