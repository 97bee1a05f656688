//! The table `webhooks`: where a client is told that a batch has finished.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Tx, error::Result, keys::SealedSecret};
use crate::model::Timestamp;

/// Where a client is told.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Sealed: the address, which may hold what nobody else should see, and what deliveries are signed with.
    pub sealed: SealedSecret,
    /// Since when.
    pub created_at: Timestamp,
}

/// Sets a client's webhook, in place of the one that it had.
pub fn set(tx: &Tx<'_>, client: i64, sealed: &SealedSecret) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT INTO webhooks (client, key_id, sealed, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (client) DO UPDATE SET key_id = ?2, sealed = ?3, created_at = ?4",
        )?
        .execute(params![client, sealed.key_id, sealed.sealed, tx.now])?;
    Ok(())
}

/// Removes a client's webhook; `false` where it had none.
pub fn remove(tx: &Tx<'_>, client: i64) -> Result<bool> {
    Ok(tx.connection.prepare_cached("DELETE FROM webhooks WHERE client = ?")?.execute([client])? == 1)
}

/// A client's webhook.
pub fn find(connection: &Connection, client: i64) -> Result<Option<Webhook>> {
    let mut statement =
        connection.prepare_cached("SELECT key_id, sealed, created_at FROM webhooks WHERE client = ?")?;
    let found = statement.query_row([client], |row| {
        let sealed = SealedSecret { key_id: row.get(0)?, sealed: row.get(1)? };
        Ok(Webhook { sealed, created_at: row.get(2)? })
    });
    Ok(found.optional()?)
}
