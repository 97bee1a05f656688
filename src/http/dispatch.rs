//! `/ops/v1/dispatch`: what the clock that triggers dispatch asks for, and the one big switch.

use schemars::JsonSchema;
use serde::Serialize;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    access::Caller,
    answer::{Answer, answer, blocking, json},
    batches::Paging,
    problem::Problem,
    request::{Request, request},
    small_json::{Reason, reason},
};
use crate::{
    model::AskedBy,
    store::{
        audit,
        grants::{self, DispatchPause, Run},
    },
};

#[derive(Serialize, JsonSchema)]
pub(super) struct RunList {
    runs: Vec<Run>,
    next: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DispatchState {
    paused: Option<DispatchPause>,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let dispatch = warp::path!("ops" / "v1" / "dispatch")
        .and(warp::post())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/dispatch", dispatch(request)));
    let runs = warp::path!("ops" / "v1" / "dispatch" / "runs")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/dispatch/runs", runs(request)));
    let pause = warp::path!("ops" / "v1" / "dispatch" / "pause")
        .and(warp::post())
        .and(request(&context))
        .and(reason())
        .and_then(|request, reason| answer("/ops/v1/dispatch/pause", pause(request, reason)));
    let resume = warp::path!("ops" / "v1" / "dispatch" / "resume")
        .and(warp::post())
        .and(request(&context))
        .and(reason())
        .and_then(|request, reason| answer("/ops/v1/dispatch/resume", resume(request, reason)));
    dispatch.or(runs).unify().or(pause).unify().or(resume).unify().boxed()
}

async fn dispatch(request: Request) -> Answer {
    let ran = blocking(move || {
        match request.uncounted_caller()? {
            Caller::Dispatcher => {}
            other => drop(other.operator()?),
        }
        Ok(request.context.dispatcher.run(request.appliance(), AskedBy::Call)?)
    });
    json(StatusCode::OK, &ran.await?)
}

async fn runs(request: Request) -> Answer {
    let list = blocking(move || {
        request.caller()?.operator()?;
        let paging = request.query::<Paging>()?;
        let (limit, before) = (paging.limit()?, paging.after()?.unwrap_or(i64::MAX));
        let runs = request.appliance().store.read(|connection| grants::runs(connection, before, limit))?;
        let next = (runs.len() == limit as usize).then(|| runs.last().map(|run| run.run.to_string())).flatten();
        Ok(RunList { runs, next })
    });
    json(StatusCode::OK, &list.await?)
}

async fn pause(request: Request, reason: Result<Reason, Problem>) -> Answer {
    let reason = reason?;
    let state = blocking(move || {
        let operator = request.operator()?;
        let by = operator.name.clone();
        let state = request.appliance().store.write(move |tx| {
            audit::note(tx, &operator.deed("dispatch.pause", "dispatch", reason.reason.clone()))?;
            grants::pause(tx, &operator.name, reason.reason.as_deref())?;
            Ok(DispatchState { paused: grants::pause_of(tx.connection)? })
        })?;
        tracing::warn!(event = "dispatch.paused", by, "dispatch is paused");
        Ok(state)
    });
    json(StatusCode::OK, &state.await?)
}

async fn resume(request: Request, reason: Result<Reason, Problem>) -> Answer {
    let reason = reason?;
    let state = blocking(move || {
        let operator = request.operator()?;
        let by = operator.name.clone();
        let state = request.appliance().store.write(move |tx| {
            audit::note(tx, &operator.deed("dispatch.resume", "dispatch", reason.reason))?;
            grants::resume(tx)?;
            Ok(DispatchState { paused: grants::pause_of(tx.connection)? })
        })?;
        request.appliance().work_bell.ring();
        tracing::info!(event = "dispatch.resumed", by, "dispatch goes on");
        Ok::<_, Problem>(state)
    });
    json(StatusCode::OK, &state.await?)
}
