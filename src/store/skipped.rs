//! The table `skipped`: the records of a file that `on_invalid_row = "skip"` left out, and why.

use rusqlite::{Connection, named_params, params};

use super::{
    Tx,
    error::Result,
    pages::{Most, Page},
};

/// One fault of a skipped record.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

/// What an entry takes besides its texts: its key, its numbers, and its place in the table.
const BYTES_AN_ENTRY: u64 = 40;

impl Skipped {
    /// What it takes in the table.
    pub fn bytes(&self) -> u64 {
        let texts = self.column.as_ref().map_or(0, String::len) + self.code.len() + self.message.len();
        BYTES_AN_ENTRY + texts as u64
    }
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

/// Removes whole lines of the batch or upload with this key, the first ones: those with `most` faults together. Returns how
/// many faults those were; fewer than `most` where none is left.
pub(super) fn remove_piece(tx: &Tx<'_>, batch: i64, most: u32) -> Result<usize> {
    let removed = tx
        .connection
        .prepare_cached(
            "DELETE FROM skipped
             WHERE batch = :batch
               AND line <= coalesce((SELECT line FROM skipped WHERE batch = :batch ORDER BY line, seq
                                     LIMIT 1 OFFSET :more), 9223372036854775807)",
        )?
        .execute(named_params! { ":batch": batch, ":more": most.saturating_sub(1) })?;
    Ok(removed)
}

/// The lines of a batch that were skipped and lie after `after_line`, in order, each once, at most `limit`.
pub fn lines(connection: &Connection, batch: i64, after_line: u64, limit: u32) -> Result<Vec<u64>> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT line FROM skipped WHERE batch = ? AND line > ? ORDER BY line LIMIT ?")?;
    let lines = statement.query_map(params![batch, after_line as i64, limit], |row| row.get::<_, i64>(0))?;
    lines.map(|line| Ok(line? as u64)).collect()
}

/// A page of a batch's faults behind the cursor (line, seq), in the file's order.
pub fn page(connection: &Connection, batch: i64, after: (u64, u64), most: Most) -> Result<Page<(u64, Skipped)>> {
    let mut statement = connection.prepare_cached(
        "SELECT line, seq, column, column_number, code, message FROM skipped
         WHERE batch = ? AND (line, seq) > (?, ?) ORDER BY line, seq",
    )?;
    Page::read(statement.query(params![batch, after.0 as i64, after.1 as i64])?, most, |row| {
        let fault = Skipped {
            line: row.get::<_, i64>(0)? as u64,
            column: row.get(2)?,
            column_number: row.get(3)?,
            code: row.get(4)?,
            message: row.get(5)?,
        };
        Ok((row.get::<_, i64>(1)? as u64, fault))
    })
}
