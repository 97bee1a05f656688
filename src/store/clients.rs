//! The table `clients`: who may upload, and how many of its rows a dispatch run grants.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params, types::Type};

use super::{
    Tx,
    client_keys::{self, Added, NewKey},
    error::Result,
    pages::{Most, Page},
};
use crate::model::{
    Scopes, Timestamp,
    quota::{OwnQuotas, QuotaChanges},
};

/// What a client's first key is called.
pub const FIRST_KEY: &str = "default";

/// A client, without its keys.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its key in the database.
    pub client: i64,
    /// Its name, unique among all.
    pub name: String,
    /// Its own grant per run; `None`: the configured default.
    pub rows_per_run: Option<u32>,
    /// The names of the workflows that it may use; `None`: all.
    pub workflows: Option<Vec<String>>,
    /// Its own quotas.
    pub quotas: OwnQuotas,
    /// Since when none of its rows are claimed.
    pub paused_at: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
}

impl Client {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            client: row.get("client")?,
            name: row.get("name")?,
            rows_per_run: row.get("rows_per_run")?,
            workflows: workflows(row)?,
            quotas: own_quotas(row)?,
            paused_at: row.get("paused_at")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl Client {
    /// Whether it may upload to this workflow.
    pub fn may_use(&self, workflow: &str) -> bool {
        self.workflows.as_ref().is_none_or(|names| names.iter().any(|name| name == workflow))
    }
}

fn workflows(row: &Row<'_>) -> rusqlite::Result<Option<Vec<String>>> {
    let names: Option<String> = row.get("workflows")?;
    let parsed = names.map(|names| serde_json::from_str(&names)).transpose();
    parsed.map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

pub(super) fn own_quotas(row: &Row<'_>) -> rusqlite::Result<OwnQuotas> {
    Ok(OwnQuotas {
        pending_rows: row.get("pending_rows_most")?,
        stored_bytes: row.get::<_, Option<i64>>("stored_bytes_most")?.map(|most| most.max(0) as u64),
        batches: row.get("batches_most")?,
        uploads_at_once: row.get("uploads_most")?,
    })
}

/// Adds a client with its first key, which is good for everything; `false` where the name is taken.
pub fn add(tx: &Tx<'_>, name: &str, key_hash: [u8; 32], rows_per_run: Option<u32>) -> Result<bool> {
    let added: Option<i64> = tx
        .connection
        .prepare_cached(
            "INSERT INTO clients (name, rows_per_run, created_at) VALUES (?, ?, ?)
             ON CONFLICT (name) DO NOTHING RETURNING client",
        )?
        .query_row(params![name, rows_per_run, tx.now], |row| row.get(0))
        .optional()?;
    let Some(client) = added else { return Ok(false) };
    let key = NewKey { name: FIRST_KEY.to_owned(), hash: key_hash, scopes: Scopes::ALL, expires_at: None };
    Ok(client_keys::add(tx, client, &key)? == Added::Yes)
}

/// The client with this name, unless it was removed.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<Client>> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE name = ? AND removed_at IS NULL")?;
    Ok(statement.query_row([name], Client::from_row).optional()?)
}

/// The key in the database of the client with this name, also of one that was removed.
pub fn key_of(connection: &Connection, name: &str) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT client FROM clients WHERE name = ?")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// Every client that was not removed, by name.
pub fn list(connection: &Connection) -> Result<Vec<Client>> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE removed_at IS NULL ORDER BY name")?;
    Ok(statement.query_map([], Client::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// A page of the clients that were not removed, by name, behind the name `after`.
pub fn page(connection: &Connection, after: &str, most: Most) -> Result<Page<Client>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM clients WHERE removed_at IS NULL AND name > ? ORDER BY name")?;
    Page::read(statement.query([after])?, most, |row| Ok(Client::from_row(row)?))
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
    let unfinished = unfinished_of(tx.connection, client.client)?;
    if unfinished > 0 {
        return Ok(Removal::Unfinished(unfinished));
    }
    client_keys::remove_all(tx, client.client)?;
    tx.connection
        .prepare_cached("UPDATE clients SET removed_at = ? WHERE client = ?")?
        .execute(params![tx.now, client.client])?;
    tx.connection.prepare_cached("DELETE FROM grants WHERE client = ?")?.execute([client.client])?;
    tx.connection.prepare_cached("DELETE FROM webhooks WHERE client = ?")?.execute([client.client])?;
    Ok(Removal::Done)
}

/// What decides is looked at itself, and not in `client_totals`.
fn unfinished_of(connection: &Connection, client: i64) -> Result<u32> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM batches INDEXED BY batches_unfinished
         WHERE client = ? AND status IN ('pending', 'processing', 'queued')",
    )?;
    Ok(statement.query_row([client], |row| row.get(0))?)
}

/// Sets how many rows a run grants the client (`None`: `default_rows`), which holds for the run that is under way as
/// well; `false` where there is no such client.
pub fn set_rows_per_run(tx: &Tx<'_>, name: &str, rows_per_run: Option<u32>, default_rows: u32) -> Result<bool> {
    let changed: Option<i64> = tx
        .connection
        .prepare_cached("UPDATE clients SET rows_per_run = ? WHERE name = ? AND removed_at IS NULL RETURNING client")?
        .query_row(params![rows_per_run, name], |row| row.get(0))
        .optional()?;
    let Some(client) = changed else { return Ok(false) };
    super::grants::change_limit(tx, client, rows_per_run.unwrap_or(default_rows))?;
    Ok(true)
}

/// Says which workflows the client may use (`None`: all), from the next upload on; `false` where there is no such client.
pub fn set_workflows(tx: &Tx<'_>, name: &str, workflows: Option<&[String]>) -> Result<bool> {
    let names = workflows.map(|names| serde_json::Value::from(names).to_string());
    let changed = tx
        .connection
        .prepare_cached("UPDATE clients SET workflows = ? WHERE name = ? AND removed_at IS NULL")?
        .execute(params![names, name])?;
    Ok(changed == 1)
}

/// Changes the client's own quotas, from the next upload on; `false` where there is no such client.
pub fn set_quotas(tx: &Tx<'_>, name: &str, changes: QuotaChanges) -> Result<bool> {
    let Some(client) = by_name(tx.connection, name)? else { return Ok(false) };
    let own = changes.of(client.quotas);
    let stored_bytes = own.stored_bytes.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
    tx.connection
        .prepare_cached(
            "UPDATE clients SET pending_rows_most = ?, stored_bytes_most = ?, batches_most = ?, uploads_most = ?
             WHERE client = ?",
        )?
        .execute(params![own.pending_rows, stored_bytes, own.batches, own.uploads_at_once, client.client])?;
    Ok(true)
}

/// Stops or starts claims of the client's rows; `false` where there is no such client.
pub fn set_paused(tx: &Tx<'_>, name: &str, paused: bool) -> Result<bool> {
    super::standstill::changed(tx);
    let changed = tx
        .connection
        .prepare_cached(
            "UPDATE clients SET paused_at = CASE WHEN :paused THEN coalesce(paused_at, :now) END
             WHERE name = :name AND removed_at IS NULL",
        )?
        .execute(named_params! { ":paused": paused, ":now": tx.now, ":name": name })?;
    Ok(changed == 1)
}
