//! A batch, as every call shows it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    appliance::Appliance,
    dispatch::{
        estimate::Estimate,
        outlook::{Look, Outlook},
    },
    model::{BatchId, BatchStatus, Counts, Timestamp},
    store::{StoreError, batches::Batch, retries},
};

/// A batch, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BatchView {
    id: BatchId,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    workflow: String,
    #[schemars(with = "BatchStatus")]
    status: &'static str,
    paused: bool,
    counts: Counts,
    skipped: u32,
    file: FileView,
    created_at: Timestamp,
    extracted_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    estimate: Option<Estimate>,
    waiting_for: Option<String>,
    /// A retry that is still being carried out; left out where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    retrying: Option<RetryingView>,
    error: Option<BatchErrorView>,
    links: Links,
}

/// The uploaded file, inflated.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct FileView {
    name: Option<String>,
    bytes: u64,
    sha256: String,
}

/// How far a retry is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct RetryingView {
    /// Rows that it has put back to `pending` so far.
    rows: u32,
}

/// Why a batch failed, or the last thing that its extraction stumbled over.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct BatchErrorView {
    code: String,
    message: String,
}

/// Where to look further: paths on this server.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct Links {
    #[serde(rename = "self")]
    this: String,
    rows: String,
    errors: String,
    results: String,
    skipped: String,
    events: String,
}

impl Links {
    fn of(batch: BatchId) -> Self {
        let this = format!("/v2/batches/{batch}");
        Self {
            rows: format!("{this}/rows"),
            errors: format!("{this}/errors"),
            results: format!("{this}/results.csv"),
            skipped: format!("{this}/skipped"),
            events: format!("{this}/events"),
            this,
        }
    }
}

impl BatchView {
    /// A batch for somebody who may see it. Blocks.
    pub fn of(appliance: &Appliance, batch: Batch, for_operator: bool) -> Result<Self, StoreError> {
        let outlook = Outlook::of(appliance, &batch)?;
        Self::with_outlook(appliance, batch, outlook, for_operator)
    }

    /// Several batches, with one look at everything that waits. Blocks.
    pub fn all(appliance: &Appliance, batches: Vec<Batch>, for_operator: bool) -> Result<Vec<Self>, StoreError> {
        let look = Look::at(appliance)?;
        let view = |batch: Batch| {
            let outlook = if batch.status.is_finished() { Outlook::default() } else { look.of(appliance, &batch)? };
            Self::with_outlook(appliance, batch, outlook, for_operator)
        };
        batches.into_iter().map(view).collect()
    }

    fn with_outlook(
        appliance: &Appliance,
        batch: Batch,
        outlook: Outlook,
        for_operator: bool,
    ) -> Result<Self, StoreError> {
        let file_name = file_name(appliance, &batch);
        let retrying = appliance.store.read(|connection| retries::put_back_so_far(connection, batch.batch))?;
        let view = Self::new(batch, file_name, outlook, for_operator);
        Ok(Self { retrying: retrying.map(|rows| RetryingView { rows }), ..view })
    }

    /// A batch of which everything is known, and nothing is retried.
    pub fn new(batch: Batch, file_name: Option<String>, outlook: Outlook, for_operator: bool) -> Self {
        Self {
            id: batch.id,
            client: for_operator.then_some(batch.client_name),
            workflow: batch.workflow,
            status: batch.status.as_str(),
            paused: batch.paused_at.is_some(),
            counts: batch.counts,
            skipped: batch.skipped,
            file: FileView { name: file_name, bytes: batch.file_bytes, sha256: hex(&batch.file_sha256) },
            created_at: batch.created_at,
            extracted_at: batch.extracted_at,
            finished_at: batch.finished_at,
            estimate: outlook.estimate,
            waiting_for: outlook.waiting_for,
            retrying: None,
            error: batch.error.map(|(code, message)| BatchErrorView { code, message }),
            links: Links::of(batch.id),
        }
    }
}

impl BatchView {
    /// Whether it says something that an earlier view did not. An estimate moves with the clock all the time: only
    /// what it is bound by counts.
    pub fn says_more_than(&self, earlier: &Self) -> bool {
        let lasting = |view: &Self| Self { estimate: None, ..view.clone() };
        let bound = |view: &Self| view.estimate.as_ref().map(|estimate| estimate.reason.clone());
        lasting(self) != lasting(earlier) || bound(self) != bound(earlier)
    }
}

/// Opens what is private of a batch. One whose key is lost is still worth showing.
fn file_name(appliance: &Appliance, batch: &Batch) -> Option<String> {
    appliance.open_batch(batch.batch, batch.workflow_version).ok().and_then(|open| open.details.file_name.clone())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
