//! Alerts about what is around the rows: dependencies, dispatch calls, disk, WAL, backups.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::{
    Receiver, assert_tells_nothing_private, configure, fail, firing, logged, overview, resolved,
    support::{
        app::{App, DISPATCH, OPERATOR, Setup, people},
        server::{Reply, Server, ok},
    },
    watched,
};

/// A batch that fails now, whose alert comes behind all that was told before.
fn mark(app: &App, receiver: &Receiver) {
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    let before = receiver.told("extraction_failed").len();
    fail(app, &id);
    receiver.until(app, "extraction_failed", before + 1);
}

#[test]
fn a_gate_that_stays_closed_is_told_once_over_restarts_and_told_when_it_opens() {
    let is_up = Arc::<AtomicBool>::default();
    let up = is_up.clone();
    let downstream = Server::start(move |_| match up.load(Ordering::SeqCst) {
        true => ok(r#"{"link": "l", "addresses": [{"id": "a"}], "check_id": "c"}"#),
        false => Reply::Answer(503, vec![("Retry-After", "1".to_owned())], String::new()),
    });
    let receiver = Receiver::start();
    let setup = watched("gate_closed_for = \"1s\"", &receiver.hook("pager", "json"));
    let mut app = App::start(Setup { downstream: Some(downstream.address), ..setup });
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    let told = receiver.until(&app, "gate_closed", 1);
    assert_eq!((&told["state"], &told["subject"]), (&json!("firing"), &json!("addresses")));
    let summary = told["summary"].as_str().expect("a sentence");
    assert!(summary.contains("closed for more than 1s") && summary.contains("503"), "{summary}");
    mark(&app, &receiver);
    app.kill();
    app.serve();
    mark(&app, &receiver);
    assert_eq!(receiver.told("gate_closed"), [firing("addresses")], "the invites are not to blame");
    is_up.store(true, Ordering::SeqCst);
    app.until_status(&id, "completed");
    receiver.until(&app, "gate_closed", 2);
    mark(&app, &receiver);
    assert_eq!(receiver.told("gate_closed"), [firing("addresses"), resolved("addresses")]);
    receiver.server.received().iter().for_each(|received| assert_tells_nothing_private(&received.body));
}

#[test]
fn calls_that_stop_are_told_once_over_restarts_and_told_when_they_come() {
    let receiver = Receiver::start();
    let setup = watched("", &receiver.hook("pager", "json"));
    let mut app = App::start(Setup { dispatch: "expect_every = \"1s\"\nmin_interval = \"0s\"".into(), ..setup });
    let told = receiver.until(&app, "runs_missing", 1);
    assert_eq!(told["summary"], "no dispatch call came for three times 1s: nobody is granted rows");
    assert_eq!(told["what_to_do"], json!(["dripfeed dispatch", "dripfeed doctor"]));
    assert_eq!(overview(&app)["alerts"][0]["since"], told["since"]);
    app.terminate();
    app.serve();
    app.until("they are missing again", || logged(&app, "calls.missing").pop());
    mark(&app, &receiver);
    assert_eq!(receiver.told("runs_missing"), [firing("")], "a start is no call");
    app.post(DISPATCH, "/ops/v1/dispatch");
    receiver.until(&app, "runs_missing", 2);
    assert_eq!(receiver.told("runs_missing")[..2], [firing(""), resolved("")]);
    assert_eq!((app.get("", "/readyz").0, app.get(OPERATOR, "/ops/v1/overview").0), (200, 200));
}

#[test]
fn a_full_disk_and_a_large_wal_are_told_until_there_is_room() {
    let receiver = Receiver::start();
    let setup = watched("wal_above = \"1B\"\nwal_above_for = \"1s\"", &receiver.hook("pager", "json"));
    let low = "disk_free_below = \"9000000GB\"";
    let mut app = App::start(Setup { more: setup.more.replace("disk_free_below = \"0B\"", low), ..setup });
    let disk = receiver.until(&app, "disk_low", 1);
    assert!(
        disk["summary"].as_str().expect("a sentence").contains("are free on the disk of the data folder"),
        "{disk}"
    );
    assert_eq!(disk["what_to_do"][1], "dripfeed purge --older-than 30d");
    let wal = receiver.until(&app, "wal_large", 1);
    assert!(wal["summary"].as_str().expect("a sentence").contains("for 1s"), "{wal}");
    app.terminate();
    configure(&app, low, "disk_free_below = \"0B\"");
    configure(&app, "wal_above = \"1B\"", "wal_above = \"1GB\"");
    app.serve();
    receiver.until(&app, "disk_low", 2);
    receiver.until(&app, "wal_large", 2);
    mark(&app, &receiver);
    for kind in ["disk_low", "wal_large"] {
        assert_eq!(receiver.told(kind), [firing(""), resolved("")]);
    }
}

#[test]
fn a_backup_that_is_late_is_told_until_there_is_one() {
    let receiver = Receiver::start();
    // Nothing can be written there, so the server's own ones fail.
    let nowhere = "[backup]\nevery = \"4s\"\nto = \"/dev/null/backups\"";
    let app = App::start(watched(nowhere, &receiver.hook("pager", "json")));
    let told = receiver.until(&app, "backup_overdue", 1);
    assert_eq!(told["summary"], "a backup is due every 4s, and there is none");
    let place = app.folder.path().join("backup");
    assert!(app.command(&["backup", place.to_str().expect("a path")]).status.success());
    receiver.until(&app, "backup_overdue", 2);
    assert_eq!(receiver.told("backup_overdue")[..2], [firing(""), resolved("")]);
    let unscheduled = Receiver::start();
    let app = App::start(watched("", &unscheduled.hook("pager", "json")));
    mark(&app, &unscheduled);
    assert_eq!(unscheduled.told("backup_overdue"), []);
    assert_eq!(overview(&app)["last_backup"], Value::Null);
}
