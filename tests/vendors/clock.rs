//! The wall clock is set back by an hour: nothing that waits for seconds waits for an hour.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use dripfeed::{cli::serve::Server as Dripfeed, clock::Clock, config::Config};
use serde_json::{Value, json};

use crate::{
    support::{
        app::{App, OPERATOR, agent},
        server::{Received, Server, status},
    },
    zoo::{Turns, api, created, people, setup, who, with},
};

const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than any wait that there is here.
const IN_TIME: Duration = Duration::from_secs(25);
/// Rows that get a 500 first, and wait for another try.
const STUMBLING: [&str; 4] = ["p1", "p2", "p3", "p4"];
/// A row that is rejected until somebody has mended what it was.
const REJECTED: &str = "p7";
const ROWS: usize = 12;

/// The server runs inside this process, so that its clock can be set.
#[test]
fn a_wall_clock_that_is_set_back_by_an_hour_holds_nothing_up_for_longer_than_it_waited_anyway() {
    let (turns, is_mended) = (Turns::default(), std::sync::Arc::new(AtomicBool::new(false)));
    let mended = is_mended.clone();
    let retried = Server::start(move |request: &Received| match (who(request), turns.take(who(request))) {
        (who, 1 | 2) if STUMBLING.contains(&who.as_str()) => status(500),
        (who, _) if who == REJECTED && !mended.load(SeqCst) => status(422),
        _ => created(request),
    });
    let gated = Turns::default();
    let gated = Server::start(move |request| match gated.take(String::new()) {
        1 => with(429, "Retry-After", "3"),
        _ => created(request),
    });
    let keys = "rate_per_second = 200\nburst = 20\ngate_after = 1000";
    let app = App::prepared(setup(&[api("retried", &retried, keys, "", ""), api("gated", &gated, keys, "", "")]));
    let clock = Clock::machine();
    let config = Config::load(Some(&app.folder.path().join("dripfeed.toml"))).expect("valid");
    let server = Dripfeed::start(config, clock.clone()).expect("started");
    let url = format!("http://{}", server.address().expect("an address"));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || server.run_until(async move { drop(ended.await) }));

    let read = |mut answer: ureq::http::Response<ureq::Body>| -> Value {
        serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON")
    };
    let client = format!("Bearer {}", app.key);
    let post = |path: &str, body: String| {
        let request = agent().post(format!("{url}{path}")).header("Authorization", &client);
        read(request.header("Content-Type", "text/csv").send(body).expect("an answer"))
    };
    let get = |path: &str, key: &str| {
        read(agent().get(format!("{url}{path}")).header("Authorization", format!("Bearer {key}")).call().expect("one"))
    };
    let upload = |name: &str| {
        let batch = post(&format!("/v2/client/{name}"), people(&format!("{name}.example"), ROWS));
        batch["id"].as_str().expect("an id").to_owned()
    };
    let ids = [upload("retried"), upload("gated")];
    let batch = |id: &String| get(&format!("/v2/batches/{id}"), &app.key);
    app.until("rows wait for another try, one has failed, and a gate is closed", || {
        let counts = batch(&ids[0])["counts"].clone();
        let closed = get("/ops/v1/dependencies", OPERATOR)["dependencies"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["name"] == "gated" && one["gate"]["open"] == false));
        let waiting = (ROWS - STUMBLING.len() - 1, 1, STUMBLING.len());
        let wait = counts["completed"] == waiting.0 && counts["failed"] == waiting.1 && counts["pending"] == waiting.2;
        (closed && wait).then_some(())
    });

    clock.set_wall(clock.now().before(HOUR));
    let set_at = Instant::now();
    app.until("everything that waited is done", || {
        let counts = |id| batch(id)["counts"].clone();
        let (one, other) = (counts(&ids[0]), counts(&ids[1]));
        (one["completed"] == ROWS - 1 && other["completed"] == ROWS).then_some(())
    });
    assert!(set_at.elapsed() < IN_TIME, "{:?}", set_at.elapsed());

    // What failed in what is the future now is meant by a retry all the same.
    is_mended.store(true, SeqCst);
    let again = post(&format!("/v2/batches/{}/retry", ids[0]), String::new());
    assert_eq!(again["retried"]["rows"], json!(1), "{again}");
    app.until("it is done too", || (batch(&ids[0])["counts"]["completed"] == ROWS).then_some(()));
    assert!(set_at.elapsed() < IN_TIME * 2, "{:?}", set_at.elapsed());
    drop(end);
    serving.join().expect("no panic").expect("ended in order");
}
