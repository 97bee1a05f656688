//! Claiming rows: `pending` -> `processing`, by `UPDATE … RETURNING`, in turn over clients and their batches.
//!
//! What a claim costs depends on how many rows it takes, not on how many wait: rows that were never worked on are
//! taken by a cursor (`batches.next_row`), those that wait for another try from an index that holds only them.
//!
//! A claim is also a note: where a row's next request carries an idempotency key, the claim writes down that it may
//! leave from now on (`sent_at`). Should the claimant die, whoever comes next knows since when the downstream may
//! have seen that key, and no write of its own is needed before the request.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{Tx, counts, error::Result, settle::Sent};
use crate::model::{ClaimNumber, ClaimOwner, FailureCode, RowEvent, RowId, RowStatus, Timestamp, workflow::Repeat};

/// Clients that one round looks at.
const CLIENTS_PER_ROUND: u32 = 64;

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

const CLAIMING: &str =
    "status = :claimed, owner = :owner, claim = :claim, claimed_run = :run, claim_expires_at = :expires_at,
                        sent_at = coalesce(sent_at, :may_send_from)";
/// In the order in which [`ClaimedRow::from_row`] reads them: to look each up by its name takes longer than to read
/// it.
const RETURNING: &str =
    "row, claim, claim_expires_at, step, attempts, retries, data, progress, first_request_at, sent_at,
                         error_code, error_status, error, sent_key";

impl ClaimedRow {
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
            data: row.get(6)?,
            progress: row.get(7)?,
            first_request_at: row.get(8)?,
            sent: sent_at.filter(|sent_at| *sent_at != claimed_at).map(|at| Sent { at, key }),
            is_noted: sent_at.is_some(),
            last_error: code.zip(sealed).map(|(code, sealed)| LastError { code, http_status, sealed }),
        })
    }
}

/// How many rows can be worked on right now, by the version of a workflow and the step. Asked inside the claiming transaction.
pub trait Openings {
    /// The number of its steps; 0 where they cannot be called.
    fn steps(&self, version: i64) -> u32;
    /// What makes a second request of this step harmless.
    fn repeat(&self, version: i64, step: u32) -> Repeat;
    /// Rows at this step that could be started now.
    fn room(&self, version: i64, step: u32) -> usize;
    /// So many rows at this step were claimed.
    fn take(&mut self, version: i64, step: u32, rows: usize);
}

/// Claims up to `limit` rows: in turn over the clients that have something left of their grant, beginning behind
/// `last_client`; of a client its oldest batch first; of a batch the rows that got furthest first. Returns the rows,
/// and the client whose turn was last.
pub fn claim_rows(
    tx: &Tx<'_>,
    claimant: Claimant,
    limit: usize,
    last_client: i64,
    openings: &mut impl Openings,
) -> Result<(Vec<ClaimedRow>, i64)> {
    let mut claimed = Vec::new();
    let mut last_client = last_client;
    if super::grants::pause_of(tx.connection)?.is_some() {
        return Ok((claimed, last_client));
    }
    loop {
        let clients = clients_in_turn(tx.connection, last_client)?;
        let before = claimed.len();
        for (place, &client) in clients.iter().enumerate() {
            if claimed.len() >= limit {
                return Ok((claimed, last_client));
            }
            // Of what there is room for each gets an equal part, and the turn of one that got nothing is not over: where
            // there is room for a row or two at a time, the same client would have them each time.
            let sharers = clients.len() - place;
            let had = claimed.len();
            let share = Share { rows: (limit - had).div_ceil(sharers), sharers };
            claim_of_client(tx, claimant, client, share, openings, &mut claimed)?;
            if claimed.len() > had {
                last_client = client;
            }
        }
        if claimed.len() == before {
            // Where there are more clients than were asked, the others are asked the next time.
            let last_client = clients.last().copied().unwrap_or(last_client);
            return Ok((claimed, last_client));
        }
    }
}

/// The next clients that have something left, beginning behind the last one. Two plain statements: one that sorts by a
/// comparison with a bound value is compiled anew by SQLite each time it runs, which made it dearer than the claim.
fn clients_in_turn(connection: &Connection, last_client: i64) -> Result<Vec<i64>> {
    let mut clients = Vec::new();
    for part in ["client > ?", "client <= ?"] {
        let left = CLIENTS_PER_ROUND as usize - clients.len();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT client FROM grants JOIN clients USING (client)
             WHERE remaining > 0 AND paused_at IS NULL AND {part}
             ORDER BY client LIMIT ?"
        ))?;
        for client in statement.query_map(params![last_client, left as i64], |row| row.get(0))? {
            clients.push(client?);
        }
    }
    Ok(clients)
}

/// What a client may take in its turn.
#[derive(Clone, Copy)]
struct Share {
    /// At most so many rows.
    rows: usize,
    /// Among so many clients a dependency's room is shared: this one, and those whose turn is still to come.
    sharers: usize,
}

/// What a claim writes.
struct Claim {
    claimant: Claimant,
    number: ClaimNumber,
    /// The dispatch run whose grant it spends; none for a row that was asked for by name.
    run: Option<i64>,
    /// Since when a request with an idempotency key may leave; none where the worker is to note it.
    may_send_from: Option<Timestamp>,
}

/// A batch that rows may be claimed of.
struct Source {
    batch: i64,
    version: i64,
    next_row: u32,
    total: u32,
}

fn claim_of_client(
    tx: &Tx<'_>,
    claimant: Claimant,
    client: i64,
    share: Share,
    openings: &mut impl Openings,
    claimed: &mut Vec<ClaimedRow>,
) -> Result<()> {
    let (run, remaining): (i64, u32) = tx
        .connection
        .prepare_cached("SELECT run, remaining FROM grants WHERE client = ?")?
        .query_row([client], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut left = share.rows.min(remaining as usize);
    let before = claimed.len();
    let mut batches = tx.connection.prepare_cached(
        "SELECT batch, workflow_version, next_row, total FROM batches INDEXED BY batches_unfinished
         WHERE client = ? AND status IN ('pending', 'processing', 'queued') AND status = 'queued'
           AND paused_at IS NULL AND cancelled_at IS NULL
         ORDER BY batch",
    )?;
    let mut batches = batches.query([client])?;
    while left > 0 {
        let Some(found) = batches.next()? else { break };
        let source =
            Source { batch: found.get(0)?, version: found.get(1)?, next_row: found.get(2)?, total: found.get(3)? };
        let share = Share { rows: left, ..share };
        left -= claim_of_batch(tx, claimant, run, &source, share, openings, claimed)?;
    }
    let spent = claimed.len() - before;
    tx.connection
        .prepare_cached("UPDATE grants SET remaining = remaining - ? WHERE client = ?")?
        .execute(params![spent as i64, client])?;
    Ok(())
}

fn claim_of_batch(
    tx: &Tx<'_>,
    claimant: Claimant,
    run: i64,
    source: &Source,
    share: Share,
    openings: &mut impl Openings,
    claimed: &mut Vec<ClaimedRow>,
) -> Result<usize> {
    let before = claimed.len();
    for step in (0..openings.steps(source.version)).rev() {
        let has_key = openings.repeat(source.version, step) == Repeat::IdempotencyKey;
        let claim =
            Claim { claimant, number: ClaimNumber::random(), run: Some(run), may_send_from: has_key.then_some(tx.now) };
        let wanted = |claimed: &Vec<ClaimedRow>, openings: &dyn Openings| {
            let part = openings.room(source.version, step).div_ceil(share.sharers);
            part.min(share.rows - (claimed.len() - before))
        };
        let room = wanted(claimed, openings);
        let taken = claim_waiting(tx, &claim, source, step, room, claimed)?;
        openings.take(source.version, step, taken);
        if step == 0 {
            let room = wanted(claimed, openings);
            let taken = claim_new(tx, &claim, source, room, claimed)?;
            openings.take(source.version, step, taken);
        }
    }
    let taken = claimed.len() - before;
    if taken > 0 {
        count_claimed(tx, source.batch, taken)?;
        counts::look(tx, source.batch)?;
    }
    Ok(taken)
}

/// Rows at this step whose wait is over.
fn claim_waiting(
    tx: &Tx<'_>,
    claim: &Claim,
    source: &Source,
    step: u32,
    limit: usize,
    claimed: &mut Vec<ClaimedRow>,
) -> Result<usize> {
    // Most often nothing waits, and asking costs a tenth of what an UPDATE that finds nothing does.
    if limit == 0 || !anything_is_due(tx, source.batch, step)? {
        return Ok(0);
    }
    let mut update = tx.connection.prepare_cached(&format!(
        "UPDATE rows SET {CLAIMING}, next_attempt_at = NULL
         WHERE row IN (SELECT row FROM rows INDEXED BY rows_waiting
                       WHERE row >> 24 = :batch AND step = :step AND status = 'pending'
                         AND next_attempt_at IS NOT NULL AND next_attempt_at <= :now
                       ORDER BY next_attempt_at LIMIT :limit)
         RETURNING {RETURNING}"
    ))?;
    let rows = update.query_map(
        named_params! {
            ":claimed": RowStatus::Pending.on(RowEvent::Claim)?,
            ":owner": claim.claimant.owner, ":claim": claim.number, ":run": claim.run, ":expires_at": claim.claimant.expires_at,
            ":may_send_from": claim.may_send_from,
            ":batch": source.batch, ":step": step, ":now": tx.now, ":limit": limit as i64,
        },
        |row| ClaimedRow::from_row(row, source.version, tx.now),
    )?;
    append(rows, claimed)
}

/// When the first of a batch's rows at this step is due that wait for another try.
pub fn first_due(connection: &Connection, batch: i64, step: u32) -> Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached(
        "SELECT min(next_attempt_at) FROM rows INDEXED BY rows_waiting
         WHERE row >> 24 = ? AND step = ? AND status = 'pending' AND next_attempt_at IS NOT NULL",
    )?;
    Ok(statement.query_row(params![batch, step], |row| row.get(0))?)
}

fn anything_is_due(tx: &Tx<'_>, batch: i64, step: u32) -> Result<bool> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM rows INDEXED BY rows_waiting
                        WHERE row >> 24 = ? AND step = ? AND status = 'pending'
                          AND next_attempt_at IS NOT NULL AND next_attempt_at <= ?)",
    )?;
    Ok(statement.query_row(params![batch, step, tx.now], |row| row.get(0))?)
}

/// The next rows that were never worked on: the cursor moves behind them, whatever became of them.
fn claim_new(
    tx: &Tx<'_>,
    claim: &Claim,
    source: &Source,
    limit: usize,
    claimed: &mut Vec<ClaimedRow>,
) -> Result<usize> {
    let unseen = source.total + 1 - source.next_row;
    let reach = u32::try_from(limit).unwrap_or(u32::MAX).min(unseen);
    if reach == 0 {
        return Ok(0);
    }
    let end = source.next_row + reach;
    let mut update = tx.connection.prepare_cached(&format!(
        "UPDATE rows SET {CLAIMING}
         WHERE row >= :from AND row < :end AND status = 'pending' AND next_attempt_at IS NULL
         RETURNING {RETURNING}"
    ))?;
    let rows = update.query_map(
        named_params! {
            ":claimed": RowStatus::Pending.on(RowEvent::Claim)?,
            ":owner": claim.claimant.owner, ":claim": claim.number, ":run": claim.run, ":expires_at": claim.claimant.expires_at,
            ":may_send_from": claim.may_send_from,
            ":from": RowId::new(source.batch, source.next_row), ":end": RowId::new(source.batch, end),
        },
        |row| ClaimedRow::from_row(row, source.version, tx.now),
    )?;
    let taken = append(rows, claimed)?;
    tx.connection
        .prepare_cached("UPDATE batches SET next_row = ? WHERE batch = ?")?
        .execute(params![end, source.batch])?;
    Ok(taken)
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
        "UPDATE rows SET {CLAIMING}, next_attempt_at = NULL WHERE row = :row AND status = 'pending' RETURNING {RETURNING}"
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
    count_claimed(tx, row.batch(), 1)?;
    counts::look(tx, row.batch())?;
    Ok(Ok(claimed))
}

pub(super) fn count_claimed(tx: &Tx<'_>, batch: i64, rows: usize) -> Result<()> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    counts::moved(tx, batch, RowStatus::Pending, RowStatus::Processing, rows)
}

/// RETURNING has to be stepped to its end, and gives no order: the rows are put in the file's.
fn append(rows: impl Iterator<Item = rusqlite::Result<ClaimedRow>>, claimed: &mut Vec<ClaimedRow>) -> Result<usize> {
    let before = claimed.len();
    for row in rows {
        claimed.push(row?);
    }
    claimed[before..].sort_by_key(|row| row.row);
    Ok(claimed.len() - before)
}
