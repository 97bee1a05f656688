//! The table `audit`: who did what, when, from where and why. An entry is written in the transaction of what it tells of.

use std::{fmt, str::FromStr, time::Duration};

use rusqlite::{Connection, Row, named_params};

use super::{
    Tx, audit_chain,
    error::Result,
    pages::{Most, Page},
};
use crate::model::Timestamp;

/// The longest reason that somebody can give, in characters.
pub const LONGEST_REASON: usize = 500;

/// Whether it is short enough to be kept as a reason.
pub fn is_reason(text: &str) -> bool {
    text.chars().count() <= LONGEST_REASON
}

/// Something that somebody is about to do. Holds nothing of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who: an operator's name, a client's behind `client:`, or the system user of a command.
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
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
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
    let (entry, hash) = audit_chain::append(tx, deed)?;
    // Without the reason: it is in somebody's own words. With the hash, so that a log that is kept elsewhere holds the chain
    // too.
    let (by, action, target) = (deed.who.clone(), deed.action, deed.target.clone());
    tx.after_commit(move || {
        let hash = audit_chain::hex(&hash);
        tracing::info!(event = "audit.noted", by, action, target, entry, hash, "noted in the audit");
    });
    Ok(())
}

/// The same, unless they did the same from there within this time: for what costs whoever does it nothing.
pub fn note_once_in(tx: &Tx<'_>, deed: &Deed, period: Duration) -> Result<()> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM audit INDEXED BY audit_by_time
                        WHERE at > :since AND who = :who AND action = :action AND origin = :origin)",
    )?;
    let parameters = named_params! {
        ":since": tx.now.before(period), ":who": deed.who, ":action": deed.action, ":origin": deed.origin
    };
    if statement.query_row(parameters, |row| row.get(0))? {
        return Ok(());
    }
    note(tx, deed)
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
pub fn page(connection: &Connection, after: Cursor, since: Timestamp, most: Most) -> Result<Page<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM audit INDEXED BY audit_by_time
         WHERE at >= :since AND at <= :at AND (at < :at OR entry < :entry) ORDER BY at DESC, entry DESC",
    )?;
    let Cursor(at, entry) = after;
    let entries = statement.query(named_params! { ":since": since, ":at": at, ":entry": entry })?;
    Page::read(entries, most, |row| Ok(Entry::from_row(row)?))
}
