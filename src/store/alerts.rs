//! The tables `alerts` and `alerts_told`: what is wrong, and what each hook has taken of that.
//!
//! One thread of the server decides what changes ([`Change`]), and these are carried out; each is guarded by the state
//! that it leaves. What a hook is told next is found out from here each time, so that nothing is lost with a process,
//! and a hook that is new hears of all that is wrong now.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{Tx, error::Result};
use crate::model::{AlertKind, Timestamp};

/// Alerts that one sweep looks at, the oldest.
const SWEPT_AT_ONCE: u32 = 1_000;

/// Where an alert is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum AlertState {
    /// Seen, and not for long enough: nobody is told.
    Pending,
    /// One of many of its kind, which are told as one: the alert without a subject.
    Gathered,
    /// Told, until it is over.
    Firing,
    /// Over, and told to be so.
    Resolved,
}

impl AlertState {
    /// As the schema spells it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its number.
    pub alert: i64,
    /// Its name, the same in every message about it.
    pub id: String,
    /// What is wrong.
    pub kind: AlertKind,
    /// The batch or the dependency that it is about; empty where it is about neither, or about many.
    pub subject: String,
    /// Where it is on its way.
    pub state: AlertState,
    /// What is wrong, in ids, names and counts.
    pub summary: String,
    /// Since when.
    pub since: Timestamp,
    /// Since when it is over.
    pub resolved_at: Option<Timestamp>,
}

impl Alert {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            alert: row.get("alert")?,
            id: row.get("id")?,
            kind: row.get("kind")?,
            subject: row.get("subject")?,
            state: row.get("state")?,
            summary: row.get("summary")?,
            since: row.get("since")?,
            resolved_at: row.get("resolved_at")?,
        })
    }
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something is wrong that was not before.
    Begin {
        /// What.
        kind: AlertKind,
        /// About what.
        subject: String,
        /// What is wrong.
        summary: String,
        /// Since when.
        since: Timestamp,
        /// Where it begins: anywhere but at its end.
        state: AlertState,
    },
    /// `pending` -> `firing`.
    Fire(i64),
    /// `pending` -> `gathered`.
    Gather(i64),
    /// What is said of it is not what it was.
    Say(i64, String),
    /// `firing` -> `resolved`.
    Resolve(i64),
    /// `pending` or `gathered`, and over: nobody was told.
    Forget(i64),
}

const COLUMNS: &str = "alert, id, kind, subject, state, summary, since, resolved_at";

/// Every alert that is not over, the oldest first.
pub fn standing(connection: &Connection) -> Result<Vec<Alert>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM alerts INDEXED BY alerts_standing WHERE state <> 'resolved' ORDER BY alert"
    ))?;
    Ok(statement.query_map([], Alert::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// Alerts that operators see: those that fire, the newest first.
pub fn firing(connection: &Connection, limit: u32) -> Result<Vec<Alert>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM alerts INDEXED BY alerts_standing
         WHERE state <> 'resolved' AND state = 'firing' ORDER BY fired_at DESC, alert DESC LIMIT ?"
    ))?;
    Ok(statement.query_map([limit], Alert::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// Alerts that are over, the last one first.
pub fn resolved(connection: &Connection, limit: u32) -> Result<Vec<Alert>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM alerts INDEXED BY alerts_resolved
         WHERE state = 'resolved' ORDER BY resolved_at DESC, alert DESC LIMIT ?"
    ))?;
    Ok(statement.query_map([limit], Alert::from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// How many alerts about a subject have begun to fire since then, by kind.
pub fn fired_since(connection: &Connection, since: Timestamp) -> Result<Vec<(AlertKind, usize)>> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, count(*) FROM alerts INDEXED BY alerts_fired WHERE fired_at > ? AND subject <> '' GROUP BY kind",
    )?;
    let counts = statement.query_map([since], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))?;
    Ok(counts.collect::<rusqlite::Result<_>>()?)
}

/// Carries these changes out.
pub fn change(tx: &Tx<'_>, changes: &[Change]) -> Result<()> {
    for change in changes {
        apply(tx, change)?;
    }
    Ok(())
}

fn apply(tx: &Tx<'_>, change: &Change) -> Result<()> {
    use AlertState as S;
    match change {
        Change::Begin { kind, subject, summary, since, state } => {
            let fired_at = (*state == S::Firing).then_some(tx.now);
            let id = format!("alt_{}", ulid::Ulid::generate());
            tx.connection
                .prepare_cached(
                    "INSERT INTO alerts (id, kind, subject, state, summary, since, fired_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![id, kind, subject, state, summary, since, fired_at])?;
        }
        Change::Fire(alert) => move_on(tx, *alert, S::Pending, S::Firing)?,
        Change::Gather(alert) => move_on(tx, *alert, S::Pending, S::Gathered)?,
        Change::Resolve(alert) => move_on(tx, *alert, S::Firing, S::Resolved)?,
        Change::Say(alert, summary) => {
            tx.connection
                .prepare_cached("UPDATE alerts SET summary = ? WHERE alert = ? AND state <> 'resolved'")?
                .execute(params![summary, alert])?;
        }
        Change::Forget(alert) => {
            tx.connection
                .prepare_cached("DELETE FROM alerts WHERE alert = ? AND state IN ('pending', 'gathered')")?
                .execute([alert])?;
        }
    }
    Ok(())
}

fn move_on(tx: &Tx<'_>, alert: i64, from: AlertState, to: AlertState) -> Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE alerts SET state = :to,
                               fired_at = CASE :to WHEN 'firing' THEN :now ELSE fired_at END,
                               resolved_at = CASE :to WHEN 'resolved' THEN :now END
             WHERE alert = :alert AND state = :from",
        )?
        .execute(named_params! { ":alert": alert, ":from": from, ":to": to, ":now": tx.now })?;
    Ok(())
}

/// What a hook is to be told next, and as what: that it fires, or that it is over. Each begins with the one and ends with
/// the other, in the order in which things happened. What was over before `since` and never told stays so.
pub fn next_to_tell(connection: &Connection, hook: &str, since: Timestamp) -> Result<Option<(Alert, AlertState)>> {
    let columns = COLUMNS.split(", ").map(|column| format!("alerts.{column}")).collect::<Vec<_>>().join(", ");
    let mut statement = connection.prepare_cached(&format!(
        "SELECT * FROM (
             SELECT {columns}, NULL AS told, fired_at AS happened_at
             FROM alerts INDEXED BY alerts_standing LEFT JOIN alerts_told ON alerts_told.alert = alerts.alert AND hook = :hook
             WHERE alerts.state <> 'resolved' AND alerts.state = 'firing' AND alerts_told.state IS NULL
             UNION ALL
             SELECT {columns}, alerts_told.state, CASE WHEN alerts_told.state IS NULL THEN fired_at ELSE resolved_at END
             FROM alerts INDEXED BY alerts_resolved LEFT JOIN alerts_told ON alerts_told.alert = alerts.alert AND hook = :hook
             WHERE alerts.state = 'resolved' AND resolved_at > :since AND alerts_told.state IS NOT 'resolved')
         ORDER BY happened_at, alert LIMIT 1"
    ))?;
    let next = statement.query_row(named_params! { ":hook": hook, ":since": since }, |row| {
        let told: Option<String> = row.get("told")?;
        let state = if told.is_none() { AlertState::Firing } else { AlertState::Resolved };
        Ok((Alert::from_row(row)?, state))
    });
    Ok(next.optional()?)
}

/// Notes that a hook was told so of an alert.
pub fn note_told(tx: &Tx<'_>, hook: &str, alert: i64, state: AlertState) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT INTO alerts_told (hook, alert, state) SELECT ?1, alert, ?3 FROM alerts WHERE alert = ?2
             ON CONFLICT (hook, alert) DO UPDATE SET state = ?3",
        )?
        .execute(params![hook, alert, state])?;
    Ok(())
}

/// Forgets alerts that were over before `until`, among the oldest.
pub fn sweep(tx: &Tx<'_>, until: Timestamp) -> Result<()> {
    let old = "SELECT alert FROM (SELECT alert, state, resolved_at FROM alerts ORDER BY alert LIMIT :limit)
               WHERE state = 'resolved' AND resolved_at <= :until";
    for sql in [
        format!("DELETE FROM alerts_told WHERE alert IN ({old})"),
        format!("DELETE FROM alerts WHERE alert IN ({old})"),
    ] {
        let parameters = named_params! { ":limit": SWEPT_AT_ONCE, ":until": until };
        tx.connection.prepare_cached(&sql)?.execute(parameters)?;
    }
    Ok(())
}
