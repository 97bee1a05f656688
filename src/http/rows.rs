//! Rows of a batch: a page of them, or one with its steps.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batches::{LARGEST_LIMIT, Paging},
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::{
    appliance::Appliance,
    dispatch::waiting,
    model::{BatchId, FailureCode, RowId, RowStatus, Timestamp},
    results::MASK,
    store::{
        audit,
        batches::Batch,
        rows::{self, Filter as RowFilter, StoredRow},
        skipped::{self, Skipped},
    },
    work::{open_batch::OpenBatch, open_row::OpenRow},
};

/// A row, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RowView {
    row: u32,
    line: u64,
    #[schemars(with = "RowStatus")]
    status: &'static str,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    waiting_for: Option<String>,
    check_id: Option<Value>,
    error: Option<RowErrorView>,
    data: Map<String, Value>,
    steps: Vec<StepView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RowErrorView {
    step: Option<String>,
    #[schemars(with = "FailureCode")]
    code: &'static str,
    http_status: Option<u16>,
    message: String,
    body: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StepView {
    name: String,
    #[schemars(with = "RowStatus")]
    status: &'static str,
    requests: u32,
    http_status: Option<u16>,
    at: Option<Timestamp>,
    duration_ms: Option<u64>,
    saved: BTreeMap<String, Value>,
}

impl RowView {
    /// Opens a row for somebody who may see it; `masked` hides every value of the row and of the answers. `batch_waits_for`
    /// is what its batch waits for. Blocks.
    pub fn of(
        appliance: &Appliance,
        open: &OpenBatch,
        row: &StoredRow,
        masked: bool,
        batch_waits_for: Option<&str>,
    ) -> Self {
        let show = |value: Value| if masked { Value::from(MASK) } else { value };
        let OpenRow { record, progress, error } = OpenRow::of(open, row);
        let steps = &open.kept.workflow.steps;
        let step_views = steps.iter().zip(0..).filter_map(|(step, place)| {
            let history = progress.of(&step.name);
            let is_behind = place < steps_done(row);
            // A step that its batch's workflow got only when the row had come further was never called.
            if is_behind && history.is_none() && !progress.steps.is_empty() {
                return None;
            }
            let history = history.cloned().unwrap_or_default();
            Some(StepView {
                name: step.name.clone(),
                status: step_status(row, place),
                requests: history.requests,
                http_status: history.http_status,
                at: history.at.map(Timestamp),
                duration_ms: history.duration_ms,
                saved: history.saved.unwrap_or_default().into_iter().map(|(name, value)| (name, show(value))).collect(),
            })
        });
        let error = row.error.as_ref().zip(error).map(|(last, payload)| RowErrorView {
            step: steps.get(row.step as usize).map(|step| step.name.clone()),
            code: last.code.as_str(),
            http_status: last.http_status,
            message: payload.message,
            body: payload.body.map(|body| if masked { MASK.to_owned() } else { body }),
        });
        Self {
            row: row.row.number(),
            line: row.line,
            status: row.status.as_str(),
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            waiting_for: waiting::of_row(row, batch_waits_for, appliance.clock.now()),
            check_id: progress.result.clone(),
            error,
            data: open.named_cells(&record.cells).map(|(name, cell)| (name.to_owned(), show(cell.into()))).collect(),
            steps: step_views.collect(),
        }
    }
}

/// A completed row has done all that there was for it, whatever came to its batch's workflow since.
fn steps_done(row: &StoredRow) -> u32 {
    if row.status == RowStatus::Completed { u32::MAX } else { row.step }
}

/// A step is what its row's position says: before it `completed`, at it what the row is, behind it `pending`.
fn step_status(row: &StoredRow, step: u32) -> &'static str {
    match step.cmp(&steps_done(row)) {
        std::cmp::Ordering::Less => RowStatus::Completed.as_str(),
        std::cmp::Ordering::Equal => row.status.as_str(),
        std::cmp::Ordering::Greater => RowStatus::Pending.as_str(),
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RowList {
    rows: Vec<RowView>,
    next: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Only rows with this status.
    #[schemars(with = "Option<RowStatus>")]
    status: Option<String>,
    /// Only rows that failed with this code.
    #[schemars(with = "Option<FailureCode>")]
    code: Option<String>,
    /// Entries at most; 100 by default.
    #[schemars(range(min = 1, max = LARGEST_LIMIT))]
    limit: Option<u32>,
    /// The `next` of an earlier page.
    after: Option<String>,
    /// An operator's look at the values themselves; it is audited.
    #[serde(default)]
    reveal: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reveal {
    /// An operator's look at the values themselves; it is audited.
    #[serde(default)]
    reveal: bool,
}

impl Query {
    fn paging(&self) -> Paging {
        Paging { limit: self.limit, after: self.after.clone() }
    }

    fn filter(&self) -> Result<RowFilter, Problem> {
        let (status, code) = kind_of(self.status.as_deref(), self.code.as_deref())?;
        Ok(RowFilter { status, code, retried_by: None })
    }
}

/// `?status=&code=`, understood.
pub(super) fn kind_of(
    status: Option<&str>,
    code: Option<&str>,
) -> Result<(Option<RowStatus>, Option<FailureCode>), Problem> {
    let status = status.map(str::parse).transpose();
    let code = code.map(str::parse).transpose();
    match (status, code) {
        (Ok(status), Ok(code)) => Ok((status, code)),
        (Err(()), _) => Err(Problem::new(
            ProblemCode::BadRequest,
            "`status` is pending, processing, completed, failed or cancelled.",
        )),
        (_, Err(())) => Err(Problem::new(ProblemCode::BadRequest, "`code` is the code of a failed row.")),
    }
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v2" / "batches" / BatchId / "rows")
        .and(warp::get())
        .and(request(&context))
        .and_then(|id, request| answer("/v2/batches/ID/rows", list(id, request)));
    let show = warp::path!("v2" / "batches" / BatchId / "rows" / u32)
        .and(warp::get())
        .and(request(&context))
        .and_then(|id, number, request| answer("/v2/batches/ID/rows/NUMBER", show(id, number, request)));
    let skipped = warp::path!("v2" / "batches" / BatchId / "skipped")
        .and(warp::get())
        .and(request(&context))
        .and_then(|id, request| answer("/v2/batches/ID/skipped", skipped_lines(id, request)));
    list.or(show).unify().or(skipped).unify().boxed()
}

/// How somebody wants to look at values, and how that is noted where it has to be.
pub(super) struct Sight {
    /// Whether an operator wants to see them. A client sees its own anyway.
    pub(super) reveal: bool,
    /// What it is called in the audit.
    pub(super) action: &'static str,
    /// What is looked at.
    pub(super) target: String,
}

/// A batch that the caller may see, opened, and whether its values are masked. A reveal is on disk before anything is
/// shown.
pub(super) fn opened(request: &Request, id: BatchId, sight: Sight) -> Result<(Batch, Arc<OpenBatch>, bool), Problem> {
    let caller = request.caller()?;
    let batch = caller.batch(request.appliance(), id)?;
    let open = request.appliance().open_batch(batch.batch, batch.workflow_version).map_err(|error| {
        tracing::error!(event = "batch.undecryptable", batch = %id, %error, "a batch cannot be opened");
        Problem::internal()
    })?;
    let is_operator = caller.sees()?.is_none();
    if is_operator && sight.reveal {
        let deed = request.operator()?.deed(sight.action, sight.target, None);
        request.appliance().store.write(move |tx| audit::note(tx, &deed))?;
    }
    Ok((batch, open, is_operator && !sight.reveal))
}

async fn list(id: BatchId, request: Request) -> Answer {
    let list = blocking(move || {
        let (appliance, query) = (request.appliance(), request.query::<Query>()?);
        let (filter, paging) = (query.filter()?, query.paging());
        let (limit, after) = (paging.limit()?, paging.after()?.unwrap_or(0).min(RowId::MAX_NUMBER));
        let sight = Sight { reveal: query.reveal, action: "batch.reveal", target: id.to_string() };
        let (batch, open, masked) = opened(&request, id, sight)?;
        let page = appliance.store.read(|connection| rows::page(connection, &batch, filter, after, limit))?;
        let waits_for = waiting::of_batch(appliance, &batch)?;
        let view = |row| RowView::of(appliance, &open, row, masked, waits_for.as_deref());
        Ok(RowList { rows: page.rows.iter().map(view).collect(), next: page.next.map(|number| number.to_string()) })
    });
    json(StatusCode::OK, &list.await?)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SkippedList {
    skipped: Vec<Skipped>,
    next: Option<String>,
}

/// The cursor is the line and the place among its batch's faults, `LINE.SEQ`.
async fn skipped_lines(id: BatchId, request: Request) -> Answer {
    let list = blocking(move || {
        let (appliance, paging) = (request.appliance(), request.query::<Paging>()?);
        let batch = request.caller()?.batch(appliance, id)?;
        let limit = paging.limit()?;
        let after = paging.after::<String>()?.unwrap_or_else(|| "0.0".to_owned());
        let cursor = after.split_once('.').and_then(|(line, seq)| Some((line.parse().ok()?, seq.parse().ok()?)));
        let cursor = cursor.ok_or_else(|| Problem::new(ProblemCode::BadRequest, "`after` is not a cursor."))?;
        let page = appliance.store.read(|connection| skipped::page(connection, batch.batch, cursor, limit))?;
        let full = page.len() == limit as usize;
        let next = page.last().filter(|_| full).map(|(seq, fault)| format!("{}.{seq}", fault.line));
        Ok(SkippedList { skipped: page.into_iter().map(|(_, fault)| fault).collect(), next })
    });
    json(StatusCode::OK, &list.await?)
}

async fn show(id: BatchId, number: u32, request: Request) -> Answer {
    let view = blocking(move || {
        let (appliance, query) = (request.appliance(), request.query::<Reveal>()?);
        let sight = Sight { reveal: query.reveal, action: "row.reveal", target: format!("{id}/{number}") };
        let (batch, open, masked) = opened(&request, id, sight)?;
        let known = (1..=RowId::MAX_NUMBER).contains(&number);
        let row = if known { appliance.store.read(|connection| rows::find(connection, &batch, number))? } else { None };
        let row = row.ok_or_else(|| Problem::not_found("row"))?;
        let waits_for = waiting::of_batch(appliance, &batch)?;
        Ok(RowView::of(appliance, &open, &row, masked, waits_for.as_deref()))
    });
    json(StatusCode::OK, &view.await?)
}
