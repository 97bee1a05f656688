//! `GET /ops/v1/overview`: how everything is, on one page.

use std::sync::atomic::Ordering;

use serde_json::json;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderMap, StatusCode},
    reply::Response,
};

use super::{
    Context,
    access::Caller,
    answer::{Answer, answer, blocking, json},
    with,
};
use crate::store::grants;

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("ops" / "v1" / "overview")
        .and(warp::get())
        .and(with(context))
        .and(warp::header::headers_cloned())
        .and_then(|context, headers| answer("/ops/v1/overview", overview(context, headers)))
        .boxed()
}

async fn overview(context: Context, headers: HeaderMap) -> Answer {
    let view = blocking(move || {
        let appliance = &context.appliance;
        Caller::of(appliance, &headers)?.operator()?;
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
