//! The HTTP API: routes, access, problem details. One file an area.
//!
//! A handler parses what came, makes one call into the rest of the house, and shows the result; everything that blocks
//! runs on a blocking thread ([`answer::blocking`]). It sees no SQL and makes no HTTP calls of its own.

pub mod access;
mod all_batches;
pub mod answer;
pub mod audit;
pub mod batches;
mod body;
pub mod clients;
pub mod deletion;
pub mod dispatch;
mod form;
mod forwarded;
pub mod health;
pub mod limits;
pub mod listen;
pub mod meter;
pub mod overview;
mod page;
pub mod problem;
pub mod request;
pub mod rows;
mod session;
pub mod sign_ins;
mod small_json;
pub mod stuck;
pub mod upload;
pub mod webhooks;

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

impl Context {
    /// The context of a server.
    pub fn new(appliance: Arc<Appliance>, dispatcher: Arc<Dispatcher>) -> Self {
        let uploads = Arc::new(Semaphore::new(appliance.config.uploads.at_once));
        let meter = Meter::new(appliance.config.limits.requests_per_minute);
        let door = Arc::new(Door { sign_ins: SignIns::default(), meter });
        Self { appliance, dispatcher, uploads, door }
    }
}

/// Everything that the server answers, problems included.
pub fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let areas = health::routes(context.clone())
        .or(upload::routes(context.clone()))
        .unify()
        .or(batches::routes(context.clone()))
        .unify()
        .or(rows::routes(context.clone()))
        .unify()
        .or(deletion::routes(context.clone()))
        .unify()
        .or(dispatch::routes(context.clone()))
        .unify()
        .or(limits::routes(context.clone()))
        .unify()
        .or(overview::routes(context.clone()))
        .unify()
        .or(session::routes(context.clone()))
        .unify()
        .or(clients::routes(context.clone()))
        .unify()
        .or(webhooks::routes(context.clone()))
        .unify()
        .or(audit::routes(context.clone()))
        .unify()
        .or(stuck::routes(context.clone()))
        .unify()
        .or(all_batches::routes(context))
        .unify()
        .or(page::routes())
        .unify();
    areas
        .recover(|rejection: Rejection| async move { Ok::<_, Rejection>(answer::rejected(&rejection)) })
        .unify()
        .boxed()
}

/// Hands the context to a handler.
fn with(context: Context) -> impl Filter<Extract = (Context,), Error = std::convert::Infallible> + Clone {
    warp::any().map(move || context.clone())
}
