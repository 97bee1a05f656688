//! Claiming rows: `pending` -> `processing`, by `UPDATE … RETURNING`.
//!
//! Which rows, the ready index in memory says ([`crate::dispatch::ready`]): so many of this pile, so many of that one. Here
//! it is looked up once more whether that is allowed: the database is the truth, and the index only knows where to look.
//! What a claim costs depends on how many rows it takes and of how many piles, not on how many wait: rows that were never
//! worked on are taken by a cursor (`batches.next_row`), those that wait from an index that holds only them.
//!
//! A claim is also a note: where a row's next request carries an idempotency key, the claim writes down that it may
//! leave from now on (`sent_at`). Should the claimant die, whoever comes next knows since when the downstream may
//! have seen that key, and no write of its own is needed before the request.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{
    Tx,
    counts::{self, FIT},
    error::Result,
    ready,
    settle::Sent,
};
use crate::model::{ClaimNumber, ClaimOwner, FailureCode, RowEvent, RowId, RowStatus, Timestamp};

/// Rows left of a pile that are due, as far as they are counted.
pub const COUNTED: u32 = 128;

/// Who claims, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Claimant {
    /// Random per start of a process.
    pub owner: ClaimOwner,
    /// A claim that was not renewed until then is stuck.
    pub expires_at: Timestamp,
}

/// A row that now belongs to the claimant.
#[derive(Debug, Clone)]
pub struct ClaimedRow {
    /// Batch and number.
    pub row: RowId,
    /// The number of the claim; every later write asks for it.
    pub claim: ClaimNumber,
    /// When the claim expires, unless it is renewed.
    pub claim_expires_at: Timestamp,
    /// The version of its batch's workflow, by which it is worked.
    pub version: i64,
    /// How many of its steps are done.
    pub step: u32,
    /// Counted attempts of the step it is at.
    pub attempts: u32,
    /// How often a person retried a rejected request of it.
    pub retries: u32,
    /// The line on which its record starts.
    pub line: u64,
    /// The sealed record.
    pub data: Vec<u8>,
    /// Sealed: what its steps saved, and their history.
    pub progress: Option<Vec<u8>>,
    /// When its first request left.
    pub first_request_at: Option<Timestamp>,
    /// The request of this step that left, or may have left, before this claim, and may have been carried out.
    pub sent: Option<Sent>,
    /// Whether it is on disk already that a request of this step leaves under this claim.
    pub is_noted: bool,
    /// Why it failed last.
    pub last_error: Option<LastError>,
}

/// The last failure of a row, as it is stored.
#[derive(Debug, Clone)]
pub struct LastError {
    /// The kind of fault.
    pub code: FailureCode,
    /// The answer's status.
    pub http_status: Option<u16>,
    /// Sealed: message and body.
    pub sealed: Vec<u8>,
}

/// To be used as `UPDATE OR FAIL`: whatever fails is taken back as a whole by the writer, and SQLite need not keep copies of
/// pages for taking back this one statement (<https://www.sqlite.org/lang_conflict.html>).
const CLAIMING: &str =
    "status = :claimed, owner = :owner, claim = :claim, claimed_run = :run, claim_expires_at = :expires_at,
                        sent_at = coalesce(sent_at, :may_send_from)";
/// In the order in which [`ClaimedRow::from_row`] reads them: to look each up by its name takes longer than to read
/// it.
const RETURNING: &str =
    "row, claim, claim_expires_at, step, attempts, retries, data, progress, first_request_at, sent_at,
                         error_code, error_status, error, sent_key, line";

impl ClaimedRow {
    /// The bytes that it is stored in, as [`super::widths`] tells them.
    pub fn width(&self) -> usize {
        let sealed = [self.progress.as_ref(), self.last_error.as_ref().map(|last| &last.sealed)];
        self.data.len() + sealed.into_iter().flatten().map(Vec::len).sum::<usize>()
    }

    fn from_row(row: &Row<'_>, version: i64, claimed_at: Timestamp) -> rusqlite::Result<Self> {
        let sent_at: Option<Timestamp> = row.get(9)?;
        let code: Option<FailureCode> = row.get(10)?;
        let http_status = row.get(11)?;
        let sealed: Option<Vec<u8>> = row.get(12)?;
        let key = row.get(13)?;
        Ok(Self {
            row: row.get(0)?,
            claim: row.get(1)?,
            claim_expires_at: row.get(2)?,
            version,
            step: row.get(3)?,
            attempts: row.get(4)?,
            retries: row.get(5)?,
            line: row.get::<_, i64>(14)? as u64,
            data: row.get(6)?,
            progress: row.get(7)?,
            first_request_at: row.get(8)?,
            sent: sent_at.filter(|sent_at| *sent_at != claimed_at).map(|at| Sent { at, key }),
            is_noted: sent_at.is_some(),
            last_error: code.zip(sealed).map(|(code, sealed)| LastError { code, http_status, sealed }),
        })
    }
}

/// Rows of one batch that are claimed alike. In this order they go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// They wait, and to go on spends nothing: they were put down between two steps.
    Prepaid,
    /// They wait for another try.
    Waiting,
    /// They were never worked on.
    New,
}

/// So many rows that somebody wants of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The batch's key in the database.
    pub batch: i64,
    /// The version of its workflow.
    pub version: i64,
    /// The step that they are at, counted from 0.
    pub step: u32,
    /// Which of those.
    pub kind: Kind,
    /// How many at most.
    pub rows: u32,
    /// Whether their next request carries a key, so that the claim is its note.
    pub has_key: bool,
}

/// What came of wanting.
#[derive(Debug)]
pub struct Taken {
    /// In the file's order.
    pub rows: Vec<ClaimedRow>,
    /// What is left; `None`: nothing of the batch may be claimed now, or not by that version.
    pub left: Option<Left>,
}

/// What is left of a batch's rows, and of what its client may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Rows of the client's grant.
    pub granted: u32,
    /// No row below this one is pending for the first time.
    pub next_row: u32,
    /// When the first of those that wait there is due, and how many are by now, up to [`COUNTED`].
    pub waiting: Option<(Timestamp, u32)>,
}

/// What a claim writes.
struct Claim {
    claimant: Claimant,
    number: ClaimNumber,
    /// The dispatch run whose grant it spends; none where it spends nothing, or that was asked for by name.
    run: Option<i64>,
    /// Since when a request with an idempotency key may leave; none where the worker is to note it.
    may_send_from: Option<Timestamp>,
}

/// A batch that rows may be claimed of, and what is left of its client's grant.
struct Source {
    client: i64,
    next_row: u32,
    total: u32,
    run: Option<i64>,
    remaining: u32,
    counts: counts::Before,
}

/// Claims what is wanted, as far as it is there and allowed: a result for each wish, in their order.
pub fn claim(tx: &Tx<'_>, claimant: Claimant, wanted: &[Wanted]) -> Result<Vec<Taken>> {
    let is_paused = super::grants::pause_of(tx.connection)?.is_some();
    let claim = |wanted: &Wanted| match source(tx.connection, wanted)?.filter(|_| !is_paused) {
        Some(source) => claim_of_batch(tx, claimant, wanted, &source),
        None => Ok(Taken { rows: Vec::new(), left: None }),
    };
    wanted.iter().map(claim).collect()
}

/// The batch, where rows of it may be claimed.
fn source(connection: &Connection, wanted: &Wanted) -> Result<Option<Source>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT client, next_row, total, run, coalesce(remaining, 0), {FIT}, pending
         FROM batches JOIN clients USING (client) LEFT JOIN grants USING (client)
         WHERE batch = ? AND workflow_version = ? AND status = 'queued' AND batches.paused_at IS NULL
           AND cancelled_at IS NULL AND clients.paused_at IS NULL"
    ))?;
    let found = statement.query_row([wanted.batch, wanted.version], |row| {
        Ok(Source {
            client: row.get(0)?,
            next_row: row.get(1)?,
            total: row.get(2)?,
            run: row.get(3)?,
            remaining: row.get(4)?,
            counts: counts::Before { fit: row.get(5)?, pending: row.get(6)? },
        })
    });
    Ok(found.optional()?)
}

fn claim_of_batch(tx: &Tx<'_>, claimant: Claimant, wanted: &Wanted, source: &Source) -> Result<Taken> {
    let is_prepaid = wanted.kind == Kind::Prepaid;
    let claim = Claim {
        claimant,
        number: ClaimNumber::random(),
        run: source.run.filter(|_| !is_prepaid),
        may_send_from: wanted.has_key.then_some(tx.now),
    };
    let most = if is_prepaid { wanted.rows } else { wanted.rows.min(source.remaining) };
    let (rows, next_row) = match wanted.kind {
        Kind::New => claim_new(tx, &claim, wanted, source, most)?,
        Kind::Prepaid | Kind::Waiting => (claim_waiting(tx, &claim, wanted, most)?, source.next_row),
    };
    let taken = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    counts::claimed(tx, wanted.batch, taken, next_row, Some(source.counts))?;
    let spent = if is_prepaid { 0 } else { taken };
    spend(tx, source.client, spent)?;
    let waiting = match wanted.kind {
        Kind::New => None,
        Kind::Prepaid | Kind::Waiting => left_waiting(tx, wanted)?,
    };
    Ok(Taken { rows, left: Some(Left { granted: source.remaining - spent, next_row, waiting }) })
}

fn spend(tx: &Tx<'_>, client: i64, rows: u32) -> Result<()> {
    if rows > 0 {
        tx.connection
            .prepare_cached("UPDATE grants SET remaining = remaining - ? WHERE client = ?")?
            .execute(params![rows, client])?;
    }
    Ok(())
}

/// Rows at this step whose wait is over.
fn claim_waiting(tx: &Tx<'_>, claim: &Claim, wanted: &Wanted, limit: u32) -> Result<Vec<ClaimedRow>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut update = tx.connection.prepare_cached(&format!(
        "UPDATE OR FAIL rows SET {CLAIMING}, next_attempt_at = NULL
         WHERE row IN (SELECT row FROM rows INDEXED BY rows_waiting
                       WHERE row >> 24 = :batch AND step = :step AND prepaid = :prepaid AND status = 'pending'
                         AND next_attempt_at IS NOT NULL AND next_attempt_at <= :now
                       ORDER BY next_attempt_at, row LIMIT :limit)
         RETURNING {RETURNING}"
    ))?;
    let rows = update.query_map(
        named_params! {
            ":claimed": RowStatus::Pending.on(RowEvent::Claim)?,
            ":owner": claim.claimant.owner, ":claim": claim.number, ":run": claim.run, ":expires_at": claim.claimant.expires_at,
            ":may_send_from": claim.may_send_from,
            ":batch": wanted.batch, ":step": wanted.step, ":prepaid": wanted.kind == Kind::Prepaid, ":now": tx.now,
            ":limit": limit,
        },
        |row| ClaimedRow::from_row(row, wanted.version, tx.now),
    )?;
    in_order(rows)
}

/// When the first of those is due that are left, and how many are by now.
fn left_waiting(tx: &Tx<'_>, wanted: &Wanted) -> Result<Option<(Timestamp, u32)>> {
    let (batch, step, prepaid) = (wanted.batch, wanted.step, wanted.kind == Kind::Prepaid);
    let Some(first) = first_due_of(tx.connection, batch, step, prepaid)? else { return Ok(None) };
    if first > tx.now {
        return Ok(Some((first, 1)));
    }
    let mut due = tx.connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM rows INDEXED BY rows_waiting
                               WHERE row >> 24 = ? AND step = ? AND prepaid = ? AND status = 'pending'
                                 AND next_attempt_at IS NOT NULL AND next_attempt_at <= ? LIMIT ?)",
    )?;
    let due = due.query_row(params![batch, step, prepaid, tx.now, COUNTED], |row| row.get(0))?;
    Ok(Some((first, due)))
}

/// When the first of a batch's rows at this step is due that wait for another try.
pub fn first_due(connection: &Connection, batch: i64, step: u32) -> Result<Option<Timestamp>> {
    let first = |prepaid| first_due_of(connection, batch, step, prepaid);
    Ok([first(false)?, first(true)?].into_iter().flatten().min())
}

fn first_due_of(connection: &Connection, batch: i64, step: u32, prepaid: bool) -> Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached(
        "SELECT min(next_attempt_at) FROM rows INDEXED BY rows_waiting
         WHERE row >> 24 = ? AND step = ? AND prepaid = ? AND status = 'pending' AND next_attempt_at IS NOT NULL",
    )?;
    Ok(statement.query_row(params![batch, step, prepaid], |row| row.get(0))?)
}

/// The next rows that were never worked on, and where the cursor stands behind them, whatever became of them.
fn claim_new(
    tx: &Tx<'_>,
    claim: &Claim,
    wanted: &Wanted,
    source: &Source,
    limit: u32,
) -> Result<(Vec<ClaimedRow>, u32)> {
    let unseen = source.total + 1 - source.next_row;
    let end = source.next_row + limit.min(unseen);
    if end == source.next_row {
        return Ok((Vec::new(), end));
    }
    let mut update = tx.connection.prepare_cached(&format!(
        "UPDATE OR FAIL rows SET {CLAIMING}
         WHERE row >= :from AND row < :end AND status = 'pending' AND next_attempt_at IS NULL
         RETURNING {RETURNING}"
    ))?;
    let rows = update.query_map(
        named_params! {
            ":claimed": RowStatus::Pending.on(RowEvent::Claim)?,
            ":owner": claim.claimant.owner, ":claim": claim.number, ":run": claim.run, ":expires_at": claim.claimant.expires_at,
            ":may_send_from": claim.may_send_from,
            ":from": RowId::new(wanted.batch, source.next_row), ":end": RowId::new(wanted.batch, end),
        },
        |row| ClaimedRow::from_row(row, wanted.version, tx.now),
    )?;
    Ok((in_order(rows)?, end))
}

/// Why a row that was asked for by name could not be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotClaimed {
    /// There is no such row (yet).
    Missing,
    /// It is finished, with this status.
    Finished(RowStatus),
    /// Somebody holds it until then.
    Held(Timestamp),
    /// Its batch was cancelled, or failed.
    BatchEnded,
}

/// Claims one row by name, whatever is paused or granted. A row whose outcome is unknown is taken only with `resend`:
/// a person's word that its request may be sent again.
pub fn claim_one(
    tx: &Tx<'_>,
    row: RowId,
    claimant: Claimant,
    resend: bool,
) -> Result<std::result::Result<ClaimedRow, NotClaimed>> {
    /// Status, holder's time, last error, whether its batch has ended, and the version of its workflow.
    type Found = (RowStatus, Option<Timestamp>, Option<FailureCode>, bool, i64);
    let found: Option<Found> = tx
        .connection
        .prepare_cached(
            "SELECT rows.status, rows.claim_expires_at, rows.error_code,
                    cancelled_at IS NOT NULL OR batches.status = 'failed', workflow_version
             FROM rows JOIN batches ON batch = row >> 24 WHERE row = ?",
        )?
        .query_row([row], |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?, found.get(3)?, found.get(4)?)))
        .optional()?;
    let Some((status, held_until, error, batch_ended, version)) = found else { return Ok(Err(NotClaimed::Missing)) };
    let resent = resend && status == RowStatus::Failed && error == Some(FailureCode::OutcomeUnknown);
    match status {
        RowStatus::Processing => return Ok(Err(NotClaimed::Held(held_until.unwrap_or(tx.now)))),
        _ if batch_ended => return Ok(Err(NotClaimed::BatchEnded)),
        RowStatus::Pending => {}
        _ if resent => super::settle::reopen(tx, row)?,
        finished => return Ok(Err(NotClaimed::Finished(finished))),
    }
    // It notes nothing: whoever works the row writes its own note before its first request.
    let claim = Claim { claimant, number: ClaimNumber::random(), run: None, may_send_from: None };
    let mut update = tx.connection.prepare_cached(&format!(
        "UPDATE OR FAIL rows SET {CLAIMING}, next_attempt_at = NULL WHERE row = :row AND status = 'pending' RETURNING {RETURNING}"
    ))?;
    let claimed = update.query_row(
        named_params! {
            ":claimed": RowStatus::Pending.on(RowEvent::Claim)?,
            ":owner": claim.claimant.owner, ":claim": claim.number, ":run": claim.run, ":expires_at": claim.claimant.expires_at,
            ":may_send_from": claim.may_send_from,
            ":row": row,
        },
        |row| ClaimedRow::from_row(row, version, tx.now),
    )?;
    counts::claimed(tx, row.batch(), 1, 1, None)?;
    ready::touch_batch(tx, row.batch())?;
    Ok(Ok(claimed))
}

/// RETURNING has to be stepped to its end, and gives no order: the rows are put in the file's.
fn in_order(rows: impl Iterator<Item = rusqlite::Result<ClaimedRow>>) -> Result<Vec<ClaimedRow>> {
    let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.sort_by_key(|row| row.row);
    Ok(rows)
}
