//! The table `client_keys`: what clients come in with. A client has keys by name, each good for what its scopes say.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params, types::Type};

use super::{Tx, clients::Client, error::Result, sessions};
use crate::model::{Scopes, Timestamp};

/// Keys of one client, those that have expired too.
pub const MOST_KEYS: u32 = 32;

/// A key, as it may be told: without what opens anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Its key in the database.
    pub key: i64,
    /// Its name, unique among those of its client.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it ends by itself; may have passed.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, within a minute.
    pub last_used_at: Option<Timestamp>,
    /// Until when the one before its last rotation is good; may have passed.
    pub old_until: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
}

impl ClientKey {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: row.get("key")?,
            name: row.get("name")?,
            scopes: scopes(row)?,
            expires_at: row.get("expires_at")?,
            last_used_at: row.get("last_used_at")?,
            old_until: row.get("old_until")?,
            created_at: row.get("created_at")?,
        })
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What is kept of a key that is to be added.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name.
    pub name: String,
    /// Its hash.
    pub hash: [u8; 32],
    /// What it is good for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// What became of adding a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is good from here on.
    Yes,
    /// The client has one of that name, which may have expired. Nothing was changed.
    NameTaken,
    /// The client has [`MOST_KEYS`]. Nothing was changed.
    TooMany,
}

/// Gives a client one more key.
pub fn add(tx: &Tx<'_>, client: i64, key: &NewKey) -> Result<Added> {
    if count(tx.connection, client)? >= MOST_KEYS {
        return Ok(Added::TooMany);
    }
    let added = tx
        .connection
        .prepare_cached(
            "INSERT INTO client_keys (client, name, hash, scopes, expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (client, name) DO NOTHING",
        )?
        .execute(params![client, key.name, key.hash, key.scopes.bits(), key.expires_at, tx.now])?;
    Ok(if added == 1 { Added::Yes } else { Added::NameTaken })
}

fn count(connection: &Connection, client: i64) -> Result<u32> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM client_keys WHERE client = ?")?;
    Ok(statement.query_row([client], |row| row.get(0))?)
}

/// A client's keys, by name.
pub fn list(connection: &Connection, client: i64) -> Result<Vec<ClientKey>> {
    let mut statement = connection.prepare_cached("SELECT * FROM client_keys WHERE client = ? ORDER BY name")?;
    Ok(statement.query_map([client], ClientKey::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// The client's key of this name.
pub fn by_name(connection: &Connection, client: i64, name: &str) -> Result<Option<ClientKey>> {
    let mut statement = connection.prepare_cached("SELECT * FROM client_keys WHERE client = ? AND name = ?")?;
    Ok(statement.query_row(params![client, name], ClientKey::from_row).optional()?)
}

/// What a key lets its client do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The key in the database.
    pub key: i64,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
}

/// Whose key has this hash, and what it is good for; also of one that was rotated, for as long as that is still good.
pub fn by_hash(connection: &Connection, hash: [u8; 32], now: Timestamp) -> Result<Option<(Client, Pass)>> {
    let mut statement = connection.prepare_cached(
        "SELECT clients.*, key, client_keys.name AS key_name, scopes FROM client_keys JOIN clients USING (client)
         WHERE (hash = :hash OR (old_hash = :hash AND old_until > :now)) AND (expires_at IS NULL OR expires_at > :now)",
    )?;
    let found = statement.query_row(named_params! { ":hash": hash, ":now": now }, |row| {
        let pass = Pass { key: row.get("key")?, name: row.get("key_name")?, scopes: scopes(row)? };
        Ok((Client::from_row(row)?, pass))
    });
    Ok(found.optional()?)
}

pub(super) fn scopes(row: &Row<'_>) -> rusqlite::Result<Scopes> {
    let bits = row.get("scopes")?;
    // A CHECK refuses others.
    let wrong = || rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, "scopes are 1 to 7".into());
    Scopes::from_bits(bits).ok_or_else(wrong)
}

/// Gives a key another value; the one it had is good until `old_until`, or no more. An even older one never is, and sessions
/// end with the value that they were opened with.
pub fn rotate(tx: &Tx<'_>, key: i64, hash: [u8; 32], old_until: Option<Timestamp>) -> Result<()> {
    sessions::end_of_key(tx, key, old_until.is_some())?;
    tx.connection
        .prepare_cached(
            "UPDATE client_keys SET old_hash = CASE WHEN :until IS NOT NULL THEN hash END, old_until = :until, hash = :hash
             WHERE key = :key",
        )?
        .execute(named_params! { ":key": key, ":hash": hash, ":until": old_until })?;
    Ok(())
}

/// Removes a key: it is good for nothing from here on, and sessions end with it.
pub fn remove(tx: &Tx<'_>, key: i64) -> Result<()> {
    sessions::end_of_key(tx, key, false)?;
    tx.connection.prepare_cached("DELETE FROM client_keys WHERE key = ?")?.execute([key])?;
    Ok(())
}

/// Removes all keys of a client.
pub(super) fn remove_all(tx: &Tx<'_>, client: i64) -> Result<()> {
    list(tx.connection, client)?.iter().try_for_each(|key| remove(tx, key.key))
}

/// Notes when keys were last used. One that was removed meanwhile is no matter.
pub fn note_uses(tx: &Tx<'_>, uses: &[(i64, Timestamp)]) -> Result<()> {
    let mut statement = tx
        .connection
        .prepare_cached("UPDATE client_keys SET last_used_at = max(coalesce(last_used_at, 0), ?2) WHERE key = ?1")?;
    for (key, at) in uses {
        statement.execute(params![key, at])?;
    }
    Ok(())
}
