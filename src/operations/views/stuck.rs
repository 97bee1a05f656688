//! Claims that expired, and what becomes of them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    appliance::Appliance,
    dispatch::rescue::{self, Freed},
    model::{BatchId, RowRef, Timestamp},
    operations::Actor,
    store::{StoreError, stuck},
};

/// Entries of each kind that are listed; there are as many stuck rows as there were workers.
const LISTED: u32 = 1_000;

/// Rows and batches in `processing` whose claim has expired, and what becomes of them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StuckView {
    /// Rows.
    pub rows: Vec<StuckRowView>,
    /// Batches.
    pub batches: Vec<StuckBatchView>,
    /// What was freed; `null` where nothing was changed.
    pub applied: Option<Freed>,
}

/// A row whose claim has expired.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StuckRowView {
    /// `BATCH/NUMBER`.
    pub row: String,
    /// When its claim expired.
    pub expired_at: Timestamp,
    /// Its status once it is freed.
    pub becomes: &'static str,
}

/// A batch whose extraction has stopped.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StuckBatchView {
    /// The batch.
    pub batch: BatchId,
    /// Rows that are in the work table; extraction goes on behind them.
    pub extracted: u32,
    /// When its claim expired.
    pub expired_at: Timestamp,
    /// Its status once it is freed.
    pub becomes: &'static str,
}

impl StuckView {
    /// What has expired by then, and is not in this process's own hand. Blocks.
    pub fn read(appliance: &Appliance, by: Timestamp) -> Result<Self, StoreError> {
        let (rows, batches) = appliance.store.read(|connection| stuck::list(connection, by, LISTED))?;
        let in_hand = |row: &stuck::StuckRow| appliance.under_way.holds(row.row, row.claim);
        let row = |row: stuck::StuckRow| StuckRowView {
            row: RowRef { batch: row.batch, number: row.row.number() }.to_string(),
            expired_at: row.expired_at,
            becomes: row.becomes.as_str(),
        };
        let batch = |batch: stuck::StuckBatch| StuckBatchView {
            batch: batch.batch,
            extracted: batch.extracted,
            expired_at: batch.expired_at,
            becomes: batch.becomes.as_str(),
        };
        Ok(Self {
            rows: rows.into_iter().filter(|row| !in_hand(row)).map(row).collect(),
            batches: batches.into_iter().map(batch).collect(),
            applied: None,
        })
    }

    /// The same, and frees it. Blocks.
    pub fn reconcile(
        appliance: &Appliance,
        actor: &Actor,
        by: Timestamp,
        reason: Option<String>,
    ) -> Result<Self, StoreError> {
        let view = Self::read(appliance, by)?;
        let deed = actor.deed("stuck.reconcile", "expired claims", reason);
        Ok(Self { applied: Some(rescue::reconcile(appliance, by, deed)?), ..view })
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.batches.is_empty()
    }
}
