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
    work::open_batch::BatchDetails,
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
pub struct FileView {
    name: Option<String>,
    bytes: u64,
    /// In hexadecimal digits; `null` where the batch's key is lost.
    sha256: Option<String>,
}

/// What is private of a batch's file.
#[derive(Debug, Clone, Default)]
pub struct PrivateFile {
    /// The name that it had where it came from.
    pub name: Option<String>,
    /// The SHA-256 of the inflated file.
    pub sha256: Option<String>,
}

/// How far a retry is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RetryingView {
    /// Rows that it has put back to `pending` so far.
    rows: u32,
}

/// Why a batch failed, or the last thing that its extraction stumbled over.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BatchErrorView {
    code: String,
    message: String,
}

/// Where to look further: paths on this server.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Links {
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

    /// How batches look, each of several, with one look at everything that waits. Blocks.
    pub fn each(
        appliance: &Appliance,
        for_operator: bool,
    ) -> Result<impl Fn(Batch) -> Result<Self, StoreError>, StoreError> {
        let look = Look::at(appliance)?;
        Ok(move |batch: Batch| {
            let outlook = if batch.status.is_finished() { Outlook::default() } else { look.of(appliance, &batch)? };
            Self::with_outlook(appliance, batch, outlook, for_operator)
        })
    }

    fn with_outlook(
        appliance: &Appliance,
        batch: Batch,
        outlook: Outlook,
        for_operator: bool,
    ) -> Result<Self, StoreError> {
        let file = private_file(appliance, &batch);
        let retrying = appliance.store.read(|connection| retries::put_back_so_far(connection, batch.batch))?;
        let view = Self::new(batch, file, outlook, for_operator);
        Ok(Self { retrying: retrying.map(|rows| RetryingView { rows }), ..view })
    }

    /// A batch of which everything is known, and nothing is retried.
    pub fn new(batch: Batch, file: PrivateFile, outlook: Outlook, for_operator: bool) -> Self {
        Self {
            id: batch.id,
            client: for_operator.then_some(batch.client_name),
            workflow: batch.workflow,
            status: batch.status.as_str(),
            paused: batch.paused_at.is_some(),
            counts: batch.counts,
            skipped: batch.skipped,
            file: FileView { name: file.name, bytes: batch.file_bytes, sha256: file.sha256 },
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
fn private_file(appliance: &Appliance, batch: &Batch) -> PrivateFile {
    let open = appliance.open_batch(batch.batch, batch.workflow_version);
    let of = |details: &BatchDetails| PrivateFile {
        name: details.file_name.clone(),
        sha256: Some(details.file_sha256.clone()),
    };
    open.map(|open| of(&open.details)).unwrap_or_default()
}
