//! Who may come in, what holds work back and what is there, as one database has it: what a restored backup is compared with, so
//! that what was ended or stopped since stays so.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::{
    Tx, batches, client_keys, clients,
    deletions::{self, Asked, CopiesKept},
    error::Result,
    keys::SealedSecret,
    operators, webhooks,
};
use crate::model::{
    BatchId, BatchStatus, Role, Scopes, Timestamp,
    quota::{OwnQuotas, QuotaChanges},
};

/// An operator's token, and what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its hash.
    pub hash: [u8; 32],
    /// The role of its operator.
    pub role: Role,
}

/// A client's key, and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its hash.
    pub hash: [u8; 32],
    /// That of the one before, and until when it is good.
    pub old: Option<([u8; 32], Timestamp)>,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// When something ends by itself that never does.
const NEVER: Timestamp = Timestamp(i64::MAX);

impl Key {
    /// The hashes that are good at this time, each with when it ends.
    pub fn good(&self, now: Timestamp) -> impl Iterator<Item = (&[u8; 32], Timestamp)> {
        let end = self.expires_at.unwrap_or(NEVER);
        let old = self.old.as_ref().map(|(hash, until)| (hash, end.min(*until)));
        std::iter::once((&self.hash, end)).chain(old).filter(move |(_, end)| *end > now)
    }
}

/// A client's keys, by name; none where it was removed.
pub type Keys = BTreeMap<String, Key>;

/// What a client may, beside its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Whether its rows are held back.
    pub paused: bool,
    /// Its own grant of a run.
    pub rows_per_run: Option<u32>,
    /// The only workflows that it may use.
    pub workflows: Option<Vec<String>>,
    /// Its own quotas.
    pub quotas: OwnQuotas,
}

/// Where a client is told of its batches.
#[derive(Debug, Clone)]
pub struct ClientWebhook {
    /// The client's key in this database, for which it is sealed.
    pub client: i64,
    /// What is sealed of it; `None` where the client is told nowhere.
    pub sealed: Option<SealedSecret>,
}

/// What keeps a batch from being worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is paused, with this reason.
    Paused(Option<String>),
    /// It is cancelled, or about to be.
    Cancelled,
}

/// What a database has of all that.
#[derive(Debug, Default)]
pub struct Standing {
    /// Each one's token, by name.
    pub operators: BTreeMap<String, Token>,
    /// By name, those that were not removed.
    pub clients: BTreeMap<String, Keys>,
    /// What each of these clients may.
    pub limits: BTreeMap<String, Limits>,
    /// Where each of them is told of its batches.
    pub webhooks: BTreeMap<String, ClientWebhook>,
    /// The rate that was set for a dependency in the place of the configured one, in requests a second.
    pub rates: BTreeMap<String, f64>,
    /// Those that are not deleted.
    pub batches: BTreeSet<BatchId>,
    /// Those of them that are not finished.
    pub unfinished: BTreeSet<BatchId>,
    /// Those of them that somebody has stopped.
    pub stopped: BTreeMap<BatchId, Stop>,
    /// Of which moments backups were begun.
    pub backups: BTreeSet<Timestamp>,
}

/// Looks.
pub fn standing(connection: &Connection) -> Result<Standing> {
    let mut batches = connection.prepare("SELECT id FROM batches")?;
    let batches = batches.query_map([], |row| row.get(0))?;
    let mut unfinished = connection.prepare("SELECT id FROM batches WHERE finished_at IS NULL")?;
    let unfinished = unfinished.query_map([], |row| row.get(0))?;
    let mut rates =
        connection.prepare("SELECT name, rate_per_second FROM dependencies WHERE rate_per_second IS NOT NULL")?;
    let rates = rates.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut backups = connection.prepare("SELECT at FROM backups")?;
    let backups = backups.query_map([], |row| row.get(0))?;
    Ok(Standing {
        operators: tokens(connection)?,
        clients: keys(connection)?,
        limits: clients::list(connection)?.into_iter().map(limits).collect(),
        webhooks: told_at(connection)?,
        rates: rates.collect::<rusqlite::Result<_>>()?,
        batches: batches.collect::<rusqlite::Result<_>>()?,
        unfinished: unfinished.collect::<rusqlite::Result<_>>()?,
        stopped: stopped(connection)?,
        backups: backups.collect::<rusqlite::Result<_>>()?,
    })
}

fn tokens(connection: &Connection) -> Result<BTreeMap<String, Token>> {
    let mut statement = connection.prepare("SELECT * FROM operators")?;
    let tokens = statement.query_map([], |row| {
        let operator = operators::NamedOperator::from_row(row)?;
        Ok((operator.name, Token { hash: row.get("token_hash")?, role: operator.role }))
    })?;
    Ok(tokens.collect::<rusqlite::Result<_>>()?)
}

fn keys(connection: &Connection) -> Result<BTreeMap<String, Keys>> {
    let mut statement = connection.prepare(
        "SELECT clients.name AS client, client_keys.name AS key, hash, old_hash, old_until, scopes, expires_at
         FROM clients LEFT JOIN client_keys USING (client) WHERE removed_at IS NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut clients = BTreeMap::<String, Keys>::new();
    while let Some(row) = rows.next()? {
        let keys = clients.entry(row.get("client")?).or_default();
        let Some(name) = row.get("key")? else { continue };
        let (old, until): (Option<[u8; 32]>, Option<Timestamp>) = (row.get("old_hash")?, row.get("old_until")?);
        let key = Key {
            hash: row.get("hash")?,
            old: old.zip(until),
            scopes: client_keys::scopes(row)?,
            expires_at: row.get("expires_at")?,
        };
        keys.insert(name, key);
    }
    Ok(clients)
}

fn told_at(connection: &Connection) -> Result<BTreeMap<String, ClientWebhook>> {
    let found = clients::list(connection)?.into_iter().map(|client| {
        let webhook = webhooks::find(connection, client.client)?;
        Ok((client.name, ClientWebhook { client: client.client, sealed: webhook.map(|webhook| webhook.sealed) }))
    });
    found.collect()
}

fn limits(client: clients::Client) -> (String, Limits) {
    let clients::Client { name, paused_at, rows_per_run, workflows, quotas, .. } = client;
    (name, Limits { paused: paused_at.is_some(), rows_per_run, workflows, quotas })
}

/// A pause that was made by nobody is none of these: it comes and goes with what is configured.
fn stopped(connection: &Connection) -> Result<BTreeMap<BatchId, Stop>> {
    let mut statement = connection.prepare(
        "SELECT id, cancelled_at IS NOT NULL, paused_reason FROM batches
         WHERE cancelled_at IS NOT NULL OR (paused_at IS NOT NULL AND paused_missing = 0)",
    )?;
    let stopped = statement.query_map([], |row| {
        Ok((row.get(0)?, if row.get(1)? { Stop::Cancelled } else { Stop::Paused(row.get(2)?) }))
    })?;
    Ok(stopped.collect::<rusqlite::Result<_>>()?)
}

/// Gives a client these limits in the place of its own, where `default_rows` are what a run grants.
pub fn set_limits(tx: &Tx<'_>, name: &str, limits: &Limits, default_rows: u32) -> Result<()> {
    let OwnQuotas { pending_rows, stored_bytes, batches, uploads_at_once } = limits.quotas;
    let quotas = QuotaChanges {
        pending_rows: Some(pending_rows),
        stored_bytes: Some(stored_bytes),
        batches: Some(batches),
        uploads_at_once: Some(uploads_at_once),
    };
    clients::set_paused(tx, name, limits.paused)?;
    clients::set_rows_per_run(tx, name, limits.rows_per_run, default_rows)?;
    clients::set_workflows(tx, name, limits.workflows.as_deref())?;
    clients::set_quotas(tx, name, quotas)?;
    Ok(())
}

/// Stops a batch, if it is there.
pub fn stop(tx: &Tx<'_>, id: BatchId, stop: &Stop) -> Result<()> {
    let Some(batch) = batches::find(tx.connection, id)? else { return Ok(()) };
    match stop {
        Stop::Paused(reason) => batches::pause(tx, batch.batch, reason.as_deref()).map(drop),
        Stop::Cancelled => batches::cancel(tx, batch.batch).map(drop),
    }
}

/// Has a client be told at this webhook, sealed for it, in the place of its own; `None`: nowhere.
pub fn set_webhook(tx: &Tx<'_>, name: &str, sealed: Option<&SealedSecret>) -> Result<()> {
    let Some(client) = clients::by_name(tx.connection, name)? else { return Ok(()) };
    match sealed {
        Some(sealed) => webhooks::set(tx, client.client, sealed),
        None => webhooks::remove(tx, client.client).map(drop),
    }
}

/// Gives a client these keys in the place of its own; `None`: it was removed, and its webhook with it.
pub fn set_keys(tx: &Tx<'_>, name: &str, keys: Option<&Keys>) -> Result<()> {
    let Some(client) = clients::by_name(tx.connection, name)? else { return Ok(()) };
    client_keys::remove_all(tx, client.client)?;
    if keys.is_none() {
        webhooks::remove(tx, client.client)?;
        tx.connection
            .prepare_cached("UPDATE clients SET removed_at = ? WHERE client = ?")?
            .execute(params![tx.now, client.client])?;
    }
    for (name, key) in keys.into_iter().flatten() {
        let (old, until) = key.old.unzip();
        tx.connection
            .prepare_cached(
                "INSERT INTO client_keys (client, name, hash, old_hash, old_until, scopes, expires_at, created_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![client.client, name, key.hash, old, until, key.scopes.bits(), key.expires_at, tx.now])?;
    }
    Ok(())
}

/// Deletes a batch that was deleted before, wherever it stood on its way then; whether it was there. Nobody holds anything of
/// it.
pub fn delete(tx: &Tx<'_>, id: BatchId, kept: CopiesKept) -> Result<bool> {
    tx.connection
        .prepare_cached(
            "UPDATE batches SET status = ?1, cancelled_at = coalesce(cancelled_at, ?2), finished_at = ?2, owner = NULL,
                                claim_expires_at = NULL, next_attempt_at = NULL
             WHERE id = ?3 AND status IN ('pending', 'processing', 'queued')",
        )?
        .execute(params![BatchStatus::Cancelled, tx.now, id])?;
    Ok(matches!(deletions::begin(tx, id, kept)?, Asked::Deleted(_)))
}
