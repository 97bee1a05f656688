//! Rates, grants and gates of the real binary, measured where requests are released and where they arrive.

mod support;

use dripfeed::simulator::SimulatorOptions;
use serde_json::{Value, json};
use support::app::{App, DISPATCH, OPERATOR, Setup, people};

const SECOND: i64 = 1_000_000_000;

/// Runs are asked for by the test.
fn manual() -> Setup {
    Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() }
}

/// The instants at which requests to a dependency were released, on the machine's steady clock, as a log tells them.
fn releases(log: &str, dependency: &str) -> Vec<i64> {
    let told = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["target"] == "dripfeed::releases" && line["dependency"] == dependency)
            .then(|| line["steady_ns"].as_i64())?
    };
    log.lines().filter_map(told).collect()
}

/// The most instants that any half-open stretch of this length holds.
fn busiest(instants: &mut [i64], length: i64) -> usize {
    instants.sort_unstable();
    let from = |start: &i64| instants.iter().filter(|at| *at >= start && **at - *start < length).count();
    instants.iter().map(from).max().unwrap_or(0)
}

#[test]
fn no_second_holds_more_than_rate_and_burst_over_kills_and_beside_commands() {
    let mut app = App::start(Setup {
        dependency: "rate_per_second = 30\nburst = 4\nconcurrency = 16".into(),
        more: "[log]\nfilter = \"info,dripfeed::releases=trace\"".into(),
        dispatch: "every = \"1s\"\nmin_interval = \"0s\"".into(),
        ..Setup::default()
    });
    let id = app.accepted(people(150));
    app.until_status(&id, "queued");
    let mut logs = String::new();
    for kill in 1..=3 {
        app.until("more is done", || (app.stats().calls.total() > kill * 40).then_some(()));
        let commands: Vec<_> =
            (0..2).map(|n| app.spawn(&["row", "run", &format!("{id}/{}", 150 - 2 * kill - n)])).collect();
        logs += &app.log();
        app.kill();
        app.serve();
        for command in commands {
            logs += &String::from_utf8_lossy(&command.wait_with_output().expect("ended").stderr);
        }
    }
    app.until_status(&id, "completed");
    logs += &app.log();
    for dependency in ["addresses", "invites"] {
        let mut released = releases(&logs, dependency);
        assert!(released.len() > 100, "{dependency}: {}", released.len());
        let most = busiest(&mut released, SECOND);
        assert!(most <= 34, "{dependency}: {most} requests were released within one second");
    }
    assert!(busiest(&mut releases(&logs, "addresses"), SECOND) >= 25, "the rate is used");
    assert_eq!(app.stats().duplicate_invites, 0);
}

#[test]
fn a_run_begins_without_a_burst() {
    let app = App::start(Setup {
        dependency: "rate_per_second = 50\nconcurrency = 16".into(),
        more: "[log]\nfilter = \"info,dripfeed::releases=trace\"".into(),
        ..manual()
    });
    let id = app.accepted(people(40));
    app.until_status(&id, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&id, "completed");
    let mut released = releases(&app.log(), "addresses");
    assert_eq!(released.len(), 80, "two calls a row");
    // One slot each 20 ms; a thread that wakes late may use its slot up to half a spacing later.
    let most = busiest(&mut released, SECOND / 10);
    assert!(most <= 6, "{most} requests were released within a tenth of a second");
}

#[test]
fn a_client_with_ten_rows_ends_within_its_first_run_beside_one_with_thousands() {
    let app = App::start(Setup {
        dependency: "rate_per_second = 100\nburst = 1\nconcurrency = 16".into(),
        dispatch: "min_interval = \"0s\"\nrows_per_client_per_run = 150".into(),
        ..Setup::default()
    });
    let small = app.add_client("small", None);
    let big = app.accepted(people(5_000));
    app.until_status(&big, "queued");
    let (_, batch) = app.upload(&small, people(10));
    let id = batch["id"].as_str().expect("an id").to_owned();
    let of_small = || app.get(&small, &format!("/v2/batches/{id}")).1;
    app.until("it is queued", || (of_small()["status"] == "queued").then_some(()));
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until("the small one is completed", || (of_small()["status"] == "completed").then_some(()));
    let done = app.batch(&big)["counts"]["completed"].as_u64().expect("a count");
    assert!(done < 100, "the big one has not gone first: {done}");
    let done = app.until("the big one has used its grant", || {
        let counts = &app.batch(&big)["counts"];
        (counts["completed"] == 150).then(|| counts.clone())
    });
    assert_eq!((&done["processing"], app.stats().invites), (&json!(0), 160), "each within its grant");
}

#[test]
fn an_operator_changes_a_rate_and_it_holds_from_the_next_request_on_and_after_a_restart() {
    let mut app = App::start(Setup { dependency: "rate_per_second = 0.01".into(), ..manual() });
    let id = app.accepted(people(30));
    app.until_status(&id, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    let waiting = app.until("the rate holds it up", || {
        Some(app.batch(&id)["waiting_for"].clone()).filter(|why| why.as_str().is_some_and(|why| why.contains("rate")))
    });
    assert!(waiting.as_str().expect("a sentence").starts_with("addresses: its rate limit, next call "), "{waiting}");
    let change = |name: &str, body: Value| app.patch_json(OPERATOR, &format!("/ops/v1/dependencies/{name}"), &body);
    for name in ["addresses", "invites"] {
        let (status, changed) = change(name, json!({ "rate_per_second": 200.0 }));
        assert_eq!((status, &changed["name"], &changed["rate_per_second"]), (200, &json!(name), &json!(200.0)));
    }
    app.until("it is completed, within further runs where a row had to wait between its calls", || {
        app.post(DISPATCH, "/ops/v1/dispatch");
        (app.batch(&id)["status"] == "completed").then_some(())
    });
    assert_eq!(change("nobody", json!({ "rate_per_second": 1 })).0, 404);
    for wrong in [json!({ "rate_per_second": 0 }), json!({ "rate_per_second": -1 }), json!({}), json!({ "rate": 1 })] {
        let (status, problem) = change("addresses", wrong.clone());
        assert_eq!((status, &problem["code"]), (400, &json!("bad_request")), "{wrong}");
    }
    assert_eq!(app.patch_json(&app.key, "/ops/v1/dependencies/addresses", &json!({ "rate_per_second": 1 })).0, 403);

    app.kill();
    app.serve();
    let (_, listed) = app.get(OPERATOR, "/ops/v1/dependencies");
    let rates: Vec<_> =
        listed["dependencies"].as_array().expect("a list").iter().map(|it| &it["rate_per_second"]).collect();
    assert_eq!(rates, [&json!(200.0), &json!(200.0)], "what an operator set outlives the process");
    let (_, back) = app.patch_json(OPERATOR, "/ops/v1/dependencies/addresses", &json!({ "rate_per_second": null }));
    assert_eq!(back["rate_per_second"], json!(0.01), "null goes back to the configuration");
}

#[test]
fn a_clients_limit_holds_in_the_run_that_is_under_way() {
    let app =
        App::start(Setup { dispatch: "min_interval = \"1h\"\nrows_per_client_per_run = 5".into(), ..Setup::default() });
    let id = app.accepted(people(40));
    app.until_status(&id, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    let completed = |rows: u64| {
        app.until(&format!("{rows} rows are completed"), || {
            (app.batch(&id)["counts"]["completed"] == rows).then_some(())
        });
    };
    completed(5);
    let waiting = app.batch(&id)["waiting_for"].as_str().expect("a sentence").to_owned();
    assert!(waiting.starts_with("client limit: 5 rows a run, next run "), "{waiting}");
    let limit = |rows: Value| app.patch_json(OPERATOR, "/ops/v1/clients/acme", &json!({ "rows_per_run": rows }));
    let (status, client) = limit(json!(12));
    assert_eq!((status, &client["rows_per_run"]), (200, &json!(12)));
    completed(12);
    assert!(app.command(&["client", "limit", "acme", "--rows-per-run", "20"]).status.success());
    completed(20);
    limit(json!(3));
    assert_eq!(limit(json!(21)).0, 200);
    completed(21);
    assert_eq!(app.patch_json(OPERATOR, "/ops/v1/clients/nobody", &json!({ "rows_per_run": 1 })).0, 404);
    assert_eq!(limit(json!("many")).0, 400);
    assert_eq!((app.stats().invites, &app.batch(&id)["counts"]["pending"]), (21, &json!(19)));
}

#[test]
fn retry_after_closes_the_gate_for_all_rows_and_costs_none_of_them_an_attempt() {
    let app = App::start(Setup {
        simulator: SimulatorOptions { rate: Some(10), ..SimulatorOptions::default() },
        dependency: "rate_per_second = 500\nburst = 10\nconcurrency = 8\ntimeout = \"5s\"".into(),
        more: "[workflows.invite]\nmax_attempts = 1".into(),
        ..Setup::default()
    });
    let id = app.accepted(people(12));
    let closed = app.until("a gate is closed", || {
        let (_, listed) = app.get(OPERATOR, "/ops/v1/dependencies");
        let gates = listed["dependencies"].as_array()?.iter().map(|it| it["gate"].clone());
        gates.into_iter().find(|gate| gate["open"] == false)
    });
    assert_eq!(closed["reason"], "it answered 429, or 403 with Retry-After (too many requests)");
    assert!(closed["until"].is_string());
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["completed"], 12, "with a single attempt each: {batch}");
    assert!(app.stats().refused > 0);
}

#[test]
fn a_dead_api_costs_a_handful_of_calls_and_no_row_its_attempts() {
    let mut app = App::prepared(Setup {
        dependency: "rate_per_second = 500\nburst = 10\nconcurrency = 2\ntimeout = \"2s\"\ngate_after = 3".into(),
        ..Setup::default()
    });
    app.simulator.set_faults(1.0, 0.0);
    app.serve();
    let id = app.accepted(people(200));
    let waiting = app.until("the batch says why", || {
        app.batch(&id)["waiting_for"].as_str().filter(|why| why.contains("fails at every request")).map(str::to_owned)
    });
    assert!(waiting.starts_with("addresses fails at every request, next try "), "{waiting}");
    app.until("a second probe has failed", || (app.log().matches("gate closed").count() >= 3).then_some(()));
    let calls = app.stats().calls.total();
    assert!(calls <= 8, "three failures, one more under way, and the probes: {calls}");
    app.simulator.set_faults(0.0, 0.0);
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["completed"], 200, "{batch}");
}

#[test]
fn a_row_says_what_it_waits_for() {
    let app = App::start(manual());
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    let says = || app.get(&app.key, &format!("/v2/batches/{id}/rows/1")).1["waiting_for"].clone();
    let is = |begin: &str| {
        let said = says();
        assert!(said.as_str().is_some_and(|said| said.starts_with(begin)), "{said} begins with {begin}");
    };
    is("no dispatch run has granted its client rows yet, next run ");
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    is("the batch is paused since ");
    app.command(&["client", "pause", "acme"]);
    is("its client is paused since ");
    app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "reason": "vendor maintenance" }));
    is("dispatch is paused by root since ");
    assert!(says().as_str().expect("a sentence").ends_with(": vendor maintenance"));
    app.post(OPERATOR, "/ops/v1/dispatch/resume");
    app.command(&["client", "resume", "acme"]);
    app.post(&app.key, &format!("/v2/batches/{id}/resume"));
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&id, "completed");
    assert_eq!(says(), Value::Null);
    let shown = app.spawn(&["row", "show", &format!("{id}/1"), "--json"]);
    let shown = shown.wait_with_output().expect("ended");
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["waiting_for"], Value::Null);
}
