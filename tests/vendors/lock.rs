//! Outcomes that wait for a database which is locked for longer than a claim lasts are neither lost nor made again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    support::{
        app::{App, OPERATOR},
        server::{Server, late},
    },
    zoo::{api, counts, created, database, ended, keys, pass, people, setup, upload},
};

const ROWS: usize = 10;

/// What a locked database is tried with.
struct Lock {
    auto_rescue: bool,
    by_command: bool,
}

#[test]
fn outcomes_that_wait_for_a_locked_database_are_kept_and_nothing_is_called_again() {
    let locks = [(true, false), (false, false), (false, true)];
    std::thread::scope(|scope| {
        for (auto_rescue, by_command) in locks {
            scope.spawn(move || outlives_the_lock(Lock { auto_rescue, by_command }));
        }
    });
}

/// Nothing moves then, and whoever looks is told so, while looking goes on.
#[test]
fn a_locked_database_is_what_everything_waits_for_and_reads_go_on() {
    let server = Server::start(created);
    let dependency = "rate_per_second = 20\ntimeout = \"1s\"\ngate_after = 100000";
    let app = App::start(setup(&[api("one", &server, dependency, "", "save = { id = \"/id\" }")]));
    let id = upload(&app, &app.key, "one", &people("locked.example", 200));
    app.until("some are done", || (server.calls() >= 10).then_some(()));
    let elsewhere = database(&app);
    elsewhere.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    // Within less than what a write waits for the lock.
    let begun = Instant::now();
    let told = app.until("it says so", || {
        let batch = app.batch(&id);
        batch["waiting_for"].as_str().filter(|told| told.contains("locked")).map(str::to_owned)
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(told.contains("the database") && told.contains("another process"), "{told}");
    let (status, rows) = app.get(&app.key, &format!("/v2/batches/{id}/rows?status=pending"));
    assert_eq!((status, &rows["rows"][0]["waiting_for"]), (200, &json!(told)), "{rows}");
    for path in ["/readyz", "/livez", "/metrics", "/v2/batches", "/ops/v1/overview"] {
        assert_eq!(app.get(OPERATOR, path).0, 200, "{path}");
    }
    elsewhere.execute_batch("ROLLBACK").expect("let go");
    app.until("that is over", || {
        let batch = app.batch(&id);
        batch["waiting_for"].as_str().is_none_or(|told| !told.contains("locked")).then_some(())
    });
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 200);
}

/// What a live server's workers have in hand is stuck for nobody, however long their requests take.
#[test]
fn claims_shorter_than_a_request_are_listed_and_freed_by_nobody_while_their_server_lives() {
    for auto_rescue in [true, false] {
        let server = Server::start(|request| late(Duration::from_secs(4), created(request)));
        let dependency = "rate_per_second = 50\nburst = 50\ntimeout = \"10s\"\ngate_after = 100000\nconcurrency = 50";
        let mut setup = setup(&[api("one", &server, dependency, "", "save = { id = \"/id\" }")]);
        setup.workers = format!("claim_ttl = \"1s\"\nauto_rescue = {auto_rescue}");
        let app = App::start(setup);
        let id = upload(&app, &app.key, "one", &people("held.example", ROWS));
        app.until("all are under way", || (server.calls() == ROWS).then_some(()));
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            let (_, listed) = app.get(OPERATOR, "/ops/v1/stuck");
            assert_eq!(listed["rows"], json!([]), "auto_rescue {auto_rescue}");
            let output = app.command(&["stuck", "--apply", "--json"]);
            let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!((&said["rows"], &said["applied"]["rows"]), (&json!([]), &json!(0)), "auto_rescue {auto_rescue}");
        }
        assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
        assert!(counts(&server).values().all(|calls| *calls == 1), "{:?}", counts(&server));
    }
}

/// A server that hangs renews nothing, and a person may free what it holds.
#[test]
fn what_a_server_holds_that_hangs_is_freed_by_command() {
    let server = Server::start(|request| late(Duration::from_secs(2), created(request)));
    let dependency = "rate_per_second = 50\nburst = 50\ntimeout = \"10s\"\ngate_after = 100000\nconcurrency = 50";
    let mut setup = setup(&[api("one", &server, dependency, "", "save = { id = \"/id\" }")]);
    setup.workers = "claim_ttl = \"1s\"".to_owned();
    let app = App::start(setup);
    let id = upload(&app, &app.key, "one", &people("hung.example", ROWS));
    app.until("all are under way", || (server.calls() == ROWS).then_some(()));
    app.signal(rustix::process::Signal::STOP);
    app.until("what it holds is freed", || {
        let output = app.command(&["stuck", "--apply", "--json"]);
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (said["applied"]["rows"] == ROWS).then_some(())
    });
    app.signal(rustix::process::Signal::CONT);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    crate::zoo::assert_one_key_each(&server);
}

fn outlives_the_lock(lock: Lock) {
    let server = Server::start(|request| late(Duration::from_millis(300), created(request)));
    let dependency = "rate_per_second = 50\nburst = 5\ntimeout = \"1s\"\ngate_after = 100000";
    let more = api("one", &server, dependency, "", "save = { id = \"/id\" }");
    let mut setup = setup(&[more, "[database]\nbusy_timeout = \"500ms\"\n".to_owned()]);
    setup.workers = format!("claim_ttl = \"2s\"\nauto_rescue = {}", lock.auto_rescue);
    let app = App::start(setup);
    let id = upload(&app, &app.key, "one", &people("locked.example", 100));
    app.until("some are done", || (server.calls() >= 30).then_some(()));
    let elsewhere = database(&app);
    elsewhere.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    pass(Duration::from_secs(6));
    let stuck = lock.by_command.then(|| app.spawn(&["stuck", "--apply"]));
    elsewhere.execute_batch("ROLLBACK").expect("let go");
    if let Some(command) = stuck {
        assert!(command.wait_with_output().expect("ended").status.code().is_some());
    }
    let done = ended(&app, &app.key, &id);
    assert_eq!(done["counts"]["completed"], 100, "{done}");
    let twice: BTreeMap<_, _> = counts(&server).into_iter().filter(|(_, calls)| *calls > 1).collect();
    assert!(twice.is_empty(), "rescued by itself {}: called again: {twice:?}", lock.auto_rescue);
    assert_eq!(keys(&server).len(), 100);
}
