//! How fast dependencies are called: looked at, and changed while it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json},
    problem::{Problem, ProblemCode},
    request::Request,
    small_json::{JsonBody, Sent, checked, required},
};
use crate::{
    downstream::DependencyStatus,
    operations::dependencies::{self, RateFault},
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

impl JsonBody for RateChange {
    const SHAPE: &'static str = "{\"rate_per_second\": NUMBER, or null for the configured rate}";
}

pub(super) async fn list_dependencies(request: Request) -> Answer {
    let status = blocking(move || {
        request.caller()?.operator()?;
        Ok(DependencyList { dependencies: request.appliance().downstream.status() })
    });
    json(StatusCode::OK, &status.await?)
}

impl From<RateFault> for Problem {
    fn from(fault: RateFault) -> Self {
        match fault {
            RateFault::Unknown(_) => Self::not_found("dependency"),
            RateFault::NoRate => Self::new(ProblemCode::BadRequest, "`rate_per_second` is a number above 0."),
            RateFault::Store(error) => error.into(),
            RateFault::Unused(error) => {
                tracing::error!(event = "rate.not_used", %error, "a rate was kept, and is not used yet");
                Self::internal()
            }
        }
    }
}

pub(super) async fn set_rate(name: String, request: Request, sent: Sent<RateChange>) -> Answer {
    let change = sent.told(&request).await?;
    let status = blocking(move || {
        let (appliance, operator) = (request.appliance(), request.operator()?);
        let change = required(change)?;
        let reason = checked(change.reason)?;
        dependencies::set_rate(appliance, &operator, &name, change.rate_per_second, reason)?;
        let changed = appliance.downstream.status().into_iter().find(|status| status.name == name);
        changed.ok_or_else(|| Problem::not_found("dependency"))
    });
    json(StatusCode::OK, &status.await?)
}
