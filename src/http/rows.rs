//! Rows of a batch: a page of them, or one with its steps.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    access::Caller,
    answer::{Answer, blocking},
    list::{listed, long_json},
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::{
    dispatch::waiting,
    model::{BatchId, FailureCode, Role, RowId, RowStatus, words},
    operations::{
        rows::reveal,
        views::{
            paging::{LARGEST_LIMIT, Paging},
            row::RowView,
        },
    },
    store::{
        batches::Batch,
        pages::Most,
        rows::{self, Filter as RowFilter, StoredRow},
        skipped::{self, Skipped},
    },
    work::open_batch::OpenBatch,
};

/// The most bytes that the rows of a page are stored in: a thousand of the usual width are half of that.
const PAGE_BYTES: usize = 1 << 20;

/// A page of rows; it may be short while `next` is not null.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, and made entry by entry")]
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
    let wrong = "`status` is pending, processing, completed, failed or cancelled.";
    Ok((status.map_err(|_| Problem::new(ProblemCode::BadRequest, wrong))?, failure_code(code)?))
}

/// `?code=`, understood.
pub(super) fn failure_code(code: Option<&str>) -> Result<Option<FailureCode>, Problem> {
    code.map(str::parse).transpose().map_err(|_| {
        let known = words(FailureCode::ALL).join(", ");
        Problem::new(ProblemCode::BadRequest, format!("`code` is one of {known}."))
    })
}

/// A batch that the caller may see, opened.
pub(super) struct Opened {
    pub(super) batch: Batch,
    pub(super) open: Arc<OpenBatch>,
    /// Whether its values are masked.
    pub(super) masked: bool,
    /// Who looks at it: the client's key in the database, or `None` for an operator.
    pub(super) whose: Option<i64>,
}

/// Opens a batch that this caller may see, to look at all of it or at one row. `is_revealed`: an operator wants to see the values
/// themselves, which is on disk before anything is shown; a client sees its own anyway.
pub(super) fn opened(
    request: &Request,
    caller: &Caller,
    id: BatchId,
    row: Option<u32>,
    is_revealed: bool,
) -> Result<Opened, Problem> {
    let batch = caller.batch(request.appliance(), id)?;
    let open = request.appliance().open_batch(batch.batch, batch.workflow_version).map_err(|error| {
        tracing::error!(event = "batch.undecryptable", batch = %id, %error, "a batch cannot be opened");
        Problem::internal()
    })?;
    let whose = caller.sees()?;
    if whose.is_none() && is_revealed {
        caller.must_be(Role::Operator)?;
        reveal(&request.appliance().store, &request.actor(caller), id, row)?;
    }
    Ok(Opened { batch, open, masked: whose.is_none() && !is_revealed, whose })
}

pub(super) async fn list(id: BatchId, request: Request) -> Answer {
    let ask = move |request: &Request| {
        let (caller, query) = (request.caller()?, request.query::<Query>()?);
        let (filter, paging) = (query.filter()?, query.paging());
        let (entries, after) = (paging.limit()?, paging.after()?.unwrap_or(0).min(RowId::MAX_NUMBER));
        Ok((opened(request, &caller, id, None, query.reveal)?, filter, after, Most { entries, bytes: PAGE_BYTES }))
    };
    listed(request, "rows", ask, |request, (Opened { batch, open, masked, .. }, filter, after, most), page| {
        let appliance = request.appliance();
        let found = appliance.store.read(|connection| rows::page(connection, batch, *filter, *after, *most))?;
        let waits_for = waiting::of_batch(appliance, batch)?;
        let view = |row: StoredRow| Ok(RowView::of(appliance, open, &row, *masked, waits_for.as_deref()));
        page.fill(found.rows, found.next, |row| row.row.number(), view)
    })
    .await
}

/// A page of what was left out.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, and made entry by entry")]
pub(super) struct SkippedList {
    skipped: Vec<Skipped>,
    next: Option<String>,
}

/// The cursor is the line and the place among its batch's faults, `LINE.SEQ`.
pub(super) async fn skipped_lines(id: BatchId, request: Request) -> Answer {
    let ask = move |request: &Request| {
        let batch = request.caller()?.batch(request.appliance(), id)?.batch;
        let paging = request.query::<Paging>()?;
        let most = paging.most()?;
        let after = paging.after::<String>()?.unwrap_or_else(|| "0.0".to_owned());
        let cursor = after.split_once('.').and_then(|(line, seq)| Some((line.parse().ok()?, seq.parse().ok()?)));
        let cursor = cursor.ok_or_else(|| Problem::new(ProblemCode::BadRequest, "`after` is not a cursor."))?;
        Ok((batch, cursor, most))
    };
    listed(request, "skipped", ask, |request, &(batch, after, most), page| {
        let found = request.appliance().store.read(|connection| skipped::page(connection, batch, after, most))?;
        let cursor = |(seq, fault): &(u64, Skipped)| format!("{}.{seq}", fault.line);
        let next = found.next(cursor);
        page.fill(found.entries, next, cursor, |(_, fault)| Ok(fault))
    })
    .await
}

pub(super) async fn show(id: BatchId, number: u32, request: Request) -> Answer {
    let context = request.context.clone();
    let (looked_at, row) = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let query = request.query::<Reveal>()?;
        let looked_at = opened(&request, &caller, id, Some(number), query.reveal)?;
        let can_be = (1..=RowId::MAX_NUMBER).contains(&number);
        let line = |connection: &_| rows::line(connection, RowId::new(looked_at.batch.batch, number));
        let is_there = can_be && appliance.store.read(line)?.is_some();
        if is_there { Ok((looked_at, number)) } else { Err(Problem::not_found("row")) }
    })
    .await?;
    let (appliance, whose) = (context.appliance.clone(), looked_at.whose);
    long_json(&context, whose, move || {
        let Opened { batch, open, masked, .. } = &looked_at;
        let found = appliance.store.read(|connection| rows::find(connection, batch, row))?;
        let found = found.ok_or_else(|| Problem::not_found("row"))?;
        let waits_for = waiting::of_batch(&appliance, batch)?;
        Ok(RowView::of(&appliance, open, &found, *masked, waits_for.as_deref()))
    })
    .await
}
