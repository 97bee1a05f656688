//! A dependency that is taken out of the configuration: the batches that call it stand still and say why, the others go on,
//! and once it is back they go on by themselves.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::{
    act, all_at_b, assert_histories_are_true, broken_at_b, chain, configured, edit, restart_with, steps,
    support::{
        app::{App, OPERATOR},
        server::Server,
    },
    told, upgrade, ways_once,
    zoo::{QUICK, created, database, dependency, ended, people, post, upload, workflow},
};

const ROWS: usize = 4;
const WHY: &str = "workflow `chain` calls the dependency `crm`, which is not configured";

/// `a` of the dependency `api`, and `b` of the dependency `crm`.
fn with_crm(server: &Server) -> String {
    let steps = [post("a", "api", ""), post("b", "crm", "")];
    dependency("api", server.address, QUICK)
        + &dependency("crm", server.address, QUICK)
        + &workflow("chain", "", &steps)
}

/// The same without `crm`, and without `b`.
fn without_crm(server: &Server) -> String {
    chain(server, &steps(&["a"]))
}

/// The alert about this batch that stands, if one does.
fn alert(app: &App, id: &str) -> Option<Value> {
    let (status, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(status, 200, "{overview}");
    let alerts = overview["alerts"].as_array().expect("a list");
    alerts.iter().find(|alert| alert["alert"] == "dependency_missing" && alert["subject"] == json!(id)).cloned()
}

/// What doctor has to say about workflows.
fn finding(app: &App) -> Value {
    let output = app.command(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().find(|finding| finding["what"] == "workflows").expect("a line").clone()
}

fn assert_says(text: &Value, why: &str) {
    assert!(text.as_str().is_some_and(|text| text.contains(why)), "{text} has no `{why}`");
}

#[test]
fn its_batches_stand_still_and_say_why_until_it_is_back() {
    let (server, mended) = broken_at_b();
    let mut app = configured(&with_crm(&server));
    let id = upload(&app, &app.key, "chain", &people("one.example", ROWS));
    let theirs = upload(&app, &app.key, "chain", &people("two.example", ROWS));
    all_at_b(&app, &server, &id, 2 * ROWS);
    assert_eq!(finding(&app)["level"], "ok");
    // An operator's pause is the operator's, before and after.
    let (status, said) =
        app.post_json(OPERATOR, &format!("/v2/batches/{theirs}/pause"), &json!({ "reason": "theirs" }));
    assert_eq!(status, 200, "{said}");

    restart_with(&mut app, &without_crm(&server));
    let calls = server.calls();
    mended.store(true, SeqCst);
    let batch = app.batch(&id);
    assert_eq!((&batch["paused"], &batch["status"]), (&json!(true), &json!("queued")), "{batch}");
    assert_says(&batch["waiting_for"], WHY);
    app.until("its rows are due, and say so too", || {
        app.rows(&id)[0]["waiting_for"].as_str().is_some_and(|text| text.contains(WHY)).then_some(())
    });
    assert_says(&told(&app, "batch.dependency_missing", &id)[0]["reason"], WHY);
    assert!(told(&app, "batch.dependency_missing", &theirs).is_empty(), "that one was paused already");
    let alert_of = |app: &App, id: &str| app.until("the alert is told", || alert(app, id));
    assert_says(&alert_of(&app, &id)["summary"], WHY);
    assert_says(&alert_of(&app, &theirs)["summary"], WHY);
    let line = finding(&app);
    assert_eq!(line["level"], "warn", "{line}");
    assert_says(&line["says"], WHY);

    // Nobody sets it going by hand either.
    for act in ["resume", "retry"] {
        let (status, said) = app.post(OPERATOR, &format!("/v2/batches/{id}/{act}"));
        assert_eq!(status, 409, "{act}: {said}");
        assert_says(&said["detail"], WHY);
        let output = app.command(&["batch", act, &id]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(WHY), "{output:?}");
    }
    let output = app.command(&["row", "run", &format!("{id}/1")]);
    assert!(output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains(WHY), "{output:?}");
    // Others are not held up, and nothing was called for it.
    let other = upload(&app, &app.key, "chain", &people("three.example", ROWS));
    assert_eq!(ended(&app, &app.key, &other)["counts"]["completed"], ROWS);
    assert_eq!(server.calls(), calls + ROWS);
    assert_eq!(app.batch(&id)["paused"], true);
    assert_eq!(app.batch(&id)["estimate"], json!(null));

    restart_with(&mut app, &with_crm(&server));
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    assert_eq!(told(&app, "batch.dependency_back", &id).len(), 1);
    app.until("the alerts are over", || (alert(&app, &id).is_none() && alert(&app, &theirs).is_none()).then_some(()));
    assert_eq!(finding(&app)["level"], "ok");
    assert_histories_are_true(&app, &server, &id);
    let paused = app.batch(&theirs);
    assert_eq!(paused["paused"], true, "nobody resumed it");
    assert_says(&paused["waiting_for"], "theirs");
    act(&app, &theirs, "resume");
    assert_eq!(ended(&app, &app.key, &theirs)["counts"]["completed"], ROWS);
    assert_histories_are_true(&app, &server, &theirs);
}

#[test]
fn a_batch_that_did_not_come_so_far_goes_on_where_it_is_moved_to_the_present_version() {
    let server = Server::start(created);
    let mut app = configured(&with_crm(&server));
    crate::zoo::dispatch(&app, "pause");
    let id = upload(&app, &app.key, "chain", &people("one.example", ROWS));
    let cancelled = upload(&app, &app.key, "chain", &people("two.example", ROWS));
    app.until_status(&id, "queued");
    app.until_status(&cancelled, "queued");
    restart_with(&mut app, &without_crm(&server));
    crate::zoo::dispatch(&app, "resume");
    assert_says(&app.batch(&id)["waiting_for"], WHY);
    let (status, said) = upgrade(&app, &id);
    assert_eq!((status, &said["paused"]), (200, &json!(false)), "{said}");
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    assert!(ways_once(&server).values().all(|way| way == &["a"]), "{:?}", ways_once(&server));
    // And one that is not wanted any more can be ended.
    act(&app, &cancelled, "cancel");
    app.until_status(&cancelled, "cancelled");
    app.until("nothing is told of it any more", || alert(&app, &cancelled).is_none().then_some(()));
}

#[test]
fn a_version_that_cannot_be_read_holds_up_its_batches_and_nobody_else() {
    let (server, mended) = broken_at_b();
    let mut app = configured(&chain(&server, &steps(&["a", "b"])));
    let id = upload(&app, &app.key, "chain", &people("one.example", ROWS));
    all_at_b(&app, &server, &id, ROWS);
    app.terminate();
    edit(&app, &chain(&server, &steps(&["a", "b", "c"])));
    // The last byte of what is sealed is another.
    let damaged = "UPDATE workflow_versions
                   SET sealed = CAST(substr(sealed, 1, length(sealed) - 1)
                                     || CASE substr(sealed, -1) WHEN X'00' THEN X'01' ELSE X'00' END AS BLOB)
                   WHERE name = 'chain'";
    assert_eq!(database(&app).execute(damaged, []), Ok(1));
    app.serve();
    mended.store(true, SeqCst);
    let batch = app.batch(&id);
    assert_eq!(batch["paused"], true, "{batch}");
    assert_says(&batch["waiting_for"], "the workflow cannot be opened");
    assert_says(&app.until("an alert is told", || alert(&app, &id))["summary"], "the workflow cannot be opened");
    assert_says(&finding(&app)["says"], "the workflow cannot be opened");
    let other = upload(&app, &app.key, "chain", &people("two.example", ROWS));
    assert_eq!(ended(&app, &app.key, &other)["counts"]["completed"], ROWS);
    assert_eq!(app.get(OPERATOR, "/v2/batches").0, 200);
    assert_eq!(app.get(OPERATOR, "/ops/v1/overview").0, 200);
    // Where its rows are can be known without it.
    let (status, said) = upgrade(&app, &id);
    assert_eq!((status, &said["paused"]), (200, &json!(false)), "{said}");
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    assert!(ways_once(&server).values().all(|way| way == &["a", "b", "c"]), "{:?}", ways_once(&server));
    assert_histories_are_true(&app, &server, &id);
    app.until("nothing is told of it any more", || alert(&app, &id).is_none().then_some(()));
}
