//! How fast dependencies are called: looked at, and changed while it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    problem::{Problem, ProblemCode},
    request::{Request, request},
    small_json::{Told, because, required, small_json},
};
use crate::{
    downstream::DependencyStatus,
    store::{audit, dependencies},
};

/// The dependencies.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DependencyList {
    dependencies: Vec<DependencyStatus>,
}

/// What is changed of a dependency. `null` goes back to the configured rate, so it has to be said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RateChange {
    #[serde(deserialize_with = "Option::deserialize")]
    rate_per_second: Option<f64>,
    #[serde(default)]
    reason: Option<String>,
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
    list.or(rate).unify().boxed()
}

async fn list_dependencies(request: Request) -> Answer {
    let status = blocking(move || {
        request.caller()?.operator()?;
        Ok(DependencyList { dependencies: request.appliance().downstream.status() })
    });
    json(StatusCode::OK, &status.await?)
}

/// Kept first, then believed: after a restart, and in every other process, what is kept holds.
async fn set_rate(name: String, request: Request, change: Told<RateChange>) -> Answer {
    let status = blocking(move || {
        let (appliance, operator) = (request.appliance(), request.operator()?);
        let change = required(change)?;
        let kept = change.rate_per_second;
        let configured = appliance.config.dependencies.get(&name).ok_or_else(|| Problem::not_found("dependency"))?;
        let rate = kept.unwrap_or(configured.rate_per_second);
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Problem::new(ProblemCode::BadRequest, "`rate_per_second` is a number above 0."));
        }
        let of = name.clone();
        let by = operator.name.clone();
        appliance.store.write(move |tx| {
            let to = kept.map_or_else(|| "as configured".to_owned(), |rate| format!("{rate} a second"));
            audit::note(tx, &operator.deed("dependency.rate", of.clone(), Some(because(to, change.reason))))?;
            dependencies::set_rate(tx, &of, kept)
        })?;
        appliance.downstream.set_rate(&name, rate).map_err(|error| {
            tracing::error!(event = "rate.not_used", %error, "a rate was kept, and is not used yet");
            Problem::internal()
        })?;
        tracing::warn!(event = "rate.changed", by, dependency = name, rate, "a rate was changed");
        let changed = appliance.downstream.status().into_iter().find(|status| status.name == name);
        changed.ok_or_else(|| Problem::not_found("dependency"))
    });
    json(StatusCode::OK, &status.await?)
}
