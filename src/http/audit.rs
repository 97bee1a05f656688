//! `GET /ops/v1/audit`: who did what, when, from where and why.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    answer::Answer,
    list::listed,
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::{
    model::Timestamp,
    operations::views::{
        audit::AuditList,
        paging::{LARGEST_LIMIT, Paging},
    },
    store::audit::Cursor,
};

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

pub(super) async fn list(request: Request) -> Answer {
    let ask = |request: &Request| {
        request.caller()?.operator()?;
        let query = request.query::<Query>()?;
        let since = query.since.as_deref().map_or(Ok(Timestamp(0)), str::parse).map_err(|()| {
            Problem::new(ProblemCode::BadRequest, "`since` is a time like 2026-08-06T07:00:00Z (RFC 3339).")
        })?;
        let paging = Paging { limit: query.limit, after: query.after };
        Ok((paging.after()?.unwrap_or(Cursor::START), since, paging.most()?))
    };
    listed(request, "entries", ask, |request, &(after, since, most), page| {
        let found = AuditList::read(&request.appliance().store, after, since, most)?;
        page.fill(found.entries, found.next, |entry| Cursor::behind(entry).to_string(), Ok)
    })
    .await
}
