//! The tables `runs`, `grants` and `dispatch`: who may claim how many rows until the next run.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{
    Tx,
    error::Result,
    pages::{Most, Page},
};
use crate::model::{AskedBy, Timestamp};

/// Runs that are kept to be looked at; the oldest go.
const RUNS_KEPT: i64 = 10_000;
/// Clients whose rows are kept with a run, those with the most: a page of a thousand runs is to be a few megabytes,
/// however many clients there are. What each has of the last run stands with the client.
pub const CLIENTS_KEPT: usize = 20;

/// What a run granted one client.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Granted {
    /// The client's name.
    pub client: String,
    /// Rows that it may claim until the next run.
    pub rows: u32,
}

/// A dispatch run.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct Run {
    /// 1, 2, 3, …
    pub run: i64,
    /// When it granted.
    pub at: Timestamp,
    /// `call` (over HTTP), `clock` (the built-in one), or `take_over` (the built-in one in place of calls that do not
    /// come).
    pub asked_by: AskedBy,
    /// Rows granted to all clients together.
    pub rows: u64,
    /// How many clients were granted rows.
    pub clients: u64,
    /// Rows by client; of a run that is over, those of the 20 clients with the most.
    pub granted: Vec<Granted>,
}

/// What everybody asks of the last run. What it granted whom is not read for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// When it granted.
    pub at: Timestamp,
    /// Who asked for it.
    pub asked_by: AskedBy,
}

/// What came of asking for a run.
#[derive(Debug, Clone)]
pub enum RunOutcome {
    /// Each client with pending rows got its number.
    Granted(Run),
    /// The last run is too young; nothing was granted.
    TooEarly,
    /// Dispatch is paused; nothing was granted.
    Paused,
}

/// Who stopped dispatch, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct DispatchPause {
    /// Since when.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// One dispatch run. Each client with pending rows is granted its limit, or as many rows as it has pending if those
/// are fewer; what was left of the last run is gone.
pub fn run(tx: &Tx<'_>, asked_by: AskedBy, default_rows: u32, min_interval: Duration) -> Result<RunOutcome> {
    if pause_of(tx.connection)?.is_some() {
        return Ok(RunOutcome::Paused);
    }
    if let Some(last) = last_run(tx.connection)? {
        // A clock that was set back must not hold dispatch up: only a last run in the past can be too young.
        if last.at <= tx.now && tx.now.since(last.at) < min_interval {
            return Ok(RunOutcome::TooEarly);
        }
    }
    let due = clients_with_pending_rows(tx.connection, default_rows)?;
    let rows = due.iter().map(|(_, granted)| u64::from(granted.rows)).sum();
    let granted: Vec<Granted> = due.iter().map(|(_, granted)| granted.clone()).collect();
    let (clients, kept) = (granted.len(), serde_json::to_string(&largest(&granted)).unwrap_or_default());
    tx.connection
        .prepare_cached("INSERT INTO runs (at, asked_by, rows, clients, granted) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![tx.now, asked_by, rows as i64, clients as i64, kept])?;
    let run = tx.connection.last_insert_rowid();
    tx.connection.prepare_cached("DELETE FROM grants")?.execute([])?;
    let mut grant =
        tx.connection.prepare_cached("INSERT INTO grants (client, run, granted, remaining) VALUES (?1, ?2, ?3, ?3)")?;
    for (client, granted) in &due {
        grant.execute(params![client, run, granted.rows])?;
    }
    tx.connection.prepare_cached("DELETE FROM runs WHERE run <= ?")?.execute([run - RUNS_KEPT])?;
    Ok(RunOutcome::Granted(Run { run, at: tx.now, asked_by, rows, clients: clients as u64, granted }))
}

/// Those with the most rows, in the order of the clients.
fn largest(granted: &[Granted]) -> Vec<&Granted> {
    let mut by_rows: Vec<_> = granted.iter().enumerate().collect();
    by_rows.sort_by_key(|(_, granted)| std::cmp::Reverse(granted.rows));
    by_rows.truncate(CLIENTS_KEPT);
    by_rows.sort_by_key(|(place, _)| *place);
    by_rows.into_iter().map(|(_, granted)| granted).collect()
}

/// What a client has of the last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Rows that the run granted it.
    pub granted: u32,
    /// Rows of them that it may still claim.
    pub remaining: u32,
}

/// The client's grant; `None` where the last run granted it nothing.
pub fn of_client(connection: &Connection, client: i64) -> Result<Option<Grant>> {
    let mut statement = connection.prepare_cached("SELECT granted, remaining FROM grants WHERE client = ?")?;
    let grant = statement.query_row([client], |row| Ok(Grant { granted: row.get(0)?, remaining: row.get(1)? }));
    Ok(grant.optional()?)
}

/// What a run grants this client, where it has a number of its own.
pub fn limit_of(connection: &Connection, client: i64) -> Result<Option<u32>> {
    let mut statement = connection.prepare_cached("SELECT rows_per_run FROM clients WHERE client = ?")?;
    Ok(statement.query_row([client], |row| row.get(0))?)
}

/// Another limit for the client holds at once, in the run that is under way too: what it has claimed of its grant counts
/// against the new limit, and a higher one grants no more rows than it has pending.
pub(super) fn change_limit(tx: &Tx<'_>, client: i64, limit: u32) -> Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE grants SET
                 granted = max(1, :limit, granted - remaining),
                 remaining = max(0, min(:limit - (granted - remaining), max(remaining, (
                     SELECT max(coalesce(sum(pending), 0), 0) FROM batches INDEXED BY batches_unfinished
                     WHERE client = :client AND status IN ('pending', 'processing', 'queued')
                       AND paused_at IS NULL AND cancelled_at IS NULL))))
             WHERE client = :client",
        )?
        .execute(named_params! { ":client": client, ":limit": limit })?;
    Ok(())
}

fn clients_with_pending_rows(connection: &Connection, default_rows: u32) -> Result<Vec<(i64, Granted)>> {
    let mut statement = connection.prepare_cached(
        "SELECT client, name, min(max(sum(pending), 0), coalesce(rows_per_run, :default_rows))
         FROM batches INDEXED BY batches_unfinished JOIN clients USING (client)
         WHERE status IN ('pending', 'processing', 'queued')
           AND batches.paused_at IS NULL AND clients.paused_at IS NULL
         GROUP BY client ORDER BY client",
    )?;
    let rows = statement.query_map(named_params! { ":default_rows": default_rows }, |row| {
        Ok((row.get(0)?, Granted { client: row.get(1)?, rows: row.get(2)? }))
    })?;
    let all = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|(_, granted)| granted.rows > 0).collect())
}

/// The last run.
pub fn last_run(connection: &Connection) -> Result<Option<LastRun>> {
    let mut statement = connection.prepare_cached("SELECT at, asked_by FROM runs ORDER BY run DESC LIMIT 1")?;
    Ok(statement.query_row([], |row| Ok(LastRun { at: row.get(0)?, asked_by: row.get(1)? })).optional()?)
}

/// When a call over HTTP last made a run, as far back as runs are kept.
pub fn last_called(connection: &Connection) -> Result<Option<Timestamp>> {
    let mut statement =
        connection.prepare_cached("SELECT at FROM runs WHERE asked_by = ? ORDER BY run DESC LIMIT 1")?;
    Ok(statement.query_row([AskedBy::Call], |row| row.get(0)).optional()?)
}

/// Runs before the run `before`, newest first.
pub fn runs(connection: &Connection, before: i64, most: Most) -> Result<Page<Run>> {
    let mut statement = connection
        .prepare_cached("SELECT run, at, asked_by, rows, clients, granted FROM runs WHERE run < ? ORDER BY run DESC")?;
    Page::read(statement.query([before])?, most, |row| {
        let granted: String = row.get(5)?;
        Ok(Run {
            run: row.get(0)?,
            at: row.get(1)?,
            asked_by: row.get(2)?,
            rows: row.get::<_, i64>(3)? as u64,
            clients: row.get::<_, i64>(4)? as u64,
            granted: serde_json::from_str(&granted).unwrap_or_default(),
        })
    })
}

/// Whether dispatch is paused, and by whom.
pub fn pause_of(connection: &Connection) -> Result<Option<DispatchPause>> {
    let mut statement = connection.prepare_cached(
        "SELECT paused_at, paused_by, paused_reason FROM dispatch WHERE only = 1 AND paused_at IS NOT NULL",
    )?;
    let pause =
        statement.query_row([], |row| Ok(DispatchPause { at: row.get(0)?, by: row.get(1)?, reason: row.get(2)? }));
    Ok(pause.optional()?)
}

/// Stops all claims at once. A second pause keeps the first one's time, and takes its own name and reason.
pub fn pause(tx: &Tx<'_>, by: &str, reason: Option<&str>) -> Result<()> {
    super::standstill::changed(tx);
    tx.connection
        .prepare_cached(
            "UPDATE dispatch SET paused_at = coalesce(paused_at, ?), paused_by = ?, paused_reason = ? WHERE only = 1",
        )?
        .execute(params![tx.now, by, reason])?;
    Ok(())
}

/// Lets claims go on.
pub fn resume(tx: &Tx<'_>) -> Result<()> {
    tx.connection
        .prepare_cached("UPDATE dispatch SET paused_at = NULL, paused_by = NULL, paused_reason = NULL WHERE only = 1")?
        .execute([])?;
    Ok(())
}
