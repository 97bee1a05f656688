//! The table `sessions`: who signed in on the page. A session stands for the key that it was opened with, so whether it
//! is still good is asked of that key each time.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{
    Tx,
    error::Result,
    pages::{Most, Page},
};
use crate::model::Timestamp;

/// Sessions of one key at a time; one more ends the oldest.
const OF_ONE_KEY: u32 = 100;
/// Expired sessions that are cleared away with each new one: more than come, so they never pile up.
const SWEPT_AT_ONCE: u32 = 100;

/// A session that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The hash of the key that it stands for.
    pub key_hash: [u8; 32],
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Who opened a session, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opener {
    /// As the audit calls them.
    pub who: String,
    /// An address.
    pub origin: String,
}

/// A session, as it is told to those who may end it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct OpenSession {
    /// By this it is ended.
    pub id: String,
    /// An operator's name, or a client's behind `client:`.
    pub who: String,
    /// The address that it was opened from.
    #[serde(rename = "from")]
    pub origin: String,
    /// When.
    pub opened_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// The hash of the key that it stands for.
    #[serde(skip)]
    pub key_hash: [u8; 32],
}

/// Sessions that have not expired, newest first, behind this number; whether their keys are good is for others to say.
pub fn page(connection: &Connection, now: Timestamp, after: i64, most: Most) -> Result<Page<OpenSession>> {
    let mut statement = connection.prepare_cached(
        "SELECT session, who, origin, opened_at, expires_at, key_hash FROM sessions
         WHERE expires_at > ? AND session < ? ORDER BY session DESC",
    )?;
    Page::read(statement.query(params![now, after])?, most, |row| {
        Ok(OpenSession {
            id: row.get::<_, i64>("session")?.to_string(),
            who: row.get("who")?,
            origin: row.get("origin")?,
            opened_at: row.get("opened_at")?,
            expires_at: row.get("expires_at")?,
            key_hash: row.get("key_hash")?,
        })
    })
}

/// Ends a session by its number, and says whose it was.
pub fn end_numbered(tx: &Tx<'_>, session: i64) -> Result<Option<String>> {
    let mut statement = tx.connection.prepare_cached("DELETE FROM sessions WHERE session = ? RETURNING who")?;
    Ok(statement.query_row([session], |row| row.get(0)).optional()?)
}

/// Ends all sessions of somebody, as the audit calls them, or of everybody; how many those were.
pub fn end_all(tx: &Tx<'_>, who: Option<&str>) -> Result<usize> {
    Ok(tx.connection.prepare_cached("DELETE FROM sessions WHERE who = ?1 OR ?1 IS NULL")?.execute([who])?)
}

/// Opens a session, and clears away what has expired.
pub fn open(tx: &Tx<'_>, session_hash: [u8; 32], session: &Session, opener: &Opener) -> Result<()> {
    tx.connection
        .prepare_cached(
            "DELETE FROM sessions WHERE session_hash IN (
                 SELECT session_hash FROM sessions INDEXED BY sessions_by_end WHERE expires_at <= ? LIMIT ?)",
        )?
        .execute(params![tx.now, SWEPT_AT_ONCE])?;
    tx.connection
        .prepare_cached(
            "DELETE FROM sessions WHERE session_hash IN (
                 SELECT session_hash FROM sessions INDEXED BY sessions_by_key
                 WHERE key_hash = ? ORDER BY session DESC LIMIT -1 OFFSET ?)",
        )?
        .execute(params![session.key_hash, OF_ONE_KEY - 1])?;
    tx.connection
        .prepare_cached(
            "INSERT INTO sessions (session_hash, key_hash, who, origin, opened_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            session_hash,
            session.key_hash,
            opener.who,
            opener.origin,
            tx.now,
            session.expires_at
        ])?;
    Ok(())
}

/// The session with this hash, unless it has expired.
pub fn find(connection: &Connection, session_hash: [u8; 32], now: Timestamp) -> Result<Option<Session>> {
    let mut statement = connection
        .prepare_cached("SELECT key_hash, expires_at FROM sessions WHERE session_hash = ? AND expires_at > ?")?;
    let found = statement
        .query_row(params![session_hash, now], |row| Ok(Session { key_hash: row.get(0)?, expires_at: row.get(1)? }));
    Ok(found.optional()?)
}

/// Ends a session.
pub fn end(tx: &Tx<'_>, session_hash: [u8; 32]) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM sessions WHERE session_hash = ?")?.execute([session_hash])?;
    Ok(())
}

/// Ends the sessions that were opened with a client's key; `older` only: with the one before its last rotation.
pub(super) fn end_of_key(tx: &Tx<'_>, key: i64, older: bool) -> Result<()> {
    tx.connection
        .prepare_cached(
            "DELETE FROM sessions WHERE key_hash IN (
                 SELECT old_hash FROM client_keys WHERE key = :key AND old_hash IS NOT NULL
                 UNION ALL SELECT hash FROM client_keys WHERE key = :key AND NOT :older)",
        )?
        .execute(named_params! { ":key": key, ":older": older })?;
    Ok(())
}

/// Ends the sessions that were opened with an operator's token.
pub(super) fn end_of_operator(tx: &Tx<'_>, name: &str) -> Result<()> {
    tx.connection
        .prepare_cached("DELETE FROM sessions WHERE key_hash IN (SELECT token_hash FROM operators WHERE name = ?)")?
        .execute([name])?;
    Ok(())
}
