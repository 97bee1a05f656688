//! The table `sessions`: who signed in on the page. A session stands for the key that it was opened with, so whether it
//! is still good is asked of that key each time.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Tx, error::Result};
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

/// Opens a session, and clears away what has expired.
pub fn open(tx: &Tx<'_>, session_hash: [u8; 32], session: &Session) -> Result<()> {
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
        .prepare_cached("INSERT INTO sessions (session_hash, key_hash, expires_at) VALUES (?, ?, ?)")?
        .execute(params![session_hash, session.key_hash, session.expires_at])?;
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
