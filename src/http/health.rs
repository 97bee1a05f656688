//! `/livez` and `/readyz`: is the process alive, and can it serve.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use warp::http::StatusCode;

use super::{
    answer::{Answer, json, probing},
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::store::keys;

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// Fails for what a restart mends: a thread that gives no sign of life any more. It waits for nothing itself.
pub(super) async fn alive(request: Request) -> Answer {
    let stalled = request.appliance().hearts.stalled(Instant::now());
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
pub(super) async fn ready(request: Request) -> Answer {
    probing(move || {
        if request.appliance().closing.is_closed() {
            return Err(Problem::new(ProblemCode::Unavailable, "shutdown: the server is ending."));
        }
        request.appliance().store.read(keys::proofs).map_err(|error| {
            tracing::error!(event = "server.not_ready", %error, "not ready");
            Problem::new(ProblemCode::Unavailable, "database: it does not answer; the log says why.")
        })
    })
    .await?;
    json(StatusCode::OK, &Health { status: "ok" })
}
