//! `GET /ops/v1/overview`: how everything is, on one page.

use std::sync::atomic::Ordering;

use serde_json::json;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    deletion::DeletionView,
    request::{Request, request},
};
use crate::store::{deletions, grants};

/// Deletions under way that are listed at most.
const DELETIONS_SHOWN: u32 = 100;

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("ops" / "v1" / "overview")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/overview", overview(request)))
        .boxed()
}

async fn overview(request: Request) -> Answer {
    let view = blocking(move || {
        let appliance = request.appliance();
        request.caller()?.operator()?;
        let (paused, last_run, deletions) = appliance.store.read(|connection| {
            let deletions = deletions::under_way(connection, DELETIONS_SHOWN)?;
            Ok((grants::pause_of(connection)?, grants::last_run(connection)?, deletions))
        })?;
        let deletions: Vec<_> = deletions.into_iter().map(DeletionView::from).collect();
        Ok(json!({
            "dispatch": { "paused": paused, "last_run": last_run },
            "dependencies": appliance.downstream.status(),
            "deletions": deletions,
            "late_settles": appliance.late_settles.load(Ordering::Relaxed),
        }))
    });
    json(StatusCode::OK, &view.await?)
}
