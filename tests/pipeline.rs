//! The whole way of a row, over HTTP, with the real binary against the simulator.

mod support;

use std::collections::BTreeSet;

use dripfeed::simulator::SimulatorOptions;
use serde_json::json;
use support::app::{App, DISPATCH, OPERATOR, Setup, people};

fn manual_dispatch() -> Setup {
    Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() }
}

#[test]
fn a_small_csv_goes_through_every_status_in_order() {
    let app = App::start(manual_dispatch());
    let (status, batch) = app.upload(&app.key, people(20));
    assert_eq!(status, 202, "{batch}");
    assert_eq!((&batch["status"], &batch["counts"]["pending"]), (&json!("pending"), &json!(20)));
    let id = batch["id"].as_str().expect("an id");
    let queued = app.until_status(id, "queued");
    assert_eq!(queued["counts"]["pending"], 20);
    assert!(queued["extracted_at"].is_string());
    assert_eq!(app.stats().calls.total(), 0, "nothing is called before it is granted");

    let (status, run) = app.post(DISPATCH, "/ops/v1/dispatch");
    assert_eq!((status, &run["outcome"], &run["rows"]), (200, &json!("granted"), &json!(20)));
    assert_eq!(run["granted"], json!([{ "client": "acme", "rows": 20 }]));
    let completed = app.until_status(id, "completed");
    assert_eq!(completed["counts"]["completed"], 20);
    assert!(completed["finished_at"].is_string());

    let rows = app.rows(id);
    assert_eq!(rows.len(), 20);
    let checks: BTreeSet<_> = rows.iter().map(|row| row["check_id"].as_str().expect("a check id")).collect();
    assert_eq!(checks.len(), 20, "every row has its own");
    assert_eq!((&rows[4]["line"], &rows[4]["data"]["email"]), (&json!(6), &json!("p5@mail.example")));
    let steps: Vec<_> = rows[0]["steps"].as_array().expect("steps").iter().collect();
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|step| step["status"] == "completed" && step["requests"] == 1), "{steps:?}");
    let statuses: Vec<_> = steps.iter().map(|step| step["http_status"].clone()).collect();
    assert_eq!(statuses, [json!(200), json!(200), json!(201)]);
    assert!(steps[0]["saved"]["link"].is_string());
    let stats = app.stats();
    assert_eq!((stats.calls.total(), stats.invites, stats.duplicate_invites), (60, 20, 0));
}

#[test]
fn failing_downstream_calls_leave_failed_rows_with_their_error_payload() {
    let app = App::start(Setup::default());
    let csv = "email,first_name,last_name,phone,postcode,house_number\n\
               good@mail.example,Ann,Smith,,AB1 2CD,1\n\
               nowhere@mail.example,Bob,Jones,,AB1 2CD,0\n\
               no@rejected.example,Cat,Brown,,AB1 2CD,3\n";
    let id = app.accepted(csv);
    let batch = app.until_status(&id, "completed");
    assert_eq!((&batch["counts"]["completed"], &batch["counts"]["failed"]), (&json!(1), &json!(2)));
    let (_, page) = app.get(&app.key, &format!("/v2/batches/{id}/rows?status=failed"));
    let [nowhere, rejected] = page["rows"].as_array().expect("rows").as_slice() else { panic!("{page}") };
    assert_eq!(
        (&nowhere["error"]["step"], &nowhere["error"]["code"], &nowhere["error"]["http_status"]),
        (&json!("get-addresses"), &json!("bad_answer"), &json!(200))
    );
    assert_eq!(nowhere["error"]["body"], "{\"addresses\":[]}");
    assert_eq!(
        (&rejected["error"]["step"], &rejected["error"]["code"], &rejected["error"]["http_status"]),
        (&json!("invite-create"), &json!("rejected"), &json!(422))
    );
    assert!(rejected["error"]["body"].as_str().expect("a body").contains("cannot be invited"));
    assert_eq!(rejected["check_id"], json!(null));
    let (_, one) = app.get(&app.key, &format!("/v2/batches/{id}/rows/2"));
    assert_eq!(one["error"], nowhere["error"]);
    let (_, by_code) = app.get(&app.key, &format!("/v2/batches/{id}/rows?code=rejected"));
    assert_eq!(by_code["rows"].as_array().expect("rows").len(), 1);
}

#[test]
fn transient_failures_are_tried_again_until_they_succeed() {
    let faults = SimulatorOptions { errors: 0.2, seed: 3, ..SimulatorOptions::default() };
    let dependency = Setup::default().dependency + "\ngate_after = 1000";
    let app = App::start(Setup { simulator: faults, dependency, ..Setup::default() });
    let id = app.accepted(people(30));
    let waiting = app.until("a row waits for another try", || {
        app.rows(&id).into_iter().find(|row| row["status"] == "pending" && row["next_attempt_at"].is_string())
    });
    assert_eq!(waiting["error"]["code"], "server_error");
    assert!(waiting["attempts"].as_u64() >= Some(1));
    app.simulator.set_faults(0.0, 0.0);
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["completed"], 30, "{batch}");
    assert_eq!(app.stats().duplicate_invites, 0);
    let again =
        app.rows(&id).iter().any(|row| row["steps"].as_array().expect("steps").iter().any(|s| s["requests"] != 1));
    assert!(again, "some request was made again");
}

#[test]
fn with_the_dispatcher_paused_no_call_reaches_the_downstream() {
    let app = App::start(Setup::default());
    let reason = json!({ "reason": "vendor maintenance" });
    let (status, state) = app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &reason);
    assert_eq!((status, &state["paused"]["reason"]), (200, &json!("vendor maintenance")));
    let id = app.accepted(people(10));
    app.until_status(&id, "queued");
    let (_, run) = app.post(OPERATOR, "/ops/v1/dispatch");
    assert_eq!((&run["outcome"], &run["rows"]), (&json!("paused"), &json!(0)));
    // The built-in clock ticks on: several runs are asked for and refused before anything is looked at.
    app.until("three more runs were refused", || {
        (app.log().matches("\"outcome\":\"paused\"").count() > 3).then_some(())
    });
    assert_eq!(app.stats().calls.total(), 0);
    assert_eq!(app.batch(&id)["counts"]["pending"], 10);
    app.post(OPERATOR, "/ops/v1/dispatch/resume");
    app.until_status(&id, "completed");
    assert_eq!(app.stats().calls.total(), 30);
    let (status, state) = app.post(OPERATOR, "/ops/v1/dispatch/pause");
    assert_eq!((status, &state["paused"]["by"]), (200, &json!("root")), "a reason is not needed");
    assert_eq!(app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "raison": 1 })).0, 400);
}

#[test]
fn a_run_grants_rows_and_two_runs_at_once_grant_nothing_twice() {
    let app = App::start(Setup { dispatch: "min_interval = \"1h\"".into(), ..Setup::default() });
    let small = app.add_client("small", Some(3));
    let (_, batch) = app.upload(&small, people(10));
    let id = batch["id"].as_str().expect("an id").to_owned();
    app.until("it is queued", || (app.get(&small, &format!("/v2/batches/{id}")).1["status"] == "queued").then_some(()));
    let outcomes: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| app.post(DISPATCH, "/ops/v1/dispatch").1)).collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("a call")["outcome"].as_str().expect("one").to_owned())
            .collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "granted").count(), 1, "{outcomes:?}");
    app.until("three rows are completed", || {
        let (_, batch) = app.get(&small, &format!("/v2/batches/{id}"));
        (batch["counts"]["completed"] == 3).then_some(())
    });
    assert_eq!(app.stats().invites, 3);
    let (_, runs) = app.get(OPERATOR, "/ops/v1/dispatch/runs");
    assert_eq!(runs["runs"].as_array().expect("runs").len(), 1);
}

#[test]
fn a_client_sees_nothing_of_another_and_nobody_nothing_without_a_key() {
    let app = App::start(manual_dispatch());
    let other = app.add_client("other", None);
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    for path in [format!("/v2/batches/{id}"), format!("/v2/batches/{id}/rows"), format!("/v2/batches/{id}/rows/1")] {
        assert_eq!(app.get(&other, &path).0, 404, "{path}");
        let (status, problem) = app.get("wrong-key", &path);
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{path}");
        assert_eq!(app.get(&app.key, &path).0, 200, "{path}");
    }
    assert_eq!(app.get(&other, "/v2/batches").1["batches"], json!([]));
    assert_eq!(app.get(&app.key, "/v2/batches").1["batches"].as_array().expect("a list").len(), 1);
    for change in ["pause", "resume", "cancel"] {
        assert_eq!(app.post(&other, &format!("/v2/batches/{id}/{change}")).0, 404, "{change}");
    }
    let (status, problem) = app.post(&app.key, "/ops/v1/dispatch");
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    assert_eq!(app.get(DISPATCH, "/v2/batches").0, 403);
    let (_, seen) = app.get(OPERATOR, &format!("/v2/batches/{id}/rows/1"));
    assert_eq!(seen["data"]["email"], "•••", "an operator sees no values");
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{id}")).1["client"], "acme");
}

#[test]
fn a_batch_is_paused_resumed_and_cancelled() {
    let app = App::start(manual_dispatch());
    let id = app.accepted(people(10));
    app.until_status(&id, "queued");
    let (status, paused) = app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    assert_eq!((status, &paused["paused"], &paused["status"]), (200, &json!(true), &json!("queued")));
    let (_, run) = app.post(DISPATCH, "/ops/v1/dispatch");
    assert_eq!(run["rows"], 0, "a paused batch is granted nothing");
    app.post(&app.key, &format!("/v2/batches/{id}/resume"));
    let (status, cancelled) = app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    assert_eq!((status, &cancelled["status"]), (200, &json!("cancelled")));
    assert_eq!(cancelled["counts"]["cancelled"], 10);
    let (status, problem) = app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    assert_eq!(app.stats().calls.total(), 0);
}

#[test]
fn lists_are_paged_newest_first() {
    let app = App::start(manual_dispatch());
    let ids: Vec<String> = (1..=5).map(|rows| app.accepted(people(rows))).collect();
    let (_, first) = app.get(&app.key, "/v2/batches?limit=3");
    let next = first["next"].as_str().expect("a cursor");
    let (_, second) = app.get(&app.key, &format!("/v2/batches?limit=3&after={next}"));
    let listed: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page["batches"].as_array().expect("a list"))
        .map(|batch| batch["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(listed, ids.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(second["next"], json!(null));
    assert_eq!(app.get(&app.key, "/v2/batches?limit=0").0, 400);
}

/// A restart is no tick of the clock: who ends and starts a server often would grant as often.
#[test]
fn a_restart_makes_no_run_before_its_time() {
    let mut app = App::start(Setup {
        dispatch: "every = \"60s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 5".into(),
        ..Setup::default()
    });
    let runs = |app: &App| {
        let (status, runs) = app.get(OPERATOR, "/ops/v1/dispatch/runs");
        assert_eq!(status, 200, "{runs}");
        runs["runs"].as_array().expect("runs").len()
    };
    app.until("the first run comes at once", || (runs(&app) == 1).then_some(()));
    let id = app.accepted(people(20));
    app.until_status(&id, "queued");
    for _ in 0..2 {
        app.kill();
        app.serve();
    }
    let waits = app.until("it says what it waits for", || app.batch(&id)["waiting_for"].as_str().map(str::to_owned));
    assert!(waits.contains("next run"), "{waits}");
    assert_eq!((runs(&app), app.stats().calls.total()), (1, 0));
    let (status, run) = app.post(OPERATOR, "/ops/v1/dispatch");
    assert_eq!((status, &run["outcome"]), (200, &"granted".into()), "{run}");
    app.until("five rows are done", || (app.batch(&id)["counts"]["completed"] == 5).then_some(()));
}
