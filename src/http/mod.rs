//! The HTTP API: routes, access, problem details. One file an area.
//!
//! A handler parses what came, makes one call into the rest of the house, and shows the result; everything that blocks
//! runs on a blocking thread ([`answer::blocking`]). It sees no SQL and makes no HTTP calls of its own.

mod accept;
pub mod access;
pub mod alert_view;
mod all_batches;
pub mod answer;
pub mod audit;
pub mod batch_view;
pub mod batches;
mod body;
pub mod clients;
pub mod deletion;
pub mod dispatch;
pub mod errors;
mod events;
mod form;
mod forwarded;
pub mod health;
pub mod limits;
pub mod listen;
pub mod meter;
mod metrics;
mod openapi;
pub mod overview;
mod page;
pub mod problem;
pub mod request;
pub mod results;
pub mod retry;
pub mod rows;
mod session;
pub mod sign_ins;
mod small_json;
mod stall;
pub mod stuck;
mod upgrade;
pub mod upload;
pub mod webhooks;
pub mod workflows;

use std::sync::Arc;

use meter::Meter;
use sign_ins::SignIns;
use tokio::sync::Semaphore;
use warp::{Filter, Rejection, filters::BoxedFilter, reply::Response};

use crate::{appliance::Appliance, dispatch::run::Dispatcher};

/// What every handler has at hand.
#[derive(Clone)]
pub struct Context {
    /// The appliance.
    pub appliance: Arc<Appliance>,
    /// Dispatch runs, one at a time.
    pub dispatcher: Arc<Dispatcher>,
    /// Uploads that may still begin.
    pub uploads: Arc<Semaphore>,
    /// Files of errors that may still be sent.
    pub error_files: Arc<Semaphore>,
    /// Streams of events that are open.
    pub streams: events::Streams,
    /// What is remembered of callers.
    pub door: Arc<Door>,
}

/// What is remembered of callers, in memory alone.
pub struct Door {
    /// Those who showed wrong keys.
    pub sign_ins: SignIns,
    /// How much each has asked.
    pub meter: Meter,
}

/// Files of errors that are sent at once: each lies on the disk until its caller has taken it.
const ERROR_FILES_AT_ONCE: usize = 16;

impl Context {
    /// The context of a server.
    pub fn new(appliance: Arc<Appliance>, dispatcher: Arc<Dispatcher>) -> Self {
        let uploads = Arc::new(Semaphore::new(appliance.config.uploads.at_once));
        let error_files = Arc::new(Semaphore::new(ERROR_FILES_AT_ONCE));
        let meter = Meter::new(appliance.config.limits.requests_per_minute);
        let door = Arc::new(Door { sign_ins: SignIns::default(), meter });
        Self { appliance, dispatcher, uploads, error_files, streams: events::Streams::default(), door }
    }
}

/// The routes of one area.
type Area = fn(Context) -> BoxedFilter<(Response,)>;

/// Everything that the server answers, problems included.
pub fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let areas: [Area; 22] = [
        health::routes,
        upload::routes,
        batches::routes,
        rows::routes,
        deletion::routes,
        retry::routes,
        errors::routes,
        results::routes,
        events::routes,
        upgrade::routes,
        workflows::routes,
        dispatch::routes,
        limits::routes,
        overview::routes,
        session::routes,
        clients::routes,
        webhooks::routes,
        audit::routes,
        stuck::routes,
        all_batches::routes,
        metrics::routes,
        openapi::routes,
    ];
    let page = page::routes().map(|response| answer::of_route("page", response)).boxed();
    let answered = areas.into_iter().fold(page, |others, area| area(context.clone()).or(others).unify().boxed());
    answered
        .recover(|rejection: Rejection| async move { Ok::<_, Rejection>(answer::rejected(&rejection)) })
        .unify()
        .map(move |response| answer::finished(response, &context.appliance.metrics.requests))
        .boxed()
}

/// Hands the context to a handler.
fn with(context: Context) -> impl Filter<Extract = (Context,), Error = std::convert::Infallible> + Clone {
    warp::any().map(move || context.clone())
}
