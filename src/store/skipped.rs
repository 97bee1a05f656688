//! The table `skipped`: the records of a file that `on_invalid_row = "skip"` left out, and why.

use rusqlite::{Connection, params};

use super::{Tx, error::Result};

/// One fault of a skipped record.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct Skipped {
    /// The line on which the record starts.
    pub line: u64,
    /// The column, where the fault is in one.
    pub column: Option<String>,
    /// 1 for the file's first column.
    pub column_number: Option<u32>,
    /// As in `errors[].code` of a refused file.
    pub code: String,
    /// What was expected.
    pub message: String,
}

/// Notes faults of the batch or upload with this key. `first_seq` counts the faults noted before.
pub fn add(tx: &Tx<'_>, batch: i64, first_seq: u64, faults: &[Skipped]) -> Result<()> {
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO skipped (batch, line, seq, column, column_number, code, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (seq, fault) in (first_seq..).zip(faults) {
        insert.execute(params![
            batch,
            fault.line as i64,
            seq as i64,
            fault.column,
            fault.column_number,
            fault.code,
            fault.message
        ])?;
    }
    Ok(())
}

/// The lines of a batch that were skipped and lie after `after_line`, in order, each once, at most `limit`.
pub fn lines(connection: &Connection, batch: i64, after_line: u64, limit: u32) -> Result<Vec<u64>> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT line FROM skipped WHERE batch = ? AND line > ? ORDER BY line LIMIT ?")?;
    let lines = statement.query_map(params![batch, after_line as i64, limit], |row| row.get::<_, i64>(0))?;
    lines.map(|line| Ok(line? as u64)).collect()
}

/// A page of a batch's faults behind the cursor (line, seq), in the file's order.
pub fn page(connection: &Connection, batch: i64, after: (u64, u64), limit: u32) -> Result<Vec<(u64, Skipped)>> {
    let mut statement = connection.prepare_cached(
        "SELECT line, seq, column, column_number, code, message FROM skipped
         WHERE batch = ? AND (line, seq) > (?, ?) ORDER BY line, seq LIMIT ?",
    )?;
    let rows = statement.query_map(params![batch, after.0 as i64, after.1 as i64, limit], |row| {
        let fault = Skipped {
            line: row.get::<_, i64>(0)? as u64,
            column: row.get(2)?,
            column_number: row.get(3)?,
            code: row.get(4)?,
            message: row.get(5)?,
        };
        Ok((row.get::<_, i64>(1)? as u64, fault))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
