//! The HTTP API: routes, access, problem details. One file an area; [`routes`] declares the calls.
//!
//! A handler parses what came, makes one call into the rest of the house, and shows the result; everything that blocks
//! runs on a blocking thread ([`answer::blocking`]). It sees no SQL and makes no HTTP calls of its own.

mod accept;
pub mod access;
mod all_batches;
pub mod answer;
pub mod audit;
pub mod batches;
mod body;
pub mod client_keys;
pub mod clients;
pub mod deletion;
pub mod dispatch;
mod docs;
pub mod errors;
mod events;
mod form;
mod forwarded;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod health;
mod key_uses;
pub mod limits;
mod list;
pub mod listen;
pub mod meter;
mod metrics;
pub mod oidc;
mod openapi;
pub mod overview;
mod pace;
mod page;
pub mod problem;
pub mod reads;
pub mod request;
pub mod results;
pub mod retry;
mod routes;
pub mod rows;
mod session;
pub mod sessions;
mod side;
pub mod sign_ins;
mod small_json;
pub mod standing;
pub mod stuck;
mod upgrade;
pub mod upload;
pub mod webhooks;
pub mod workflows;
pub mod wrong_keys;

use std::{sync::Arc, time::Duration};

use key_uses::KeyUses;
use meter::Meter;
use rayon::ThreadPoolBuildError;
use reads::Reads;
pub use routes::routes;
pub use side::Side;
use sign_ins::SignIns;
use standing::Standings;
use tokio::sync::Semaphore;
use wrong_keys::WrongKeys;

use crate::{
    appliance::Appliance,
    dispatch::run::Dispatcher,
    heartbeat,
    oidc::{AT_ONCE, Outstanding, Provider},
};

/// What every handler has at hand.
#[derive(Clone)]
pub struct Context {
    /// The appliance.
    pub appliance: Arc<Appliance>,
    /// Dispatch runs, one at a time.
    pub dispatcher: Arc<Dispatcher>,
    /// Uploads that are under way.
    pub uploads: Arc<upload::Places>,
    /// Files of errors that are on their way.
    pub error_files: Arc<upload::ErrorFiles>,
    /// Room for long answers.
    pub reads: Reads,
    /// Streams of events that are open.
    pub streams: events::Streams,
    /// What is remembered of callers.
    pub door: Arc<Door>,
    /// Whose word is taken for who somebody is, if anybody's.
    pub provider: Option<Arc<Provider>>,
}

/// What is remembered of callers, in memory alone.
pub struct Door {
    /// Those who showed wrong keys.
    pub sign_ins: SignIns,
    /// How much each has asked.
    pub meter: Meter,
    /// Those keys, until the audit has them.
    pub wrong_keys: WrongKeys,
    /// When clients' keys were used, until the database has it.
    pub key_uses: KeyUses,
    /// What their requests under way stand on.
    pub standings: Standings,
    /// Those who are at the provider just now.
    pub outstanding: Outstanding,
    /// Turns to speak with the provider.
    pub conversations: Semaphore,
}

impl Context {
    /// The context of a server, of which so many files of errors are on their way at once. An error is that of a thread that could not be started.
    pub fn new(
        appliance: Arc<Appliance>,
        dispatcher: Arc<Dispatcher>,
        provider: Option<Arc<Provider>>,
        error_files: usize,
    ) -> Result<Self, ThreadPoolBuildError> {
        let uploads = upload::Places::new(&appliance.config.uploads);
        let meter = Meter::new(appliance.config.limits.requests_per_minute);
        let door = Arc::new(Door {
            sign_ins: SignIns::default(),
            meter,
            wrong_keys: WrongKeys::default(),
            key_uses: KeyUses::default(),
            standings: Standings::default(),
            outstanding: Outstanding::default(),
            conversations: Semaphore::new(AT_ONCE),
        });
        Ok(Self {
            appliance,
            dispatcher,
            uploads,
            error_files: upload::ErrorFiles::up_to(error_files),
            reads: Reads::start()?,
            streams: events::Streams::default(),
            door,
            provider,
        })
    }
}

/// How often it is looked at what goes on at the door.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks for as long as the server lives whether what requests came with is still good. It writes nothing: a locked
/// database keeps nobody in whose key was taken away.
pub async fn watch_rights(context: Context) {
    let heart = context.appliance.hearts.register("rights", heartbeat::LONGEST);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        heart.beat();
        standing::look(&context).await;
    }
}

/// Notes for as long as the server lives which keys were wrong, and when good ones were used. Each may have to wait for the
/// database.
pub async fn note_keys(context: Context) {
    let heart = context.appliance.hearts.register("key-notes", heartbeat::LONGEST);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        heart.beat();
        wrong_keys::look(&context).await;
        heart.beat();
        key_uses::look(&context).await;
    }
}
