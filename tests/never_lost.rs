//! What stops by itself, and how: a batch that only fails, a row that makes an API fall silent, a server that is told to
//! end, a clock that is set, a batch that is paused.

mod support;

use std::time::Duration;

use dripfeed::{cli::serve::Server as Dripfeed, clock::Clock, config::Config, simulator::SimulatorOptions};
use serde_json::{Value, json};
use support::{
    app::{App, Setup, agent, people},
    server::{Reply, Server, ok, status},
};

/// The most rows that these servers have under way.
const UNDER_WAY: u64 = 64;

#[test]
fn a_pause_finds_few_rows_under_way_however_fast_they_flow_and_none_of_those_is_lost() {
    let app = App::start(Setup {
        dependency: "rate_per_second = 100_000\nburst = 1_000\ntimeout = \"5s\"".into(),
        dispatch: "every = \"200ms\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 20_000".into(),
        ..Setup::default()
    });
    let id = app.accepted(people(5_000));
    let counts = || {
        let batch = app.batch(&id);
        let count = |name: &str| batch["counts"][name].as_u64().expect("a count");
        (count("completed"), count("processing"))
    };
    app.until("rows flow", || {
        let (completed, processing) = counts();
        assert!(processing <= UNDER_WAY, "{processing}");
        (completed >= 500).then_some(())
    });
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    let (completed, processing) = counts();
    assert!(processing <= UNDER_WAY, "{processing}");
    app.until("what was under way has settled", || (counts().1 == 0).then_some(()));
    // Rows that were between two steps were put back; the others were at their last one.
    let ended = counts().0;
    assert!((completed..=completed + processing).contains(&ended), "nothing was claimed since: {ended} of {completed}");
    app.post(&app.key, &format!("/v2/batches/{id}/resume"));
    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], 5_000);
    assert_eq!((app.stats().invites, app.stats().duplicate_invites), (5_000, 0));
}

#[test]
fn a_wrong_permission_costs_fifty_rows_and_not_all_of_them() {
    let server = Server::start(|_| status(403));
    let app = App::start(Setup {
        dependency: "rate_per_second = 1000\nburst = 50\nconcurrency = 8\ntimeout = \"5s\"".into(),
        downstream: Some(server.address),
        ..Setup::default()
    });
    let id = app.accepted(people(1_000));
    let other = app.accepted(people(20));
    let paused = |at_least: u64| {
        app.until("it has paused itself, and what was under way has settled", || {
            let batch = app.batch(&id);
            let settled = batch["paused"] == true && batch["counts"]["processing"] == 0;
            (settled && batch["counts"]["failed"].as_u64() >= Some(at_least)).then_some(batch)
        })
    };
    let batch = paused(50);
    let failed = batch["counts"]["failed"].as_u64().expect("a count");
    // Eight requests may have been under way when the fiftieth failed: none leaves after that.
    assert!(failed < 50 + 8, "{failed}");
    let says = batch["waiting_for"].as_str().expect("a sentence");
    assert!(says.contains(" rows failed, the last one with `rejected` (HTTP 403) at address-links"), "{says}");
    assert!(app.log().contains("a batch has paused itself"));
    app.until_status(&other, "completed");
    assert_eq!(app.batch(&other)["paused"], false, "fewer than fifty pause nothing");

    app.post(&app.key, &format!("/v2/batches/{id}/resume"));
    let again = paused(failed + 50)["counts"]["failed"].as_u64().expect("a count");
    assert!(again < failed + 50 + 8, "what failed before the resume is forgiven: {again}");
}

#[test]
fn a_row_that_makes_an_api_fall_silent_does_not_hold_up_the_others() {
    let server = Server::start(|request| match request.path() {
        "/address-links" if request.body.contains("\"777\"") => Reply::Silence,
        "/address-links" => ok(r#"{"link": "l-1"}"#),
        "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
        _ => Reply::Answer(201, Vec::new(), r#"{"check_id": "chk_1"}"#.to_owned()),
    });
    let app = App::start(Setup {
        dependency: "rate_per_second = 1000\nburst = 50\nconcurrency = 1\ntimeout = \"300ms\"\ngate_after = 1".into(),
        downstream: Some(server.address),
        more: "[workflows.invite]\nmax_attempts = 2".into(),
        ..Setup::default()
    });
    let csv = people(12).replacen("AB1 2CD,2\n", "AB1 2CD,777\n", 1);
    let id = app.accepted(csv);
    app.until("all others are completed", || (app.batch(&id)["counts"]["completed"] == 11).then_some(()));
    let links: Vec<bool> = server
        .received()
        .iter()
        .filter(|request| request.path() == "/address-links")
        .map(|request| request.body.contains("\"777\""))
        .collect();
    let probes_before_the_rest = links.iter().filter(|silent| **silent).count();
    assert!(probes_before_the_rest <= 2, "{links:?}");
    assert!(links.windows(2).all(|pair| pair != [true, true]), "no probe takes the row that failed: {links:?}");
    let batch = app.until_status(&id, "completed");
    assert_eq!((&batch["counts"]["failed"], &app.rows(&id)[0]["error"]["code"]), (&json!(1), &json!("timeout")));
}

#[test]
fn told_to_end_it_waits_for_calls_under_way_and_not_longer_than_it_may() {
    let hanging = SimulatorOptions { hang: 1.0, ..SimulatorOptions::default() };
    let mut app = App::start(Setup {
        simulator: hanging,
        // Were it to wait for the calls, it would not end within the test.
        dependency: "rate_per_second = 2000\nburst = 50\ntimeout = \"10m\"".into(),
        workers: "under_way = 32\ndrain = \"1s\"".into(),
        ..Setup::default()
    });
    let id = app.accepted(people(30));
    app.until("calls are under way", || (app.stats().calls.total() >= 4).then_some(()));
    assert_eq!(app.terminate(), Some(0));
    app.simulator.set_faults(0.0, 0.0);
    app.serve();
    let batch = app.until_status(&id, "completed");
    assert_eq!((&batch["counts"]["completed"], app.stats().duplicate_invites), (&json!(30), 0));
}

#[test]
fn a_clock_that_is_set_back_and_forth_loses_nothing_and_does_nothing_twice() {
    // The server runs inside this process, so that its clock can be set.
    let app = App::prepared(Setup {
        dispatch: "every = \"200ms\"\nmin_interval = \"0s\"".into(),
        dependency: "rate_per_second = 100\nburst = 5".into(),
        ..Setup::default()
    });
    let clock = Clock::machine();
    let config = Config::load(Some(&app.folder.path().join("dripfeed.toml"))).expect("valid");
    let server = Dripfeed::start(config, clock.clone()).expect("started");
    let url = format!("http://{}", server.address().expect("an address"));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || server.run_until(async move { drop(ended.await) }));

    let read = |mut answer: ureq::http::Response<ureq::Body>| -> Value {
        serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON")
    };
    let authorized = format!("Bearer {}", app.key);
    let sent = agent()
        .post(format!("{url}/v2/client/users/batch/invite"))
        .header("Authorization", &authorized)
        .header("Content-Type", "text/csv")
        .send(people(150));
    let id = read(sent.expect("an answer"))["id"].as_str().expect("an id").to_owned();
    let batch = || {
        read(agent().get(format!("{url}/v2/batches/{id}")).header("Authorization", &authorized).call().expect("one"))
    };
    let hour = Duration::from_secs(3_600);
    let truth = clock.now();
    for (completed, set_to) in
        [(10, truth.after(hour)), (40, truth.before(hour * 2)), (80, truth.after(hour * 24)), (110, truth)]
    {
        app.until("more is done, whatever the clock says", || {
            (batch()["counts"]["completed"].as_u64() >= Some(completed)).then_some(())
        });
        clock.set_wall(set_to);
    }
    let done = app.until("all is done", || Some(batch()).filter(|batch| batch["status"] == "completed"));
    assert_eq!(done["counts"]["completed"], 150);
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), (150, 0));
    // Where they arrive, which moves a release or two into another window.
    assert!(stats.busiest_second <= 2 * 105 + 2, "two dependencies: {}", stats.busiest_second);
    drop(end);
    serving.join().expect("no panic").expect("ended in order");
}

#[test]
fn rows_that_no_key_opens_pause_their_batch_too() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(300));
    app.until_status(&id, "queued");
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    database.busy_timeout(Duration::from_secs(10)).expect("set");
    assert_eq!(database.execute("UPDATE rows SET data = randomblob(length(data))", []).expect("damaged"), 300);
    app.post(support::app::DISPATCH, "/ops/v1/dispatch");
    let batch = app.until("it has paused itself, and what was under way has settled", || {
        Some(app.batch(&id)).filter(|batch| batch["paused"] == true && batch["counts"]["processing"] == 0)
    });
    let failed = batch["counts"]["failed"].as_u64().expect("a count");
    assert!((50..58).contains(&failed), "{failed}");
    let says = batch["waiting_for"].as_str().expect("a sentence");
    assert!(says.contains("the last one with `undecryptable` at address-links"), "{says}");
}
