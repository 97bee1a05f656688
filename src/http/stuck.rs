//! `/ops/v1/stuck`: claims that expired, and their way out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    request::{Request, request},
    small_json::{Told, small_json},
};
use crate::{
    appliance::Appliance,
    dispatch::rescue::{self, Freed},
    model::{BatchId, RowRef, Timestamp},
    store::{StoreError, audit::Deed, stuck},
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
    /// What is stuck now. Blocks.
    pub fn read(appliance: &Appliance) -> Result<Self, StoreError> {
        let now = appliance.clock.now();
        let (rows, batches) = appliance.store.read(|connection| stuck::list(connection, now, LISTED))?;
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
            rows: rows.into_iter().map(row).collect(),
            batches: batches.into_iter().map(batch).collect(),
            applied: None,
        })
    }

    /// What is stuck now, and frees it. Blocks.
    pub fn reconcile(appliance: &Appliance, deed: Deed) -> Result<Self, StoreError> {
        let view = Self::read(appliance)?;
        Ok(Self { applied: Some(rescue::reconcile(appliance, deed)?), ..view })
    }
}

/// Whether to free what is stuck, or only to say what would happen.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reconcile {
    #[serde(default)]
    apply: bool,
    #[serde(default)]
    reason: Option<String>,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let list = warp::path!("ops" / "v1" / "stuck")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/stuck", list(request)));
    let reconcile = warp::path!("ops" / "v1" / "stuck" / "reconcile")
        .and(warp::post())
        .and(request(&context))
        .and(small_json("{\"apply\": true}; without it nothing is changed"))
        .and_then(|request, told| answer("/ops/v1/stuck/reconcile", reconcile(request, told)));
    list.or(reconcile).unify().boxed()
}

async fn list(request: Request) -> Answer {
    let view = blocking(move || {
        request.caller()?.operator()?;
        Ok(StuckView::read(request.appliance())?)
    });
    json(StatusCode::OK, &view.await?)
}

async fn reconcile(request: Request, told: Told<Reconcile>) -> Answer {
    let view = blocking(move || {
        let operator = request.operator()?;
        let Reconcile { apply, reason } = told?.unwrap_or_default();
        let appliance = request.appliance();
        Ok(match apply {
            true => StuckView::reconcile(appliance, operator.deed("stuck.reconcile", "expired claims", reason))?,
            false => StuckView::read(appliance)?,
        })
    });
    json(StatusCode::OK, &view.await?)
}
