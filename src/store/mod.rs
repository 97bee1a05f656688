//! The only place with SQL: one writer, a pool of readers, and a file for each table.
//!
//! It keeps bytes and statuses. What is sealed arrives sealed and leaves sealed, and no function here calls anything
//! over a network or waits for anything but the database. A function that takes a [`Tx`] runs inside a write
//! transaction; one that takes a [`Connection`] reads, from either.

pub mod alerts;
pub mod all_batches;
pub mod audit;
pub mod audit_chain;
pub mod backups;
pub mod batches;
mod checkpoint;
pub mod claims;
pub mod client_keys;
pub mod clients;
pub mod connection;
pub mod counts;
pub mod data_keys;
pub mod deletions;
pub mod deliveries;
pub mod dependencies;
pub mod ended;
pub mod error;
pub mod extraction;
pub mod failures;
mod gate;
pub mod glance;
pub mod grants;
mod guests;
pub mod home;
pub mod inspection;
pub mod integrity;
pub mod keys;
mod meter;
mod migrate;
pub mod operators;
pub mod pages;
pub mod queue;
pub mod quotas;
pub mod ready;
pub mod restored;
pub mod retention;
pub mod retries;
pub mod rows;
pub mod sessions;
pub mod settle;
pub mod sizes;
pub mod skipped;
pub mod stall;
pub mod standstill;
pub mod stuck;
pub mod troubles;
pub mod upgrades;
pub mod upkeep;
pub mod upload_keys;
pub mod uploads;
mod values;
pub mod waits;
pub mod webhooks;
pub mod widths;
pub mod workflows;
mod writer;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

pub use checkpoint::{CheckpointOutcome, WalState};
pub use connection::{DatabaseSettings, Durability};
pub use error::{Result, StoreError};
pub use guests::as_guest;
pub use meter::{Meter, Transaction};
pub use rusqlite::Connection;
pub use writer::Tx;

use crate::{
    clock::Clock,
    heartbeat::{self, Heartbeats},
    private,
};

/// The database's file in the data folder.
pub const FILE_NAME: &str = "dripfeed.db";
/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a reader waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(10);
/// How long one read may hold its snapshot: the WAL cannot shrink as long. A backup is none of these.
const LONGEST_READ: Duration = Duration::from_secs(30);
/// Instructions of SQLite's machine between two looks at the time: less than a millisecond.
const LOOK_EVERY: std::ffi::c_int = 10_000;

/// What became of a write that asks for the owner of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Done.
    Yes,
    /// The claim was taken over, or what it is on was ended: nothing was changed, stop.
    No,
}

/// A database that was copied or unpacked here may have been left open to others, and with it what SQLite makes beside it.
fn shut_out_others(data_dir: &Path, database: &Path) -> std::io::Result<()> {
    private::folder(data_dir)?;
    private::file(database)?;
    ["-wal", "-shm"].iter().try_for_each(|beside| private::shut(&data_dir.join(format!("{FILE_NAME}{beside}"))))
}

/// An open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    writer: Arc<writer::Writer>,
    readers: r2d2::Pool<connection::Readers>,
    wal: Arc<checkpoint::Wal>,
    stall: Arc<stall::Watch>,
    busy_timeout: Duration,
    longest_read: Duration,
}

impl Store {
    /// Opens the database in `data_dir`, creating or upgrading it. Several processes may have it open at once.
    pub fn open(data_dir: &Path, settings: DatabaseSettings, clock: Clock) -> Result<Self> {
        Self::open_watched(data_dir, settings, clock, Arc::new(()), &Heartbeats::default())
    }

    /// Opens it as [`Store::open`] does, and has its writes counted and its writer's heart among the others.
    pub fn open_watched(
        data_dir: &Path,
        settings: DatabaseSettings,
        clock: Clock,
        meter: Arc<dyn Meter>,
        hearts: &Heartbeats,
    ) -> Result<Self> {
        let file_error = |source| StoreError::File { path: data_dir.display().to_string(), source };
        let path = data_dir.join(FILE_NAME);
        shut_out_others(data_dir, &path).map_err(file_error)?;
        let mut connection = connection::open_writer(&path, settings)?;
        migrate::migrate(&mut connection)?;
        let wal = Arc::new(checkpoint::Wal::default());
        wal.watch(&mut connection)?;
        let checkpointer = checkpoint::Checkpointer::new(wal.clone(), data_dir, settings);
        let readers = r2d2::Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            .connection_timeout(READER_WAIT)
            // A look at each connection that is lent would cost as much as what most of them read.
            .test_on_check_out(false)
            .build(connection::Readers { path, busy_timeout: settings.busy_timeout })?;
        let stall = Arc::<stall::Watch>::default();
        Ok(Self {
            writer: Arc::new(writer::Writer::start(
                connection,
                clock,
                stall.clone(),
                checkpointer,
                settings.busy_timeout,
                meter,
                hearts,
            )?),
            readers,
            wal,
            stall,
            busy_timeout: settings.busy_timeout,
            longest_read: LONGEST_READ,
        })
    }

    /// Reads from one consistent state, for no longer than [`LONGEST_READ`]. Blocks; not for async threads.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.readers.get()?;
        // Only now, so that a checkpoint waits for those who read, and not for those who wait for a connection too.
        let _inside = self.wal.gate.enter();
        let until = Instant::now() + self.longest_read;
        connection.progress_handler(LOOK_EVERY, Some(move || Instant::now() > until))?;
        let value = in_snapshot(&connection, work);
        connection.progress_handler(0, None::<fn() -> bool>)?;
        heartbeat::beat();
        value
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

    /// Puts the WAL back into the database's file and cuts it to nothing; whether that could be done now. Of what was
    /// deleted before, no copy is left in either then. Blocks; not for async threads.
    pub fn truncate_wal(&self) -> Result<bool> {
        let (wal, busy_timeout) = (self.wal.clone(), self.busy_timeout);
        self.writer.between_transactions(move |connection| wal.cut(connection, busy_timeout))
    }

    /// Why nothing can be written just now, where that is so. Asks no disk.
    pub fn stall(&self) -> Option<stall::Stall> {
        self.stall.stall()
    }

    /// How the write-ahead log is, as far as this process knows: what it wrote, and what its checkpoints came to.
    pub fn wal(&self) -> WalState {
        self.wal.state()
    }
}

fn in_snapshot<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    writer::run(connection, "BEGIN DEFERRED")?;
    let value = work(connection);
    let ended = writer::run(connection, "ROLLBACK");
    value.and_then(|value| ended.map(|()| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pragma(connection: &Connection, name: &str) -> String {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        format!("{:?}", value.expect(name))
    }

    #[test]
    fn every_connection_is_set_up_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), DatabaseSettings::default(), Clock::machine()).expect("a new database");
        let of_writer = ["journal_mode", "synchronous", "foreign_keys", "secure_delete", "auto_vacuum"];
        let found = store.write(move |tx| Ok(of_writer.map(|name| pragma(tx.connection, name)))).expect("asked");
        let integer = |number: i64| format!("Integer({number})");
        let expected = [r#"Text("wal")"#.to_owned(), integer(2), integer(1), integer(1), integer(2)];
        assert_eq!(found, expected);
        // Each transaction of the writer waits for what is left of the time of whoever has waited longest, so it is looked
        // at where nobody has.
        let opened = connection::open_writer(&folder.path().join(FILE_NAME), DatabaseSettings::default());
        assert_eq!(pragma(&opened.expect("opened"), "busy_timeout"), integer(10_000));
        // All readers at once, so that each one of the pool is looked at.
        let readers: Vec<_> = (0..READERS).map(|_| store.readers.get().expect("a reader")).collect();
        for reader in &readers {
            assert_eq!(pragma(reader, "query_only"), integer(1));
            assert_eq!(pragma(reader, "busy_timeout"), integer(10_000));
            assert!(reader.execute("DELETE FROM clients", []).is_err(), "a reader cannot write");
        }
    }

    #[test]
    fn a_failing_write_takes_nothing_of_its_neighbours_back_and_answers_follow_the_commit() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), DatabaseSettings::default(), Clock::machine()).expect("a new database");
        let add = |name: &'static str, fails: bool| {
            let hash = [name.as_bytes()[0]; 32];
            let store = &store;
            move || {
                let added = store.write(move |tx| {
                    clients::add(tx, name, hash, None)?;
                    if fails { Err(StoreError::Unknown { what: "test" }) } else { Ok(()) }
                });
                // Whoever hears "ok" finds it, from another connection, at once.
                let names = store.read(clients::list).expect("listed");
                let is_there = names.iter().any(|client| client.name == name);
                assert_eq!((added.is_ok(), is_there), (!fails, !fails), "{name}");
            }
        };
        std::thread::scope(|scope| {
            for (name, fails) in [("a", false), ("b", true), ("c", false), ("d", true), ("e", false)] {
                scope.spawn(add(name, fails));
            }
        });
        assert_eq!(store.read(clients::list).expect("listed").len(), 3);
    }

    #[test]
    fn a_read_that_takes_too_long_is_broken_off_and_the_next_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path(), DatabaseSettings::default(), Clock::machine()).expect("a database");
        store.longest_read = Duration::ZERO;
        let endless = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let broken_off =
            store.read(|connection| Ok(connection.query_row(endless, [], |row| row.get::<_, i64>(0))?)).map(drop);
        assert!(matches!(broken_off, Err(StoreError::ReadTooLong)), "{broken_off:?}");
        assert_eq!(store.read(clients::list).expect("a short read").len(), 0);
    }

    /// A database whose WAL may be small, with reads that overlap without end, and so many writes of 50 KB. A read that the
    /// machine lets wait holds the WAL until it is tried again: it is over before this ends.
    fn largest_wal(writes: usize) -> (u64, Store, tempfile::TempDir) {
        const READING: usize = 3;
        let folder = tempfile::tempdir().expect("a folder");
        let settings = DatabaseSettings { wal_limit: 1 << 20, ..DatabaseSettings::default() };
        let store = Store::open(folder.path(), settings, Clock::machine()).expect("a database");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let mut largest = 0;
        std::thread::scope(|scope| {
            for _ in 0..READING {
                scope.spawn(|| {
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        let read = store.read(|connection| {
                            let clients = clients::list(connection)?.len();
                            // As long as a page of rows takes, so that there is never a moment without a reader.
                            std::thread::sleep(Duration::from_millis(3));
                            Ok(clients)
                        });
                        read.expect("a read");
                    }
                });
            }
            for write in 0..writes {
                let name = format!("{write}-{}", "x".repeat(50_000));
                let mut hash = [0; 32];
                hash[..8].copy_from_slice(&write.to_be_bytes());
                assert!(store.write(move |tx| clients::add(tx, &name, hash, None)).expect("written"));
                let bytes = sizes::of(folder.path()).wal_bytes.expect("a WAL");
                largest = if store.wal().held_since.is_none() { largest.max(bytes) } else { largest };
            }
            let deadline = Instant::now() + Duration::from_secs(30);
            while store.wal().held_since.is_some() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        (largest, store, folder)
    }

    #[test]
    fn the_wal_stays_in_its_bounds_under_reads_without_end() {
        let (largest, store, _folder) = largest_wal(200);
        assert!(largest < 3 << 20, "the WAL had {largest} bytes, and should have about 1 MiB");
        assert!(store.wal().last_checkpoint.is_some() && store.wal().held_since.is_none(), "{:?}", store.wal());
    }

    #[test]
    fn a_reader_that_cannot_be_held_back_is_told_and_the_wal_is_cut_when_it_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = DatabaseSettings { wal_limit: 1 << 20, ..DatabaseSettings::default() };
        let store = Store::open(folder.path(), settings, Clock::machine()).expect("a database");
        // Another process's, as far as this one knows.
        let other = Connection::open(folder.path().join(FILE_NAME)).expect("a connection");
        other.execute_batch("BEGIN; SELECT count(*) FROM clients").expect("a snapshot");
        for write in 0..40_u8 {
            let name = format!("{write}-{}", "x".repeat(50_000));
            assert!(store.write(move |tx| clients::add(tx, &name, [write; 32], None)).expect("written"));
        }
        let held = store.wal();
        assert!(held.held_since.is_some() && held.bytes() > 1 << 20, "{held:?}");
        assert!(matches!(held.last_checkpoint, Some((CheckpointOutcome::Held, _))), "{held:?}");
        other.execute_batch("COMMIT").expect("it ends");
        // Without a single write.
        let deadline = Instant::now() + Duration::from_secs(20);
        while store.wal().held_since.is_some() {
            assert!(Instant::now() < deadline, "{:?}", store.wal());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((store.wal().frames, sizes::of(folder.path()).wal_bytes), (0, Some(0)));
    }
}
