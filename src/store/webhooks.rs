//! The table `webhooks`: where a client is told that a batch has finished.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Tx, error::Result, keys::SealedSecret};
use crate::model::Timestamp;

/// Where a client is told.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The address. May hold what nobody else should see.
    pub url: String,
    /// Sealed: what deliveries are signed with.
    pub secret: SealedSecret,
    /// Since when.
    pub created_at: Timestamp,
}

/// Sets a client's webhook, in place of the one that it had.
pub fn set(tx: &Tx<'_>, client: i64, url: &str, secret: &SealedSecret) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT INTO webhooks (client, url, key_id, secret, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (client) DO UPDATE SET url = ?2, key_id = ?3, secret = ?4, created_at = ?5",
        )?
        .execute(params![client, url, secret.key_id, secret.sealed, tx.now])?;
    Ok(())
}

/// Removes a client's webhook; `false` where it had none.
pub fn remove(tx: &Tx<'_>, client: i64) -> Result<bool> {
    Ok(tx.connection.prepare_cached("DELETE FROM webhooks WHERE client = ?")?.execute([client])? == 1)
}

/// A client's webhook.
pub fn find(connection: &Connection, client: i64) -> Result<Option<Webhook>> {
    let mut statement =
        connection.prepare_cached("SELECT url, key_id, secret, created_at FROM webhooks WHERE client = ?")?;
    let found = statement.query_row([client], |row| {
        let secret = SealedSecret { key_id: row.get(1)?, sealed: row.get(2)? };
        Ok(Webhook { url: row.get(0)?, secret, created_at: row.get(3)? })
    });
    Ok(found.optional()?)
}
