//! The table `deliveries`: the outbox of announcements. One is written in the transaction that finishes a batch, and
//! stays until it was delivered or given up, and for a while after that.

use rusqlite::{Connection, Row, named_params, params};
use serde::Serialize;

use super::{
    Tx, batches,
    error::Result,
    pages::{Most, Page},
};
use crate::model::{BatchId, Counts, Timestamp};

/// Announcements that one sweep looks at, the oldest.
const SWEPT_AT_ONCE: u32 = 1_000;

/// An announcement, as it is sent: Standard Webhooks' envelope. Nothing of a row is in it.
#[derive(Serialize)]
struct Payload<'a> {
    /// `batch.completed`, `batch.failed` or `batch.cancelled`.
    #[serde(rename = "type")]
    kind: String,
    /// When the batch finished.
    timestamp: Timestamp,
    data: Finished<'a>,
}

#[derive(Serialize)]
struct Finished<'a> {
    id: BatchId,
    workflow: &'a str,
    status: &'static str,
    counts: Counts,
    skipped: u32,
    created_at: Timestamp,
    finished_at: Timestamp,
}

/// An announcement, as operators see it.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Delivery {
    /// Its number: the cursor of the list.
    #[serde(skip)]
    pub delivery: i64,
    /// Its `webhook-id`, the same in every attempt.
    pub id: String,
    /// The batch that finished.
    pub batch: BatchId,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is sent next.
    pub next_attempt_at: Option<Timestamp>,
    /// The status of the last answer.
    pub http_status: Option<u16>,
    /// What the last attempt ran into.
    pub error: Option<String>,
    /// When the batch finished.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

impl Delivery {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            delivery: row.get("delivery")?,
            id: row.get("id")?,
            batch: row.get("batch_id")?,
            status: row.get("status")?,
            attempts: row.get("attempts")?,
            next_attempt_at: row.get("next_attempt_at")?,
            http_status: row.get("http_status")?,
            error: row.get("error")?,
            created_at: row.get("created_at")?,
            finished_at: row.get("finished_at")?,
        })
    }
}

/// An announcement that is to be sent now.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its number.
    pub delivery: i64,
    /// Its `webhook-id`.
    pub id: String,
    /// Whose webhook it goes to.
    pub client: i64,
    /// JSON.
    pub payload: String,
    /// How often it was sent before.
    pub attempts: u32,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub enum Attempted {
    /// It was taken.
    Delivered(u16),
    /// It was not, and is sent again then.
    Again(Timestamp, Trouble),
    /// It was not, and is given up.
    GivenUp(Trouble),
}

/// Why an announcement was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The answer's status, where one came.
    pub http_status: Option<u16>,
    /// For a person, without the address.
    pub what: String,
}

/// Announces a batch that has just finished, where its client wants to be told. To be called in the transaction that
/// finished it.
pub(super) fn announce(tx: &Tx<'_>, batch: i64) -> Result<()> {
    let batch = batches::by_key(tx.connection, batch)?;
    let status = batch.status.as_str();
    let payload = Payload {
        kind: format!("batch.{status}"),
        timestamp: tx.now,
        data: Finished {
            id: batch.id,
            workflow: &batch.workflow,
            status,
            counts: batch.counts,
            skipped: batch.skipped,
            created_at: batch.created_at,
            finished_at: tx.now,
        },
    };
    tx.connection
        .prepare_cached(
            "INSERT INTO deliveries (id, client, batch_id, payload, status, next_attempt_at, created_at)
             SELECT :id, client, :batch, :payload, 'pending', :now, :now FROM webhooks WHERE client = :client",
        )?
        .execute(named_params! {
            ":id": format!("msg_{}", ulid::Ulid::generate()),
            ":client": batch.client,
            ":batch": batch.id,
            ":payload": serde_json::to_string(&payload).unwrap_or_default(),
            ":now": tx.now,
        })?;
    Ok(())
}

/// Announcements that are due, the oldest of each client, so that no client waits for another's receiver.
pub fn due(connection: &Connection, now: Timestamp, limit: u32) -> Result<Vec<Due>> {
    let mut statement = connection.prepare_cached(
        "SELECT min(delivery) AS delivery, id, client, payload, attempts FROM deliveries INDEXED BY deliveries_due
         WHERE status = 'pending' AND next_attempt_at <= ? GROUP BY client ORDER BY next_attempt_at LIMIT ?",
    )?;
    let due = statement.query_map(params![now, limit], |row| {
        Ok(Due {
            delivery: row.get("delivery")?,
            id: row.get("id")?,
            client: row.get("client")?,
            payload: row.get("payload")?,
            attempts: row.get("attempts")?,
        })
    })?;
    Ok(due.collect::<rusqlite::Result<_>>()?)
}

/// Notes what came of an attempt. An announcement that is not pending any more is left as it is.
pub fn attempted(tx: &Tx<'_>, delivery: i64, attempted: &Attempted) -> Result<()> {
    let (status, next_attempt_at, http_status, error) = match attempted {
        Attempted::Delivered(http_status) => ("delivered", None, Some(*http_status), None),
        Attempted::Again(at, trouble) => ("pending", Some(*at), trouble.http_status, Some(&trouble.what)),
        Attempted::GivenUp(trouble) => ("failed", None, trouble.http_status, Some(&trouble.what)),
    };
    tx.connection
        .prepare_cached(
            "UPDATE deliveries SET status = :status, attempts = attempts + 1, next_attempt_at = :next,
                                   http_status = :http_status, error = :error, finished_at = :finished_at
             WHERE delivery = :delivery AND status = 'pending'",
        )?
        .execute(named_params! {
            ":status": status,
            ":next": next_attempt_at,
            ":http_status": http_status,
            ":error": error,
            ":finished_at": next_attempt_at.is_none().then_some(tx.now),
            ":delivery": delivery,
        })?;
    Ok(())
}

/// A client's announcements before the announcement `before`, newest first.
pub fn page(connection: &Connection, client: i64, before: i64, most: Most) -> Result<Page<Delivery>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM deliveries INDEXED BY deliveries_by_client
         WHERE client = ? AND delivery < ? ORDER BY delivery DESC",
    )?;
    Page::read(statement.query(params![client, before])?, most, |row| Ok(Delivery::from_row(row)?))
}

/// Forgets announcements that were delivered or given up before `until`, among the oldest.
pub fn sweep(tx: &Tx<'_>, until: Timestamp) -> Result<usize> {
    let swept = tx
        .connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE finished_at <= ?
               AND delivery IN (SELECT delivery FROM deliveries ORDER BY delivery LIMIT ?)",
        )?
        .execute(params![until, SWEPT_AT_ONCE])?;
    Ok(swept)
}
