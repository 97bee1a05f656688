//! Fair: clients share an API's calls equally, whatever their batches are, whatever their grants, at any rate.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::{
    support::{
        app::App,
        server::{Server, late, status},
    },
    zoo::{add_client, created, dependency, dispatch, domain, first_call, pass, people, post, setup, upload, workflow},
};

/// So long they are watched.
const WATCHED: Duration = Duration::from_secs(10);

struct Case {
    name: &'static str,
    rate: usize,
    /// The rows of each client's batch.
    rows: &'static [usize],
    /// Steps of the workflow.
    steps: usize,
    /// Rows that a run grants each client, and it runs every second.
    grant: usize,
    latency: Duration,
}

const CASES: [Case; 7] = [
    Case { name: "two", rate: 10, rows: &[300, 300], steps: 1, grant: 500, latency: Duration::ZERO },
    Case { name: "four", rate: 10, rows: &[1000, 60, 200, 90], steps: 1, grant: 500, latency: Duration::ZERO },
    Case { name: "grants that bind", rate: 40, rows: &[900, 300], steps: 1, grant: 12, latency: Duration::ZERO },
    Case { name: "three steps", rate: 10, rows: &[300, 40, 300], steps: 3, grant: 500, latency: Duration::ZERO },
    Case { name: "slow calls", rate: 20, rows: &[300, 900], steps: 1, grant: 500, latency: Duration::from_millis(700) },
    Case { name: "fast", rate: 60, rows: &[900, 400, 400], steps: 3, grant: 5000, latency: Duration::from_millis(50) },
    Case { name: "ten", rate: 15, rows: &[150; 10], steps: 1, grant: 500, latency: Duration::from_millis(20) },
];

#[test]
fn clients_share_an_apis_calls_equally_after_ten_seconds() {
    let faults: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = CASES.iter().map(|case| scope.spawn(|| watch(case))).collect();
        running.into_iter().filter_map(|case| case.join().expect("no panic")).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_client_of_a_long_way_has_its_part_beside_one_of_a_short_way() {
    const RATE: usize = 30;
    let server = Server::start(move |request| late(Duration::from_millis(50), created(request)));
    let keys = format!("rate_per_second = {RATE}\ntimeout = \"5s\"");
    let long: Vec<_> = (1..=4).map(|step| post(&format!("step-{step}"), "api", "")).collect();
    let short = [post("step-1", "api", "")];
    let mut setup =
        setup(&[dependency("api", server.address, &keys), workflow("long", "", &long), workflow("short", "", &short)]);
    setup.dispatch = "every = \"1s\"\nmin_interval = \"0s\"".to_owned();
    let app = App::start(setup);
    dispatch(&app, "pause");
    for name in ["long", "short"] {
        let key = add_client(&app, name);
        let id = upload(&app, &key, name, &people(&format!("{name}.example"), 500));
        let path = format!("/v2/batches/{id}");
        app.until("it is queued", || (app.get(&key, &path).1["status"] == "queued").then_some(()));
    }
    dispatch(&app, "resume");
    let first = first_call(&app, &server);
    pass(WATCHED + Duration::from_secs(2));
    let watched = first + Duration::from_secs(2)..first + Duration::from_secs(2) + WATCHED;
    let of = |name: &str| {
        let received = server.received();
        received.iter().filter(|it| watched.contains(&it.at) && domain(it) == format!("{name}.example")).count()
    };
    let (long, short) = (of("long"), of("short"));
    let equal = (long + short) / 2;
    assert!(long.abs_diff(equal) <= equal / 10 + 4, "{long} calls of the long way, {short} of the short one");
    assert!(equal * 2 >= RATE * 10 * 8 / 10, "{equal} each");
}

/// Its rows are claimed for four calls each, and make one.
#[test]
fn a_client_whose_rows_are_refused_at_once_has_its_part_beside_one_whose_rows_go_all_the_way() {
    const RATE: usize = 30;
    let server = Server::start(|request| match domain(request).as_str() {
        "refused.example" => late(Duration::from_millis(20), status(422)),
        _ => late(Duration::from_millis(20), created(request)),
    });
    let keys = format!("rate_per_second = {RATE}\ntimeout = \"5s\"");
    let steps: Vec<_> = (1..=4).map(|step| post(&format!("step-{step}"), "api", "")).collect();
    // Nothing pauses itself.
    let flow = workflow("chain", "pause_after_failures = 1000000", &steps);
    let mut setup = setup(&[dependency("api", server.address, &keys), flow]);
    setup.dispatch = "every = \"1s\"\nmin_interval = \"0s\"".to_owned();
    let app = App::start(setup);
    dispatch(&app, "pause");
    for name in ["refused", "well"] {
        let key = add_client(&app, name);
        let id = upload(&app, &key, "chain", &people(&format!("{name}.example"), 500));
        let path = format!("/v2/batches/{id}");
        app.until("it is queued", || (app.get(&key, &path).1["status"] == "queued").then_some(()));
    }
    dispatch(&app, "resume");
    let from = first_call(&app, &server) + Duration::from_secs(1);
    pass(Duration::from_secs(1) + WATCHED);
    let of = |name: &str| {
        let received = server.received();
        let watched = received.iter().filter(|it| (from..from + WATCHED).contains(&it.at));
        watched.filter(|it| domain(it) == format!("{name}.example")).count()
    };
    let (refused, well) = (of("refused"), of("well"));
    let equal = (refused + well) / 2;
    assert!(refused.abs_diff(equal) <= equal / 10 + 4, "{refused} calls of refused rows, {well} of others");
    assert!(equal * 2 >= RATE * 10 * 8 / 10, "{equal} each");
}

/// What is unfair about the calls of a case's clients, if anything is.
fn watch(case: &Case) -> Option<String> {
    let latency = case.latency;
    let server = Server::start(move |request| late(latency, created(request)));
    let (app, clients) = prepared(case, &server);
    dispatch(&app, "resume");
    let first = first_call(&app, &server);
    pass(WATCHED);
    let mut calls: BTreeMap<String, usize> = clients.iter().map(|client| (client.clone(), 0)).collect();
    for request in server.received().iter().filter(|request| request.at < first + WATCHED) {
        *calls.entry(domain(request)).or_default() += 1;
    }
    let total: usize = calls.values().sum();
    let equal = total as f64 / clients.len() as f64;
    let allowed = equal / 10.0 + 1.0;
    let is_fair = calls.values().all(|count| (*count as f64 - equal).abs() <= allowed);
    let possible = (case.rate * 10).min(case.grant * case.steps * clients.len() * 10);
    let is_idle = total * 10 < possible * 8;
    (!is_fair || is_idle).then(|| format!("{}: {:?} of {possible} calls", case.name, calls.values()))
}

/// An app in which each client has a batch that is ready, while dispatch is paused.
fn prepared(case: &Case, server: &Server) -> (App, Vec<String>) {
    let keys = format!("rate_per_second = {}\ntimeout = \"5s\"", case.rate);
    let steps: Vec<_> = (1..=case.steps).map(|step| post(&format!("step-{step}"), "api", "")).collect();
    let mut setup = setup(&[dependency("api", server.address, &keys), workflow("chain", "", &steps)]);
    setup.dispatch = format!("every = \"1s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = {}", case.grant);
    let app = App::start(setup);
    dispatch(&app, "pause");
    let clients: Vec<_> = (1..=case.rows.len()).map(|client| format!("c{client}.example")).collect();
    for (client, rows) in clients.iter().zip(case.rows) {
        let key = add_client(&app, client.trim_end_matches(".example"));
        let id = upload(&app, &key, "chain", &people(client, *rows));
        app.until("it is ready", || (app.batch_of(&key, &id)["status"] == "queued").then_some(()));
    }
    (app, clients)
}
