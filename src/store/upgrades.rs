//! A batch is moved to another version of its workflow: what of it stands where, and what has to be written.
//!
//! Rows count the steps that they have done, so where steps come in between, those that were begun have to count on. Rows
//! that nobody began are most of a batch, and need nothing.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{Tx, error::Result, workflows};
use crate::model::{Outline, RowId};

/// Begun rows that one upgrade moves at most. It is one transaction, and while it lasts nobody else writes: of a batch of a
/// million rows so many take some two seconds. Rows that nobody began are not moved, and are not counted here.
pub const MOST_MOVED: usize = 50_000;

/// Waiting rows of a batch at a step that were begun: a request of theirs left, or something was done before.
const BEGUN: &str = "SELECT row FROM rows INDEXED BY rows_waiting
     WHERE row >> 24 = :batch AND step = :step AND status = 'pending' AND next_attempt_at IS NOT NULL
       AND (step > 0 OR progress IS NOT NULL OR sent_at IS NOT NULL)";
const FAILED: &str = "SELECT row FROM rows INDEXED BY rows_failed
     WHERE status = 'failed' AND row >= :batch << 24 AND row < (:batch + 1) << 24 AND step = :step";

/// A step that rows of a batch have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its place in the version that the batch has, counted from 0.
    pub place: u32,
    /// Its name.
    pub step: String,
    /// The number of one of the rows.
    pub example_row: u32,
    /// Whether nothing is left to be done for any of them: they are completed.
    pub is_over: bool,
}

/// Why nothing can be moved just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderWay {
    /// Somebody works so many rows.
    Rows(u32),
    /// Failed rows are being put back.
    Retry,
}

/// What of a batch is under way.
pub fn under_way(connection: &Connection, batch: i64) -> Result<Option<UnderWay>> {
    let mut claimed = connection.prepare_cached(
        "SELECT count(*) FROM rows INDEXED BY rows_claimed WHERE status = 'processing' AND row >= ?1 << 24 AND row < (?1 + 1) << 24",
    )?;
    let rows: u32 = claimed.query_row([batch], |row| row.get(0))?;
    if rows > 0 {
        return Ok(Some(UnderWay::Rows(rows)));
    }
    let mut retrying = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM retries WHERE batch = ?)")?;
    Ok(retrying.query_row([batch], |row| row.get::<_, bool>(0))?.then_some(UnderWay::Retry))
}

/// The steps that rows of a batch have come to, in order: they wait there after they were begun, have failed there, or,
/// at the last one, are completed.
pub fn standing(connection: &Connection, batch: i64, kept: &Outline) -> Result<Vec<Standing>> {
    let mut waiting = connection.prepare_cached(&format!("{BEGUN} LIMIT 1"))?;
    let failed = failed(connection, batch)?;
    let mut found = Vec::new();
    for (step, place) in kept.steps.iter().zip(0_u32..) {
        let at = named_params! { ":batch": batch, ":step": place };
        let waits: Option<RowId> = waiting.query_row(at, |row| row.get(0)).optional()?;
        let mut example = waits.or_else(|| failed.get(&place).copied());
        let is_over = example.is_none();
        if is_over && place as usize + 1 == kept.steps.len() {
            example = completed(connection, batch)?;
        }
        found.extend(example.map(|row| Standing {
            place,
            step: step.name.clone(),
            example_row: row.number(),
            is_over,
        }));
    }
    Ok(found)
}

/// The first failed row at each step, by the step's place. Looks through the failed rows of the batch, in their index.
fn failed(connection: &Connection, batch: i64) -> Result<BTreeMap<u32, RowId>> {
    let mut statement = connection.prepare_cached(
        "SELECT step, min(row) FROM rows INDEXED BY rows_failed
         WHERE status = 'failed' AND row >= ?1 << 24 AND row < (?1 + 1) << 24 GROUP BY step",
    )?;
    let rows = statement.query_map([batch], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A row that is completed. The count says whether it is worth looking through the rows for one.
fn completed(connection: &Connection, batch: i64) -> Result<Option<RowId>> {
    let mut statement = connection.prepare_cached(
        "SELECT row FROM rows WHERE (SELECT completed FROM batches WHERE batch = ?1) > 0
           AND row >= ?1 << 24 AND row < (?1 + 1) << 24 AND status = 'completed' ORDER BY row LIMIT 1",
    )?;
    Ok(statement.query_row([batch], |row| row.get(0)).optional()?)
}

/// Begun rows that stand at a step, counted up to one more than [`MOST_MOVED`].
pub fn count_at(connection: &Connection, batch: i64, place: u32) -> Result<usize> {
    count(connection, [BEGUN, FAILED], batch, place)
}

fn count(connection: &Connection, kinds: [&str; 2], batch: i64, place: u32) -> Result<usize> {
    let mut count = 0_usize;
    for rows in kinds {
        let mut statement = connection.prepare_cached(&format!("SELECT count(*) FROM ({rows} LIMIT :limit)"))?;
        let at = named_params! { ":batch": batch, ":step": place, ":limit": MOST_MOVED as i64 + 1 };
        count += statement.query_row(at, |row| row.get::<_, i64>(0))? as usize;
    }
    Ok(count)
}

/// Moves what stands at one place of a batch's steps to another. Those that go further have to go first.
pub fn move_rows(tx: &Tx<'_>, batch: i64, from: u32, to: u32) -> Result<()> {
    for rows in [BEGUN, FAILED] {
        tx.connection
            .prepare_cached(&format!("UPDATE rows SET step = :to WHERE row IN ({rows})"))?
            .execute(named_params! { ":batch": batch, ":step": from, ":to": to })?;
    }
    tx.connection
        .prepare_cached("UPDATE failures SET step = ? WHERE batch = ? AND step = ?")?
        .execute(params![to, batch, from])?;
    Ok(())
}

/// Rows of a place whose request may have been carried out under a key that nobody knows, or without one. What became of one
/// whose outcome is unknown is found out before it is sent again, and its note is dropped then.
const UNKEYED: [&str; 2] = [
    "SELECT row FROM rows INDEXED BY rows_waiting
     WHERE row >> 24 = :batch AND step = :step AND status = 'pending' AND next_attempt_at IS NOT NULL
       AND sent_at IS NOT NULL AND sent_key IS NULL",
    "SELECT row FROM rows INDEXED BY rows_failed
     WHERE status = 'failed' AND row >= :batch << 24 AND row < (:batch + 1) << 24 AND step = :step
       AND error_code <> 'outcome_unknown' AND sent_at IS NOT NULL AND sent_key IS NULL",
];

/// How many rows [`note_keys`] changes, counted up to one more than [`MOST_MOVED`].
pub fn count_unkeyed(connection: &Connection, batch: i64, place: u32) -> Result<usize> {
    count(connection, UNKEYED, batch, place)
}

/// A row of which only its claim is noted.
#[derive(Debug)]
pub struct Unkeyed {
    /// Batch and number.
    pub row: RowId,
    /// The line on which its record starts.
    pub line: u64,
    /// The sealed record.
    pub data: Vec<u8>,
    /// Sealed: what its steps saved.
    pub progress: Option<Vec<u8>>,
    /// How often a person retried a rejected request of it.
    pub retries: u32,
}

/// Writes down the keys under which such rows of a place may have sent something, before they go on by another version.
pub fn note_keys(tx: &Tx<'_>, batch: i64, place: u32, key_of: impl Fn(&Unkeyed) -> String) -> Result<()> {
    for rows in UNKEYED {
        let mut statement = tx.connection.prepare_cached(rows)?;
        let found = statement.query_map(named_params! { ":batch": batch, ":step": place }, |row| row.get(0))?;
        for row in found.collect::<rusqlite::Result<Vec<RowId>>>()? {
            let unkeyed = tx
                .connection
                .prepare_cached("SELECT data, progress, retries, line FROM rows WHERE row = ?")?
                .query_row([row], |found| {
                    Ok(Unkeyed {
                        row,
                        data: found.get(0)?,
                        progress: found.get(1)?,
                        retries: found.get(2)?,
                        line: found.get::<_, i64>(3)? as u64,
                    })
                })?;
            tx.connection
                .prepare_cached(
                    "UPDATE rows SET sent_key = ? WHERE row = ? AND sent_at IS NOT NULL AND sent_key IS NULL",
                )?
                .execute(params![key_of(&unkeyed), row])?;
        }
    }
    Ok(())
}

/// Gives a batch another version; whether it still had the old one. If it stood still only because something was not
/// configured, it goes on.
pub fn change_version(tx: &Tx<'_>, batch: i64, from: i64, to: i64) -> Result<bool> {
    let moved = tx
        .connection
        .prepare_cached(
            "UPDATE batches SET workflow_version = :to, paused_missing = 0,
                                paused_at = CASE WHEN paused_missing = 0 THEN paused_at END,
                                paused_reason = CASE WHEN paused_missing = 0 THEN paused_reason END
             WHERE batch = :batch AND workflow_version = :from",
        )?
        .execute(named_params! { ":batch": batch, ":from": from, ":to": to })?;
    workflows::forget_unneeded(tx, from)?;
    Ok(moved == 1)
}
