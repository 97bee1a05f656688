//! The downstream of demos and tests: the three calls as a small real HTTP server, with a rate limit, latency, faults,
//! and a record of what it was asked for.
//!
//! Rows that are meant to fail have magic values: a house number of `0` finds no address (an empty list), and an
//! e-mail address at `rejected.example` is refused with 422.
//!
//! It knows nothing of dripfeed, as a real downstream would not.

mod body;
mod calls;
mod ledger;
pub mod script;
mod server;
mod window;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

pub use calls::Call;
use ledger::Ledger;
use script::Script;
use serde::Serialize;
use tokio::sync::Notify;

/// What an e-mail address ends with that the simulator refuses.
pub const REJECTED_DOMAIN: &str = "@rejected.example";
/// The house number that has no address.
pub const NO_ADDRESS: &str = "0";

/// How the simulator behaves.
#[derive(Debug, Clone, Copy)]
pub struct SimulatorOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Calls accepted in any one second; `None`: any number.
    pub rate: Option<u32>,
    /// The delay before each answer.
    pub latency: Duration,
    /// The share of calls answered 500 before anything is done, 0 to 1.
    pub errors: f64,
    /// The share of calls that are done and never answered, 0 to 1.
    pub hang: f64,
    /// Which calls those are.
    pub seed: u64,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            rate: None,
            latency: Duration::ZERO,
            errors: 0.0,
            hang: 0.0,
            seed: 0,
        }
    }
}

/// What it was asked for so far: what `GET /stats` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Calls that arrived, by step; those that were refused as too many are not among them.
    pub calls: CallCounts,
    /// Calls over the rate, answered 429.
    pub refused: u64,
    /// The most calls, refused ones included, that arrived in any one second.
    pub busiest_second: u64,
    /// Invites created.
    pub invites: u64,
    /// Answers given again for an `Idempotency-Key` seen before.
    pub replayed: u64,
    /// Invites created although the same one (by its body) was there already.
    pub duplicate_invites: u64,
}

/// Calls by step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CallCounts {
    /// `POST /address-links`
    #[serde(rename = "address-links")]
    pub address_links: u64,
    /// `GET /addresses`
    #[serde(rename = "get-addresses")]
    pub get_addresses: u64,
    /// `POST /invites`
    #[serde(rename = "invite-create")]
    pub invite_create: u64,
}

impl CallCounts {
    /// All three together.
    pub fn total(&self) -> u64 {
        self.address_links + self.get_addresses + self.invite_create
    }
}

/// A running simulator. Dropped, it ends.
pub struct Simulator {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    end: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Listens and answers, on a thread of its own.
    pub fn start(options: SimulatorOptions) -> std::io::Result<Self> {
        Self::play(options, Script::default())
    }

    /// The same, except for the calls that rules of this script are for: those are answered as they say, also over the
    /// rate, and without chance.
    pub fn play(options: SimulatorOptions, script: Script) -> std::io::Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger::new(options, script)));
        let end = Arc::new(Notify::new());
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, ended) = (ledger.clone(), end.clone());
        let thread = std::thread::Builder::new().name("simulator".into()).spawn(move || {
            runtime.block_on(server::serve(listener, shared, options.latency, ended));
        })?;
        Ok(Self { address, ledger, end, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked for so far.
    pub fn stats(&self) -> Stats {
        lock(&self.ledger).stats()
    }

    /// How many invites were created for an e-mail address.
    pub fn times_invited(&self, email: &str) -> u32 {
        lock(&self.ledger).times_invited(email)
    }

    /// From now on, so many of the calls fail and hang (shares, 0 to 1): an outage, or its end.
    pub fn set_faults(&self, errors: f64, hang: f64) {
        lock(&self.ledger).set_faults(errors, hang);
    }

    /// Answers until the process ends.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.end.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
