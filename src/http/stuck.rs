//! `/ops/v1/stuck`: claims that expired, and their way out.

use schemars::JsonSchema;
use serde::Deserialize;
use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json},
    list::long_json,
    request::Request,
    small_json::{JsonBody, Sent, checked},
};
use crate::operations::views::stuck::StuckView;

/// Whether to free what is stuck, or only to say what would happen.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reconcile {
    #[serde(default)]
    apply: bool,
    #[serde(default)]
    reason: Option<String>,
}

impl JsonBody for Reconcile {
    const SHAPE: &'static str = "{\"apply\": true}; without it nothing is changed";
    const REQUIRED: bool = false;
}

pub(super) async fn list(request: Request) -> Answer {
    let context = request.context.clone();
    let appliance = blocking(move || {
        request.caller()?.operator()?;
        Ok(request.appliance().clone())
    })
    .await?;
    long_json(&context, None, move || Ok(StuckView::read(&appliance, appliance.clock.now())?)).await
}

pub(super) async fn reconcile(request: Request, sent: Sent<Reconcile>) -> Answer {
    let told = sent.told(&request).await?;
    let view = blocking(move || {
        let operator = request.operator()?;
        let Reconcile { apply, reason } = told?.unwrap_or_default();
        let reason = checked(reason)?;
        let appliance = request.appliance();
        let now = appliance.clock.now();
        Ok(match apply {
            true => StuckView::reconcile(appliance, &operator, now, reason)?,
            false => StuckView::read(appliance, now)?,
        })
    });
    json(StatusCode::OK, &view.await?)
}
