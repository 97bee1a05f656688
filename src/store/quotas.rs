//! The table `client_totals`: what a client has here, for lists, and to be held against its quotas. Triggers keep it.

use rusqlite::{Connection, Row};

use super::{clients, error::Result};
use crate::model::quota::{Amounts, Exceeded, Quotas, Stored};

/// What a client's batches add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Batches.
    pub batches: u64,
    /// Those of them that are not finished.
    pub unfinished: u64,
    /// Bytes of their files.
    pub file_bytes: u64,
    /// Bytes that came with their uploads beside the file.
    pub kept_bytes: u64,
    /// Bytes that are kept of their rows' answers, above what each row is counted with.
    pub saved_bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows of theirs that wait.
    pub pending: u64,
    /// Rows of theirs that are being worked on.
    pub processing: u64,
    /// Rows of theirs that are completed.
    pub completed: u64,
    /// Rows of theirs that failed.
    pub failed: u64,
}

impl Totals {
    /// As quotas count it.
    pub fn used(self) -> Amounts {
        let Self { file_bytes, rows, kept_bytes, saved_bytes, .. } = self;
        Amounts {
            pending_rows: self.pending + self.processing,
            stored_bytes: Stored { file_bytes, rows, kept_bytes, saved_bytes }.bytes(),
            batches: self.batches,
        }
    }
}

/// That what rows of a client have saved brings it over its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Bytes that it has.
    pub used: u64,
    /// Bytes that it may have.
    pub limit: u64,
}

impl Totals {
    /// A quota that was made smaller than what was uploaded holds up uploads alone.
    fn is_full(self, limit: u64) -> Option<Full> {
        let used = self.used().stored_bytes;
        (self.saved_bytes > 0 && used > limit).then_some(Full { used, limit })
    }
}

impl Totals {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        // A count of a batch that drifted can be anything until it is mended.
        let sum = |column| row.get::<_, i64>(column).map(|sum| sum.max(0) as u64);
        Ok(Self {
            batches: sum("batches")?,
            unfinished: sum("unfinished")?,
            file_bytes: sum("file_bytes")?,
            kept_bytes: sum("kept_bytes")?,
            saved_bytes: sum("saved_bytes")?,
            rows: sum("rows")?,
            pending: sum("pending")?,
            processing: sum("processing")?,
            completed: sum("completed")?,
            failed: sum("failed")?,
        })
    }
}

/// What this client has.
pub fn totals(connection: &Connection, client: i64) -> Result<Totals> {
    let mut statement = connection.prepare_cached("SELECT * FROM client_totals WHERE client = ?")?;
    Ok(statement.query_row([client], Totals::from_row)?)
}

/// The quota that so much more would exceed, of those that this client has where this is configured for all.
pub fn exceeded(connection: &Connection, client: i64, configured: Quotas, more: Amounts) -> Result<Option<Exceeded>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM client_totals JOIN clients USING (client) WHERE client = ?")?;
    let found = statement.query_row([client], |row| Ok((Totals::from_row(row)?, clients::own_quotas(row)?)));
    let (totals, own) = found?;
    Ok(own.over(configured).amounts.exceeded_by(totals.used(), more))
}

/// A client's totals, and what it may have stored where this is configured for all.
fn stored(row: &Row<'_>, configured: Quotas) -> rusqlite::Result<Option<Full>> {
    let limit = clients::own_quotas(row)?.over(configured).amounts.stored_bytes;
    Ok(Totals::from_row(row)?.is_full(limit))
}

/// Whether no row of this client is to save anything more.
pub fn full(connection: &Connection, client: i64, configured: Quotas) -> Result<Option<Full>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM client_totals JOIN clients USING (client) WHERE client = ?")?;
    Ok(statement.query_row([client], |row| stored(row, configured))?)
}

/// The clients of which no row is to save anything more: key and name. Looks at those whose rows have saved much, and at no
/// other.
pub fn full_clients(connection: &Connection, configured: Quotas) -> Result<Vec<(i64, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM client_totals INDEXED BY client_totals_saved JOIN clients USING (client) WHERE saved_bytes > 0",
    )?;
    let mut rows = statement.query([])?;
    let mut full = Vec::new();
    while let Some(row) = rows.next()? {
        if stored(row, configured)?.is_some() {
            full.push((row.get("client")?, row.get("name")?));
        }
    }
    Ok(full)
}
