//! The table `audit`: who did what, when, from where and why. An entry is written in the transaction of what it tells of.

use rusqlite::{Connection, Row, params};

use super::{Tx, error::Result};
use crate::model::Timestamp;

/// Something that somebody is about to do. Holds nothing of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who: an operator's or a client's name, or the system user of a command.
    pub who: String,
    /// From where: a network address, or `command`.
    pub origin: String,
    /// A word of the form `noun.verb`, like `dispatch.pause`.
    pub action: &'static str,
    /// What it is done to: a name, a batch, a row.
    pub target: Option<String>,
    /// Why, in their words.
    pub why: Option<String>,
}

/// An entry of the audit, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its number: the cursor of the list.
    #[serde(skip)]
    pub entry: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: Option<String>,
    /// From where.
    #[serde(rename = "from")]
    pub origin: String,
    /// Why.
    pub why: Option<String>,
}

impl Entry {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            entry: row.get("entry")?,
            at: row.get("at")?,
            who: row.get("who")?,
            action: row.get("action")?,
            target: row.get("target")?,
            origin: row.get("origin")?,
            why: row.get("why")?,
        })
    }
}

/// Notes what is done in this transaction.
pub fn note(tx: &Tx<'_>, deed: &Deed) -> Result<()> {
    tx.connection
        .prepare_cached("INSERT INTO audit (at, who, action, target, origin, why) VALUES (?, ?, ?, ?, ?, ?)")?
        .execute(params![tx.now, deed.who, deed.action, deed.target, deed.origin, deed.why])?;
    Ok(())
}

/// Entries before the entry `before` and not older than `since`, newest first.
pub fn page(connection: &Connection, before: i64, since: Timestamp, limit: u32) -> Result<Vec<Entry>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM audit WHERE entry < ? AND at >= ? ORDER BY entry DESC LIMIT ?")?;
    let entries = statement.query_map(params![before, since, limit], Entry::from_row)?;
    Ok(entries.collect::<rusqlite::Result<_>>()?)
}
