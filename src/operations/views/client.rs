//! A client, as operators see it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    config::{Config, tell_size},
    model::{
        Timestamp,
        quota::{Amounts, OwnQuotas, Quotas},
    },
    store::{Connection, StoreError, clients::Client, quotas},
};

/// A client, as operators see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClientView {
    /// Its name.
    name: String,
    /// Its own limit: rows that each dispatch run grants it; `null`: the configured default.
    rows_per_run: Option<u32>,
    /// The limit that holds.
    limit: u32,
    /// The workflows that it may use; `null`: all.
    workflows: Option<Vec<String>>,
    /// What it may have at most, and how much of that is used.
    quotas: QuotaViews,
    /// Whether none of its rows are claimed.
    paused: bool,
    /// Since when.
    paused_at: Option<Timestamp>,
    /// Batches that are not finished.
    batches: u64,
    /// Rows that wait.
    pending: u64,
    /// Rows that are being worked on.
    processing: u64,
    /// Rows that are completed, of all batches that are not deleted.
    completed: u64,
    /// Rows that failed, of all batches that are not deleted.
    failed: u64,
    /// When it was added.
    created_at: Timestamp,
}

impl ClientView {
    /// A client with what it has, under this configuration.
    pub fn read(connection: &Connection, client: &Client, config: &Config) -> Result<Self, StoreError> {
        let totals = quotas::totals(connection, client.client)?;
        Ok(Self {
            name: client.name.clone(),
            rows_per_run: client.rows_per_run,
            limit: client.rows_per_run.unwrap_or(config.dispatch.rows_per_client_per_run),
            workflows: client.workflows.clone(),
            quotas: QuotaViews::of(client.quotas, config.quotas, totals.used()),
            paused: client.paused_at.is_some(),
            paused_at: client.paused_at,
            batches: totals.unfinished,
            pending: totals.pending,
            processing: totals.processing,
            completed: totals.completed,
            failed: totals.failed,
            created_at: client.created_at,
        })
    }

    /// The same as people read it: name, limit, state, rows that wait, are worked on and failed, what is used of its quotas,
    /// time of creation.
    pub fn cells(&self) -> Vec<String> {
        let limit = self.rows_per_run.map_or_else(|| format!("{} (default)", self.limit), |rows| rows.to_string());
        let state = if self.paused { "paused" } else { "active" };
        let counts = [self.pending, self.processing, self.failed].map(|count| count.to_string());
        let mut cells = vec![self.name.clone(), limit, state.to_owned()];
        cells.extend(counts);
        cells.push(self.quotas.pending_rows.cell(|rows| rows.to_string()));
        cells.push(self.quotas.stored_bytes.cell(tell_size));
        cells.push(self.quotas.batches.cell(|batches| batches.to_string()));
        cells.push(self.created_at.to_string());
        cells
    }
}

/// A client's quotas.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaViews {
    /// Rows that are not finished.
    pending_rows: QuotaView,
    /// Bytes of files and rows together.
    stored_bytes: QuotaView,
    /// Batches, finished ones too, until they are deleted.
    batches: QuotaView,
    /// Uploads under way.
    uploads_at_once: QuotaView,
}

/// One of them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaView {
    /// The limit that holds.
    limit: u64,
    /// Whether it was set for this client.
    is_own: bool,
    /// How much is used; left out of what changes from one moment to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
}

impl QuotaViews {
    fn of(own: OwnQuotas, configured: Quotas, used: Amounts) -> Self {
        let Quotas { amounts: limits, uploads_at_once } = own.over(configured);
        let view = |limit, is_own, used| QuotaView { limit, is_own, used };
        Self {
            pending_rows: view(limits.pending_rows, own.pending_rows.is_some(), Some(used.pending_rows)),
            stored_bytes: view(limits.stored_bytes, own.stored_bytes.is_some(), Some(used.stored_bytes)),
            batches: view(limits.batches, own.batches.is_some(), Some(used.batches)),
            uploads_at_once: view(uploads_at_once.into(), own.uploads_at_once.is_some(), None),
        }
    }
}

impl QuotaView {
    fn cell(&self, told: impl Fn(u64) -> String) -> String {
        format!("{} of {}", told(self.used.unwrap_or_default()), told(self.limit))
    }
}

/// A page of clients.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClientList {
    /// By name.
    pub clients: Vec<ClientView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}
