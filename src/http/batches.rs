//! Batches: look at them, pause, resume, cancel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batch_view::BatchView,
    problem::{Problem, ProblemCode},
    request::{Request, request},
    small_json::{Reason, reason},
};
use crate::{
    appliance::Appliance,
    model::{BatchId, BatchStatus},
    store::{
        Tx, audit,
        batches::{self, Batch, Cancelled},
        error,
    },
    work::workflows::VersionError,
};

/// Entries of a page where the caller does not say, and at most.
pub const DEFAULT_LIMIT: u32 = 100;
/// The largest page.
pub const LARGEST_LIMIT: u32 = 1_000;

#[derive(Serialize, JsonSchema)]
pub(super) struct BatchList {
    batches: Vec<BatchView>,
    next: Option<BatchId>,
}

/// `?limit=&after=` of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Entries at most; 100 by default.
    #[schemars(range(min = 1, max = LARGEST_LIMIT))]
    pub limit: Option<u32>,
    /// The `next` of an earlier page.
    pub after: Option<String>,
}

impl Paging {
    /// Entries of the page.
    pub fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=LARGEST_LIMIT => Ok(limit),
            _ => Err(Problem::new(ProblemCode::BadRequest, format!("`limit` is 1 to {LARGEST_LIMIT}."))),
        }
    }

    /// The cursor, where one is given.
    pub fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Problem> {
        let parsed = self.after.as_deref().map(str::parse).transpose();
        parsed.map_err(|_| Problem::new(ProblemCode::BadRequest, "`after` is the `next` of an earlier page."))
    }
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v2" / "batches")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/v2/batches", list(request)));
    let show = warp::path!("v2" / "batches" / BatchId)
        .and(warp::get())
        .and(request(&context))
        .and_then(|id, request| answer("/v2/batches/ID", show(id, request)));
    let change = warp::path!("v2" / "batches" / BatchId / Change)
        .and(warp::post())
        .and(request(&context))
        .and(reason())
        .and_then(|id, change: Change, request, reason| answer(change.route(), apply(id, change, request, reason)));
    list.or(show).unify().or(change).unify().boxed()
}

async fn list(request: Request) -> Answer {
    let list = blocking(move || {
        let (appliance, paging) = (request.appliance(), request.query::<Paging>()?);
        let caller = request.caller()?;
        let (whose, limit, after) = (caller.sees()?, paging.limit()?, paging.after()?);
        let page = appliance.store.read(|connection| batches::page(connection, whose, after, limit))?;
        let next = (page.len() == limit as usize).then(|| page.last().map(|batch| batch.id)).flatten();
        Ok(BatchList { batches: BatchView::all(appliance, page, whose.is_none())?, next })
    });
    json(StatusCode::OK, &list.await?)
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

    fn deed(self) -> &'static str {
        match self {
            Self::Pause => "batch.pause",
            Self::Resume => "batch.resume",
            Self::Cancel => "batch.cancel",
        }
    }

    fn tell(self, batch: BatchId) {
        match self {
            Self::Pause => tracing::info!(event = "batch.paused", %batch, "batch paused"),
            Self::Resume => tracing::info!(event = "batch.resumed", %batch, "batch resumed"),
            Self::Cancel => tracing::info!(event = "batch.cancel_asked", %batch, "batch is to be cancelled"),
        }
    }

    /// What is so already is fine, and no news; `None` where it cannot be so any more.
    fn make(self, tx: &Tx<'_>, batch: i64, reason: Option<&str>) -> error::Result<Option<bool>> {
        match self {
            Self::Pause => batches::pause(tx, batch, reason).map(Some),
            Self::Resume => batches::resume(tx, batch).map(Some),
            Self::Cancel => Ok(match batches::cancel(tx, batch)? {
                Cancelled::Now => Some(true),
                Cancelled::Before => Some(false),
                Cancelled::Ended => None,
            }),
        }
    }
}

async fn apply(id: BatchId, change: Change, request: Request, reason: Result<Reason, Problem>) -> Answer {
    let view = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let batch = caller.batch(appliance, id)?;
        let key = batch.batch;
        let reason = reason?.reason;
        if matches!(change, Change::Resume) {
            must_be_workable(appliance, &batch)?;
        }
        let deed = request.deed(&caller, change.deed(), id.to_string(), reason.clone());
        let changed = move |tx: &Tx<'_>| {
            let made = change.make(tx, key, reason.as_deref())?;
            if let Some(deed) = deed.filter(|_| made == Some(true)) {
                audit::note(tx, &deed)?;
            }
            Ok((made, batches::by_key(tx.connection, key)?))
        };
        let (made, batch) = appliance.store.write(changed)?;
        if made.ok_or_else(|| conflict(batch.status))? {
            change.tell(id);
            if let Change::Resume = change {
                appliance.recent.forget(key);
            }
            appliance.work_bell.ring();
        }
        Ok(BatchView::of(appliance, batch, caller.sees()?.is_none())?)
    });
    json(StatusCode::OK, &view.await?)
}

/// Nobody can set rows going whose workflow cannot be read, or calls somebody whom nobody knows.
pub(super) fn must_be_workable(appliance: &Appliance, batch: &Batch) -> Result<(), Problem> {
    let why = match appliance.workflow(batch.workflow_version) {
        Ok(kept) => match kept.way() {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        },
        Err(VersionError::Store(error)) => return Err(error.into()),
        Err(error) => error.to_string(),
    };
    Err(Problem::new(ProblemCode::Conflict, format!("Nothing of it can be worked: {why}.")))
}

fn conflict(status: BatchStatus) -> Problem {
    Problem::new(ProblemCode::Conflict, format!("The batch is {} already; nothing was changed.", status.as_str()))
}
