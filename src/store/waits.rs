//! Waits that stand in the database are wall-clock times, so that they hold over restarts. Where the wall clock is set
//! back they would last as much longer: then they are moved with it.
//!
//! A row's is moved only if it still stands as it was found: what was noted after the clock was set is right already.

use std::time::Duration;

use rusqlite::{Connection, named_params, params};

use super::{Tx, error::Result, ready};
use crate::model::{RowId, Timestamp};

/// Rows whose waits one transaction moves.
pub const MOVED_AT_ONCE: usize = 1_000;

/// A row that waits for another try, and until when.
pub type RowWait = (RowId, Timestamp);

/// Every row that waits for longer than until then.
pub fn of_rows_beyond(connection: &Connection, beyond: Timestamp) -> Result<Vec<RowWait>> {
    let mut statement = connection.prepare_cached(
        "SELECT row, next_attempt_at FROM rows INDEXED BY rows_waiting
         WHERE status = 'pending' AND next_attempt_at IS NOT NULL AND next_attempt_at > ?",
    )?;
    let waits = statement.query_map([beyond], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(waits.collect::<rusqlite::Result<_>>()?)
}

/// Moves rows' waits back with the clock, and with them how long ago their requests left.
pub fn move_rows(tx: &Tx<'_>, waits: &[RowWait], by: Duration) -> Result<usize> {
    let mut update = tx.connection.prepare_cached(
        "UPDATE rows SET next_attempt_at = max(:now, next_attempt_at - :by),
                         first_request_at = first_request_at - :by, sent_at = sent_at - :by
         WHERE row = :row AND status = 'pending' AND next_attempt_at = :until",
    )?;
    let mut moved = 0;
    for (row, until) in waits {
        moved += update.execute(named_params! { ":row": row, ":until": until, ":by": millis(by), ":now": tx.now })?;
    }
    tell(tx, waits)?;
    Ok(moved)
}

/// The batches of these rows have others due first.
fn tell(tx: &Tx<'_>, waits: &[RowWait]) -> Result<()> {
    ready::touch_batches(tx, waits.iter().map(|(row, _)| row.batch()))
}

/// Cuts rows' waits to what they can be at most.
pub fn cut_rows(tx: &Tx<'_>, waits: &[RowWait], longest: Duration) -> Result<usize> {
    let mut update = tx.connection.prepare_cached(
        "UPDATE rows SET next_attempt_at = ? WHERE row = ? AND status = 'pending' AND next_attempt_at = ?",
    )?;
    let until = tx.now.after(longest);
    tell(tx, waits)?;
    waits.iter().try_fold(0, |cut, (row, stood)| Ok(cut + update.execute(params![until, row, stood])?))
}

/// Moves what waits beside rows, in one go: there are few of them. Extraction, announcements and alerts.
pub fn move_others(tx: &Tx<'_>, by: Duration) -> Result<()> {
    for sql in [
        "UPDATE batches SET next_attempt_at = max(?1, next_attempt_at - ?2)
         WHERE status IN ('pending', 'processing', 'queued') AND next_attempt_at > ?1",
        "UPDATE deliveries SET next_attempt_at = max(?1, next_attempt_at - ?2)
         WHERE status = 'pending' AND next_attempt_at > ?1",
        "UPDATE alerts SET since = since - ?2 WHERE state <> 'resolved' AND since > ?1",
    ] {
        tx.connection.prepare_cached(sql)?.execute(params![tx.now, millis(by)])?;
    }
    Ok(())
}

/// Cuts claims to what is left of one at most. Whoever holds one renews it before its next request, and outlasts this.
pub fn cut_claims(tx: &Tx<'_>, longest: Duration) -> Result<usize> {
    let until = tx.now.after(longest);
    let mut cut = 0;
    for sql in [
        "UPDATE rows INDEXED BY rows_claimed SET claim_expires_at = ?1
         WHERE status = 'processing' AND claim_expires_at > ?1",
        "UPDATE batches INDEXED BY batches_claimed SET claim_expires_at = ?1
         WHERE status = 'processing' AND claim_expires_at > ?1",
    ] {
        cut += tx.connection.prepare_cached(sql)?.execute([until])?;
    }
    Ok(cut)
}

fn millis(by: Duration) -> i64 {
    i64::try_from(by.as_millis()).unwrap_or(i64::MAX)
}
