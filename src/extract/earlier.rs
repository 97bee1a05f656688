//! Where rows came from that a file names as rows of ours: looked up while their batches are there.

use std::{collections::HashMap, sync::Arc};

use crate::{
    appliance::Appliance,
    model::{BatchId, RowId, RowRef},
    store::{batches, rows},
    work::{
        idempotency::{BatchOrigin, Stated},
        open_batch::OpenBatchError,
    },
};

/// Batches that are remembered; beyond that all are forgotten, and asked for again. A file hardly ever names more than one.
const BATCHES: usize = 1_000;

/// The earlier batches of one client.
pub(super) struct Earlier {
    appliance: Arc<Appliance>,
    client: i64,
    /// With their keys in the database; those that came with no key of their own, or are gone, have none.
    known: HashMap<BatchId, Option<(i64, BatchOrigin)>>,
}

impl Earlier {
    pub(super) fn of(appliance: Arc<Appliance>, client: i64) -> Self {
        Self { appliance, client, known: HashMap::new() }
    }

    /// What a record states that was this row.
    pub(super) fn stated(&mut self, row: RowRef) -> Result<Stated, OpenBatchError> {
        let Some((batch, origin)) = self.batch(row.batch)? else { return Ok(Stated { row, origin: None }) };
        let id = RowId::new(batch, row.number);
        let line = self.appliance.store.read(|connection| rows::line(connection, id))?;
        Ok(Stated { row, origin: line.map(|line| (origin, line)) })
    }

    fn batch(&mut self, id: BatchId) -> Result<Option<(i64, BatchOrigin)>, OpenBatchError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let found = self.appliance.store.read(|connection| batches::find(connection, id))?;
        let origin = match found.filter(|batch| batch.client == self.client) {
            None => None,
            Some(batch) => match self.appliance.open_batch(batch.batch, batch.workflow_version) {
                Ok(open) => open.details.origin.map(|origin| (batch.batch, origin)),
                Err(OpenBatchError::Store(error)) => return Err(error.into()),
                // What cannot be opened any more has sent nothing that could be known again.
                Err(error) => {
                    tracing::warn!(event = "batch.unreadable", batch = %id, %error, "an earlier batch that a file names cannot be opened");
                    None
                }
            },
        };
        if self.known.len() >= BATCHES {
            self.known.clear();
        }
        self.known.insert(id, origin);
        Ok(origin)
    }
}
