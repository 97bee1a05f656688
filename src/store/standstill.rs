//! Whether rows of a batch stand still: nothing of them is called, whoever has claimed them.
//!
//! Those who work rows ask before each request, so what has been found out is worth remembering. [`changes`] tells when
//! this process has brought something to a stand since; another process tells nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension};

use super::{Tx, error::Result, grants};

/// Of every database that this process has open: to look once too often harms nobody.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Another number than before, where something was paused or cancelled meanwhile.
pub fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// Something is paused or cancelled with this transaction. Whoever asked for that hears of it afterwards.
pub(super) fn changed(tx: &Tx<'_>) {
    tx.after_commit(|| {
        CHANGES.fetch_add(1, Ordering::AcqRel);
    });
}

/// Whether the batch, its client or all dispatch is paused, or the batch cancelled, or gone.
pub fn of_batch(connection: &Connection, batch: i64) -> Result<bool> {
    if grants::pause_of(connection)?.is_some() {
        return Ok(true);
    }
    let mut statement = connection.prepare_cached(
        "SELECT batches.paused_at IS NOT NULL OR cancelled_at IS NOT NULL OR clients.paused_at IS NOT NULL
         FROM batches JOIN clients USING (client) WHERE batch = ?",
    )?;
    Ok(statement.query_row([batch], |row| row.get(0)).optional()?.unwrap_or(true))
}
