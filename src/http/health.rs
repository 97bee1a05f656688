//! `/livez` and `/readyz`: is the process alive, and can it serve.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, json, probing},
    problem::{Problem, ProblemCode},
    with,
};
use crate::store::keys;

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let livez = warp::path!("livez")
        .and(warp::get())
        .and(with(context.clone()))
        .and_then(|context| answer("/livez", async move { alive(&context) }));
    let readyz =
        warp::path!("readyz").and(warp::get()).and(with(context)).and_then(|context| answer("/readyz", ready(context)));
    livez.or(readyz).unify().boxed()
}

/// Fails for what a restart mends: a thread that gives no sign of life any more. It waits for nothing itself.
fn alive(context: &Context) -> Answer {
    let stalled = context.appliance.hearts.stalled(Instant::now());
    if !stalled.is_empty() {
        let threads = stalled.join(", ");
        tracing::error!(
            event = "server.stalled",
            threads,
            "threads give no sign of life: the process has to be started anew"
        );
        let detail = format!("stalled: these threads give no sign of life: {threads}.");
        return Err(Problem::new(ProblemCode::Unavailable, detail));
    }
    json(StatusCode::OK, &Health { status: "ok" })
}

/// Fails for the database and for shutdown. Keys are checked before the server listens at all.
async fn ready(context: Context) -> Answer {
    probing(move || {
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
