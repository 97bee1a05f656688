//! Failed rows tried again: in place, at once, however many they are, and never twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use super::{count, people_of_whom_rejected};
use crate::support::{
    app::{App, DISPATCH, OPERATOR, Setup, people},
    server::{Received, Reply, Server, ok, status},
};

fn retry(app: &App, id: &str, query: &str) -> Value {
    let (status, batch) = app.post(&app.key, &format!("/v2/batches/{id}/retry{query}"));
    assert_eq!(status, 200, "{batch}");
    batch
}

/// Every call fails at the first step until the simulator is mended.
fn failing() -> App {
    let more = "[workflows.invite]\nmax_attempts = 1\npause_after_failures = 1000000".into();
    let dependency = "rate_per_second = 20000\nburst = 500\nconcurrency = 16\ngate_after = 1000000".into();
    let app = App::prepared(Setup { more, dependency, dispatch: fast_dispatch(), ..Setup::default() });
    app.simulator.set_faults(1.0, 0.0);
    app
}

fn fast_dispatch() -> String {
    "every = \"1s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 100000".into()
}

const PENDING: &str = "SELECT count(*) FROM rows WHERE status = 'pending' AND row >> 24 =
                       (SELECT batch FROM batches WHERE id = ?)";

#[test]
fn failed_rows_go_on_where_they_failed_with_what_they_had_saved() {
    let refuses = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let refuses = refuses.clone();
        move |request| match request.path() {
            "/address-links" => ok(r#"{"link": "l-1"}"#),
            "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
            _ if refuses.load(Ordering::SeqCst) => status(422),
            _ => Reply::Answer(201, Vec::new(), r#"{"check_id": "chk_1"}"#.to_owned()),
        }
    });
    let app = App::start(Setup { downstream: Some(server.address), ..Setup::default() });
    let (id, other) = (app.accepted(people(4)), app.accepted(people(3)));
    app.until_status(&id, "completed");
    app.until_status(&other, "completed");
    refuses.store(false, Ordering::SeqCst);

    let batch = retry(&app, &id, "");
    assert_eq!((&batch["status"], &batch["finished_at"]), (&json!("queued"), &Value::Null), "{batch}");
    assert_eq!(
        batch["retried"],
        json!({ "rows": 4, "under_way": false, "left_alone_outcome_unknown": 0, "left_alone_bad_answer": 0 })
    );
    let batch = app.until_status(&id, "completed");
    assert_eq!((&batch["counts"]["completed"], &batch["counts"]["failed"]), (&json!(4), &json!(0)));
    assert_eq!(app.batch(&other)["counts"]["failed"], 3);
    for row in app.rows(&id) {
        let requests: Vec<_> =
            row["steps"].as_array().expect("steps").iter().map(|step| step["requests"].clone()).collect();
        assert_eq!(requests, [1, 1, 2], "the first steps were not repeated: {row}");
    }
    // A person's retry of a rejected request is a new request.
    let of_invites = |request: &&Received| request.path() == "/invites";
    let keys: Vec<_> =
        server.received().iter().filter(of_invites).map(|it| it.headers["idempotency-key"].clone()).collect();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), distinct.len()), (11, 11), "seven rows, four of them twice");
    // Nothing is left to retry: nothing changes.
    assert_eq!(retry(&app, &id, "")["status"], "completed");
}

#[test]
fn outcomes_that_are_unknown_are_left_alone_until_somebody_asks_for_them() {
    let silent = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let silent = silent.clone();
        move |request| match request.path() {
            "/address-links" => ok(r#"{"link": "l-1"}"#),
            "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
            _ if request.body.contains("p1@") => status(422),
            _ if silent.load(Ordering::SeqCst) => Reply::Silence,
            _ => Reply::Answer(201, Vec::new(), r#"{"check_id": "chk_1"}"#.to_owned()),
        }
    });
    // An unanswered request is never repeated by itself, for the downstream forgets its keys at once.
    let more = "[workflows.invite]\nrepeat_window = \"0s\"\nmax_attempts = 2".to_owned();
    let dependency = "rate_per_second = 1000\nburst = 50\ntimeout = \"1s\"\ngate_after = 1000".into();
    let app = App::start(Setup { downstream: Some(server.address), more, dependency, ..Setup::default() });
    let id = app.accepted(people(3));
    app.until_status(&id, "completed");
    let codes: Vec<_> = app.rows(&id).iter().map(|row| row["error"]["code"].clone()).collect();
    assert_eq!(codes, ["rejected", "outcome_unknown", "outcome_unknown"]);
    let sent = |app_rows: Vec<Value>| -> Vec<Value> {
        app_rows.iter().map(|row| row["steps"][2]["requests"].clone()).collect()
    };
    let before = sent(app.rows(&id));

    let batch = retry(&app, &id, "");
    assert_eq!(
        batch["retried"],
        json!({ "rows": 1, "under_way": false, "left_alone_outcome_unknown": 2, "left_alone_bad_answer": 0 })
    );
    app.until_status(&id, "completed");
    assert_eq!(sent(app.rows(&id))[1..], before[1..], "not sent again");

    silent.store(false, Ordering::SeqCst);
    let batch = retry(&app, &id, "?code=outcome_unknown&step=invite-create");
    assert_eq!(
        batch["retried"],
        json!({ "rows": 2, "under_way": false, "left_alone_outcome_unknown": 0, "left_alone_bad_answer": 0 })
    );
    let batch = app.until_status(&id, "completed");
    assert_eq!((&batch["counts"]["completed"], &batch["counts"]["failed"]), (&json!(2), &json!(1)));
}

#[test]
fn a_timed_out_request_whose_key_is_forgotten_is_not_repeated_by_a_plain_retry() {
    let server = Server::start(|request| match request.path() {
        "/address-links" => ok(r#"{"link": "l-1"}"#),
        "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
        _ => Reply::Silence,
    });
    let more = "[workflows.invite]\nrepeat_window = \"1s\"\nmax_attempts = 1".to_owned();
    let dependency = "rate_per_second = 1000\nburst = 50\ntimeout = \"1s\"\ngate_after = 1000".into();
    let app = App::start(Setup { downstream: Some(server.address), more, dependency, ..Setup::default() });
    let id = app.accepted(people(1));
    app.until_status(&id, "completed");
    assert_eq!(app.rows(&id)[0]["error"]["code"], "timeout");
    let invites = || server.received().iter().filter(|request| request.path() == "/invites").count();
    assert_eq!(invites(), 1);
    let finished = "SELECT finished_at FROM rows WHERE row >> 24 = (SELECT batch FROM batches WHERE id = ?)";
    let failed_at = count(&app, finished, &id);
    app.until("the downstream has forgotten the key", || {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis() as i64;
        (now > failed_at + 1_100).then_some(())
    });
    retry(&app, &id, "");
    app.until("it is decided", || {
        (app.batch(&id)["status"] == "completed" && app.rows(&id)[0]["error"]["code"] == "outcome_unknown")
            .then_some(())
    });
    assert_eq!(invites(), 1, "it may have been done: only a person can say that it is sent again");
}

#[test]
fn what_cannot_be_retried_is_refused_and_what_an_operator_retries_is_noted() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let other_key = app.add_client("globex", None);
    let (id, kept) = (app.accepted(people(2)), app.accepted(people_of_whom_rejected(2, |row| row == 1)));
    app.until_status(&id, "queued");
    app.until_status(&kept, "queued");
    let path = |id: &str| format!("/v2/batches/{id}/retry");
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    let (status, problem) = app.post(&app.key, &path(&id));
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    assert!(problem["detail"].as_str().expect("a sentence").contains("cancelled"), "{problem}");
    assert_eq!(app.post(&other_key, &path(&kept)).0, 404);
    for wrong in ["code=none", "step=none", "colour=red"] {
        assert_eq!(app.post(&app.key, &format!("{}?{wrong}", path(&kept))).0, 400, "{wrong}");
    }
    let detail = |wrong: &str| app.post(&app.key, &format!("{}?{wrong}", path(&kept))).1["detail"].clone();
    let (codes, steps) = (detail("code=nonsense"), detail("step=nonsense"));
    assert!(
        codes.as_str().is_some_and(|told| told.contains("rejected, bad_answer, timeout")),
        "those there are: {codes}"
    );
    assert_eq!(steps, "`step` is one of address-links, get-addresses, invite-create.");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&kept, "completed");
    let (status, batch) = app.post(OPERATOR, &path(&kept));
    assert_eq!((status, &batch["retried"]["rows"]), (200, &json!(1)), "{batch}");
    let noted = "SELECT count(*) FROM audit WHERE action = 'batch.retry' AND who = 'root' AND target = ?";
    assert_eq!((count(&app, noted, &kept), count(&app, noted, &id)), (1, 0));
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&kept, "completed");

    let by_command = app.command(&["batch", "retry", &kept, "--step", "invite-create", "--json"]);
    assert!(by_command.status.success(), "{by_command:?}");
    let said: Value = serde_json::from_slice(&by_command.stdout).expect("JSON");
    assert_eq!((&said["retried"]["rows"], &said["batch"]["status"]), (&json!(1), &json!("queued")), "{said}");
    assert_eq!(app.command(&["batch", "retry", &kept, "--code", "none"]).status.code(), Some(2));
    assert_eq!(app.command(&["batch", "retry", &id]).status.code(), Some(1), "it is cancelled");
}

#[test]
fn a_retry_that_means_no_row_changes_nothing_and_tells_nobody() {
    let server = Server::start(|request| match request.path() {
        "/address-links" if request.body.contains("AB1") => status(422),
        _ => status(404),
    });
    let app = App::start(Setup { downstream: Some(server.address), ..Setup::default() });
    let globex = app.add_client("globex", None);
    let ids = [app.accepted(people(3)), app.accepted(people(2))];
    let theirs = app.upload(&globex, people(2)).1["id"].as_str().expect("an id").to_owned();
    let ended: Vec<_> = ids.iter().map(|id| app.until_status(id, "completed")).collect();
    app.until("the other client's ends", || (app.batch_of(&globex, &theirs)["status"] == "completed").then_some(()));
    let hooks = Server::start(|_| status(204));
    let url = format!("{}/hook", hooks.url());
    assert!(app.command(&["client", "webhook", "acme", "--url", &url]).status.success());
    let audited = || app.get(OPERATOR, "/ops/v1/audit").1["entries"].as_array().expect("a list").len();
    let before = (audited(), server.received().len());

    let nothing = json!({ "rows": 0, "under_way": false, "left_alone_outcome_unknown": 0, "left_alone_bad_answer": 0 });
    for id in &ids {
        // By whom it is asked: the client, an operator whose deeds are audited, a command.
        assert_eq!(retry(&app, id, "?code=timeout")["retried"], nothing);
        let (status, batch) = app.post(OPERATOR, &format!("/v2/batches/{id}/retry?step=invite-create"));
        assert_eq!((status, &batch["retried"], &batch["status"]), (200, &nothing, &json!("completed")), "{batch}");
        let said = app.command(&["batch", "retry", id, "--code", "timeout"]);
        assert!(said.status.success(), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stdout).contains(": 0 rows are tried again"), "{said:?}");
    }
    for (id, ended) in ids.iter().zip(&ended) {
        let batch = app.batch(id);
        assert_eq!(
            (&batch["status"], &batch["finished_at"], &batch["counts"]),
            (&ended["status"], &ended["finished_at"], &ended["counts"])
        );
    }
    assert_eq!((audited(), server.received().len()), before);
    assert!(!app.log().contains("batch.retried"));
    let list = app.get(OPERATOR, "/ops/v1/clients/acme/deliveries").1;
    assert_eq!(list["deliveries"], json!([]), "nothing is announced");

    // One that means a row is told, by each of the three.
    assert_eq!(retry(&app, &ids[0], "?code=rejected")["retried"]["rows"], 3);
    app.until_status(&ids[0], "completed");
    assert!(app.command(&["batch", "retry", &ids[1]]).status.success());
    app.until("both are announced", || {
        let list = app.get(OPERATOR, "/ops/v1/clients/acme/deliveries").1;
        (list["deliveries"].as_array().map_or(0, Vec::len) == 2).then_some(())
    });
    assert_eq!(app.log().matches("batch.retried").count(), 1);
    assert_eq!(audited(), before.0 + 1, "the command's");
    assert_eq!(app.batch_of(&globex, &theirs)["counts"]["failed"], 2);
}

#[test]
fn a_large_retry_takes_effect_at_once_and_ends_with_a_cancel() {
    let mut app = failing();
    app.serve();
    let (id, other) = (app.accepted(people(2_500)), app.accepted(people(5)));
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["failed"], 2_500);
    app.until_status(&other, "completed");
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    let batch = retry(&app, &id, "");
    assert_eq!((&batch["retried"]["rows"], &batch["retried"]["under_way"]), (&json!(1_000), &json!(true)));
    assert_eq!((&batch["status"], &batch["retrying"]["rows"]), (&json!("queued"), &json!(1_000)));
    app.until("all are pending again", || {
        let batch = app.batch(&id);
        (batch["counts"]["pending"] == 2_500 && batch["retrying"].is_null()).then_some(())
    });
    assert_eq!(app.batch(&other)["counts"]["failed"], 5);
    app.simulator.set_faults(0.0, 0.0);
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    let batch = app.until_status(&id, "cancelled");
    assert_eq!(batch["counts"]["cancelled"], 2_500);
    assert_eq!(count(&app, "SELECT count(*) FROM retries WHERE batch > ?", 0), 0);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_retry_that_a_crash_broke_off_is_carried_out_by_the_next_server() {
    let mut app = failing();
    app.launch(&[("FAILPOINTS", "retry.between_pieces=return")]);
    assert!(app.listens());
    let id = app.accepted(people(3_500));
    app.until_status(&id, "completed");
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    let batch = retry(&app, &id, "");
    assert_eq!(batch["retried"]["rows"], 1_000);
    assert!(app.ends_within(crate::support::app::DEADLINE).is_some(), "it dies behind the second piece");
    assert_eq!(count(&app, PENDING, &id), 2_000);

    app.simulator.set_faults(0.0, 0.0);
    app.serve();
    app.until("all are pending again", || (app.batch(&id)["counts"]["pending"] == 3_500).then_some(()));
    app.post(&app.key, &format!("/v2/batches/{id}/resume"));
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["completed"], 3_500);
}
