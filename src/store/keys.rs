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
