//! A look at a database without changing it: for `doctor`, which must not create, upgrade or lock anything.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{
    FILE_NAME,
    alerts::{self, Alert},
    audit_chain::{self, Verified},
    backups::{self, LastBackup},
    error::Result,
    grants::{self, DispatchPause},
    integrity::{self, Depth},
    keys::{self, KeyProof},
    migrate,
    workflows::{self, Missing},
};
use crate::model::{AskedBy, BatchId, Timestamp};

/// A database, open to be read only.
pub struct Inspection(Connection);

/// How dispatch is.
#[derive(Debug, Clone)]
pub struct DispatchState {
    /// Who stopped it, and why.
    pub paused: Option<DispatchPause>,
    /// When the last run was, and who asked for it.
    pub last_run: Option<(Timestamp, AskedBy)>,
    /// Whether a batch is there that is not finished.
    pub has_work: bool,
}

/// How announcements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryState {
    /// Waiting, and tried in vain at least once.
    pub failing: u64,
    /// Given up since a point in time.
    pub given_up: u64,
}

impl Inspection {
    /// Opens the database of a data folder; `None` where there is none.
    pub fn open(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(super::READER_WAIT)?;
        Ok(Some(Self(connection)))
    }

    /// The version of its schema, and the one that this program knows.
    pub fn versions(&self) -> Result<(i64, i64)> {
        let found = self.0.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((found, migrate::VERSION))
    }

    /// What SQLite's own check finds wrong.
    pub fn faults(&self, depth: Depth) -> Result<Vec<String>> {
        integrity::faults(&self.0, depth)
    }

    /// Whether the audit is whole, and whether it holds the entry with this hash.
    pub fn audit(&self, contains: Option<&str>) -> Result<Verified> {
        audit_chain::verify(&self.0, contains)
    }

    /// The keys that sealed something.
    pub fn proofs(&self) -> Result<Vec<KeyProof>> {
        keys::proofs(&self.0)
    }

    /// The last whole backup.
    pub fn last_backup(&self) -> Result<Option<LastBackup>> {
        backups::last(&self.0)
    }

    /// How dispatch is.
    pub fn dispatch(&self) -> Result<DispatchState> {
        let has_work = self.0.query_row(
            "SELECT EXISTS (SELECT 1 FROM batches INDEXED BY batches_unfinished
                            WHERE status IN ('pending', 'processing', 'queued'))",
            [],
            |row| row.get(0),
        )?;
        let last_run = grants::last_run(&self.0)?.map(|run| (run.at, run.asked_by));
        Ok(DispatchState { paused: grants::pause_of(&self.0)?, last_run, has_work })
    }

    /// What is wrong, as the server's last check found it.
    pub fn alerts(&self, limit: u32) -> Result<Vec<Alert>> {
        alerts::firing(&self.0, limit)
    }

    /// Unfinished batches that call a dependency which is not configured, at most `limit`.
    pub fn missing(&self, is_configured: impl Fn(&str) -> bool, limit: u32) -> Result<Vec<Missing>> {
        workflows::missing(&self.0, is_configured, limit)
    }

    /// Batches that the server paused when it started, because something was missing, and why; at most `limit`.
    pub fn paused_missing(&self, limit: u32) -> Result<Vec<(BatchId, String)>> {
        workflows::paused(&self.0, limit)
    }

    /// Rows and batches whose claim has expired.
    pub fn expired_claims(&self, now: Timestamp) -> Result<u64> {
        let count: i64 = self.0.query_row(
            "SELECT (SELECT count(*) FROM rows INDEXED BY rows_claimed
                     WHERE status = 'processing' AND claim_expires_at <= ?1)
                  + (SELECT count(*) FROM batches INDEXED BY batches_claimed
                     WHERE status = 'processing' AND claim_expires_at <= ?1)",
            [now],
            |row| row.get(0),
        )?;
        Ok(count as u64)
    }

    /// How announcements are; those that were given up count since `since`.
    pub fn deliveries(&self, since: Timestamp) -> Result<DeliveryState> {
        let (failing, given_up): (i64, i64) = self.0.query_row(
            "SELECT (SELECT count(*) FROM deliveries WHERE status = 'pending' AND attempts > 0),
                    (SELECT count(*) FROM deliveries WHERE status = 'failed' AND finished_at >= ?)",
            [since],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(DeliveryState { failing: failing as u64, given_up: given_up as u64 })
    }
}
