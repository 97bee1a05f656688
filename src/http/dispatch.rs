//! `/ops/v1/dispatch`: what the clock that triggers dispatch asks for, and the one big switch.

use serde::{Deserialize, Serialize};
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
    batches::Paging,
    problem::Problem,
    small_json::{Told, small_json},
    with,
};
use crate::store::grants::{self, DispatchPause, Run};

#[derive(Serialize)]
struct RunList {
    runs: Vec<Run>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: Option<String>,
}

#[derive(Serialize)]
struct DispatchState {
    paused: Option<DispatchPause>,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let dispatch = warp::path!("ops" / "v1" / "dispatch")
        .and(warp::post())
        .and(with(context.clone()))
        .and(warp::header::headers_cloned())
        .and_then(|context, headers| answer("/ops/v1/dispatch", dispatch(context, headers)));
    let runs = warp::path!("ops" / "v1" / "dispatch" / "runs")
        .and(warp::get())
        .and(with(context.clone()))
        .and(warp::header::headers_cloned())
        .and(warp::query::<Paging>())
        .and_then(|context, headers, paging| answer("/ops/v1/dispatch/runs", runs(context, headers, paging)));
    let pause = warp::path!("ops" / "v1" / "dispatch" / "pause")
        .and(warp::post())
        .and(with(context.clone()))
        .and(warp::header::headers_cloned())
        .and(reason())
        .and_then(|context, headers, reason| answer("/ops/v1/dispatch/pause", pause(context, headers, reason)));
    let resume = warp::path!("ops" / "v1" / "dispatch" / "resume")
        .and(warp::post())
        .and(with(context))
        .and(warp::header::headers_cloned())
        .and_then(|context, headers| answer("/ops/v1/dispatch/resume", resume(context, headers)));
    dispatch.or(runs).unify().or(pause).unify().or(resume).unify().boxed()
}

/// A body with a reason, or none at all.
fn reason() -> impl Filter<Extract = (Result<Reason, Problem>,), Error = warp::Rejection> + Clone {
    small_json::<Reason>("{\"reason\": TEXT}, or left out").map(|told: Told<Reason>| Ok(told?.unwrap_or_default()))
}

async fn dispatch(context: Context, headers: HeaderMap) -> Answer {
    let ran = blocking(move || {
        match Caller::of(&context.appliance, &headers)? {
            Caller::Dispatcher => {}
            other => drop(other.operator()?),
        }
        Ok(context.dispatcher.run(&context.appliance)?)
    });
    json(StatusCode::OK, &ran.await?)
}

async fn runs(context: Context, headers: HeaderMap, paging: Paging) -> Answer {
    let list = blocking(move || {
        Caller::of(&context.appliance, &headers)?.operator()?;
        let (limit, before) = (paging.limit()?, paging.after()?.unwrap_or(i64::MAX));
        let runs = context.appliance.store.read(|connection| grants::runs(connection, before, limit))?;
        let next = (runs.len() == limit as usize).then(|| runs.last().map(|run| run.run.to_string())).flatten();
        Ok(RunList { runs, next })
    });
    json(StatusCode::OK, &list.await?)
}

async fn pause(context: Context, headers: HeaderMap, reason: Result<Reason, Problem>) -> Answer {
    let reason = reason?;
    let state = blocking(move || {
        let by = Caller::of(&context.appliance, &headers)?.operator()?;
        tracing::warn!(by, "dispatch is paused");
        Ok(context.appliance.store.write(move |tx| {
            grants::pause(tx, &by, reason.reason.as_deref())?;
            Ok(DispatchState { paused: grants::pause_of(tx.connection)? })
        })?)
    });
    json(StatusCode::OK, &state.await?)
}

async fn resume(context: Context, headers: HeaderMap) -> Answer {
    let state = blocking(move || {
        let by = Caller::of(&context.appliance, &headers)?.operator()?;
        tracing::warn!(by, "dispatch goes on");
        let state = context.appliance.store.write(|tx| {
            grants::resume(tx)?;
            Ok(DispatchState { paused: grants::pause_of(tx.connection)? })
        })?;
        context.appliance.work_bell.ring();
        Ok::<_, Problem>(state)
    });
    json(StatusCode::OK, &state.await?)
}
