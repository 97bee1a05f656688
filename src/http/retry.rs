//! `POST /v2/batches/ID/retry`: failed rows are tried again, in place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json},
    request::Request,
    rows::failure_code,
};
use crate::{
    model::{BatchId, FailureCode},
    operations::{retries, views::batch::BatchView},
    store::retries::{LeftAlone, Retried},
};

/// Which failed rows are meant; where nothing is said, all but those that were perhaps (`outcome_unknown`) or probably
/// (`bad_answer`, where the step is not `safe`) carried out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Only rows that failed with this code.
    #[schemars(with = "Option<FailureCode>")]
    code: Option<String>,
    /// Only rows that failed at this step.
    step: Option<String>,
}

/// A batch whose failed rows are tried again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RetriedBatch {
    #[serde(flatten)]
    batch: BatchView,
    /// What the retry has come to.
    retried: RetriedView,
}

/// What a retry has come to by the time of the answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RetriedView {
    /// Rows that are `pending` again already.
    pub rows: u32,
    /// Whether more may follow by themselves; the batch's counts show how far it is.
    pub under_way: bool,
    /// Rows that were left alone because their outcome is unknown: `code=outcome_unknown` retries those.
    pub left_alone_outcome_unknown: u32,
    /// Rows that were left alone because they were accepted, and so probably carried out, although the answer was not what
    /// their step needs: `code=bad_answer` retries those. None where the step is `safe`.
    pub left_alone_bad_answer: u32,
}

impl From<Retried> for RetriedView {
    fn from(retried: Retried) -> Self {
        let Retried { rows, under_way, left_alone } = retried;
        let LeftAlone { outcome_unknown, bad_answer } = left_alone;
        Self { rows, under_way, left_alone_outcome_unknown: outcome_unknown, left_alone_bad_answer: bad_answer }
    }
}

pub(super) async fn retry(id: BatchId, request: Request) -> Answer {
    let view = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let batch = caller.batch(appliance, id)?;
        let Query { code, step } = request.query::<Query>()?;
        let code = failure_code(code.as_deref())?;
        let actor = request.actor(&caller);
        let (retried, batch) = retries::retry(request.env(), &actor, &batch, code, step.as_deref())?;
        let batch = BatchView::of(appliance, batch, caller.sees()?.is_none())?;
        Ok(RetriedBatch { batch, retried: retried.into() })
    });
    json(StatusCode::OK, &view.await?)
}
