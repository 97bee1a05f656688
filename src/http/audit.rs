//! `GET /ops/v1/audit`: who did what, when, from where and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batches::{LARGEST_LIMIT, Paging},
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::{
    model::Timestamp,
    store::{
        Store, StoreError,
        audit::{self, Cursor, Entry},
    },
};

/// A page of the audit.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditList {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl AuditList {
    /// The page behind this cursor, of what is not older than `since`. Blocks.
    pub fn read(store: &Store, after: Cursor, since: Timestamp, limit: u32) -> Result<Self, StoreError> {
        let entries = store.read(|connection| audit::page(connection, after, since, limit))?;
        let last = entries.last().filter(|_| entries.len() == limit as usize);
        Ok(Self { next: last.map(|entry| Cursor::behind(entry).to_string()), entries })
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Only what is not older: RFC 3339.
    #[schemars(with = "Option<Timestamp>")]
    since: Option<String>,
    /// Entries at most; 100 by default.
    #[schemars(range(min = 1, max = LARGEST_LIMIT))]
    limit: Option<u32>,
    /// The `next` of an earlier page.
    after: Option<String>,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("ops" / "v1" / "audit")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/audit", list(request)))
        .boxed()
}

async fn list(request: Request) -> Answer {
    let list = blocking(move || {
        request.caller()?.operator()?;
        let query = request.query::<Query>()?;
        let since = query.since.as_deref().map_or(Ok(Timestamp(0)), str::parse).map_err(|()| {
            Problem::new(ProblemCode::BadRequest, "`since` is a time like 2026-08-06T07:00:00Z (RFC 3339).")
        })?;
        let paging = Paging { limit: query.limit, after: query.after };
        let (limit, after) = (paging.limit()?, paging.after()?.unwrap_or(Cursor::START));
        Ok(AuditList::read(&request.appliance().store, after, since, limit)?)
    });
    json(StatusCode::OK, &list.await?)
}
