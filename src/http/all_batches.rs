//! `GET /ops/v1/batches`: everybody's batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter as _, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batch_view::BatchView,
    batches::{LARGEST_LIMIT, Paging},
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::{
    model::{BatchId, BatchStatus},
    store::{
        all_batches::{self, Filter},
        clients,
    },
};

/// A page of everybody's batches; it may be short while `next` is not null.
#[derive(Serialize, JsonSchema)]
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

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("ops" / "v1" / "batches")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/batches", list(request)))
        .boxed()
}

async fn list(request: Request) -> Answer {
    let list = blocking(move || {
        request.caller()?.operator()?;
        let (appliance, query) = (request.appliance(), request.query::<Query>()?);
        let status = query.status.as_deref().map(str::parse::<BatchStatus>).transpose();
        let status = status.map_err(|()| {
            let detail = "`status` is pending, processing, queued, completed, failed or cancelled.";
            Problem::new(ProblemCode::BadRequest, detail)
        })?;
        let paging = Paging { limit: query.limit, after: query.after };
        let (limit, after) = (paging.limit()?, paging.after()?);
        let page = appliance.store.read(|connection| {
            let client = query.client.as_deref().map(|name| clients::key_of(connection, name)).transpose()?;
            match client {
                Some(None) => Ok(None),
                client => {
                    all_batches::page(connection, Filter { client: client.flatten(), status }, after, limit).map(Some)
                }
            }
        })?;
        let page = page.ok_or_else(|| Problem::not_found("client"))?;
        Ok(AllBatches { batches: BatchView::all(appliance, page.batches, true)?, next: page.next })
    });
    json(StatusCode::OK, &list.await?)
}
