//! The table `audit`: who did what, when, from where and why. An entry is written in the transaction of what it tells of.

use std::{fmt, str::FromStr};

use rusqlite::{Connection, Row, named_params, params};

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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
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
    // Without the reason: it is in somebody's own words.
    let (by, action, target) = (deed.who.clone(), deed.action, deed.target.clone());
    tx.after_commit(move || tracing::info!(event = "audit.noted", by, action, target, "noted in the audit"));
    Ok(())
}

/// Where a page of the audit begins: behind the entry of this time and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Timestamp, i64);

impl Cursor {
    /// The newest entry is the first.
    pub const START: Self = Self(Timestamp(i64::MAX), i64::MAX);

    /// Behind this entry.
    pub fn behind(entry: &Entry) -> Self {
        Self(entry.at, entry.entry)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.0, self.1)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (at, entry) = text.split_once('.').ok_or(())?;
        Ok(Self(Timestamp(at.parse().map_err(drop)?), entry.parse().map_err(drop)?))
    }
}

/// Entries behind the cursor that are not older than `since`, newest first.
pub fn page(connection: &Connection, after: Cursor, since: Timestamp, limit: u32) -> Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM audit INDEXED BY audit_by_time
         WHERE at >= :since AND at <= :at AND (at < :at OR entry < :entry) ORDER BY at DESC, entry DESC LIMIT :limit",
    )?;
    let Cursor(at, entry) = after;
    let parameters = named_params! { ":since": since, ":at": at, ":entry": entry, ":limit": limit };
    let entries = statement.query_map(parameters, Entry::from_row)?;
    Ok(entries.collect::<rusqlite::Result<_>>()?)
}
