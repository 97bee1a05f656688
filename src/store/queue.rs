//! Everything that waits to be worked, in one look: what an estimate is made from. Reads batches, never rows.

use rusqlite::{Connection, named_params, params};

use super::{error::Result, ready};
use crate::model::Timestamp;

/// The most unfinished batches that one look takes in; those beyond are not seen.
pub const LONGEST_LOOK: u32 = 10_000;
/// Waiting rows that are counted at each step, of those that go on without a grant and of the others: enough to know how
/// they stand to each other.
pub const MOST_COUNTED: u32 = 500;

/// An unfinished batch that was not cancelled, and what its client may claim.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Its key in the database.
    pub batch: i64,
    /// Its client.
    pub client: i64,
    /// The version of its workflow.
    pub workflow_version: i64,
    /// Rows that nobody has claimed.
    pub pending: u32,
    /// Rows under way.
    pub processing: u32,
    /// Rows that are not in the work table yet.
    pub unextracted: u32,
    /// Whether it or its client is paused.
    pub is_paused: bool,
    /// The client's own grant per run; `None`: the configured default.
    pub rows_per_run: Option<u32>,
    /// What is left of the client's last grant.
    pub granted: u32,
    /// Since when rows wait that were never begun; `None` where none does.
    pub unstarted_since: Option<Timestamp>,
}

/// Rows of a batch that were begun and wait, as far as one look counts them.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// How many, by step; of no step more than [`MOST_COUNTED`] twice.
    pub by_step: Vec<u32>,
    /// Those of them that go on without a grant.
    pub prepaid: u32,
    /// When the last of all of them is due.
    pub last_due: Option<Timestamp>,
}

/// What unfinished batches have still to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owed {
    /// Bytes of their files that are not rows yet.
    pub row_bytes: u64,
    /// Rows that are not in the work table yet.
    pub unextracted: u64,
    /// Rows that are not finished.
    pub unfinished: u64,
}

/// Everything that was promised to accepted batches.
pub fn owed(connection: &Connection) -> Result<Owed> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(sum(file_bytes / total * (total - extracted)), 0), coalesce(sum(total - extracted), 0),
                coalesce(sum(pending + processing), 0)
         FROM batches INDEXED BY batches_unfinished
         WHERE status IN ('pending', 'processing', 'queued') AND cancelled_at IS NULL",
    )?;
    let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|number| number.max(0) as u64);
    Ok(statement.query_row([], |row| {
        Ok(Owed { row_bytes: number(row, 0)?, unextracted: number(row, 1)?, unfinished: number(row, 2)? })
    })?)
}

/// The unfinished batches, by client and age.
pub fn look(connection: &Connection) -> Result<Vec<Unfinished>> {
    let mut statement = connection.prepare_cached(
        "SELECT batch, client, workflow_version, min(max(pending, 0), total), min(max(processing, 0), total),
                total - extracted,
                batches.paused_at IS NOT NULL OR clients.paused_at IS NOT NULL, rows_per_run, coalesce(remaining, 0),
                CASE WHEN next_row <= total THEN extracted_at END
         FROM batches INDEXED BY batches_unfinished JOIN clients USING (client) LEFT JOIN grants USING (client)
         WHERE status IN ('pending', 'processing', 'queued') AND cancelled_at IS NULL
         ORDER BY client, batch LIMIT :limit",
    )?;
    let found = statement.query_map(named_params! { ":limit": LONGEST_LOOK }, |row| {
        Ok(Unfinished {
            batch: row.get(0)?,
            client: row.get(1)?,
            workflow_version: row.get(2)?,
            pending: row.get(3)?,
            processing: row.get(4)?,
            unextracted: row.get(5)?,
            is_paused: row.get(6)?,
            rows_per_run: row.get(7)?,
            granted: row.get(8)?,
            unstarted_since: row.get(9)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// How the rows of a batch stand that wait, over so many steps. Reads no more than a few entries of their index.
pub fn waiting(connection: &Connection, batch: i64, steps: usize) -> Result<Waiting> {
    let mut last = connection.prepare_cached(
        "SELECT max(next_attempt_at) FROM rows INDEXED BY rows_waiting
         WHERE row >> 24 = ? AND step = ? AND prepaid = ? AND status = 'pending' AND next_attempt_at IS NOT NULL",
    )?;
    let mut waiting = Waiting::default();
    for step in 0..steps {
        let mut here = 0;
        for prepaid in [false, true] {
            let due: Option<Timestamp> = last.query_row(params![batch, step as u32, prepaid], |row| row.get(0))?;
            if due.is_none() {
                continue;
            }
            let rows = ready::count_waiting(connection, batch, step as u32, prepaid, MOST_COUNTED)?;
            here += rows;
            waiting.prepaid += if prepaid { rows } else { 0 };
            waiting.last_due = waiting.last_due.max(due);
        }
        waiting.by_step.push(here);
    }
    Ok(waiting)
}
