//! What keeps the database file itself in order: the WAL put back and cut, free pages given back.

use std::time::Duration;

use rusqlite::Connection;

use super::{Tx, error::Result};

/// How long the writer stands still for a reader that keeps the WAL from being cut. Whoever asked tries again.
const READER_PATIENCE: Duration = Duration::from_millis(50);

/// Puts the whole WAL back into the file and cuts it to nothing, so that of what was overwritten there no copy is left
/// in it (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>). Says whether it could: a reader that is still at
/// an older state keeps it. To be run outside of a transaction.
pub(super) fn truncate_wal(connection: &Connection, busy_timeout: Duration) -> Result<bool> {
    connection.busy_timeout(READER_PATIENCE)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(busy_timeout)?;
    Ok(!busy?)
}

/// Puts back into the file what no reader is in the way of, and waits for nobody; whether that was everything. To be run
/// outside of a transaction.
pub(super) fn checkpoint(connection: &Connection) -> Result<bool> {
    let whole = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (frames, put_back): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(frames == put_back)
    });
    Ok(whole?)
}

/// Pages of the file that nothing is on.
pub fn free_pages(connection: &Connection) -> Result<u32> {
    Ok(connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?)
}

/// Gives up to `pages` free pages back to the file system. Returns how many are left.
pub fn give_back_pages(tx: &Tx<'_>, pages: u32) -> Result<u32> {
    let mut vacuum = tx.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = vacuum.query([])?;
    // Each step frees one page.
    while steps.next()?.is_some() {}
    free_pages(tx.connection)
}
