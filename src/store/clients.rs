//! The table `clients`: who may upload, and how many of its rows a dispatch run grants.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{Tx, error::Result};
use crate::model::Timestamp;

/// A client, without its key.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its key in the database.
    pub client: i64,
    /// Its name, unique among all.
    pub name: String,
    /// Its own grant per run; `None`: the configured default.
    pub rows_per_run: Option<u32>,
    /// Since when none of its rows are claimed.
    pub paused_at: Option<Timestamp>,
    /// Until when the key before the last rotation is good; may have passed.
    pub old_key_until: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
}

impl Client {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            client: row.get("client")?,
            name: row.get("name")?,
            rows_per_run: row.get("rows_per_run")?,
            paused_at: row.get("paused_at")?,
            old_key_until: row.get("old_key_until")?,
            created_at: row.get("created_at")?,
        })
    }
}

/// Adds a client; `false` where the name is taken.
pub fn add(tx: &Tx<'_>, name: &str, key_hash: [u8; 32], rows_per_run: Option<u32>) -> Result<bool> {
    let added = tx
        .connection
        .prepare_cached(
            "INSERT INTO clients (name, key_hash, rows_per_run, created_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![name, key_hash, rows_per_run, tx.now])?;
    Ok(added == 1)
}

/// The client with this name, unless it was removed.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<Client>> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE name = ? AND key_hash IS NOT NULL")?;
    Ok(statement.query_row([name], Client::from_row).optional()?)
}

/// The key in the database of the client with this name, also of one that was removed.
pub fn key_of(connection: &Connection, name: &str) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT client FROM clients WHERE name = ?")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// Every client that was not removed, by name.
pub fn list(connection: &Connection) -> Result<Vec<Client>> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE key_hash IS NOT NULL ORDER BY name")?;
    Ok(statement.query_map([], Client::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// A page of the clients that were not removed, by name, behind the name `after`.
pub fn page(connection: &Connection, after: &str, limit: u32) -> Result<Vec<Client>> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM clients WHERE key_hash IS NOT NULL AND name > ? ORDER BY name LIMIT ?")?;
    Ok(statement.query_map(params![after, limit], Client::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// The client with this key; also with the one before it, for as long as that is still good.
pub fn by_key_hash(connection: &Connection, key_hash: [u8; 32], now: Timestamp) -> Result<Option<Client>> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM clients WHERE key_hash = ?1 OR (old_key_hash = ?1 AND old_key_until > ?2)")?;
    Ok(statement.query_row(params![key_hash, now], Client::from_row).optional()?)
}

/// Gives the client another key; the one it had is good until `old_key_until`. An even older one is good no more.
/// `false` where there is no such client.
pub fn rotate_key(tx: &Tx<'_>, name: &str, key_hash: [u8; 32], old_key_until: Timestamp) -> Result<bool> {
    let changed = tx
        .connection
        .prepare_cached(
            "UPDATE clients SET old_key_hash = key_hash, old_key_until = :until, key_hash = :hash
             WHERE name = :name AND key_hash IS NOT NULL",
        )?
        .execute(named_params! { ":name": name, ":hash": key_hash, ":until": old_key_until })?;
    Ok(changed == 1)
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Its keys are good no more.
    Done,
    /// There is no such client.
    Unknown,
    /// It has batches that are not finished, so many. Nothing was changed.
    Unfinished(u32),
}

/// Removes a client: its keys and its webhook are gone, its batches stay, under its name. One with work that is not
/// finished is not removed: whether that work is to be ended is for the operator to say.
pub fn remove(tx: &Tx<'_>, name: &str) -> Result<Removal> {
    let Some(client) = by_name(tx.connection, name)? else { return Ok(Removal::Unknown) };
    let unfinished = work_of(tx.connection, client.client)?.batches;
    if unfinished > 0 {
        return Ok(Removal::Unfinished(unfinished));
    }
    tx.connection
        .prepare_cached(
            "UPDATE clients SET key_hash = NULL, old_key_hash = NULL, old_key_until = NULL WHERE client = ?",
        )?
        .execute([client.client])?;
    tx.connection.prepare_cached("DELETE FROM grants WHERE client = ?")?.execute([client.client])?;
    tx.connection.prepare_cached("DELETE FROM webhooks WHERE client = ?")?.execute([client.client])?;
    Ok(Removal::Done)
}

/// What a client has under way: over its batches that are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Work {
    /// Batches that are not finished.
    pub batches: u32,
    /// Rows of theirs that wait.
    pub pending: u64,
    /// Rows of theirs that are being worked on.
    pub processing: u64,
    /// Rows of theirs that are completed.
    pub completed: u64,
    /// Rows of theirs that failed.
    pub failed: u64,
}

/// Adds up the counts of a client's unfinished batches; looks at no row, and at no batch that is finished.
pub fn work_of(connection: &Connection, client: i64) -> Result<Work> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*), coalesce(sum(pending), 0), coalesce(sum(processing), 0), coalesce(sum(completed), 0),
                coalesce(sum(failed), 0)
         FROM batches INDEXED BY batches_unfinished
         WHERE client = ? AND status IN ('pending', 'processing', 'queued')",
    )?;
    Ok(statement.query_row([client], |row| {
        // A count that drifted can be anything.
        let sum = |column| row.get::<_, i64>(column).map(|sum| sum.max(0) as u64);
        Ok(Work { batches: row.get(0)?, pending: sum(1)?, processing: sum(2)?, completed: sum(3)?, failed: sum(4)? })
    })?)
}

/// Sets how many rows a run grants the client (`None`: `default_rows`), which holds for the run that is under way as
/// well; `false` where there is no such client.
pub fn set_rows_per_run(tx: &Tx<'_>, name: &str, rows_per_run: Option<u32>, default_rows: u32) -> Result<bool> {
    let changed: Option<i64> = tx
        .connection
        .prepare_cached("UPDATE clients SET rows_per_run = ? WHERE name = ? AND key_hash IS NOT NULL RETURNING client")?
        .query_row(params![rows_per_run, name], |row| row.get(0))
        .optional()?;
    let Some(client) = changed else { return Ok(false) };
    super::grants::change_limit(tx, client, rows_per_run.unwrap_or(default_rows))?;
    Ok(true)
}

/// Stops or starts claims of the client's rows; `false` where there is no such client.
pub fn set_paused(tx: &Tx<'_>, name: &str, paused: bool) -> Result<bool> {
    super::standstill::changed(tx);
    let changed = tx
        .connection
        .prepare_cached(
            "UPDATE clients SET paused_at = CASE WHEN :paused THEN coalesce(paused_at, :now) END
             WHERE name = :name AND key_hash IS NOT NULL",
        )?
        .execute(named_params! { ":paused": paused, ":now": tx.now, ":name": name })?;
    Ok(changed == 1)
}
