//! How fast dependencies are called and how much clients are granted: looked at, and changed while it runs.

use serde::{Deserialize, Serialize};
use serde_json::json;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    problem::{Problem, ProblemCode},
    request::{Request, request},
    small_json::{Told, required, small_json},
};
use crate::{
    config::MOST_ROWS_PER_RUN,
    model::Timestamp,
    store::{
        clients::{self, Client},
        dependencies,
    },
};

/// A client, as operators see it.
#[derive(Debug, Serialize)]
pub struct ClientView {
    name: String,
    rows_per_run: Option<u32>,
    paused: bool,
    created_at: Timestamp,
}

impl ClientView {
    /// Without its key, of which only a hash is kept.
    pub fn of(client: &Client) -> Self {
        Self {
            name: client.name.clone(),
            rows_per_run: client.rows_per_run,
            paused: client.paused_at.is_some(),
            created_at: client.created_at,
        }
    }
}

/// What is changed of a dependency. `null` goes back to the configured rate, so it has to be said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateChange {
    #[serde(deserialize_with = "Option::deserialize")]
    rate_per_second: Option<f64>,
}

/// What is changed of a client. `null` goes back to the configured default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientChange {
    #[serde(deserialize_with = "Option::deserialize")]
    rows_per_run: Option<u32>,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let list = warp::path!("ops" / "v1" / "dependencies")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/dependencies", list_dependencies(request)));
    let rate = warp::path!("ops" / "v1" / "dependencies" / String)
        .and(warp::patch())
        .and(request(&context))
        .and(small_json("{\"rate_per_second\": NUMBER, or null for the configured rate}"))
        .and_then(|name, request, change| answer("/ops/v1/dependencies/NAME", set_rate(name, request, change)));
    let client = warp::path!("ops" / "v1" / "clients" / String)
        .and(warp::patch())
        .and(request(&context))
        .and(small_json("{\"rows_per_run\": NUMBER, or null for the configured default}"))
        .and_then(|name, request, change| answer("/ops/v1/clients/NAME", set_rows_per_run(name, request, change)));
    list.or(rate).unify().or(client).unify().boxed()
}

async fn list_dependencies(request: Request) -> Answer {
    let status = blocking(move || {
        request.caller()?.operator()?;
        Ok(json!({ "dependencies": request.appliance().downstream.status() }))
    });
    json(StatusCode::OK, &status.await?)
}

/// Kept first, then believed: after a restart, and in every other process, what is kept holds.
async fn set_rate(name: String, request: Request, change: Told<RateChange>) -> Answer {
    let status = blocking(move || {
        let (appliance, by) = (request.appliance(), request.caller()?.operator()?);
        let kept = required(change)?.rate_per_second;
        let configured = appliance.config.dependencies.get(&name).ok_or_else(|| Problem::not_found("dependency"))?;
        let rate = kept.unwrap_or(configured.rate_per_second);
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Problem::new(ProblemCode::BadRequest, "`rate_per_second` is a number above 0."));
        }
        let of = name.clone();
        appliance.store.write(move |tx| dependencies::set_rate(tx, &of, kept))?;
        appliance.downstream.set_rate(&name, rate).map_err(|error| {
            tracing::error!(%error, "a rate was kept, and is not used yet");
            Problem::internal()
        })?;
        tracing::warn!(by, dependency = name, rate, "a rate was changed");
        let changed = appliance.downstream.status().into_iter().find(|status| status.name == name);
        changed.ok_or_else(|| Problem::not_found("dependency"))
    });
    json(StatusCode::OK, &status.await?)
}

async fn set_rows_per_run(name: String, request: Request, change: Told<ClientChange>) -> Answer {
    let client = blocking(move || {
        let (appliance, by) = (request.appliance(), request.caller()?.operator()?);
        let rows_per_run = required(change)?.rows_per_run;
        if rows_per_run.is_some_and(|rows| rows > MOST_ROWS_PER_RUN) {
            let detail = format!("`rows_per_run` is 0 to {MOST_ROWS_PER_RUN}.");
            return Err(Problem::new(ProblemCode::BadRequest, detail));
        }
        let (of, default_rows) = (name.clone(), appliance.config.dispatch.rows_per_client_per_run);
        let client = appliance.store.write(move |tx| {
            clients::set_rows_per_run(tx, &of, rows_per_run, default_rows)?;
            clients::by_name(tx.connection, &of)
        })?;
        let client = client.ok_or_else(|| Problem::not_found("client"))?;
        tracing::warn!(by, client = name, rows_per_run, "a client's limit was changed");
        appliance.work_bell.ring();
        Ok(ClientView::of(&client))
    });
    json(StatusCode::OK, &client.await?)
}
