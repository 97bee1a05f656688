//! `/ops/v1/stuck`: claims that expired, and their way out.

use schemars::JsonSchema;
use serde::Deserialize;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    list::long_json,
    request::{Request, request},
    small_json::{Sent, checked, small_json},
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

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let list = warp::path!("ops" / "v1" / "stuck")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/ops/v1/stuck", list(request)));
    let reconcile = warp::path!("ops" / "v1" / "stuck" / "reconcile")
        .and(warp::post())
        .and(request(&context))
        .and(small_json("{\"apply\": true}; without it nothing is changed"))
        .and_then(|request, sent| answer("/ops/v1/stuck/reconcile", reconcile(request, sent)));
    list.or(reconcile).unify().boxed()
}

async fn list(request: Request) -> Answer {
    let context = request.context.clone();
    let appliance = blocking(move || {
        request.caller()?.operator()?;
        Ok(request.appliance().clone())
    })
    .await?;
    long_json(&context, None, move || Ok(StuckView::read(&appliance, appliance.clock.now())?)).await
}

async fn reconcile(request: Request, sent: Sent<Reconcile>) -> Answer {
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
