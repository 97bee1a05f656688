//! The table `operators`: who runs the appliance, by name, beside the one that the configured token stands for.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Tx, error::Result};
use crate::model::Timestamp;

/// An operator, without the token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NamedOperator {
    /// The name, unique among all.
    pub name: String,
    /// When they were added.
    pub created_at: Timestamp,
}

impl NamedOperator {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get("name")?, created_at: row.get("created_at")? })
    }
}

/// Adds an operator; `false` where the name is taken.
pub fn add(tx: &Tx<'_>, name: &str, token_hash: [u8; 32]) -> Result<bool> {
    let added = tx
        .connection
        .prepare_cached(
            "INSERT INTO operators (name, token_hash, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![name, token_hash, tx.now])?;
    Ok(added == 1)
}

/// Removes an operator: the token is worth nothing from here on. `false` where there is none of that name.
pub fn remove(tx: &Tx<'_>, name: &str) -> Result<bool> {
    Ok(tx.connection.prepare_cached("DELETE FROM operators WHERE name = ?")?.execute([name])? == 1)
}

/// Every operator, by name.
pub fn list(connection: &Connection) -> Result<Vec<NamedOperator>> {
    let mut statement = connection.prepare_cached("SELECT name, created_at FROM operators ORDER BY name")?;
    Ok(statement.query_map([], NamedOperator::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// The operator with this token.
pub fn by_token_hash(connection: &Connection, token_hash: [u8; 32]) -> Result<Option<NamedOperator>> {
    let mut statement = connection.prepare_cached("SELECT name, created_at FROM operators WHERE token_hash = ?")?;
    Ok(statement.query_row([token_hash], NamedOperator::from_row).optional()?)
}
