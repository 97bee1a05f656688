//! The table `batches` across clients, as operators look at it. What a page costs does not depend on how many batches
//! there are: so many are looked at and no more, and a page may be short.

use rusqlite::{Connection, named_params};

use super::{
    batches::{self, Batch, COLUMNS},
    error::Result,
    pages::{Most, stored_bytes},
};
use crate::model::{BatchId, BatchStatus};

/// Batches that one page looks at.
const LOOKED_AT: u32 = 2_000;
/// Finished batches that are looked at for trouble, the last ones.
const FINISHED_LOOKED_AT: u32 = 200;

/// Which batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Those of this client.
    pub client: Option<i64>,
    /// Those with this status.
    pub status: Option<BatchStatus>,
}

/// A page of batches; it may be short while there is a next one.
pub struct Page {
    /// Newest first.
    pub batches: Vec<Batch>,
    /// Behind which batch the next page begins; `None`: there is none.
    pub next: Option<BatchId>,
}

/// Batches behind the batch `before`, newest first.
pub fn page(connection: &Connection, filter: Filter, before: Option<BatchId>, most: Most) -> Result<Page> {
    let before = before.map_or(Ok(i64::MAX), |id| batches::key_before(connection, id))?;
    let whose = if filter.client.is_some() { "client = :client AND" } else { ":client IS NULL AND" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} WHERE {whose} batch < :before ORDER BY batch DESC LIMIT :looked_at"
    ))?;
    let parameters = named_params! { ":client": filter.client, ":before": before, ":looked_at": LOOKED_AT };
    let mut rows = statement.query(parameters)?;
    let (mut found, mut bytes, mut looked_at, mut last) = (Vec::new(), 0, 0, None);
    while let Some(row) = rows.next()? {
        if most.is_reached(found.len(), bytes) {
            return Ok(Page { batches: found, next: last });
        }
        looked_at += 1;
        last = Some(row.get("id")?);
        let status: BatchStatus = row.get("status")?;
        if filter.status.is_none_or(|wanted| wanted == status) {
            bytes += stored_bytes(row)?;
            found.push(Batch::from_row(row)?);
        }
    }
    Ok(Page { batches: found, next: last.filter(|_| looked_at == LOOKED_AT) })
}

/// Batches that an operator wants to see, those in trouble first: paused ones, those that failed to extract, those with
/// failed rows, and then whatever is under way.
pub fn trouble_first(connection: &Connection, limit: u32) -> Result<Vec<Batch>> {
    let mut statement = connection.prepare_cached(
        "WITH some (batch) AS (
             SELECT * FROM (SELECT batch FROM batches INDEXED BY batches_unfinished
                            WHERE status IN ('pending', 'processing', 'queued') LIMIT :looked_at)
             UNION ALL
             SELECT * FROM (SELECT batch FROM batches INDEXED BY batches_finished WHERE finished_at IS NOT NULL
                            ORDER BY finished_at DESC LIMIT :finished_looked_at))
         SELECT batch FROM some JOIN batches USING (batch)
         ORDER BY CASE WHEN finished_at IS NULL AND paused_at IS NOT NULL THEN 0
                       WHEN status = 'failed' THEN 1
                       WHEN finished_at IS NULL AND (failed > 0 OR error_code IS NOT NULL) THEN 2
                       WHEN finished_at IS NULL THEN 3
                       WHEN failed > 0 THEN 4
                       ELSE 5 END,
                  batch DESC
         LIMIT :limit",
    )?;
    let keys = statement.query_map(
        named_params! { ":looked_at": LOOKED_AT, ":finished_looked_at": FINISHED_LOOKED_AT, ":limit": limit },
        |row| row.get(0),
    )?;
    let keys: Vec<i64> = keys.collect::<rusqlite::Result<_>>()?;
    keys.into_iter().map(|batch| batches::by_key(connection, batch)).collect()
}
