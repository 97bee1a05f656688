//! A downstream of one dependency and one two-step workflow, over a ledger in memory that outlives it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dripfeed::{
    clock::Clock,
    downstream::{
        Ask, DependencyState, Downstream, GateState, Lease, LeaseAsk, Ledger, LedgerError, Permit, Request, Sent, Wait,
        Way, rate,
    },
    heartbeat::Heartbeats,
    model::{
        Concurrency, Dependency, Step, Timestamp, Workflow,
        outcome::Outcome,
        workflow::{ExtraColumns, FailureLimit, Method, OnInvalidRow, Repeat},
    },
    template::Scope,
};
use serde_json::json;

pub const NOW: Timestamp = Timestamp(1_786_000_000_000);
/// Longer than anything here takes, so that a test which waits for it has found a fault.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// More than any test here sends at once.
const UNDER_WAY: usize = 4_096;

/// What the store does, without a disk.
#[derive(Default)]
pub struct MemoryLedger {
    kept: Mutex<HashMap<String, Kept>>,
    pub broken: AtomicBool,
}

#[derive(Default)]
struct Kept {
    mark: Option<(Arc<str>, i64)>,
    rate_per_second: Option<f64>,
    gate: GateState,
}

impl MemoryLedger {
    pub fn set_rate(&self, per_second: f64) {
        self.kept.lock().expect("not poisoned").entry("addresses".to_owned()).or_default().rate_per_second =
            Some(per_second);
    }

    pub fn gate(&self) -> GateState {
        self.kept.lock().expect("not poisoned").get("addresses").map(|kept| kept.gate).unwrap_or_default()
    }

    fn with<T>(&self, dependency: &str, work: impl FnOnce(&mut Kept) -> T) -> Result<T, LedgerError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(LedgerError(Box::new(io::Error::other("the disk is full"))));
        }
        Ok(work(self.kept.lock().expect("not poisoned").entry(dependency.to_owned()).or_default()))
    }
}

impl Ledger for MemoryLedger {
    fn lease(&self, ask: &LeaseAsk) -> Result<Lease, LedgerError> {
        self.with(&ask.dependency, |kept| {
            let lease = rate::advance(kept.mark.as_ref().map(|(boot, mark)| (&**boot, *mark)), ask);
            kept.mark = Some((ask.boot.clone(), lease.end));
            lease
        })
    }

    fn load(&self, dependency: &str) -> Result<Option<DependencyState>, LedgerError> {
        self.with(dependency, |kept| Some(DependencyState { rate_per_second: kept.rate_per_second, gate: kept.gate }))
    }

    fn save_gate(&self, dependency: &str, gate: &GateState) -> Result<(), LedgerError> {
        self.with(dependency, |kept| kept.gate = *gate)
    }
}

/// A fast and patient dependency.
pub fn dependency(url: &str) -> Dependency {
    Dependency {
        name: "addresses".to_owned(),
        base_url: url.to_owned(),
        rate_per_second: 1_000.0,
        burst: 1_000,
        concurrency: Concurrency::Fixed(16),
        max_concurrency: 256,
        adapt: true,
        timeout: PATIENCE,
        gate_after: 3,
        max_retry_after: Duration::from_secs(3_600),
        max_idle: Duration::from_secs(4),
        headers: BTreeMap::from([("Authorization".to_owned(), "Bearer s3cret".to_owned())]),
    }
}

fn step(name: &str, method: Method, json: Option<serde_json::Value>) -> Step {
    Step {
        name: name.to_owned(),
        dependency: "addresses".to_owned(),
        method,
        path: format!("/{name}"),
        query: BTreeMap::from([("postcode".to_owned(), "{{ row.postcode }}".to_owned())]),
        headers: BTreeMap::new(),
        json,
        save: BTreeMap::from([("link".to_owned(), "/link".to_owned())]),
        repeat: Repeat::Safe,
        result: None,
    }
}

pub fn workflow() -> Workflow {
    Workflow {
        name: "invite".to_owned(),
        upload_path: String::new(),
        max_rows: 1,
        max_bytes: 1,
        max_attempts: 5,
        on_invalid_row: OnInvalidRow::Reject,
        extra_columns: ExtraColumns::Reject,
        duplicate_window: Duration::ZERO,
        give_up_after: Duration::ZERO,
        repeat_window: Duration::ZERO,
        failure_limit: FailureLimit::DEFAULT,
        columns: Vec::new(),
        steps: vec![
            step("links", Method::Post, Some(json!({"postcode": "{{ row.postcode }}"}))),
            step("addresses", Method::Get, None),
        ],
    }
}

/// Everything a test needs to call.
pub struct Fixture {
    pub downstream: Downstream,
    pub way: Way,
    pub ledger: Arc<MemoryLedger>,
    pub clock: Clock,
}

impl Fixture {
    /// On a clock that stands still.
    pub fn still(dependency: Dependency) -> Self {
        Self::new(dependency, Arc::default(), Clock::manual(NOW))
    }

    /// On the machine's clock.
    pub fn live(dependency: Dependency) -> Self {
        Self::new(dependency, Arc::default(), Clock::machine())
    }

    pub fn new(dependency: Dependency, ledger: Arc<MemoryLedger>, clock: Clock) -> Self {
        let dependencies = BTreeMap::from([(dependency.name.clone(), dependency)]);
        let downstream = Downstream::new(
            &dependencies,
            UNDER_WAY,
            ledger.clone(),
            clock.clone(),
            Arc::new(|| ()),
            |_| Arc::new(()),
            &Heartbeats::default(),
        )
        .expect("valid");
        let way = downstream.way(&workflow()).expect("its dependency is there");
        Self { downstream, way, ledger, clock }
    }

    pub fn request(&self, step: usize) -> Request {
        let (saved, context) = (BTreeMap::new(), json!({}));
        let scope = Scope::new([("postcode", "AB1 2CD")], &saved, &context);
        self.way.prepare(step, &scope).expect("a good template")
    }

    pub fn permit(&self, patience: Duration) -> Result<Permit, Wait> {
        self.permit_for(&self.request(0), patience)
    }

    pub fn permit_for(&self, request: &Request, patience: Duration) -> Result<Permit, Wait> {
        let (request, ask) = (request.clone(), Ask { patience, may_be_lost: false, ahead: Duration::ZERO });
        self.downstream.wait_for(async move { request.permit(ask).await }).expect("it is open")
    }

    pub fn send(&self, request: &Request, key: Option<&'static str>, permit: Permit, refused: Option<u16>) -> Outcome {
        let request = request.clone();
        let sent = self.downstream.wait_for(async move { request.send(key, permit, refused, false).await });
        match sent.expect("it is open") {
            Sent::Ended(outcome, _) => outcome,
            Sent::GivenUp(_) => panic!("a connection was given up"),
            Sent::Not(wait) => panic!("nothing left: {wait:?}"),
        }
    }

    /// One call of the first step.
    pub fn call(&self) -> Outcome {
        let request = self.request(0);
        let permit = self.permit_for(&request, PATIENCE).expect("a permit");
        self.send(&request, Some("key-1"), permit, None)
    }
}
