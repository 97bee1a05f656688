//! Batches: look at them, pause, resume, cancel.

use schemars::JsonSchema;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    list::listed,
    problem::{Problem, ProblemCode},
    request::{Request, client_request},
    small_json::{Reason, Sent, reason},
};
use crate::{
    model::{BatchId, Scope},
    operations::{
        batches::{self, BatchFault, Changed},
        views::{
            batch::BatchView,
            paging::{Paging, PagingFault},
        },
    },
    store::batches::page,
};

/// A page of batches; it may be short while `next` is not null.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, and made entry by entry")]
pub(super) struct BatchList {
    batches: Vec<BatchView>,
    next: Option<BatchId>,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v2" / "batches")
        .and(warp::get())
        .and(client_request(&context, Scope::Read))
        .and_then(|request| answer("/v2/batches", list(request)));
    let show = warp::path!("v2" / "batches" / BatchId)
        .and(warp::get())
        .and(client_request(&context, Scope::Read))
        .and_then(|id, request| answer("/v2/batches/ID", show(id, request)));
    let change = warp::path!("v2" / "batches" / BatchId / Change)
        .and(warp::post())
        .and(client_request(&context, Scope::Manage))
        .and(reason())
        .and_then(|id, change: Change, request, sent| answer(change.route(), apply(id, change, request, sent)));
    list.or(show).unify().or(change).unify().boxed()
}

async fn list(request: Request) -> Answer {
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

async fn show(id: BatchId, request: Request) -> Answer {
    let view = blocking(move || {
        let caller = request.caller()?;
        let batch = caller.batch(request.appliance(), id)?;
        Ok(BatchView::of(request.appliance(), batch, caller.sees()?.is_none())?)
    });
    json(StatusCode::OK, &view.await?)
}

/// What somebody can do with a batch.
#[derive(Debug, Clone, Copy)]
enum Change {
    Pause,
    Resume,
    Cancel,
}

impl std::str::FromStr for Change {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "cancel" => Ok(Self::Cancel),
            _ => Err(()),
        }
    }
}

impl Change {
    fn route(self) -> &'static str {
        match self {
            Self::Pause => "/v2/batches/ID/pause",
            Self::Resume => "/v2/batches/ID/resume",
            Self::Cancel => "/v2/batches/ID/cancel",
        }
    }
}

async fn apply(id: BatchId, change: Change, request: Request, sent: Sent<Reason>) -> Answer {
    let reason = sent.reason(&request).await?;
    let view = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let batch = caller.batch(appliance, id)?;
        let make = match change {
            Change::Pause => batches::pause,
            Change::Resume => batches::resume,
            Change::Cancel => batches::cancel,
        };
        let Changed { batch, .. } = make(request.env(), &request.actor(&caller), &batch, reason?.reason)?;
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
