//! How claims of rows end, and with the last one the batch.
//!
//! Every function asks for the number of the claim: a worker whose claim was taken over changes nothing and hears so. A claim
//! that was freed and that nobody has taken over is still good for its end: what is known of a request is not to be lost,
//! nor the request to be sent again.

use rusqlite::{OptionalExtension, named_params, params};

use super::{
    Held, Tx,
    batches::Batch,
    counts,
    error::Result,
    failures::{self, Kind},
    ready::{self, PutDown},
};
use crate::model::{BatchEvent, BatchStatus, ClaimNumber, Counts, FailureCode, RowEvent, RowId, RowStatus, Timestamp};

/// A failure of a row, to be stored.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kind of fault.
    pub code: FailureCode,
    /// The answer's status.
    pub http_status: Option<u16>,
    /// Sealed: message and body.
    pub sealed: Vec<u8>,
}

/// How a claim ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// Its last step succeeded.
    Completed,
    /// A step failed for good.
    Failed(Failure),
    /// Given back, to be claimed again at `next_attempt_at`; with what went wrong, where something did.
    Released {
        /// When it is due.
        next_attempt_at: Timestamp,
        /// What went wrong.
        failure: Option<Failure>,
    },
}

/// Where a row stands, as far as its worker knows.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// How many steps are done.
    pub step: u32,
    /// Counted attempts of the step it is at.
    pub attempts: u32,
    /// Sealed: what the steps saved, and their history. `None` leaves what is stored.
    pub progress: Option<Vec<u8>>,
    /// When its first request left.
    pub first_request_at: Option<Timestamp>,
    /// The request of this step that left and may have been carried out.
    pub sent: Option<Sent>,
}

impl Standing {
    /// What is written of it, but for a few numbers.
    pub fn bytes(&self) -> usize {
        self.progress.as_ref().map_or(0, Vec::len)
    }
}

/// A request that left, and of which nothing says that it was not carried out. It stays noted until an accepted answer
/// settles it, whatever else is answered in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// When the first one left.
    pub at: Timestamp,
    /// Its `Idempotency-Key`; `None` where it had none, or where nobody could write it down any more.
    pub key: Option<String>,
}

/// Writes down where a row stands before a request leaves that may not be blindly repeated, and renews the claim.
pub fn checkpoint(
    tx: &Tx<'_>,
    row: RowId,
    claim: ClaimNumber,
    standing: &Standing,
    expires_at: Timestamp,
) -> Result<Held> {
    let written = tx
        .connection
        .prepare_cached(
            "UPDATE OR FAIL rows SET step = ?3, attempts = ?4, progress = coalesce(?5, progress), first_request_at = ?6,
                             sent_at = ?7, sent_key = ?8, claim_expires_at = ?9
             WHERE row = ?1 AND status = 'processing' AND claim = ?2",
        )?
        .execute(params![
            row,
            claim,
            standing.step,
            standing.attempts,
            standing.progress,
            standing.first_request_at,
            standing.sent.as_ref().map(|sent| sent.at),
            standing.sent.as_ref().and_then(|sent| sent.key.as_deref()),
            expires_at,
        ])?;
    Ok(if written == 1 { Held::Yes } else { Held::No })
}

/// Renews claims; those that are not held any more stay as they are.
pub fn renew_all(tx: &Tx<'_>, claims: &[(RowId, ClaimNumber)], expires_at: Timestamp) -> Result<()> {
    claims.iter().try_for_each(|&(row, claim)| renew(tx, row, claim, expires_at).map(|_| ()))
}

/// Renews a claim.
pub fn renew(tx: &Tx<'_>, row: RowId, claim: ClaimNumber, expires_at: Timestamp) -> Result<Held> {
    let renewed = tx
        .connection
        .prepare_cached("UPDATE rows SET claim_expires_at = ? WHERE row = ? AND status = 'processing' AND claim = ?")?
        .execute(params![expires_at, row, claim])?;
    Ok(if renewed == 1 { Held::Yes } else { Held::No })
}

/// The end of one claim.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The claimed row.
    pub row: RowId,
    /// Which claim it is.
    pub claim: ClaimNumber,
    /// The version of the workflow by which it was worked, and by which its steps are counted.
    pub version: i64,
    /// Where the row stands.
    pub standing: Standing,
    /// How the claim ended.
    pub ending: Ending,
    /// Whether an attempt was counted while it lasted; if none was, the client's grant has it back.
    pub spent: bool,
}

/// Ends claims, and says of each whether it was still held. The row that was a batch's last unfinished one ends the
/// batch in this same transaction. Rows of one batch that follow each other share what is written of the batch.
pub fn settle_all<'s>(tx: &Tx<'_>, settles: impl IntoIterator<Item = &'s Settle>) -> Result<Vec<Held>> {
    let settles: Vec<&Settle> = settles.into_iter().collect();
    let mut held = Vec::with_capacity(settles.len());
    for of_batch in settles.chunk_by(|one, next| one.row.batch() == next.row.batch()) {
        let batch = of_batch[0].row.batch();
        let found: Option<(i64, bool, i64)> = tx
            .connection
            .prepare_cached("SELECT client, cancelled_at IS NOT NULL, workflow_version FROM batches WHERE batch = ?")?
            .query_row([batch], |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?)))
            .optional()?;
        let Some((client, cancelled, version)) = found else {
            // Their claims were lost, and the batch since ended and deleted.
            held.extend(of_batch.iter().map(|_| Held::No));
            continue;
        };
        let mut ended: Vec<(RowStatus, u32)> = Vec::new();
        let mut put_down = PutDown::default();
        for settle in of_batch {
            let ended_now = match end_claim(tx, settle, cancelled)? {
                // What comes too late, and from a batch that goes another way since, is not understood any more: its note stays.
                None if settle.version == version && take_again(tx, client, settle)? => {
                    end_claim(tx, settle, cancelled)?
                }
                ended => ended,
            };
            let Some(EndedClaim { to, run, prepaid }) = ended_now else {
                held.push(Held::No);
                continue;
            };
            held.push(Held::Yes);
            if let (false, Some(run)) = (settle.spent, run) {
                give_back(tx, client, run)?;
            }
            if let (Ending::Released { next_attempt_at, .. }, RowStatus::Pending) = (&settle.ending, to) {
                put_down.add(settle.standing.step, prepaid, *next_attempt_at);
            }
            match ended.iter_mut().find(|(status, _)| *status == to) {
                Some((_, rows)) => *rows += 1,
                None => ended.push((to, 1)),
            }
        }
        put_down.tell(tx, batch)?;
        for (to, rows) in &ended {
            counts::moved(tx, batch, RowStatus::Processing, *to, *rows)?;
        }
        if !ended.is_empty() {
            counts::look(tx, batch)?;
            end_batch_if_done(tx, batch)?;
        }
    }
    Ok(held)
}

/// Takes a claim again that was freed because it had expired, if nobody has taken the row over since: its worker was only
/// late, and knows what became of its request.
fn take_again(tx: &Tx<'_>, client: i64, settle: &Settle) -> Result<bool> {
    let run: Option<Option<i64>> = tx
        .connection
        .prepare_cached(
            "UPDATE rows SET status = :claimed, next_attempt_at = NULL, owner = :claim, claim_expires_at = :now
             WHERE row = :row AND status = 'pending' AND claim = :claim
             RETURNING claimed_run",
        )?
        .query_row(
            named_params! {
                ":claimed": RowStatus::Pending.on(RowEvent::Claim)?,
                ":row": settle.row, ":claim": settle.claim, ":now": tx.now,
            },
            |found| found.get(0),
        )
        .optional()?;
    let Some(run) = run else { return Ok(false) };
    tx.connection
        .prepare_cached("UPDATE grants SET remaining = remaining - 1 WHERE client = ? AND run = ? AND remaining > 0")?
        .execute(params![client, run])?;
    counts::claimed(tx, settle.row.batch(), 1, 1, None)?;
    ready::touch_batch(tx, settle.row.batch())?;
    Ok(true)
}

/// A claim that has ended.
struct EndedClaim {
    /// What the row is now.
    to: RowStatus,
    /// The run whose grant the claim had spent, where that may have to be given back.
    run: Option<i64>,
    /// Whether to go on will spend nothing, where it goes on.
    prepaid: bool,
}

/// Whether the row goes on without spending anything, where this claim decides it. It does if the last attempt that was counted
/// was a success: it was put down between two steps. Where none was counted it stays as it was, because what the claim
/// spent is given back.
fn goes_on_prepaid(settle: &Settle) -> Option<bool> {
    match settle.ending {
        Ending::Released { .. } if settle.spent => Some(settle.standing.attempts == 0),
        Ending::Released { .. } => None,
        Ending::Completed | Ending::Failed(_) => Some(false),
    }
}

/// Moves a claimed row on; nothing where the claim is not held any more.
fn end_claim(tx: &Tx<'_>, settle: &Settle, cancelled: bool) -> Result<Option<EndedClaim>> {
    let Settle { row, claim, standing, ending, .. } = settle;
    let (event, failure, next_attempt_at) = match ending {
        Ending::Completed => (RowEvent::Complete, None, None),
        Ending::Failed(failure) => (RowEvent::Fail, Some(failure), None),
        Ending::Released { failure, .. } if cancelled => (RowEvent::Cancel, failure.as_ref(), None),
        Ending::Released { next_attempt_at, failure } => (RowEvent::Release, failure.as_ref(), Some(*next_attempt_at)),
    };
    let to = RowStatus::Processing.on(event)?;
    // No RETURNING, and places in place of names: that is half of what the statement takes, and no other is run as often.
    let ended = tx
        .connection
        .prepare_cached(
            "UPDATE OR FAIL rows
             SET status = ?3, step = ?4, attempts = ?5, prepaid = coalesce(?6, prepaid),
                 progress = coalesce(?7, progress), first_request_at = ?8, sent_at = ?9, sent_key = ?10,
                 next_attempt_at = ?11, owner = NULL, claim = NULL, claim_expires_at = NULL,
                 error_code = ?12, error_status = ?13, error = ?14, finished_at = ?15
             WHERE row = ?1 AND status = 'processing' AND claim = ?2",
        )?
        .execute(params![
            row,
            claim,
            to,
            standing.step,
            standing.attempts,
            goes_on_prepaid(settle),
            standing.progress,
            standing.first_request_at,
            standing.sent.as_ref().map(|sent| sent.at),
            standing.sent.as_ref().and_then(|sent| sent.key.as_deref()),
            next_attempt_at,
            failure.map(|failure| failure.code),
            failure.and_then(|failure| failure.http_status),
            failure.map(|failure| &failure.sealed),
            to.is_finished().then_some(tx.now),
        ])?;
    if ended == 0 {
        return Ok(None);
    }
    if let (RowStatus::Failed, Some(failure)) = (to, failure) {
        let kind = Kind { step: standing.step, code: failure.code, http_status: failure.http_status };
        failures::count(tx, *row, kind)?;
    }
    let (run, prepaid) = match settle.spent && to.is_finished() {
        true => (None, false),
        false => tx
            .connection
            .prepare_cached("SELECT claimed_run, prepaid FROM rows WHERE row = ?")?
            .query_row([row], |found| Ok((found.get(0)?, found.get(1)?)))?,
    };
    Ok(Some(EndedClaim { to, run, prepaid }))
}

/// One row more for the client, if the run that granted it is still the last one.
pub(super) fn give_back(tx: &Tx<'_>, client: i64, run: i64) -> Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE grants SET remaining = remaining + 1 WHERE client = ? AND run = ? AND remaining < granted",
        )?
        .execute([client, run])?;
    Ok(())
}

/// Ends the batch if no unfinished row is left. Decided from the rows, and cheap whatever their number: a row can only
/// be unfinished if it lies behind the cursor, waits for another try, or is claimed, and each of the three is one
/// look-up. While a retry is under way, rows that stand failed may be put back yet.
pub(super) fn end_batch_if_done(tx: &Tx<'_>, batch: i64) -> Result<()> {
    let ended = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET status = CASE WHEN cancelled_at IS NULL THEN :completed ELSE :cancelled END,
                                finished_at = :now, next_attempt_at = NULL
             WHERE batch = :batch
               AND CASE
                   WHEN cancelled_at IS NOT NULL THEN status IN ('pending', 'queued')
                   ELSE status = 'queued'
                    AND NOT EXISTS (SELECT 1 FROM rows
                                    WHERE row >= (:batch << 24) + next_row AND row <= (:batch << 24) + total
                                      AND rows.status = 'pending')
                    AND NOT EXISTS (SELECT 1 FROM retries WHERE retries.batch = :batch)
                    AND NOT EXISTS (SELECT 1 FROM rows INDEXED BY rows_waiting
                                    WHERE row >> 24 = :batch AND rows.status = 'pending'
                                      AND rows.next_attempt_at IS NOT NULL)
                   END
               AND NOT EXISTS (SELECT 1 FROM rows INDEXED BY rows_claimed
                               WHERE row > (:batch << 24) AND row <= (:batch << 24) + total
                                 AND rows.status = 'processing')",
        )?
        .execute(named_params! {
            ":batch": batch,
            ":now": tx.now,
            ":completed": BatchStatus::Queued.on(BatchEvent::Complete)?,
            ":cancelled": BatchStatus::Queued.on(BatchEvent::Cancel)?,
        })?;
    if ended == 0 {
        return Ok(());
    }
    counts::look(tx, batch)?;
    let Batch { id, status, counts, .. } = super::batches::by_key(tx.connection, batch)?;
    tx.after_commit(move || {
        let Counts { completed, failed, cancelled, .. } = counts;
        match status {
            BatchStatus::Cancelled => {
                tracing::info!(event = "batch.cancelled", batch = %id, completed, failed, cancelled, "batch cancelled");
            }
            _ => tracing::info!(event = "batch.completed", batch = %id, completed, failed, "batch completed"),
        }
    });
    super::deliveries::announce(tx, batch)
}

/// Whether the batch is one whose rows are worked now, and may pause itself.
pub fn is_at_work(tx: &Tx<'_>, batch: i64) -> Result<bool> {
    let at_work = tx
        .connection
        .prepare_cached(
            "SELECT 1 FROM batches
             WHERE batch = ? AND status = 'queued' AND paused_at IS NULL AND cancelled_at IS NULL",
        )?
        .exists([batch])?;
    Ok(at_work)
}

/// Pauses a batch because too many of its last rows failed, with `last` at `step` as the latest. Returns the reason.
pub fn pause_itself(tx: &Tx<'_>, batch: i64, (failed, of): (u64, u64), last: &Failure, step: &str) -> Result<String> {
    let status = last.http_status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let reason = format!(
        "{failed} of its last {of} rows failed, the last one with `{}`{status} at {step}: mend the cause, then resume",
        last.code.as_str()
    );
    super::batches::pause_itself(tx, batch, &reason)?;
    Ok(reason)
}

/// `failed` -> `pending`, for a row that a person asks for by name.
pub(super) fn reopen(tx: &Tx<'_>, row: RowId) -> Result<()> {
    let kind = tx
        .connection
        .prepare_cached("SELECT step, error_code, error_status FROM rows WHERE row = ? AND status = 'failed'")?
        .query_row([row], |found| Ok(Kind { step: found.get(0)?, code: found.get(1)?, http_status: found.get(2)? }))?;
    if put_back(tx, row, tx.now)? {
        failures::uncount(tx, row.batch(), kind, 1)?;
        reopen_batch(tx, row.batch(), 1)?;
    }
    Ok(())
}

/// Puts a row back that had failed by then: whether it did. One that failed in what is the future now did so before the
/// clock was set back. It goes on at the step that failed, with what it had saved
/// and its attempts forgotten; one of which no request ever left begins with the first step.
///
/// A request that was rejected gets a new idempotency key, and so does one whose outcome is unknown: its person has found
/// out what became of it, and its note is dropped. Any other request that may have been carried out stays noted, also
/// where its repeat was rejected, so that it is repeated only with the key that it had, and while the downstream still
/// knows that key; the time after which the row gives up begins anew for all.
pub(super) fn put_back(tx: &Tx<'_>, row: RowId, failed_by: Timestamp) -> Result<bool> {
    let back = tx
        .connection
        .prepare_cached(
            "UPDATE rows SET status = :pending, attempts = 0, prepaid = 0, next_attempt_at = :now, finished_at = NULL,
                             retries = retries + (error_code = :unknown OR (error_code = :rejected AND sent_at IS NULL)),
                             sent_at = CASE WHEN error_code <> :unknown THEN sent_at END,
                             sent_key = CASE WHEN error_code <> :unknown THEN sent_key END,
                             first_request_at = CASE WHEN error_code <> :unknown AND sent_at IS NOT NULL THEN :now END,
                             step = CASE WHEN progress IS NULL AND sent_at IS NULL THEN 0 ELSE step END
             WHERE row = :row AND status = 'failed' AND (finished_at <= :failed_by OR finished_at > :now)",
        )?
        .execute(named_params! {
            ":pending": RowStatus::Failed.on(RowEvent::Retry)?,
            ":now": tx.now,
            ":row": row,
            ":failed_by": failed_by,
            ":rejected": FailureCode::Rejected,
            ":unknown": FailureCode::OutcomeUnknown,
        })?;
    Ok(back == 1)
}

/// Counts rows of the batch that were put back. A completed batch is `queued` again. That its status is written, also where it
/// stays the same, is what tells of its rows (the trigger `batches_touched`).
pub(super) fn reopen_batch(tx: &Tx<'_>, batch: i64, rows: u32) -> Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE batches SET finished_at = NULL,
                                status = CASE status WHEN 'completed' THEN :queued ELSE status END
             WHERE batch = :batch",
        )?
        .execute(named_params! {
            ":batch": batch,
            ":queued": BatchStatus::Completed.on(BatchEvent::Reopen)?,
        })?;
    counts::moved(tx, batch, RowStatus::Failed, RowStatus::Pending, rows)?;
    counts::look(tx, batch)
}
