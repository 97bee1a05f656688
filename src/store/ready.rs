//! What the ready index in memory is made from ([`crate::dispatch::ready`]), and the table `touched`: what has changed of it
//! since.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Tx, claims::COUNTED, error::Result};
use crate::model::Timestamp;

/// Changes that one look takes in; the rest follow in the next.
const CHANGES_PER_LOOK: u32 = 1_000;

/// Rows of a batch that wait at a step and are claimed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The step that they are at, counted from 0.
    pub step: u32,
    /// Whether going on spends nothing of their client's grant.
    pub prepaid: bool,
    /// When the first of them is due.
    pub due_at: Timestamp,
    /// How many there are, as far as is known: at least one. What is counted is counted up to [`COUNTED`].
    pub rows: u32,
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// A batch: extracted, paused, resumed, cancelled, upgraded, ended, or rows of it were put back.
    Batch(i64),
    /// Rows of a batch came to wait.
    Rows(i64, Waiting),
    /// A client: paused, resumed, or it has a grant again.
    Client(i64),
    /// The big switch, or the grants of all.
    Dispatch,
}

/// A batch whose rows may be claimed, as far as claims go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyBatch {
    /// Its key in the database.
    pub batch: i64,
    /// Its client's.
    pub client: i64,
    /// The version of its workflow.
    pub version: i64,
    /// No row below this one is pending for the first time.
    pub next_row: u32,
    /// How many rows it has.
    pub total: u32,
    /// Those that were worked on and wait.
    pub waiting: Vec<Waiting>,
}

/// A client, as far as claims go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadyClient {
    /// Whether it is paused.
    pub is_paused: bool,
    /// Rows that it may still claim.
    pub granted: u32,
}

/// What was changed, as it is now.
#[derive(Debug, Default)]
pub struct News {
    /// The number of the last change that is in it.
    pub seen: i64,
    /// Whether there are no more.
    pub is_all: bool,
    /// Whether all dispatch is paused, where that was changed.
    pub is_paused: Option<bool>,
    /// Clients, or all of them.
    pub clients: Vec<(i64, ReadyClient)>,
    /// Batches; `None`: nothing of it may be claimed.
    pub batches: Vec<(i64, Option<ReadyBatch>)>,
    /// Rows that came to wait.
    pub waiting: Vec<(i64, Waiting)>,
}

/// What was changed behind `seen`. Of clients only those are told whom somebody knows, and those of batches.
pub fn news(connection: &Connection, seen: i64, knows_client: impl Fn(i64) -> bool) -> Result<News> {
    let (changes, seen) = changes(connection, seen)?;
    let (mut batches, mut clients, mut waiting) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let is_all = changes.len() < CHANGES_PER_LOOK as usize;
    let is_big = changes.contains(&Change::Dispatch);
    for change in changes {
        match change {
            Change::Batch(batch) => drop(batches.insert(batch)),
            Change::Rows(batch, rows) => waiting.push((batch, rows)),
            Change::Client(client) if knows_client(client) => drop(clients.insert(client)),
            Change::Client(_) | Change::Dispatch => {}
        }
    }
    let mut news = News { seen, is_all, waiting, ..news_of(connection, batches)? };
    if is_big {
        news.is_paused = Some(super::grants::pause_of(connection)?.is_some());
        news.clients = self::clients(connection)?;
    } else {
        let of_batches: BTreeSet<i64> = news.clients.iter().map(|(client, _)| *client).collect();
        for key in clients.difference(&of_batches) {
            news.clients.push((*key, client(connection, *key)?));
        }
    }
    Ok(news)
}

/// These batches, and their clients.
pub fn news_of(connection: &Connection, batches: BTreeSet<i64>) -> Result<News> {
    let found = batches.into_iter().map(|key| Ok((key, batch(connection, key)?)));
    let batches = found.collect::<Result<Vec<_>>>()?;
    let there: Vec<_> = batches.iter().filter_map(|(_, batch)| batch.clone()).collect();
    Ok(News { clients: clients_of(connection, &there)?, batches, ..News::default() })
}

/// How the clients of these batches stand.
pub fn clients_of(connection: &Connection, batches: &[ReadyBatch]) -> Result<Vec<(i64, ReadyClient)>> {
    let clients: BTreeSet<i64> = batches.iter().map(|batch| batch.client).collect();
    clients.into_iter().map(|key| Ok((key, client(connection, key)?))).collect()
}

/// The changes behind `seen`, in their order, and the last one's number.
fn changes(connection: &Connection, seen: i64) -> Result<(Vec<Change>, i64)> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, kind, key, step, prepaid, due_at, rows FROM touched WHERE seq > ? ORDER BY seq LIMIT ?",
    )?;
    let mut rows = statement.query(params![seen, CHANGES_PER_LOOK])?;
    let (mut changes, mut last) = (Vec::new(), seen);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let key = row.get(2)?;
        changes.push(match row.get_ref(1)?.as_str().unwrap_or_default() {
            "batch" => Change::Batch(key),
            "client" => Change::Client(key),
            "rows" => {
                let waiting =
                    Waiting { step: row.get(3)?, prepaid: row.get(4)?, due_at: row.get(5)?, rows: row.get(6)? };
                Change::Rows(key, waiting)
            }
            _ => Change::Dispatch,
        });
    }
    Ok((changes, last))
}

/// The number of the last change.
pub fn last_change(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM touched")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Forgets the changes that a server has seen, but for the last one: the next has to have a higher number.
pub fn forget_changes(tx: &Tx<'_>, seen: i64) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM touched WHERE seq < ?")?.execute([seen])?;
    Ok(())
}

/// Says that other rows of this batch wait than before, or until other times.
pub(super) fn touch_batch(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection.prepare_cached("INSERT INTO touched (kind, key) VALUES ('batch', ?)")?.execute([batch])?;
    Ok(())
}

/// Says so of each of these batches.
pub(super) fn touch_batches(tx: &Tx<'_>, batches: impl IntoIterator<Item = i64>) -> Result<()> {
    let batches: BTreeSet<i64> = batches.into_iter().collect();
    batches.into_iter().try_for_each(|batch| touch_batch(tx, batch))
}

/// Rows of one batch that came to wait, to be told together.
#[derive(Debug, Default)]
pub(super) struct PutDown(BTreeMap<(u32, bool), (Timestamp, u32)>);

impl PutDown {
    /// One more.
    pub(super) fn add(&mut self, step: u32, prepaid: bool, due_at: Timestamp) {
        let (first, rows) = self.0.entry((step, prepaid)).or_insert((due_at, 0));
        *first = due_at.min(*first);
        *rows += 1;
    }

    /// Tells whoever hears changes.
    pub(super) fn tell(self, tx: &Tx<'_>, batch: i64) -> Result<()> {
        for ((step, prepaid), (due_at, rows)) in self.0 {
            tx.connection
                .prepare_cached(
                    "INSERT INTO touched (kind, key, step, prepaid, due_at, rows) VALUES ('rows', ?, ?, ?, ?, ?)",
                )?
                .execute(params![batch, step, prepaid, due_at, rows])?;
        }
        Ok(())
    }
}

/// What of a batch its rows' claims ask for. One that stands still is not ready, whatever of it waits.
const READY: &str = "batch, client, workflow_version, next_row, total FROM batches";
const IS_READY: &str = "status = 'queued' AND paused_at IS NULL AND cancelled_at IS NULL";

fn ready_batch(connection: &Connection, row: &Row<'_>) -> Result<ReadyBatch> {
    let batch = row.get(0)?;
    Ok(ReadyBatch {
        batch,
        client: row.get(1)?,
        version: row.get(2)?,
        next_row: row.get(3)?,
        total: row.get(4)?,
        waiting: waiting(connection, batch)?,
    })
}

/// The batch, where rows of it may be claimed sooner or later.
fn batch(connection: &Connection, batch: i64) -> Result<Option<ReadyBatch>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {READY} WHERE batch = ? AND {IS_READY}"))?;
    statement.query_row([batch], |row| Ok(ready_batch(connection, row))).optional()?.transpose()
}

/// A page of such batches, by client and age, behind the last one of the page before: its client and key. Two statements: a
/// comparison of both at once begins anew with each client.
pub fn page(connection: &Connection, after: (i64, i64), limit: u32) -> Result<Vec<ReadyBatch>> {
    let mut found = Vec::new();
    for part in ["client = ?1 AND batch > ?2", "client > ?1 AND ?2 IS NOT NULL"] {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {READY} INDEXED BY batches_unfinished
             WHERE status IN ('pending', 'processing', 'queued') AND {IS_READY} AND {part}
             ORDER BY client, batch LIMIT ?3"
        ))?;
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        let mut rows = statement.query(params![after.0, after.1, left])?;
        while let Some(row) = rows.next()? {
            found.push(ready_batch(connection, row)?);
        }
    }
    Ok(found)
}

/// Which rows of a batch wait, and since when the first of them may go on: two look-ups for each step that any wait at,
/// however many do.
fn waiting(connection: &Connection, batch: i64) -> Result<Vec<Waiting>> {
    let mut next = connection.prepare_cached(
        "SELECT step, prepaid, next_attempt_at FROM rows INDEXED BY rows_waiting
         WHERE row >> 24 = ?1 AND status = 'pending' AND next_attempt_at IS NOT NULL AND (step, prepaid) > (?2, ?3)
         ORDER BY step, prepaid, next_attempt_at LIMIT 1",
    )?;
    let mut found = Vec::new();
    let (mut step, mut prepaid) = (-1, true);
    loop {
        let waits = next.query_row(params![batch, step, prepaid], |row| {
            Ok(Waiting { step: row.get(0)?, prepaid: row.get(1)?, due_at: row.get(2)?, rows: 1 })
        });
        let Some(mut waits) = waits.optional()? else { return Ok(found) };
        (step, prepaid) = (i64::from(waits.step), waits.prepaid);
        waits.rows = count_waiting(connection, batch, waits.step, prepaid, COUNTED)?;
        found.push(waits);
    }
}

/// How many rows of a batch wait at this step, due or not; counted up to `most`.
pub(super) fn count_waiting(connection: &Connection, batch: i64, step: u32, prepaid: bool, most: u32) -> Result<u32> {
    let mut rows = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM rows INDEXED BY rows_waiting
                               WHERE row >> 24 = ? AND step = ? AND prepaid = ? AND status = 'pending'
                                 AND next_attempt_at IS NOT NULL LIMIT ?)",
    )?;
    Ok(rows.query_row(params![batch, step, prepaid, most], |row| row.get(0))?)
}

const CLIENT: &str = "SELECT client, clients.paused_at IS NOT NULL, coalesce(remaining, 0)
                      FROM clients LEFT JOIN grants USING (client)";

fn ready_client(row: &Row<'_>) -> rusqlite::Result<(i64, ReadyClient)> {
    Ok((row.get(0)?, ReadyClient { is_paused: row.get(1)?, granted: row.get(2)? }))
}

/// How a client stands.
fn client(connection: &Connection, client: i64) -> Result<ReadyClient> {
    let mut statement = connection.prepare_cached(&format!("{CLIENT} WHERE client = ?"))?;
    Ok(statement.query_row([client], ready_client).optional()?.map_or(ReadyClient::default(), |(_, found)| found))
}

/// How all clients stand.
pub fn clients(connection: &Connection) -> Result<Vec<(i64, ReadyClient)>> {
    let mut statement = connection.prepare_cached(CLIENT)?;
    let found = statement.query_map([], ready_client)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
