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

/// Every client that was not removed, by name.
pub fn list(connection: &Connection) -> Result<Vec<Client>> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE key_hash IS NOT NULL ORDER BY name")?;
    Ok(statement.query_map([], Client::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// The client with this key.
pub fn by_key_hash(connection: &Connection, key_hash: [u8; 32]) -> Result<Option<Client>> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE key_hash = ?")?;
    Ok(statement.query_row([key_hash], Client::from_row).optional()?)
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
    let changed = tx
        .connection
        .prepare_cached(
            "UPDATE clients SET paused_at = CASE WHEN :paused THEN coalesce(paused_at, :now) END
             WHERE name = :name AND key_hash IS NOT NULL",
        )?
        .execute(named_params! { ":paused": paused, ":now": tx.now, ":name": name })?;
    Ok(changed == 1)
}
