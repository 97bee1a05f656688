//! How much of a rate the limiter gives while there is work, and the most that any one second held: sixteen threads on
//! a real store, measured where requests are released. Run with `cargo bench --bench limiter`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use dripfeed::{
    clock::Clock,
    config::Config,
    downstream::{Ask, Downstream, Request, Way},
    heartbeat::Heartbeats,
    store::{DatabaseSettings, Store, dependencies::StoredLedger},
    template::Scope,
};

const THREADS: usize = 16;
const SECONDS: i64 = 10;
const SECOND: i64 = 1_000_000_000;
const BURST: usize = 5;
const ASK: Ask = Ask { patience: Duration::from_secs(30), may_be_lost: false, ahead: Duration::ZERO };

fn main() {
    for rate in [5, 50, 500, 5_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), DatabaseSettings::default(), Clock::machine()).expect("a database");
        let (downstream, way) = downstream(rate, store);
        let mut released = release(&downstream, &way);
        released.sort_unstable();
        let (first, last) = (released[0], released[released.len() - 1]);
        // The burst is what a quiet time saved up; what came after it is the rate.
        let given = (released.len() - BURST) as f64 / ((last - first) as f64 / SECOND as f64);
        println!(
            "{rate} a second, burst {BURST}: {:.2} % of the rate, busiest second {} of {}",
            given / rate as f64 * 100.0,
            busiest_second(&released),
            rate as usize + BURST
        );
    }
}

fn downstream(rate: u32, store: Store) -> (Downstream, Way) {
    let dependency = |name: &str| {
        format!(
            "[dependencies.{name}]\nbase_url = \"http://127.0.0.1:9\"\nrate_per_second = {rate}\nburst = {BURST}\n\
             concurrency = 64\n"
        )
    };
    let config = Config::from_toml(&(dependency("addresses") + &dependency("invites")), &|_| None).expect("valid");
    let ledger = Arc::new(StoredLedger::new(store));
    let downstream = Downstream::new(
        &config.dependencies,
        config.workers.under_way,
        ledger,
        Clock::machine(),
        Arc::new(|| ()),
        |_| Arc::new(()),
        &Heartbeats::default(),
    )
    .expect("valid");
    let way = downstream.way(&config.workflows["invite"]).expect("valid");
    (downstream, way)
}

/// The steady instants of all releases of some seconds.
fn release(downstream: &Downstream, way: &Way) -> Vec<i64> {
    let clock = Clock::machine();
    let released = Mutex::new(Vec::new());
    let request: Request = way
        .prepare(0, &Scope::new([("postcode", "AB1 2CD"), ("house_number", "1")], &BTreeMap::new(), &().into()))
        .expect("a good template");
    let end = clock.steady() + SECONDS * SECOND;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while clock.steady() < end {
                    let asking = request.clone();
                    let permit = downstream.wait_for(async move { asking.permit(ASK).await });
                    let permit = permit.expect("it is open").expect("in time");
                    released.lock().expect("not poisoned").push(clock.steady());
                    drop(permit);
                }
            });
        }
    });
    released.into_inner().expect("not poisoned")
}

/// The most instants of any half-open second.
fn busiest_second(released: &[i64]) -> usize {
    let within = |(start, at): (usize, &i64)| released[start..].partition_point(|other| other - at < SECOND);
    released.iter().enumerate().map(within).max().unwrap_or(0)
}
