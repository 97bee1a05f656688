//! `GET /ops/v1/batches`: everybody's batches.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    answer::Answer,
    list::listed,
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::{
    model::{BatchId, BatchStatus},
    operations::views::{
        batch::BatchView,
        paging::{LARGEST_LIMIT, Paging},
    },
    store::{
        all_batches::{self, Filter},
        clients,
    },
};

/// A page of everybody's batches; it may be short while `next` is not null.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, and made entry by entry")]
pub(super) struct AllBatches {
    /// Newest first.
    batches: Vec<BatchView>,
    /// The cursor of the next page.
    next: Option<BatchId>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Only this client's.
    client: Option<String>,
    /// Only those with this status.
    #[schemars(with = "Option<BatchStatus>")]
    status: Option<String>,
    /// Entries at most; 100 by default.
    #[schemars(range(min = 1, max = LARGEST_LIMIT))]
    limit: Option<u32>,
    /// The `next` of an earlier page.
    after: Option<String>,
}

pub(super) async fn list(request: Request) -> Answer {
    let ask = |request: &Request| {
        request.caller()?.operator()?;
        let query = request.query::<Query>()?;
        let status = query.status.as_deref().map(str::parse::<BatchStatus>).transpose();
        let status = status.map_err(|_| {
            let detail = "`status` is pending, processing, queued, completed, failed or cancelled.";
            Problem::new(ProblemCode::BadRequest, detail)
        })?;
        let key_of = |name: &str| request.appliance().store.read(|connection| clients::key_of(connection, name));
        let client = query.client.as_deref().map(key_of).transpose()?;
        if client == Some(None) {
            return Err(Problem::not_found("client"));
        }
        let paging = Paging { limit: query.limit, after: query.after };
        Ok((Filter { client: client.flatten(), status }, paging.after::<BatchId>()?, paging.most()?))
    };
    listed(request, "batches", ask, |request, &(filter, after, most), page| {
        let appliance = request.appliance();
        let found = appliance.store.read(|connection| all_batches::page(connection, filter, after, most))?;
        page.fill(found.batches, found.next, |batch| batch.id, BatchView::each(appliance, true)?)
    })
    .await
}
