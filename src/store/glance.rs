//! What is shown of the database to whoever watches it: a look every few seconds, for ever, so that its cost is bounded
//! whatever there is. It reads the counts that batches keep of their rows, and never rows but those that are claimed.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::error::Result;
use crate::model::{AlertKind, Timestamp};

/// The most unfinished batches, grants, alerts and announcements that one glance takes in; those beyond are not seen.
pub const SEEN: u32 = 10_000;
/// The most claims that are looked at for being stuck: there are a few for each worker.
const CLAIMS_SEEN: u32 = 10_000;

/// How everything in the database is.
#[derive(Debug, Clone)]
pub struct Glance {
    /// By workflow.
    pub unfinished: Vec<Unfinished>,
    /// Whether dispatch is paused.
    pub is_paused: bool,
    /// The last dispatch run, and the rows that it granted.
    pub last_run: Option<(Timestamp, u64)>,
    /// Rows that may still be claimed of them.
    pub granted_left: u64,
    /// Clients that the last run granted rows.
    pub granted_clients: u64,
    /// Rows whose claim has expired.
    pub stuck_rows: u64,
    /// Batches whose claim, for their extraction, has expired.
    pub stuck_batches: u64,
    /// Alerts that fire, by kind.
    pub firing: Vec<(AlertKind, u64)>,
    /// Announcements that are still to be delivered.
    pub announcements: u64,
    /// Deleted batches of which something is left to be cleared away.
    pub deletions: u64,
    /// The moment whose state the last whole backup holds.
    pub last_backup: Option<Timestamp>,
}

/// The unfinished batches of one workflow.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    /// Its name.
    pub workflow: String,
    /// Batches that wait to be extracted, that are being extracted, and whose rows are worked on.
    pub batches: [u64; 3],
    /// Those of them that are paused, or whose client is.
    pub paused: u64,
    /// Their rows: pending, processing, completed, failed, cancelled.
    pub rows: [u64; 5],
    /// Rows that are not in the work table yet.
    pub unextracted: u64,
    /// When the oldest one came that waits to be extracted.
    pub oldest_unextracted: Option<Timestamp>,
    /// When the oldest one came that has rows to be claimed, and is not paused.
    pub oldest_waiting: Option<Timestamp>,
}

impl Unfinished {
    /// Takes in another workflow's.
    pub fn add(&mut self, other: &Self) {
        self.batches.iter_mut().zip(other.batches).for_each(|(mine, theirs)| *mine += theirs);
        self.rows.iter_mut().zip(other.rows).for_each(|(mine, theirs)| *mine += theirs);
        self.paused += other.paused;
        self.unextracted += other.unextracted;
    }
}

/// Looks.
pub fn look(connection: &Connection, now: Timestamp) -> Result<Glance> {
    let count = |sql: &str, limit: u32| -> Result<u64> {
        Ok(connection.prepare_cached(sql)?.query_row([limit], |row| row.get::<_, i64>(0))? as u64)
    };
    let (granted_left, granted_clients): (i64, i64) = connection
        .prepare_cached("SELECT coalesce(sum(remaining), 0), count(*) FROM (SELECT remaining FROM grants LIMIT ?)")?
        .query_row([SEEN], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Glance {
        unfinished: unfinished(connection)?,
        is_paused: super::grants::pause_of(connection)?.is_some(),
        last_run: connection
            .prepare_cached("SELECT at, rows FROM runs ORDER BY run DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))
            .optional()?,
        granted_left: granted_left as u64,
        granted_clients: granted_clients as u64,
        stuck_rows: connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM rows INDEXED BY rows_claimed
                                       WHERE status = 'processing' AND claim_expires_at <= ? LIMIT ?)",
            )?
            .query_row(params![now, CLAIMS_SEEN], |row| row.get::<_, i64>(0))? as u64,
        stuck_batches: connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM batches INDEXED BY batches_claimed
                                       WHERE status = 'processing' AND claim_expires_at <= ? LIMIT ?)",
            )?
            .query_row(params![now, CLAIMS_SEEN], |row| row.get::<_, i64>(0))? as u64,
        firing: connection
            .prepare_cached(
                "SELECT kind, count(*) FROM (SELECT kind FROM alerts INDEXED BY alerts_standing
                                             WHERE state <> 'resolved' AND state = 'firing' LIMIT ?) GROUP BY kind",
            )?
            .query_map([SEEN], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?
            .collect::<rusqlite::Result<_>>()?,
        announcements: count(
            "SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_due WHERE status = 'pending' LIMIT ?)",
            SEEN,
        )?,
        deletions: count("SELECT count(*) FROM (SELECT 1 FROM deletions LIMIT ?)", SEEN)?,
        last_backup: super::backups::last(connection)?.map(|backup| backup.at),
    })
}

/// The unfinished batches by workflow.
fn unfinished(connection: &Connection) -> Result<Vec<Unfinished>> {
    let mut statement = connection.prepare_cached(
        "SELECT workflow, sum(status = 'pending'), sum(status = 'processing'), sum(status = 'queued'), sum(is_paused),
                sum(pending), sum(processing), sum(completed), sum(failed), sum(cancelled), sum(total - extracted),
                min(CASE WHEN status = 'pending' THEN created_at END),
                min(CASE WHEN status = 'queued' AND pending > 0 AND NOT is_paused THEN created_at END)
         FROM (SELECT workflow, status, batches.paused_at IS NOT NULL OR clients.paused_at IS NOT NULL AS is_paused,
                      pending, processing, completed, failed, cancelled, total, extracted, batches.created_at AS created_at
               FROM batches INDEXED BY batches_unfinished JOIN clients USING (client)
               WHERE status IN ('pending', 'processing', 'queued') LIMIT :limit)
         GROUP BY workflow",
    )?;
    let found = statement.query_map(named_params! { ":limit": SEEN }, |row| {
        let count = |column| row.get::<_, i64>(column).map(|count| count.max(0) as u64);
        Ok(Unfinished {
            workflow: row.get(0)?,
            batches: [count(1)?, count(2)?, count(3)?],
            paused: count(4)?,
            rows: [count(5)?, count(6)?, count(7)?, count(8)?, count(9)?],
            unextracted: count(10)?,
            oldest_unextracted: row.get(11)?,
            oldest_waiting: row.get(12)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
