//! `POST /v2/batches/ID/retry`: failed rows are tried again, in place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batch_view::BatchView,
    batches as http_batches,
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::{
    appliance::Appliance,
    model::{BatchId, FailureCode},
    store::{
        audit, batches,
        batches::Batch,
        retries::{self, Asked, LeftAlone, Retried, StepSet, Which},
        workflows,
    },
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

impl Query {
    fn which(&self, appliance: &Appliance, batch: &Batch) -> Result<Which, Problem> {
        let code = self.code.as_deref().map(str::parse).transpose();
        let code = code.map_err(|()| bad("`code` is the code of a failed row."))?;
        let outline = appliance.store.read(|connection| workflows::outline(connection, batch.workflow_version))?;
        let position = |name: &str| outline.position(name).and_then(|place| u32::try_from(place).ok());
        let step = match self.step.as_deref() {
            None => None,
            Some(name) => Some(position(name).ok_or_else(|| bad("`step` is the name of a step of its workflow."))?),
        };
        Ok(Which { step, code, safe_steps: StepSet::safe(&outline) })
    }
}

fn bad(detail: &str) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
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

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "batches" / BatchId / "retry")
        .and(warp::post())
        .and(request(&context))
        .and_then(|id, request| answer("/v2/batches/ID/retry", retry(id, request)))
        .boxed()
}

async fn retry(id: BatchId, request: Request) -> Answer {
    let view = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let batch = caller.batch(appliance, id)?;
        let which = request.query::<Query>()?.which(appliance, &batch)?;
        http_batches::must_be_workable(appliance, &batch)?;
        let deed = request.deed(&caller, "batch.retry", id.to_string(), None);
        let (asked, batch) = appliance.store.write(move |tx| {
            let asked = retries::begin(tx, id, which)?;
            if let Some(deed) = deed.as_ref().filter(|_| asked.changes_something()) {
                audit::note(tx, deed)?;
            }
            Ok((asked, batches::find(tx.connection, id)?))
        })?;
        let changes_something = asked.changes_something();
        let retried = match asked {
            Asked::Retried(retried) => retried,
            Asked::Missing => return Err(Problem::not_found("batch")),
            Asked::Ended(status) => {
                let detail = format!("The batch is {}; nothing of it can be tried again.", status.as_str());
                return Err(Problem::new(ProblemCode::Conflict, detail));
            }
        };
        let batch = batch.ok_or_else(|| Problem::not_found("batch"))?;
        if changes_something {
            let (rows, under_way) = (retried.rows, retried.under_way);
            tracing::info!(event = "batch.retried", batch = %id, rows, under_way, "failed rows are tried again");
            appliance.recent.forget(batch.batch);
            appliance.work_bell.ring();
            appliance.chores_bell.ring();
        }
        let batch = BatchView::of(appliance, batch, caller.sees()?.is_none())?;
        Ok(RetriedBatch { batch, retried: retried.into() })
    });
    json(StatusCode::OK, &view.await?)
}
