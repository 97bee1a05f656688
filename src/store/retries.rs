//! The table `retries`: failed rows go back to `pending`, in place, with what they had saved.
//!
//! A retry takes effect at once, and its first rows are put back in the transaction that asks for it. Where there are
//! more, the rest follows piece by piece, by a cursor over the rows that stand failed; the batch cannot complete before.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{
    Tx,
    error::Result,
    failures::{self, Group, Kind},
    settle::{end_batch_if_done, put_back, reopen_batch},
};
use crate::model::{BatchId, BatchStatus, FailureCode, Outline, RowId, Timestamp, workflow::Repeat};

/// Rows that one transaction puts back, and failed rows that it looks through for them.
pub const PUT_BACK_AT_ONCE: usize = 1_000;
const ROWS_PER_LOOK: usize = 20_000;

/// Which failed rows are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Which {
    /// Only those that failed at this step: so many were done.
    pub step: Option<u32>,
    /// Only those that failed with this code; `None`: all but those that were perhaps, or probably, carried out.
    pub code: Option<FailureCode>,
    /// The steps of which a repeat does no harm.
    pub safe_steps: StepSet,
}

/// Steps of a workflow by their places, counted from 0: the bit of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepSet(i64);

impl StepSet {
    /// The steps that are safe to repeat.
    pub fn safe(outline: &Outline) -> Self {
        let safe = outline.steps.iter().zip(0..i64::BITS).filter(|(step, _)| step.repeat == Repeat::Safe);
        Self(safe.fold(0, |bits, (_, place)| bits | 1 << place))
    }

    fn has(self, step: u32) -> bool {
        self.0.checked_shr(step).is_some_and(|bits| bits & 1 == 1)
    }
}

impl Which {
    /// Whether a row that failed so is meant: what is retried, and what a file of what can be retried holds.
    pub(super) fn means(self, kind: Kind) -> bool {
        self.step.is_none_or(|step| step == kind.step)
            && match self.code {
                Some(code) => code == kind.code,
                None => !self.may_be_done(kind),
            }
    }

    /// Whether to send it again could do things twice: nobody knows what became of it, or it was accepted.
    fn may_be_done(self, kind: Kind) -> bool {
        match kind.code {
            FailureCode::OutcomeUnknown => true,
            FailureCode::BadAnswer => !self.safe_steps.has(kind.step),
            _ => false,
        }
    }

    /// What of these failures it leaves alone.
    fn leaves_alone(self, groups: &[Group]) -> LeftAlone {
        let mut left = LeftAlone::default();
        for Group { kind, failed, .. } in groups {
            let is_of_step = self.step.is_none_or(|step| step == kind.step);
            match kind.code {
                _ if self.code.is_some() || !is_of_step || !self.may_be_done(*kind) => {}
                FailureCode::OutcomeUnknown => left.outcome_unknown += failed,
                _ => left.bad_answer += failed,
            }
        }
        left
    }
}

/// What became of asking for a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is done, or under way; or no row stands failed that is meant, and nothing was changed.
    Retried(Retried),
    /// There is no such batch (any more).
    Missing,
    /// It was cancelled, or cannot be extracted: nothing was changed.
    Ended(BatchStatus),
}

impl Asked {
    /// Whether something was changed, or will be. Where not there is nothing to tell anybody else.
    pub fn changes_something(&self) -> bool {
        matches!(self, Self::Retried(retried) if retried.rows > 0 || retried.under_way)
    }
}

/// What a retry has come to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retried {
    /// Rows that are `pending` again already.
    pub rows: u32,
    /// Whether more may follow.
    pub under_way: bool,
    /// Rows that it leaves alone.
    pub left_alone: LeftAlone,
}

/// Failed rows that only a retry by their code sends again, because that could do things twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftAlone {
    /// Nobody knows what became of them.
    pub outcome_unknown: u32,
    /// They were accepted, although the answer is not what their step needs.
    pub bad_answer: u32,
}

/// A retry that is not carried out to the end.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    retry: i64,
    batch: i64,
    which: Which,
    next_row: u32,
    requested_at: Timestamp,
}

impl Retry {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            retry: row.get("retry")?,
            batch: row.get("batch")?,
            which: Which {
                step: row.get("step")?,
                code: row.get("code")?,
                safe_steps: StepSet(row.get("safe_steps")?),
            },
            next_row: row.get("next_row")?,
            requested_at: row.get("requested_at")?,
        })
    }
}

/// Asks for a retry, and puts the first rows back. A completed batch is `queued` again.
pub fn begin(tx: &Tx<'_>, id: BatchId, which: Which) -> Result<Asked> {
    let Some(batch) = super::batches::find(tx.connection, id)? else { return Ok(Asked::Missing) };
    if let Some(ended) = batch.over() {
        return Ok(Asked::Ended(ended));
    }
    let left_alone = which.leaves_alone(&failures::groups(tx.connection, batch.batch)?);
    if is_nothing(tx.connection, batch.batch, which)? {
        return Ok(Asked::Retried(Retried { rows: 0, under_way: false, left_alone }));
    }
    let retry = note(tx, batch.batch, which)?;
    let piece = carry_on(tx, retry)?;
    let (rows, under_way) = (piece.rows, !piece.was_last);
    Ok(Asked::Retried(Retried { rows, under_way, left_alone }))
}

/// Whether no failed row is meant. Decided from the rows; only where more stand failed than one look sees, and none of those
/// is meant, the counts say whether there are others.
fn is_nothing(connection: &Connection, batch: i64, which: Which) -> Result<bool> {
    let look = look(connection, batch, which, 1)?;
    if !look.meant.is_empty() {
        return Ok(false);
    }
    Ok(look.was_last || !failures::groups(connection, batch)?.iter().any(|group| which.means(group.kind)))
}

/// What the audit says of rows that are meant; `None`: all that can be.
pub fn told(code: Option<&str>, step: Option<&str>) -> Option<String> {
    let told = [code.map(|code| format!("code {code}")), step.map(|step| format!("step {step}"))];
    let told: Vec<_> = told.into_iter().flatten().collect();
    (!told.is_empty()).then(|| format!("rows of {}", told.join(", ")))
}

/// The same retry again, while the first one is under way, begins it anew: what failed since is meant too.
fn note(tx: &Tx<'_>, batch: i64, which: Which) -> Result<Retry> {
    let again = tx
        .connection
        .prepare_cached(
            "UPDATE retries SET next_row = 1, requested_at = :now, safe_steps = :safe_steps
             WHERE batch = :batch AND step IS :step AND code IS :code RETURNING *",
        )?
        .query_row(
            named_params! {
                ":batch": batch, ":step": which.step, ":code": which.code,
                ":safe_steps": which.safe_steps.0, ":now": tx.now
            },
            Retry::from_row,
        )
        .optional()?;
    if let Some(retry) = again {
        return Ok(retry);
    }
    let retry = tx
        .connection
        .prepare_cached(
            "INSERT INTO retries (batch, step, code, safe_steps, requested_at) VALUES (?, ?, ?, ?, ?) RETURNING *",
        )?
        .query_row(params![batch, which.step, which.code, which.safe_steps.0, tx.now], Retry::from_row)?;
    Ok(retry)
}

/// Retries that are under way, oldest first, at most `limit`.
pub fn under_way(connection: &Connection, limit: u32) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT retry FROM retries ORDER BY retry LIMIT ?")?;
    let retries = statement.query_map([limit], |row| row.get(0))?;
    Ok(retries.collect::<rusqlite::Result<_>>()?)
}

/// Rows of the batch that retries under way have put back so far; `None` where none is under way.
pub fn put_back_so_far(connection: &Connection, batch: i64) -> Result<Option<u32>> {
    let mut statement = connection.prepare_cached("SELECT sum(rows) FROM retries WHERE batch = ?")?;
    Ok(statement.query_row([batch], |row| row.get(0))?)
}

/// One piece of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Rows that it put back.
    pub rows: u32,
    /// Whether nothing is left of the retry.
    pub was_last: bool,
}

/// Carries the retry with this number on by one piece. One that was ended meanwhile has nothing left.
pub fn carry_on_by_number(tx: &Tx<'_>, retry: i64) -> Result<Piece> {
    let found = tx
        .connection
        .prepare_cached("SELECT * FROM retries WHERE retry = ?")?
        .query_row([retry], Retry::from_row)
        .optional()?;
    found.map_or(Ok(Piece { rows: 0, was_last: true }), |retry| carry_on(tx, retry))
}

/// Carries the batch's oldest retry on by one piece.
pub fn carry_on_batch(tx: &Tx<'_>, batch: i64) -> Result<Piece> {
    let found = tx
        .connection
        .prepare_cached("SELECT * FROM retries WHERE batch = ? ORDER BY retry LIMIT 1")?
        .query_row([batch], Retry::from_row)
        .optional()?;
    let Some(retry) = found else { return Ok(Piece { rows: 0, was_last: true }) };
    let piece = carry_on(tx, retry)?;
    Ok(Piece { was_last: put_back_so_far(tx.connection, batch)?.is_none(), ..piece })
}

fn carry_on(tx: &Tx<'_>, retry: Retry) -> Result<Piece> {
    let look = look(tx.connection, retry.batch, retry.which, retry.next_row)?;
    let mut put_back_rows: HashMap<Kind, u32> = HashMap::new();
    for &(row, kind) in &look.meant {
        if put_back(tx, row, retry.requested_at)? {
            *put_back_rows.entry(kind).or_default() += 1;
        }
    }
    let mut rows = 0;
    for (kind, count) in put_back_rows {
        failures::uncount(tx, retry.batch, kind, count)?;
        rows += count;
    }
    if rows > 0 || !look.was_last {
        reopen_batch(tx, retry.batch, rows)?;
    }
    if look.was_last {
        tx.connection.prepare_cached("DELETE FROM retries WHERE retry = ?")?.execute([retry.retry])?;
        end_batch_if_done(tx, retry.batch)?;
    } else {
        tx.connection
            .prepare_cached("UPDATE retries SET next_row = ?, rows = rows + ? WHERE retry = ?")?
            .execute(params![look.next_row, rows, retry.retry])?;
    }
    Ok(Piece { rows, was_last: look.was_last })
}

/// What one piece found.
struct Look {
    meant: Vec<(RowId, Kind)>,
    next_row: u32,
    was_last: bool,
}

/// Looks through failed rows from the cursor on, until it has enough of those that are meant.
fn look(connection: &Connection, batch: i64, which: Which, from_row: u32) -> Result<Look> {
    let mut statement = connection.prepare_cached(
        "SELECT row, step, error_code, error_status FROM rows INDEXED BY rows_failed
         WHERE status = 'failed' AND row >= ? AND row < ? ORDER BY row",
    )?;
    let mut rows = statement.query([RowId::new(batch, from_row), RowId::new(batch + 1, 0)])?;
    let mut look = Look { meant: Vec::new(), next_row: from_row, was_last: false };
    for _ in 0..ROWS_PER_LOOK {
        let Some(found) = rows.next()? else {
            look.was_last = true;
            break;
        };
        let row: RowId = found.get(0)?;
        let kind = Kind { step: found.get(1)?, code: found.get(2)?, http_status: found.get(3)? };
        look.next_row = row.number() + 1;
        if which.means(kind) {
            look.meant.push((row, kind));
        }
        if look.meant.len() == PUT_BACK_AT_ONCE {
            break;
        }
    }
    Ok(look)
}

/// Ends every retry of a batch that is being ended.
pub(super) fn end(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM retries WHERE batch = ?")?.execute([batch])?;
    Ok(())
}
