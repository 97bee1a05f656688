//! The tables `ring` and `secrets`: what tells whether the keys given at a start are the ones that sealed this database.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Tx, error::Result};

/// A key of the ring that sealed something here.
#[derive(Debug, Clone)]
pub struct KeyProof {
    /// Its id.
    pub key_id: String,
    /// Something known, sealed under it.
    pub proof: Vec<u8>,
}

/// A secret of the appliance, sealed under the key `key_id`.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// The ring key that opens it.
    pub key_id: String,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
}

/// Every key that sealed something.
pub fn proofs(connection: &Connection) -> Result<Vec<KeyProof>> {
    let mut statement = connection.prepare_cached("SELECT key_id, proof FROM ring ORDER BY key_id")?;
    let rows = statement.query_map([], |row| Ok(KeyProof { key_id: row.get(0)?, proof: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Notes that a key is about to seal things. The first proof of a key stays.
pub fn add_proof(tx: &Tx<'_>, key: &KeyProof) -> Result<()> {
    tx.connection
        .prepare_cached("INSERT INTO ring (key_id, proof) VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![key.key_id, key.proof])?;
    Ok(())
}

/// The secret `name`.
pub fn secret(connection: &Connection, name: &str) -> Result<Option<SealedSecret>> {
    let mut statement = connection.prepare_cached("SELECT key_id, sealed FROM secrets WHERE name = ?")?;
    let found = statement.query_row([name], |row| Ok(SealedSecret { key_id: row.get(0)?, sealed: row.get(1)? }));
    Ok(found.optional()?)
}

/// Keeps a secret, unless one of that name is there already, and returns the one that is kept.
pub fn keep_secret(tx: &Tx<'_>, name: &str, new: SealedSecret) -> Result<SealedSecret> {
    tx.connection
        .prepare_cached("INSERT INTO secrets (name, key_id, sealed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![name, new.key_id, new.sealed])?;
    Ok(secret(tx.connection, name)?.unwrap_or(new))
}

/// Secrets of the appliance that are not sealed under this key of the ring, with their names.
pub fn secrets_under_others(connection: &Connection, key_id: &str) -> Result<Vec<(String, SealedSecret)>> {
    let mut statement = connection.prepare_cached("SELECT name, key_id, sealed FROM secrets WHERE key_id <> ?")?;
    let rows = statement
        .query_map([key_id], |row| Ok((row.get(0)?, SealedSecret { key_id: row.get(1)?, sealed: row.get(2)? })))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Puts another sealing of the same secret in the place of `old`; whether that was still there.
pub fn change_secret(tx: &Tx<'_>, name: &str, old: &SealedSecret, new: &SealedSecret) -> Result<bool> {
    let changed = tx
        .connection
        .prepare_cached("UPDATE secrets SET key_id = ?, sealed = ? WHERE name = ? AND key_id = ? AND sealed = ?")?
        .execute(params![new.key_id, new.sealed, name, old.key_id, old.sealed])?;
    Ok(changed == 1)
}

/// What is sealed of webhooks behind the client `after` that is not under this key, with their clients.
pub fn webhooks_under_others(
    connection: &Connection,
    key_id: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, SealedSecret)>> {
    let mut statement = connection.prepare_cached(
        "SELECT client, key_id, sealed FROM webhooks WHERE client > ? AND key_id <> ? ORDER BY client LIMIT ?",
    )?;
    let rows = statement.query_map(params![after, key_id, limit], |row| {
        Ok((row.get(0)?, SealedSecret { key_id: row.get(1)?, sealed: row.get(2)? }))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Puts another sealing of the same webhook in the place of `old`; whether that was still there.
pub fn change_webhook(tx: &Tx<'_>, client: i64, old: &SealedSecret, new: &SealedSecret) -> Result<bool> {
    let changed = tx
        .connection
        .prepare_cached("UPDATE webhooks SET key_id = ?, sealed = ? WHERE client = ? AND key_id = ? AND sealed = ?")?
        .execute(params![new.key_id, new.sealed, client, old.key_id, old.sealed])?;
    Ok(changed == 1)
}

/// The newest batch's key in the database; 0 where there is none.
pub fn newest_batch(connection: &Connection) -> Result<i64> {
    Ok(connection.query_row("SELECT coalesce(max(batch), 0) FROM batches", [], |row| row.get(0))?)
}

/// Drops the proofs of all keys but `key_id` under which nothing is sealed any more. Batches up to `looked_through` are
/// known to be under `key_id`: that was looked up without holding the writer.
pub fn drop_unneeded_proofs(tx: &Tx<'_>, key_id: &str, looked_through: i64) -> Result<()> {
    tx.connection
        .prepare_cached(
            "DELETE FROM ring WHERE key_id <> ?1
               AND NOT EXISTS (SELECT 1 FROM data_keys WHERE batch > ?2 AND data_keys.key_id = ring.key_id)
               AND NOT EXISTS (SELECT 1 FROM secrets WHERE secrets.key_id = ring.key_id)
               AND NOT EXISTS (SELECT 1 FROM webhooks WHERE webhooks.key_id = ring.key_id)
               AND NOT EXISTS (SELECT 1 FROM workflow_versions WHERE workflow_versions.key_id = ring.key_id)",
        )?
        .execute(params![key_id, looked_through])?;
    Ok(())
}
