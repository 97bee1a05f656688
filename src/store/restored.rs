//! What has to change in a database that was restored from a backup, before anybody works with it.

use rusqlite::{Connection, params};

use super::{Tx, error::Result, grants, home, uploads, uploads::Upload};
use crate::model::{BatchId, ClaimOwner};

/// A start of the machine that never was: a line of a rate limit that was set under it waits a whole second, so that no
/// second can hold both what the old database let go and what this one does.
const NO_BOOT: &str = "restored";

/// A batch that was not finished when the backup was taken.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Its key in the database.
    pub batch: i64,
    /// Its name outside.
    pub id: BatchId,
    /// Its client's name.
    pub client: String,
    /// Its workflow.
    pub workflow: String,
    /// The version of it.
    pub workflow_version: i64,
    /// Rows that are not in the work table yet.
    pub not_extracted: u32,
}

/// Everybody who may hold a claim: none of them is alive here.
pub fn owners(connection: &Connection) -> Result<Vec<ClaimOwner>> {
    let mut statement = connection.prepare("SELECT owner FROM processes")?;
    let owners = statement.query_map([], |row| row.get(0))?;
    Ok(owners.collect::<rusqlite::Result<_>>()?)
}

/// Pauses dispatch with this reason, ends what belonged to the old installation (processes, sessions, uploads under
/// way, its home), and makes the line of every rate limit wait.
///
/// The stored files of uploads under way are not in the backup. In a bucket that the old installation uses too, one may
/// have become the file of a batch there, so none is deleted.
pub fn settle_in(tx: &Tx<'_>, by: &str, reason: &str, dependencies: &[String]) -> Result<()> {
    grants::pause(tx, by, Some(reason))?;
    home::leave(tx)?;
    tx.connection.execute("DELETE FROM processes", [])?;
    tx.connection.execute("DELETE FROM sessions", [])?;
    let mut statement = tx.connection.prepare("SELECT batch, id FROM uploads")?;
    let begun = statement.query_map([], |row| Ok(Upload { batch: row.get(0)?, id: row.get(1)? }))?;
    for upload in begun.collect::<rusqlite::Result<Vec<_>>>()? {
        while !uploads::forget_piece(tx, upload)? {}
    }
    tx.connection.execute("UPDATE dependencies SET boot = ?, next_slot_ns = 0", [NO_BOOT])?;
    for name in dependencies {
        tx.connection.execute(
            "INSERT INTO dependencies (name, boot, next_slot_ns) VALUES (?, ?, 0) ON CONFLICT (name) DO NOTHING",
            params![name, NO_BOOT],
        )?;
    }
    Ok(())
}

/// The batches that were not finished, oldest first.
pub fn unfinished(connection: &Connection) -> Result<Vec<Unfinished>> {
    let mut statement = connection.prepare(
        "SELECT batch, id, name, workflow, workflow_version, total - extracted FROM batches INDEXED BY batches_unfinished
         JOIN clients USING (client) WHERE status IN ('pending', 'processing', 'queued') ORDER BY batch",
    )?;
    let batches = statement.query_map([], |row| {
        Ok(Unfinished {
            batch: row.get(0)?,
            id: row.get(1)?,
            client: row.get(2)?,
            workflow: row.get(3)?,
            workflow_version: row.get(4)?,
            not_extracted: row.get(5)?,
        })
    })?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// How many rows of a batch are unfinished, by the number of steps that they had done. Looks through the batch.
pub fn unfinished_rows(connection: &Connection, batch: i64) -> Result<Vec<(u32, u64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT step, count(*) FROM rows WHERE row BETWEEN ?1 << 24 AND (?1 << 24) + 0xFFFFFF
           AND status IN ('pending', 'processing') GROUP BY step ORDER BY step",
    )?;
    let rows = statement.query_map([batch], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
