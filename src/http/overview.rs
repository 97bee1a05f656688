//! `GET /ops/v1/overview`: how everything is, on one page.

use std::sync::atomic::Ordering;

use serde_json::json;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    request::{Request, request},
};
use crate::store::grants;

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
        let (paused, last_run) =
            appliance.store.read(|connection| Ok((grants::pause_of(connection)?, grants::last_run(connection)?)))?;
        Ok(json!({
            "dispatch": { "paused": paused, "last_run": last_run },
            "dependencies": appliance.downstream.status(),
            "late_settles": appliance.late_settles.load(Ordering::Relaxed),
        }))
    });
    json(StatusCode::OK, &view.await?)
}
