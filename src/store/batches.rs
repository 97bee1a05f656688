//! The table `batches`: what everybody may see of a batch, and the moves that people make.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{
    Tx, counts, data_keys,
    error::Result,
    keys::SealedSecret,
    pages::{Most, Page},
    retries,
    settle::end_batch_if_done,
    uploads::Upload,
    values::digest,
};
use crate::model::{BatchEvent, BatchId, BatchStatus, Counts, Timestamp};

/// A batch as it is stored.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its key in the database.
    pub batch: i64,
    /// Its name outside.
    pub id: BatchId,
    /// Whose it is: key and name of the client.
    pub client: i64,
    /// The client's name.
    pub client_name: String,
    /// The workflow that its rows go through.
    pub workflow: String,
    /// The version of it that the batch was accepted under, or was moved to.
    pub workflow_version: i64,
    /// Where it is on its way.
    pub status: BatchStatus,
    /// Since when none of its rows are claimed.
    pub paused_at: Option<Timestamp>,
    /// Why it is paused, where somebody or something said so.
    pub paused_reason: Option<String>,
    /// Since when none of its client's rows are claimed.
    pub client_paused_at: Option<Timestamp>,
    /// When its end was asked for.
    pub cancelled_at: Option<Timestamp>,
    /// The name of the stored file.
    pub object: String,
    /// The inflated file's size.
    pub file_bytes: u64,
    /// What the file is known again by: of its SHA-256, keyed.
    pub file_digest: [u8; 32],
    /// Records that were left out.
    pub skipped: u32,
    /// Rows by status.
    pub counts: Counts,
    /// Rows 1..=extracted are in the work table.
    pub extracted: u32,
    /// No row below this one is pending for the first time.
    pub next_row: u32,
    /// When extraction is worth another try.
    pub next_attempt_at: Option<Timestamp>,
    /// Why extraction failed, or the last thing it stumbled over: code and message.
    pub error: Option<(String, String)>,
    /// When the upload was answered.
    pub created_at: Timestamp,
    /// When its last row went into the work table.
    pub extracted_at: Option<Timestamp>,
    /// When nothing of it was left to do.
    pub finished_at: Option<Timestamp>,
}

/// All but what is sealed, which is long and stands in a table of its own.
pub(super) const COLUMNS: &str =
    "batch, id, client, workflow, workflow_version, status, batches.paused_at, paused_reason, cancelled_at, object,
                       file_bytes, file_digest, skipped, total, pending, processing, completed, failed, cancelled,
                       extracted, next_row, next_attempt_at, error_code, error_message, batches.created_at,
                       extracted_at, finished_at, name AS client_name, clients.paused_at AS client_paused_at
                       FROM batches JOIN clients USING (client)";

impl Batch {
    /// Of [`COLUMNS`].
    pub(super) fn from_row(row: &Row<'_>) -> Result<Self> {
        let error: Option<String> = row.get("error_code")?;
        let message: Option<String> = row.get("error_message")?;
        Ok(Self {
            batch: row.get("batch")?,
            id: row.get("id")?,
            client: row.get("client")?,
            client_name: row.get("client_name")?,
            workflow: row.get("workflow")?,
            workflow_version: row.get("workflow_version")?,
            status: row.get("status")?,
            paused_at: row.get("paused_at")?,
            paused_reason: row.get("paused_reason")?,
            client_paused_at: row.get("client_paused_at")?,
            cancelled_at: row.get("cancelled_at")?,
            object: row.get("object")?,
            file_bytes: row.get::<_, i64>("file_bytes")? as u64,
            file_digest: digest(row, "file_digest")?,
            skipped: row.get("skipped")?,
            counts: Counts {
                total: row.get("total")?,
                pending: count(row, "pending")?,
                processing: count(row, "processing")?,
                completed: count(row, "completed")?,
                failed: count(row, "failed")?,
                cancelled: count(row, "cancelled")?,
            },
            extracted: row.get("extracted")?,
            next_row: row.get("next_row")?,
            next_attempt_at: row.get("next_attempt_at")?,
            error: error.map(|code| (code, message.unwrap_or_default())),
            created_at: row.get("created_at")?,
            extracted_at: row.get("extracted_at")?,
            finished_at: row.get("finished_at")?,
        })
    }
}

impl Batch {
    /// How it has ended for good, or is to end: none of its rows is ever worked again. A retry opens a completed one again.
    pub fn over(&self) -> Option<BatchStatus> {
        match self.status {
            ended @ (BatchStatus::Failed | BatchStatus::Cancelled) => Some(ended),
            _ => self.cancelled_at.map(|_| BatchStatus::Cancelled),
        }
    }
}

/// A count that drifted can be anything ([`super::counts`]), and what shows it must not stumble over it.
fn count(row: &Row<'_>, column: &str) -> Result<u32> {
    let count: i64 = row.get(column)?;
    Ok(count.clamp(0, u32::MAX.into()) as u32)
}

/// What an upload that was accepted becomes.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The client's key in the database.
    pub client: i64,
    /// The workflow's name.
    pub workflow: String,
    /// The version of it.
    pub workflow_version: i64,
    /// The data key, wrapped.
    pub data_key: SealedSecret,
    /// Sealed: file name, header, request context.
    pub details: Vec<u8>,
    /// The name of the stored file.
    pub object: String,
    /// The inflated file's size.
    pub file_bytes: u64,
    /// What the file is known again by: of its SHA-256, keyed.
    pub file_digest: [u8; 32],
    /// Valid records.
    pub rows: u32,
    /// Records that were left out.
    pub skipped: u32,
    /// Bytes of what is listed of them.
    pub skipped_bytes: u64,
}

impl NewBatch {
    /// Bytes that are stored of it besides the file and its rows.
    pub fn kept_bytes(&self) -> u64 {
        self.details.len() as u64 + self.skipped_bytes
    }
}

/// Makes an upload a batch, in one move: the batch is there and the upload is not.
pub fn create(tx: &Tx<'_>, upload: Upload, new: &NewBatch) -> Result<Batch> {
    tx.connection
        .prepare_cached(
            "INSERT INTO batches (batch, id, client, workflow, workflow_version, status, object, file_bytes, file_digest,
                                  skipped, total, pending, kept_bytes, created_at)
             VALUES (:batch, :id, :client, :workflow, :workflow_version, 'pending', :object, :file_bytes, :file_digest,
                     :skipped, :rows, :rows, :kept_bytes, :now)",
        )?
        .execute(named_params! {
            ":batch": upload.batch,
            ":id": upload.id,
            ":client": new.client,
            ":workflow": new.workflow,
            ":workflow_version": new.workflow_version,
            ":object": new.object,
            ":file_bytes": new.file_bytes as i64,
            ":file_digest": new.file_digest,
            ":skipped": new.skipped,
            ":rows": new.rows,
            ":kept_bytes": new.kept_bytes() as i64,
            ":now": tx.now,
        })?;
    data_keys::keep(tx, upload.batch, &new.data_key)?;
    tx.connection
        .prepare_cached("INSERT INTO batch_details (batch, sealed) VALUES (?, ?)")?
        .execute(params![upload.batch, new.details])?;
    tx.connection.prepare_cached("DELETE FROM uploads WHERE batch = ?")?.execute([upload.batch])?;
    by_key(tx.connection, upload.batch)
}

/// The client's last batch of the same file and workflow that was made at `since` or later, and was not cancelled and
/// did not fail.
pub fn same_file(
    connection: &Connection,
    client: i64,
    workflow: &str,
    digest: &[u8; 32],
    since: Timestamp,
) -> Result<Option<BatchId>> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM batches WHERE client = ? AND file_digest = ? AND workflow = ? AND created_at >= ?
           AND cancelled_at IS NULL AND status <> 'failed'
         ORDER BY batch DESC LIMIT 1",
    )?;
    let found = statement.query_row(params![client, digest, workflow, since], |row| row.get(0));
    Ok(found.optional()?)
}

/// The batch with this id.
pub fn find(connection: &Connection, id: BatchId) -> Result<Option<Batch>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} WHERE batches.id = ?"))?;
    let found = statement.query_row([id], |row| Ok(Batch::from_row(row))).optional()?;
    found.transpose()
}

/// The batch with this key in the database.
pub fn by_key(connection: &Connection, batch: i64) -> Result<Batch> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} WHERE batches.batch = ?"))?;
    statement.query_row([batch], |row| Ok(Batch::from_row(row)))?
}

/// What is sealed of a batch besides its rows: file name, header, request context.
pub fn details(connection: &Connection, batch: i64) -> Result<Vec<u8>> {
    let mut statement = connection.prepare_cached("SELECT sealed FROM batch_details WHERE batch = ?")?;
    Ok(statement.query_row([batch], |row| row.get(0))?)
}

/// A page of batches, newest first, behind the batch `before`: a client's, or everybody's.
pub fn page(connection: &Connection, client: Option<i64>, before: Option<BatchId>, most: Most) -> Result<Page<Batch>> {
    let before = match before {
        Some(id) => key_before(connection, id)?,
        None => i64::MAX,
    };
    let whose = if client.is_some() { "client = :client AND" } else { "" };
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} WHERE {whose} batch < :before ORDER BY batch DESC"))?;
    let rows = match client {
        Some(client) => statement.query(named_params! { ":client": client, ":before": before })?,
        None => statement.query(named_params! { ":before": before })?,
    };
    Page::read(rows, most, Batch::from_row)
}

/// The key of the batch with this id, as a cursor. Ids sort by time, so a batch that was deleted since has its place
/// behind the last one with a smaller id.
pub(super) fn key_before(connection: &Connection, id: BatchId) -> Result<i64> {
    let mut statement =
        connection.prepare_cached("SELECT batch + (id < ?1) FROM batches WHERE id <= ?1 ORDER BY id DESC LIMIT 1")?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Whether an older batch of the same client has rows that go first.
pub fn has_elder(connection: &Connection, batch: &Batch) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM batches INDEXED BY batches_unfinished
                        WHERE client = ? AND batch < ? AND status IN ('pending', 'processing', 'queued')
                          AND status = 'queued' AND paused_at IS NULL AND cancelled_at IS NULL AND pending > 0)",
    )?;
    Ok(statement.query_row([batch.client, batch.batch], |row| row.get(0))?)
}

/// Stops claims of the batch's rows at once; what is under way finishes. Whether anything changed by it: a second pause
/// keeps the first one's time, and its reason where it had one, unless that was made by nobody: then this one's holds, and
/// does not end by itself.
pub fn pause(tx: &Tx<'_>, batch: i64, reason: Option<&str>) -> Result<bool> {
    super::standstill::changed(tx);
    let paused = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET paused_at = CASE WHEN paused_missing = 0 THEN coalesce(paused_at, :now) ELSE :now END,
                                paused_reason = CASE WHEN paused_missing = 0 THEN coalesce(paused_reason, :reason)
                                                     ELSE coalesce(:reason, paused_reason) END,
                                paused_missing = 0
             WHERE batch = :batch
               AND (paused_at IS NULL OR paused_missing = 1 OR (paused_reason IS NULL AND :reason IS NOT NULL))",
        )?
        .execute(named_params! { ":now": tx.now, ":reason": reason, ":batch": batch })?;
    Ok(paused == 1)
}

/// Pauses a batch because too many of its rows failed, for this reason.
pub(super) fn pause_itself(tx: &Tx<'_>, batch: i64, reason: &str) -> Result<()> {
    super::standstill::changed(tx);
    pause(tx, batch, Some(reason))?;
    tx.connection.prepare_cached("UPDATE batches SET paused_itself = 1 WHERE batch = ?")?.execute([batch])?;
    Ok(())
}

/// Lets the batch's rows be claimed again; whether it was paused.
pub fn resume(tx: &Tx<'_>, batch: i64) -> Result<bool> {
    let resumed = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET paused_at = NULL, paused_reason = NULL, paused_itself = 0, paused_missing = 0
             WHERE batch = ? AND paused_at IS NOT NULL",
        )?
        .execute([batch])?;
    Ok(resumed == 1)
}

/// What came of cancelling a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It ends now.
    Now,
    /// It was to end already, and waits for what is in flight: nothing was changed.
    Before,
    /// It has ended: nothing was changed.
    Ended,
}

/// Ends a batch: no row of it is claimed any more, and the batch is `cancelled` once what is in flight has settled.
///
/// However many rows it has, only the batch is touched: a row that is still `pending` in a batch with `cancelled_at`
/// **is** cancelled, and is shown so ([`super::rows`]).
pub fn cancel(tx: &Tx<'_>, batch: i64) -> Result<Cancelled> {
    super::standstill::changed(tx);
    if by_key(tx.connection, batch)?.status.on(BatchEvent::Cancel).is_err() {
        return Ok(Cancelled::Ended);
    }
    let cancelled = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET cancelled_at = :now, cancelled = cancelled + pending, pending = 0
             WHERE batch = :batch AND cancelled_at IS NULL AND status IN ('pending', 'processing', 'queued')",
        )?
        .execute(named_params! { ":batch": batch, ":now": tx.now })?;
    if cancelled == 0 {
        return Ok(Cancelled::Before);
    }
    counts::look(tx, batch)?;
    retries::end(tx, batch)?;
    end_batch_if_done(tx, batch)?;
    Ok(Cancelled::Now)
}
