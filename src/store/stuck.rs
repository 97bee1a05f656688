//! The table `processes`, and claims whose owner is gone or went silent.

use std::time::Duration;

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{
    Tx, counts,
    error::Result,
    ready,
    settle::{end_batch_if_done, give_back},
};
use crate::model::{BatchEvent, BatchId, BatchStatus, ClaimNumber, ClaimOwner, RowEvent, RowId, RowStatus, Timestamp};

/// Claims that one transaction frees; the rest follow in the next.
pub const FREED_AT_ONCE: u32 = 1_000;

/// How long a row stays untouched whose claim has expired: what kept its worker from renewing the claim, a locked database
/// above all, kept it from telling how the row ended too. Longer than the pause after which that is tried again.
const LATE: Duration = Duration::from_secs(3);

/// What makes claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessKind {
    /// The server: alone on its data folder, so another one's claims are those of the dead.
    Server,
    /// A command beside it: its claims can only expire.
    Command,
}

/// Whose claims to free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Those that were not renewed in time.
    Expired,
    /// Those that had expired by then, and were not renewed since.
    ExpiredBy(Timestamp),
    /// Those of servers that are not this one.
    OfDeadServers(ClaimOwner),
    /// Those of this one, which makes no more.
    OfOwner(ClaimOwner),
}

impl Lost {
    /// A condition on `owner` and `claim_expires_at`, with its parameters.
    const CONDITION: &str = "CASE WHEN :mine IS NOT NULL THEN owner = :mine
                                  WHEN :me IS NULL THEN claim_expires_at <= min(:by, :now)
                                  ELSE owner IN (SELECT owner FROM processes WHERE kind = 'server' AND owner <> :me)
                             END";

    fn me(self) -> Option<ClaimOwner> {
        match self {
            Self::OfDeadServers(me) => Some(me),
            Self::Expired | Self::ExpiredBy(_) | Self::OfOwner(_) => None,
        }
    }

    fn by(self, now: Timestamp) -> Timestamp {
        match self {
            Self::ExpiredBy(by) => by,
            Self::Expired | Self::OfDeadServers(_) | Self::OfOwner(_) => now,
        }
    }

    /// Whether their workers may live, and be late.
    fn may_be_late(self) -> bool {
        matches!(self, Self::Expired | Self::ExpiredBy(_))
    }

    fn mine(self) -> Option<ClaimOwner> {
        match self {
            Self::OfOwner(owner) => Some(owner),
            Self::Expired | Self::ExpiredBy(_) | Self::OfDeadServers(_) => None,
        }
    }
}

/// A row whose claim was lost.
#[derive(Debug, Clone, Copy)]
pub struct StuckRow {
    /// Batch and number.
    pub row: RowId,
    /// Which claim.
    pub claim: ClaimNumber,
    /// The batch's name.
    pub batch: BatchId,
    /// When its claim expired.
    pub expired_at: Timestamp,
    /// What it is once it is freed.
    pub becomes: RowStatus,
}

/// A batch whose extraction was lost.
#[derive(Debug, Clone, Copy)]
pub struct StuckBatch {
    /// The batch's name.
    pub batch: BatchId,
    /// Rows that are in the work table already.
    pub extracted: u32,
    /// When its claim expired.
    pub expired_at: Timestamp,
    /// What it is once it is freed.
    pub becomes: BatchStatus,
}

/// Notes that a process is about to make claims.
pub fn register(tx: &Tx<'_>, owner: ClaimOwner, kind: ProcessKind) -> Result<()> {
    let kind = match kind {
        ProcessKind::Server => "server",
        ProcessKind::Command => "command",
    };
    tx.connection
        .prepare_cached("INSERT INTO processes (owner, kind, started_at) VALUES (?, ?, ?)")?
        .execute(params![owner, kind, tx.now])?;
    Ok(())
}

/// Notes which key of the ring a server seals under.
pub fn note_key(tx: &Tx<'_>, owner: ClaimOwner, key_id: &str) -> Result<()> {
    tx.connection.prepare_cached("UPDATE processes SET key_id = ? WHERE owner = ?")?.execute(params![key_id, owner])?;
    Ok(())
}

/// The key that the last server noted; `None` where it noted none, or there is none.
pub fn noted_key(connection: &Connection) -> Result<Option<String>> {
    let mut statement = connection
        .prepare_cached("SELECT key_id FROM processes WHERE kind = 'server' ORDER BY process DESC LIMIT 1")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.flatten())
}

/// Forgets a process: it makes no more claims, and holds none.
pub fn unregister(tx: &Tx<'_>, owner: ClaimOwner) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM processes WHERE owner = ?")?.execute([owner])?;
    Ok(())
}

/// Forgets the servers that are not this one, once their claims are freed.
pub fn forget_dead_servers(tx: &Tx<'_>, me: ClaimOwner) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM processes WHERE kind = 'server' AND owner <> ?")?.execute([me])?;
    Ok(())
}

/// Rows and batches whose claim has expired, oldest first, at most `limit` of each.
pub fn list(connection: &Connection, by: Timestamp, limit: u32) -> Result<(Vec<StuckRow>, Vec<StuckBatch>)> {
    let mut rows = connection.prepare_cached(
        "SELECT row, id, rows.claim_expires_at, cancelled_at IS NOT NULL, claim FROM rows INDEXED BY rows_claimed JOIN batches ON batch = row >> 24
         WHERE rows.status = 'processing' AND rows.claim_expires_at <= ? ORDER BY row LIMIT ?",
    )?;
    let rows = rows.query_map(params![by, limit], |row| {
        let becomes = if row.get(3)? { RowStatus::Cancelled } else { RowStatus::Pending };
        Ok(StuckRow { row: row.get(0)?, claim: row.get(4)?, batch: row.get(1)?, expired_at: row.get(2)?, becomes })
    })?;
    let mut batches = connection.prepare_cached(
        "SELECT id, extracted, claim_expires_at, cancelled_at IS NOT NULL FROM batches INDEXED BY batches_claimed
         WHERE status = 'processing' AND claim_expires_at <= ? ORDER BY claim_expires_at, batch LIMIT ?",
    )?;
    let batches = batches.query_map(params![by, limit], |row| {
        let becomes = if row.get(3)? { BatchStatus::Cancelled } else { BatchStatus::Pending };
        Ok(StuckBatch { batch: row.get(0)?, extracted: row.get(1)?, expired_at: row.get(2)?, becomes })
    })?;
    Ok((rows.collect::<rusqlite::Result<_>>()?, batches.collect::<rusqlite::Result<_>>()?))
}

/// Frees up to [`FREED_AT_ONCE`] lost claims of rows: they are `pending` again and due at once, or `cancelled` with
/// their batch. Those that have only expired are due when their worker, if it lives, has had [`LATE`] to tell what became
/// of them. What they had sent stays noted, so that whoever claims them next knows what may not be repeated.
pub fn free_rows(tx: &Tx<'_>, lost: Lost) -> Result<Vec<RowId>> {
    let mut freed = tx.connection.prepare_cached(&format!(
        "UPDATE rows SET owner = NULL, claim_expires_at = NULL,
                status = CASE WHEN cancelled_at IS NULL THEN :released ELSE :cancelled END,
                next_attempt_at = CASE WHEN cancelled_at IS NULL THEN :due END,
                finished_at = CASE WHEN cancelled_at IS NOT NULL THEN :now END
         FROM batches
         WHERE batch = row >> 24
           AND row IN (SELECT row FROM rows INDEXED BY rows_claimed
                       WHERE status = 'processing' AND {} ORDER BY row LIMIT :limit)
         RETURNING row, status, (SELECT client FROM batches WHERE batch = row >> 24), claimed_run",
        Lost::CONDITION
    ))?;
    let rows = freed.query_map(
        named_params! {
            ":released": RowStatus::Processing.on(RowEvent::Release)?,
            ":cancelled": RowStatus::Processing.on(RowEvent::Cancel)?,
            ":now": tx.now,
            ":due": if lost.may_be_late() { tx.now.after(LATE) } else { tx.now },
            ":me": lost.me(),
            ":mine": lost.mine(),
            ":by": lost.by(tx.now),
            ":limit": FREED_AT_ONCE,
        },
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let rows: Vec<(RowId, RowStatus, i64, Option<i64>)> = rows.collect::<rusqlite::Result<_>>()?;
    for &(row, status, client, run) in &rows {
        if let Some(run) = run {
            give_back(tx, client, run)?;
        }
        counts::moved(tx, row.batch(), RowStatus::Processing, status, 1)?;
    }
    let batches: BTreeSet<i64> = rows.iter().map(|(row, ..)| row.batch()).collect();
    for batch in batches {
        ready::touch_batch(tx, batch)?;
        counts::look(tx, batch)?;
        end_batch_if_done(tx, batch)?;
    }
    Ok(rows.into_iter().map(|(row, ..)| row).collect())
}

/// Frees lost claims of batches: they are `pending` again, to be extracted from where they stopped.
pub fn free_batches(tx: &Tx<'_>, lost: Lost) -> Result<Vec<BatchId>> {
    let mut freed = tx.connection.prepare_cached(&free_batches_sql())?;
    let batches = freed.query_map(
        named_params! {
            ":released": BatchStatus::Processing.on(BatchEvent::ReleaseExtraction)?,
            ":now": tx.now,
            ":me": lost.me(),
            ":mine": lost.mine(),
            ":by": lost.by(tx.now),
        },
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let batches: Vec<(i64, BatchId)> = batches.collect::<rusqlite::Result<_>>()?;
    for &(batch, _) in &batches {
        end_batch_if_done(tx, batch)?;
    }
    Ok(batches.into_iter().map(|(_, id)| id).collect())
}

/// Looks at the batches that are being extracted, and at no other.
fn free_batches_sql() -> String {
    format!(
        "UPDATE batches INDEXED BY batches_claimed SET status = :released, owner = NULL, claim_expires_at = NULL
         WHERE status = 'processing' AND {} RETURNING batch, id",
        Lost::CONDITION
    )
}

/// When the last claim on one of a batch's rows expires; `None` where none is claimed.
pub fn held_until(connection: &Connection, batch: i64) -> Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached(
        "SELECT max(claim_expires_at) FROM rows INDEXED BY rows_claimed
         WHERE status = 'processing' AND row > ? AND row < ?",
    )?;
    Ok(statement.query_row([RowId::new(batch, 0), RowId::new(batch + 1, 0)], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_batches_are_freed_without_a_look_at_any_that_is_not_claimed() {
        let connection = Connection::open_in_memory().expect("sqlite");
        connection.execute_batch(crate::store::migrate::SCHEMA).expect("the schema");
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", free_batches_sql())).expect("a plan");
        let steps: Vec<String> =
            plan.raw_query().mapped(|row| row.get("detail")).map(|step| step.expect("a step")).collect();
        assert_eq!(steps[0], "SCAN batches USING INDEX batches_claimed");
    }
}
