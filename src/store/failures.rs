//! The table `failures`: how many rows of a batch stand failed, by what went wrong.
//!
//! Kept in the transaction that fails a row or puts it back, so that nobody who asks has to count rows. The counts are
//! for showing; nothing is decided on them.

use rusqlite::{Connection, named_params, params};

use super::{Tx, error::Result};
use crate::model::{FailureCode, RowId};

/// Failed rows that are looked through for examples, where the noted ones do not stand any more.
const ROWS_PER_LOOK: u32 = 20_000;
/// What stands in `http_status` where no answer came.
const NO_ANSWER: u16 = 0;

/// How a row failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// At which step: how many were done.
    pub step: u32,
    /// The kind of fault.
    pub code: FailureCode,
    /// The answer's status; `None` where none came.
    pub http_status: Option<u16>,
}

/// Rows of a batch that failed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// How they failed.
    pub kind: Kind,
    /// How many they are.
    pub failed: u32,
    /// The number of one of them; `None` where none is at hand.
    pub example_row: Option<u32>,
}

/// Counts a row that has just failed so.
pub(super) fn count(tx: &Tx<'_>, row: RowId, kind: Kind) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT INTO failures (batch, step, code, http_status, failed, example_row) VALUES (?, ?, ?, ?, 1, ?)
             ON CONFLICT (batch, step, code, http_status) DO UPDATE SET failed = failed + 1",
        )?
        .execute(params![row.batch(), kind.step, kind.code, kind.http_status.unwrap_or(NO_ANSWER), row.number()])?;
    Ok(())
}

/// Counts so many rows no more: they failed so, and are put back.
pub(super) fn uncount(tx: &Tx<'_>, batch: i64, kind: Kind, rows: u32) -> Result<()> {
    for sql in [
        "DELETE FROM failures
         WHERE batch = :batch AND step = :step AND code = :code AND http_status = :http_status AND failed <= :rows",
        "UPDATE failures SET failed = failed - :rows
         WHERE batch = :batch AND step = :step AND code = :code AND http_status = :http_status AND failed > :rows",
    ] {
        let changed = tx.connection.prepare_cached(sql)?.execute(named_params! {
            ":batch": batch,
            ":step": kind.step,
            ":code": kind.code,
            ":http_status": kind.http_status.unwrap_or(NO_ANSWER),
            ":rows": rows,
        })?;
        if changed > 0 {
            break;
        }
    }
    Ok(())
}

/// Counts all of the batch's anew.
pub(super) fn recount(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM failures WHERE batch = ?")?.execute([batch])?;
    tx.connection
        .prepare_cached(
            "INSERT INTO failures (batch, step, code, http_status, failed, example_row)
             SELECT ?1, step, error_code, coalesce(error_status, ?2), count(*), min(row) & 16777215
             FROM rows INDEXED BY rows_failed WHERE status = 'failed' AND row > ?1 << 24 AND row < (?1 + 1) << 24
             GROUP BY step, error_code, coalesce(error_status, ?2)",
        )?
        .execute(params![batch, NO_ANSWER])?;
    Ok(())
}

/// The batch's groups, the largest first. An example is a row that stands failed so now.
pub fn groups(connection: &Connection, batch: i64) -> Result<Vec<Group>> {
    let mut statement = connection.prepare_cached(
        "SELECT step, code, http_status, failed,
                (SELECT row & 16777215 FROM rows
                 WHERE row = (failures.batch << 24) + example_row AND status = 'failed' AND rows.step = failures.step
                   AND error_code = code AND coalesce(error_status, 0) = http_status)
         FROM failures WHERE batch = ? ORDER BY failed DESC, step, code, http_status",
    )?;
    let groups = statement.query_map([batch], |row| {
        let http_status: u16 = row.get(2)?;
        let http_status = (http_status != NO_ANSWER).then_some(http_status);
        let kind = Kind { step: row.get(0)?, code: row.get(1)?, http_status };
        Ok(Group { kind, failed: row.get(3)?, example_row: row.get(4)? })
    })?;
    let mut groups = groups.collect::<rusqlite::Result<Vec<_>>>()?;
    if groups.iter().any(|group| group.example_row.is_none()) {
        find_examples(connection, batch, &mut groups)?;
    }
    Ok(groups)
}

/// The examples that were noted were put back since: others are looked for among the batch's first failed rows.
fn find_examples(connection: &Connection, batch: i64, groups: &mut [Group]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT row, step, error_code, error_status FROM rows INDEXED BY rows_failed
         WHERE status = 'failed' AND row > ? AND row < ? ORDER BY row LIMIT ?",
    )?;
    let mut rows = statement.query(params![RowId::new(batch, 0), RowId::new(batch + 1, 0), ROWS_PER_LOOK])?;
    while let Some(row) = rows.next()? {
        let (id, kind): (RowId, _) =
            (row.get(0)?, Kind { step: row.get(1)?, code: row.get(2)?, http_status: row.get(3)? });
        let without = groups.iter_mut().find(|group| group.kind == kind && group.example_row.is_none());
        if let Some(group) = without {
            group.example_row = Some(id.number());
            if groups.iter().all(|group| group.example_row.is_some()) {
                break;
            }
        }
    }
    Ok(())
}
