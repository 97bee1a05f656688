//! Batches: look at them, pause, resume, cancel.

use schemars::JsonSchema;
use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json},
    list::listed,
    problem::{Problem, ProblemCode},
    request::Request,
    small_json::{Reason, Sent},
};
use crate::{
    model::BatchId,
    operations::{
        Actor, Env,
        batches::{self, BatchFault, Changed},
        views::{
            batch::BatchView,
            paging::{Paging, PagingFault},
        },
    },
    store::batches::{Batch, page},
};

/// A page of batches; it may be short while `next` is not null.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, and made entry by entry")]
pub(super) struct BatchList {
    batches: Vec<BatchView>,
    next: Option<BatchId>,
}

pub(super) async fn list(request: Request) -> Answer {
    let ask = |request: &Request| {
        let (caller, paging) = (request.caller()?, request.query::<Paging>()?);
        Ok((caller.sees()?, paging.most()?, paging.after::<BatchId>()?))
    };
    listed(request, "batches", ask, |request, &(whose, most, after), shown| {
        let appliance = request.appliance();
        let found = appliance.store.read(|connection| page(connection, whose, after, most))?;
        let next = found.next(|batch| batch.id);
        shown.fill(found.entries, next, |batch| batch.id, BatchView::each(appliance, whose.is_none())?)
    })
    .await
}

pub(super) async fn show(id: BatchId, request: Request) -> Answer {
    let view = blocking(move || {
        let caller = request.caller()?;
        let batch = caller.batch(request.appliance(), id)?;
        Ok(BatchView::of(request.appliance(), batch, caller.sees()?.is_none())?)
    });
    json(StatusCode::OK, &view.await?)
}

/// What somebody does with a batch, with a reason or without one.
type Change = fn(Env<'_>, &Actor, &Batch, Option<String>) -> Result<Changed, BatchFault>;

pub(super) async fn pause(id: BatchId, request: Request, sent: Sent<Reason>) -> Answer {
    apply(id, batches::pause, request, sent).await
}

pub(super) async fn resume(id: BatchId, request: Request, sent: Sent<Reason>) -> Answer {
    apply(id, batches::resume, request, sent).await
}

pub(super) async fn cancel(id: BatchId, request: Request, sent: Sent<Reason>) -> Answer {
    apply(id, batches::cancel, request, sent).await
}

async fn apply(id: BatchId, change: Change, request: Request, sent: Sent<Reason>) -> Answer {
    let reason = sent.reason(&request).await?;
    let view = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let batch = caller.batch(appliance, id)?;
        let Changed { batch, .. } = change(request.env(), &request.actor(&caller), &batch, reason?.reason)?;
        Ok(BatchView::of(appliance, batch, caller.sees()?.is_none())?)
    });
    json(StatusCode::OK, &view.await?)
}

impl From<BatchFault> for Problem {
    fn from(fault: BatchFault) -> Self {
        let conflict = |detail: String| Self::new(ProblemCode::Conflict, detail);
        match fault {
            BatchFault::Missing => Self::not_found("batch"),
            BatchFault::Ended(status) => {
                conflict(format!("The batch is {} already; nothing was changed.", status.as_str()))
            }
            BatchFault::Unfinished(status) => conflict(format!(
                "The batch is {}; only a finished one can be deleted. Cancel it, or wait for its end; nothing was changed.",
                status.as_str()
            )),
            BatchFault::Claimed => conflict(
                "One of the batch's rows is being worked on; try again in a while. Nothing was changed.".to_owned(),
            ),
            BatchFault::Unworkable(why) => conflict(format!("Nothing of it can be worked: {why}.")),
            BatchFault::NoStep(names) => {
                Self::new(ProblemCode::BadRequest, format!("`step` is one of {}.", names.join(", ")))
            }
            BatchFault::Store(error) => error.into(),
        }
    }
}

impl From<PagingFault> for Problem {
    fn from(fault: PagingFault) -> Self {
        Self::sentence(ProblemCode::BadRequest, &fault)
    }
}
