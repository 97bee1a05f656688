//! The table `workflow_versions`: what each batch was accepted under, and what is configured now.
//!
//! A version is written once and never changed, but for the ring key that it is sealed under. It goes with the last batch
//! that needs it, unless uploads become batches of it.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{
    Tx,
    error::{Result, StoreError},
    keys::SealedSecret,
    values::digest,
};
use crate::model::{BatchId, Outline};

/// A version to be kept.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The workflow's name.
    pub name: String,
    /// A keyed digest of the definition: the same for the same.
    pub digest: [u8; 32],
    /// What may be known of it without a key.
    pub outline: Outline,
    /// The definition, sealed.
    pub sealed: SealedSecret,
}

/// What is sealed of a version.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The version's number.
    pub version: i64,
    /// The keyed digest of the definition, which the sealing is bound to.
    pub digest: [u8; 32],
    /// The definition, sealed.
    pub sealed: SealedSecret,
}

impl Definition {
    fn from_row(row: &Row<'_>) -> Result<Self> {
        let sealed = SealedSecret { key_id: row.get("key_id")?, sealed: row.get("sealed")? };
        Ok(Self { version: row.get("version")?, digest: digest(row, "digest")?, sealed })
    }
}

/// A version without what is sealed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVersion {
    /// Its number.
    pub version: i64,
    /// The workflow's name.
    pub name: String,
    /// Its steps.
    pub outline: Outline,
}

/// The number of a version that is kept.
pub fn find(connection: &Connection, name: &str, digest: &[u8; 32]) -> Result<Option<i64>> {
    let mut statement =
        connection.prepare_cached("SELECT version FROM workflow_versions WHERE name = ? AND digest = ?")?;
    Ok(statement.query_row(params![name, digest], |row| row.get(0)).optional()?)
}

/// Keeps a version, unless the same is kept already, and gives its number.
pub fn keep(tx: &Tx<'_>, new: &NewVersion) -> Result<i64> {
    let outline = serde_json::to_string(&new.outline).map_err(|_| StoreError::Unknown { what: "outline" })?;
    tx.connection
        .prepare_cached(
            "INSERT INTO workflow_versions (name, digest, outline, key_id, sealed, created_at)
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name, digest) DO NOTHING",
        )?
        .execute(params![new.name, new.digest, outline, new.sealed.key_id, new.sealed.sealed, tx.now])?;
    find(tx.connection, &new.name, &new.digest)?.ok_or(StoreError::Unknown { what: "workflow version" })
}

/// From now on uploads become batches of these versions and of no others. What nobody needs any more goes.
pub fn make_current(tx: &Tx<'_>, versions: &[i64]) -> Result<()> {
    tx.connection.execute("UPDATE workflow_versions SET is_current = 0 WHERE is_current = 1", [])?;
    for version in versions {
        tx.connection
            .prepare_cached("UPDATE workflow_versions SET is_current = 1 WHERE version = ?")?
            .execute([version])?;
    }
    tx.connection.execute(
        "DELETE FROM workflow_versions WHERE is_current = 0
           AND NOT EXISTS (SELECT 1 FROM batches INDEXED BY batches_by_version WHERE workflow_version = version)",
        [],
    )?;
    Ok(())
}

/// Forgets a version that the last of its batches has left, unless it is current.
pub(super) fn forget_unneeded(tx: &Tx<'_>, version: i64) -> Result<()> {
    tx.connection
        .prepare_cached(
            "DELETE FROM workflow_versions WHERE version = ? AND is_current = 0
               AND NOT EXISTS (SELECT 1 FROM batches INDEXED BY batches_by_version WHERE workflow_version = version)",
        )?
        .execute([version])?;
    Ok(())
}

/// What is sealed of a version; `None` where there is no such version (any more).
pub fn definition(connection: &Connection, version: i64) -> Result<Option<Definition>> {
    let mut statement =
        connection.prepare_cached("SELECT version, digest, key_id, sealed FROM workflow_versions WHERE version = ?")?;
    let found = statement.query_row([version], |row| Ok(Definition::from_row(row))).optional()?;
    found.transpose()
}

/// The outline of a version.
pub fn outline(connection: &Connection, version: i64) -> Result<Outline> {
    let mut statement = connection.prepare_cached("SELECT outline FROM workflow_versions WHERE version = ?")?;
    let outline: String = statement.query_row([version], |row| row.get(0))?;
    read_outline(&outline)
}

fn read_outline(text: &str) -> Result<Outline> {
    serde_json::from_str(text).map_err(|_| StoreError::Unknown { what: "outline" })
}

/// The versions that unfinished batches need, the oldest first.
pub fn of_unfinished(connection: &Connection) -> Result<Vec<KnownVersion>> {
    let mut statement = connection.prepare_cached(
        "SELECT version, name, outline FROM workflow_versions
         WHERE version IN (SELECT workflow_version FROM batches INDEXED BY batches_unfinished
                           WHERE status IN ('pending', 'processing', 'queued') AND cancelled_at IS NULL)
         ORDER BY version",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let outline: String = row.get(2)?;
        found.push(KnownVersion { version: row.get(0)?, name: row.get(1)?, outline: read_outline(&outline)? });
    }
    Ok(found)
}

const UNFINISHED: &str = "status IN ('pending', 'processing', 'queued') AND cancelled_at IS NULL";

/// Unfinished batches of a version, the oldest first, at most `limit`.
pub fn batches_of(connection: &Connection, version: i64, limit: u32) -> Result<Vec<BatchId>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id FROM batches INDEXED BY batches_by_version
         WHERE workflow_version = ? AND {UNFINISHED} ORDER BY batch LIMIT ?"
    ))?;
    let batches = statement.query_map(params![version, limit], |row| row.get(0))?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// An unfinished batch that calls somebody whom nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The batch.
    pub batch: BatchId,
    /// Its workflow.
    pub workflow: String,
    /// Whom a step of that calls.
    pub dependency: String,
}

/// Unfinished batches whose workflow calls a dependency that is not configured, by workflow and age, at most `limit`.
pub fn missing(connection: &Connection, is_configured: impl Fn(&str) -> bool, limit: u32) -> Result<Vec<Missing>> {
    let mut found = Vec::new();
    for known in of_unfinished(connection)? {
        let left = limit - u32::try_from(found.len()).unwrap_or(limit);
        let Some(dependency) = known.outline.missing(&is_configured).filter(|_| left > 0) else { continue };
        let missing = |batch| Missing { batch, workflow: known.name.clone(), dependency: dependency.to_owned() };
        found.extend(batches_of(connection, known.version, left)?.into_iter().map(missing));
    }
    Ok(found)
}

/// Batches that stand still for nothing but that something was missing when the server last started, and why; the oldest
/// first, at most `limit`.
pub fn paused(connection: &Connection, limit: u32) -> Result<Vec<(BatchId, String)>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, coalesce(paused_reason, '') FROM batches INDEXED BY batches_unfinished
         WHERE {UNFINISHED} AND paused_missing = 1 ORDER BY batch LIMIT ?"
    ))?;
    let batches = statement.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// Pauses the unfinished batches of a version, of which something is not configured. One that is paused already stays so
/// by whoever did that. Says which were paused by this.
pub fn pause_batches(tx: &Tx<'_>, version: i64, reason: &str) -> Result<Vec<BatchId>> {
    let mut update = tx.connection.prepare_cached(&format!(
        "UPDATE batches SET paused_at = :now, paused_reason = :reason, paused_missing = 1
         WHERE workflow_version = :version AND {UNFINISHED} AND paused_at IS NULL RETURNING id"
    ))?;
    let paused =
        update.query_map(named_params! { ":version": version, ":now": tx.now, ":reason": reason }, |row| row.get(0))?;
    Ok(paused.collect::<rusqlite::Result<_>>()?)
}

/// Lets the batches of a version go on that stood still for nothing but that something was not configured. Says which.
pub fn resume_batches(tx: &Tx<'_>, version: i64) -> Result<Vec<BatchId>> {
    let mut update = tx.connection.prepare_cached(
        "UPDATE batches SET paused_at = NULL, paused_reason = NULL, paused_missing = 0
         WHERE workflow_version = ? AND paused_missing = 1 RETURNING id",
    )?;
    let resumed = update.query_map([version], |row| row.get(0))?;
    Ok(resumed.collect::<rusqlite::Result<_>>()?)
}

/// Versions behind `after` that are not sealed under this key of the ring, at most `limit`.
pub fn under_others(connection: &Connection, key_id: &str, after: i64, limit: u32) -> Result<Vec<Definition>> {
    let mut statement = connection.prepare_cached(
        "SELECT version, digest, key_id, sealed FROM workflow_versions
         WHERE version > ? AND key_id <> ? ORDER BY version LIMIT ?",
    )?;
    let mut rows = statement.query(params![after, key_id, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Definition::from_row(row)?);
    }
    Ok(found)
}

/// Puts another sealing of the same definition in the place of `old`; whether that was still there.
pub fn change_sealing(tx: &Tx<'_>, old: &Definition, new: &SealedSecret) -> Result<bool> {
    let changed = tx
        .connection
        .prepare_cached(
            "UPDATE workflow_versions SET key_id = ?, sealed = ? WHERE version = ? AND key_id = ? AND sealed = ?",
        )?
        .execute(params![new.key_id, new.sealed, old.version, old.sealed.key_id, old.sealed.sealed])?;
    Ok(changed == 1)
}
