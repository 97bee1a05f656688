//! One HTTP call of a step: what is sent, when it may leave, and what its answer means.
//!
//! ```text
//!   prepare            permit                    send
//!   templates -> slot + concurrency + gate -> http -> Outcome for the row
//!                ^          ^                    |
//!             leases      until                  +--> Health for the gate
//!                |          |
//!                +- bookkeeper -> Ledger (the store)
//! ```
//!
//! In reading order: `way` is a workflow's steps, each with its dependency; `request` fills a step's templates; `rate` is the arithmetic of slots, `gate` the state machine
//! of trust, `lane` puts both behind one lock for each dependency; `permit` waits there, `admission` looks ahead for
//! the feeder; `client` sends, on the thread of `bridge`; `classify` judges; `bookkeeper` keeps what must
//! be durable.
//!
//! Knows nothing of batches, rows or the store: what must be durable goes through the trait [`Ledger`], what is counted
//! through the trait [`Meter`].

mod adapt;
pub mod admission;
mod advice;
mod alarms;
mod bookkeeper;
mod bridge;
mod calls;
mod classify;
mod client;
mod concurrency;
pub mod gate;
mod lack;
mod lane;
pub mod ledger;
mod meter;
pub mod permit;
mod places;
pub mod rate;
mod request;
mod status;
mod way;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::Clock,
    heartbeat::Heartbeats,
    model::{Dependency, Step, StepFailure, Timestamp, Workflow, outcome::Outcome, workflow::Repeat},
    template::Scope,
};

pub use admission::{CLAIM_AHEAD, LEAD, Reservation, Room};
#[cfg(any(test, feature = "fuzzing"))]
pub use client::understood;
pub use client::{ClientError, MAX_ANSWER, allow_connections, shake_hands, speaks_tls, tls_in_words};
pub use gate::{Closed, GateReason, GateState};
pub use lack::Lack;
pub use lane::Wake;
pub use ledger::{DependencyState, Lease, LeaseAsk, Ledger, LedgerError};
pub use meter::{CallEnd, Meter};
pub use permit::{Ask, Permit, Wait, WaitReason};
pub use request::PlanError;
pub use status::{DependencyStatus, GateStatus};
pub use way::{Way, WayError};

use alarms::{AlarmClock, Alarms};
use bookkeeper::Bookkeeper;
use bridge::Bridge;
use client::{Care, Client};
use lane::Lane;
use places::Places;
use request::{Filled, Plan};

/// Every dependency, ready to be called.
pub struct Downstream {
    lanes: BTreeMap<String, Arc<Lane>>,
    clients: BTreeMap<String, Arc<Client>>,
    bookkeeper: Mutex<Option<Bookkeeper>>,
    bridge: Bridge,
    _alarm_clock: AlarmClock,
}

/// A step, and whom it calls.
struct Call {
    plan: Plan,
    client: Arc<Client>,
    lane: Arc<Lane>,
}

/// What a step would send, whether or not anybody is there to send it to.
pub struct Draft(Plan);

impl Draft {
    /// Compiles a step.
    pub fn new(step: &Step) -> Result<Self, PlanError> {
        Plan::new(step).map(Self)
    }

    /// [`Request::fingerprint`] of the request for these values.
    pub fn fingerprint(&self, scope: &Scope<'_>) -> Result<[u8; 32], StepFailure> {
        Ok(self.0.fill(scope)?.fingerprint())
    }
}

/// A step's request for one row, ready to be sent.
#[derive(Clone)]
pub struct Request {
    call: Arc<Call>,
    filled: Arc<Filled>,
}

impl Request {
    /// SHA-256 over what is sent (method, path, query, the step's headers and body): the same for the same request.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.filled.fingerprint()
    }

    /// The dependency that it goes to.
    pub fn dependency(&self) -> &str {
        &self.call.lane.settings.name
    }

    /// The right to send it now.
    pub async fn permit(&self, ask: Ask) -> Result<Permit, Wait> {
        self.call.lane.permit(ask, self.call.plan.repeat == Repeat::Never).await
    }

    /// Sends it, once, and says what came of it. `permit` is its own; `refused` is the status that its row got at this step
    /// before, where it was turned away. What is never sent again leaves on a new connection, and so does what is sent `again` because a kept one was
    /// given up. To be awaited on the thread of the calls ([`Downstream::spawn`]), which keeps the connections.
    pub async fn send(&self, idempotency_key: Option<&str>, permit: Permit, refused: Option<u16>, again: bool) -> Sent {
        let Call { plan, client, lane } = &*self.call;
        let left_at = lane.clock.steady();
        let care = Care { fresh: again || plan.repeat == Repeat::Never, keeps_body: !plan.save.is_empty() };
        let result = client.call(&self.filled, idempotency_key, care).await;
        let duration = Duration::from_nanos(lane.clock.steady().saturating_sub(left_at).max(0) as u64);
        let now = lane.clock.now();
        if let Some(lack) = result.as_ref().err().and_then(|error| error.lack) {
            return Sent::Not(permit.lacks(lack));
        }
        if result.as_ref().is_err_and(|error| error.was_given_up) {
            // It tells nothing of how the API is.
            drop(permit);
            lane.meter.called(CallEnd::Connection, duration);
            return Sent::GivenUp(duration);
        }
        if let Some(advice) = result.as_ref().ok().and_then(|answer| answer.advice) {
            permit.heed(advice);
        }
        let before = permit.report(classify::health(&result, now), refused.is_some());
        // Silence behind a gate that was closed is what the gate was closed for: no row pays for it with an attempt.
        let silence_counts = before.was_open;
        let outcome = classify::outcome(&lane.settings.name, &plan.save, result, silence_counts, now);
        let outcome =
            if refused == Some(UNAUTHORIZED) && before.takes_others { classify::of_the_row(outcome) } else { outcome };
        lane.meter.called(CallEnd::of(&outcome), duration);
        Sent::Ended(outcome, duration)
    }
}

/// 401 Unauthorized (RFC 9110, section 15.5.2).
const UNAUTHORIZED: u16 = 401;

/// What came of a request, and how long that took.
#[derive(Debug)]
pub enum Sent {
    /// It has ended like this.
    Ended(Outcome, Duration),
    /// It left on a kept connection that the server gave up, most likely before it read it: it is tried once more at once, on a
    /// new connection, with a permit of its own.
    GivenUp(Duration),
    /// It did not leave, because this machine lacks something for that; when to come back.
    Not(Wait),
}

/// Only where it goes: the rest is a row's.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("step", &self.call.plan.step).finish_non_exhaustive()
    }
}

/// Why nothing can be called.
#[derive(Debug, thiserror::Error)]
pub enum DownstreamError {
    /// A dependency that cannot be called.
    #[error("dependencies.{dependency}: {error}")]
    Client {
        /// Its name.
        dependency: String,
        /// What is wrong with it.
        error: ClientError,
    },
    /// A name that no dependency has.
    #[error("there is no dependency `{0}`")]
    UnknownDependency(String),
    /// Not a rate.
    #[error("a rate is a number of requests a second, more than zero")]
    Rate,
    /// What was kept of the dependencies cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No thread could be started.
    #[error("no thread for the dependencies' state: {0}")]
    Thread(#[source] io::Error),
}

impl Downstream {
    /// Reads what was kept of every dependency, and starts the thread that keeps it. `wake` is called whenever there may be room again for rows that there was none for; `meter` gives each dependency its own.
    /// `under_way` rows may be under way at once, over all of them.
    pub fn new(
        dependencies: &BTreeMap<String, Dependency>,
        under_way: usize,
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        wake: Wake,
        meter: impl Fn(&str) -> Arc<dyn Meter>,
        hearts: &Heartbeats,
    ) -> Result<Self, DownstreamError> {
        let alarms = Alarms::default();
        let places = Arc::new(Places::new(under_way, dependencies.len()));
        let mut lanes = BTreeMap::new();
        let mut clients = BTreeMap::new();
        for (name, settings) in dependencies {
            let client = Client::new(settings, clock.clone())
                .map_err(|error| DownstreamError::Client { dependency: name.clone(), error })?;
            let kept = ledger.load(name)?;
            let lane = Lane::new(
                settings.clone(),
                kept,
                clock.clone(),
                wake.clone(),
                meter(name),
                alarms.clone(),
                places.clone(),
            );
            clients.insert(name.clone(), Arc::new(client));
            lanes.insert(name.clone(), Arc::new(lane));
        }
        let bookkeeper = Bookkeeper::start(lanes.values().cloned().collect(), ledger, clock.clone())
            .map_err(DownstreamError::Thread)?;
        let bridge = Bridge::start(hearts).map_err(DownstreamError::Thread)?;
        let alarm_clock = alarms.start(hearts).map_err(DownstreamError::Thread)?;
        Ok(Self { lanes, clients, bookkeeper: Mutex::new(Some(bookkeeper)), bridge, _alarm_clock: alarm_clock })
    }

    /// Compiles the steps of a workflow, and joins each with its dependency.
    pub fn way(&self, workflow: &Workflow) -> Result<Way, WayError> {
        Way::new(workflow, &self.lanes, &self.clients)
    }

    /// Lets the thread of the calls do this, beside all else.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.bridge.spawn(work);
    }

    /// Lets the thread of the calls do this, and waits for it; `None` where the process ended meanwhile. Not for what runs in
    /// a runtime.
    pub fn wait_for<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.bridge.wait_for(work)
    }

    /// Changes a rate, from the next request on. The caller has kept it before, where the ledger reads it: what is kept
    /// holds in the end.
    pub fn set_rate(&self, dependency: &str, per_second: f64) -> Result<(), DownstreamError> {
        let unknown = || DownstreamError::UnknownDependency(dependency.to_owned());
        let lane = self.lanes.get(dependency).ok_or_else(unknown)?;
        if !(per_second.is_finite() && per_second > 0.0) {
            return Err(DownstreamError::Rate);
        }
        lane.set_rate(per_second);
        Ok(())
    }

    /// Until when a dependency's gate is closed; `None` where it is open.
    pub fn gate_opens_at(&self, dependency: &str) -> Option<Timestamp> {
        self.gate(dependency).map(|closed| closed.until)
    }

    /// Until when a dependency's gate is closed, and why; `None` where it is open.
    pub fn gate(&self, dependency: &str) -> Option<Closed> {
        self.lanes.get(dependency).and_then(|lane| lane.lock().gate.closed(lane.now()))
    }

    /// How many requests to each dependency could be under way before long, where there is enough to do; by name.
    pub fn reach(&self) -> BTreeMap<String, u32> {
        self.lanes.iter().map(|(name, lane)| (name.clone(), lane.reach())).collect()
    }

    /// How many rows are under way to a dependency, where there is no place for another one beside those of the others.
    pub fn out_of_places(&self, dependency: &str) -> Option<usize> {
        self.lanes.get(dependency).and_then(|lane| lane.out_of_places())
    }

    /// How every dependency is, by name.
    pub fn status(&self) -> Vec<DependencyStatus> {
        self.lanes.values().map(|lane| lane.status()).collect()
    }

    /// How many requests wait for a permit now, by dependency.
    pub fn waiting(&self) -> Vec<(String, usize)> {
        self.lanes.iter().map(|(name, lane)| (name.clone(), lane.lock().queue.len())).collect()
    }

    /// Gives no permit any more, sends those home that wait for one, and keeps what is to be kept. Requests under way
    /// are not touched. Closing twice is closing once.
    pub fn close(&self) {
        self.lanes.values().for_each(|lane| lane.close());
        drop(self.bookkeeper.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
