//! `GET /v2/batches/ID/errors`: what went wrong with how many rows.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    answer::{Answer, blocking},
    list::long_json,
    request::Request,
};
use crate::{
    model::{BatchId, FailureCode},
    store::{failures, workflows},
};

/// Groups that are shown, the largest: an API can answer with any status.
const GROUPS: usize = 1_000;

/// The failed rows of a batch, by what went wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorGroups {
    /// The largest group first, at most 1,000.
    groups: Vec<ErrorGroup>,
}

/// Rows that failed alike.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorGroup {
    /// The step at which they failed; null where the workflow does not have it any more.
    step: Option<String>,
    /// The code of their error.
    #[schemars(with = "FailureCode")]
    code: &'static str,
    /// The status of the answer; null where none came.
    http_status: Option<u16>,
    /// How many rows stand failed so.
    count: u32,
    /// The number of one of them.
    example_row: Option<u32>,
}

pub(super) async fn errors(id: BatchId, request: Request) -> Answer {
    let context = request.context.clone();
    let (whose, batch) = blocking(move || {
        let caller = request.caller()?;
        Ok((caller.sees()?, caller.batch(request.appliance(), id)?))
    })
    .await?;
    let appliance = context.appliance.clone();
    long_json(&context, whose, move || {
        let (outline, groups) = appliance.store.read(|connection| {
            let outline = workflows::outline(connection, batch.workflow_version)?;
            Ok((outline, failures::groups(connection, batch.batch)?))
        })?;
        let view = |group: failures::Group| ErrorGroup {
            step: outline.steps.get(group.kind.step as usize).map(|step| step.name.clone()),
            code: group.kind.code.as_str(),
            http_status: group.kind.http_status,
            count: group.failed,
            example_row: group.example_row,
        };
        Ok(ErrorGroups { groups: groups.into_iter().take(GROUPS).map(view).collect() })
    })
    .await
}
