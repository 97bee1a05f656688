//! The table `operators`: who runs the appliance, by name, beside the one that the configured token stands for.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Tx, error::Result, sessions};
use crate::model::{Role, Timestamp};

/// An operator, without the token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NamedOperator {
    /// The name, unique among all.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created_at: Timestamp,
}

impl NamedOperator {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let role: String = row.get("role")?;
        // One that is not known may look, and no more.
        let role = role.parse().unwrap_or(Role::Viewer);
        Ok(Self { name: row.get("name")?, role, created_at: row.get("created_at")? })
    }
}

/// Adds an operator; `false` where the name is taken.
pub fn add(tx: &Tx<'_>, name: &str, token_hash: [u8; 32], role: Role) -> Result<bool> {
    let added = tx
        .connection
        .prepare_cached(
            "INSERT INTO operators (name, role, token_hash, created_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![name, role.as_str(), token_hash, tx.now])?;
    Ok(added == 1)
}

/// Gives an operator another role, from the next request on; `false` where there is none of that name.
pub fn set_role(tx: &Tx<'_>, name: &str, role: Role) -> Result<bool> {
    let mut statement = tx.connection.prepare_cached("UPDATE operators SET role = ? WHERE name = ?")?;
    Ok(statement.execute(params![role.as_str(), name])? == 1)
}

/// Removes an operator: the token is worth nothing from here on, and sessions end with it. `false` where there is none of that name.
pub fn remove(tx: &Tx<'_>, name: &str) -> Result<bool> {
    sessions::end_of_operator(tx, name)?;
    Ok(tx.connection.prepare_cached("DELETE FROM operators WHERE name = ?")?.execute([name])? == 1)
}

/// What the names of people begin with whom a provider knows: no operator who is added by name is called so. In the place of
/// their token's hash stands what nobody has a token for.
pub const PERSON: &str = "oidc:";
/// So many bytes at its beginning say by which settings they were let in.
pub const MARK_LENGTH: usize = 16;

/// Lets somebody in whom a provider knows, under the first of these names that is nobody else's, and with this role from here
/// on; the name. People who have no session left are forgotten meanwhile.
pub fn let_in(tx: &Tx<'_>, names: &[String; 2], key_hash: [u8; 32], role: Role) -> Result<String> {
    tx.connection
        .prepare_cached(
            "DELETE FROM operators WHERE name GLOB ? || '*' AND NOT EXISTS (
                 SELECT 1 FROM sessions INDEXED BY sessions_by_key WHERE key_hash = token_hash AND expires_at > ?)",
        )?
        .execute(params![PERSON, tx.now])?;
    if let Some(known) = by_token_hash(tx.connection, key_hash)? {
        set_role(tx, &known.name, role)?;
        return Ok(known.name);
    }
    let [name, told_apart] = names;
    if add(tx, name, key_hash, role)? {
        return Ok(name.clone());
    }
    remove(tx, told_apart)?;
    add(tx, told_apart, key_hash, role)?;
    Ok(told_apart.clone())
}

/// Ends the sessions of people who were let in by other settings than those of this mark, or by any, and forgets them; how
/// many those were.
pub fn end_strangers(tx: &Tx<'_>, mark: Option<[u8; MARK_LENGTH]>) -> Result<usize> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT name FROM operators
         WHERE name GLOB ?1 || '*' AND (?2 IS NULL OR substr(token_hash, 1, ?3) <> ?2)",
    )?;
    let found = statement.query_map(params![PERSON, mark, MARK_LENGTH as i64], |row| row.get::<_, String>(0))?;
    let found: Vec<String> = found.collect::<rusqlite::Result<_>>()?;
    for name in &found {
        remove(tx, name)?;
    }
    Ok(found.len())
}

/// Every operator, by name.
pub fn list(connection: &Connection) -> Result<Vec<NamedOperator>> {
    let mut statement = connection.prepare_cached("SELECT name, role, created_at FROM operators ORDER BY name")?;
    Ok(statement.query_map([], NamedOperator::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// The operator of this name.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<NamedOperator>> {
    let mut statement = connection.prepare_cached("SELECT name, role, created_at FROM operators WHERE name = ?")?;
    Ok(statement.query_row([name], NamedOperator::from_row).optional()?)
}

/// The operator with this token.
pub fn by_token_hash(connection: &Connection, token_hash: [u8; 32]) -> Result<Option<NamedOperator>> {
    let mut statement =
        connection.prepare_cached("SELECT name, role, created_at FROM operators WHERE token_hash = ?")?;
    Ok(statement.query_row([token_hash], NamedOperator::from_row).optional()?)
}
