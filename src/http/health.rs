//! `/livez` and `/readyz`: is the process alive, and can it serve.

use schemars::JsonSchema;
use serde::Serialize;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    problem::{Problem, ProblemCode},
    with,
};
use crate::store::keys;

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let livez = warp::path!("livez").and(warp::get()).and_then(|| answer("/livez", async { alive() }));
    let readyz =
        warp::path!("readyz").and(warp::get()).and(with(context)).and_then(|context| answer("/readyz", ready(context)));
    livez.or(readyz).unify().boxed()
}

fn alive() -> Answer {
    json(StatusCode::OK, &Health { status: "ok" })
}

/// Fails for the database and for shutdown. Keys are checked before the server listens at all.
async fn ready(context: Context) -> Answer {
    blocking(move || {
        if context.appliance.closing.is_closed() {
            return Err(Problem::new(ProblemCode::Unavailable, "shutdown: the server is ending."));
        }
        context.appliance.store.read(keys::proofs).map_err(|error| {
            tracing::error!(event = "server.not_ready", %error, "not ready");
            Problem::new(ProblemCode::Unavailable, "database: it does not answer; the log says why.")
        })
    })
    .await?;
    json(StatusCode::OK, &Health { status: "ok" })
}
