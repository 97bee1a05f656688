//! Pause, cancel and "stop now" act between the steps of a row: what is under way finishes, and nothing else begins.

use std::time::{Duration, Instant};

use crate::{
    support::{
        app::{App, OPERATOR},
        server::{Server, late},
    },
    zoo::{app, created, dependency, dispatch, ended, pass, people, post, upload, workflow},
};

/// How long the vendor takes: rows are between their steps that often.
const LATENCY: Duration = Duration::from_millis(800);
/// What left before the answer has arrived by then, on a machine that is busy with other tests.
const ON_ITS_WAY: Duration = Duration::from_millis(400);
const ROWS: usize = 60;

type Act = fn(&App, &str);

const STOPS: [(&str, Act, Act); 4] = [
    (
        "batch",
        |app, id| done(app, &format!("/v2/batches/{id}/pause")),
        |app, id| {
            done(app, &format!("/v2/batches/{id}/resume"));
        },
    ),
    ("client", |app, _| client(app, "pause"), |app, _| client(app, "resume")),
    ("dispatch", |app, _| dispatch(app, "pause"), |app, _| dispatch(app, "resume")),
    (
        "command",
        |app, id| assert!(app.command(&["batch", "pause", id]).status.success()),
        |app, id| {
            assert!(app.command(&["batch", "resume", id]).status.success());
        },
    ),
];

fn done(app: &App, path: &str) {
    let (status, said) = app.post(OPERATOR, path);
    assert_eq!(status, 200, "{path}: {said}");
}

fn client(app: &App, act: &str) {
    assert!(app.command(&["client", act, "acme"]).status.success());
}

/// A batch whose rows are between their three steps, and which another one shares nothing with.
fn in_the_midst() -> (Server, App, String) {
    let server = Server::start(|request| late(LATENCY, created(request)));
    let steps = ["first", "second", "third"].map(|name| post(name, "api", ""));
    let api = dependency("api", server.address, "rate_per_second = 500\nburst = 50\nconcurrency = 16");
    let app = app(&[api, workflow("chain", "", &steps)]);
    let id = upload(&app, &app.key, "chain", &people("stop.example", ROWS));
    app.until("rows are between their steps", || (server.calls() >= 25).then_some(()));
    (server, app, id)
}

/// Requests that arrived when nothing should begin any more, and how many there were in all.
fn begun_after(server: &Server, stopped: Instant) -> (usize, usize) {
    pass(LATENCY * 4);
    let received = server.received();
    (received.iter().filter(|request| request.at > stopped + ON_ITS_WAY).count(), received.len())
}

#[test]
fn a_pause_lets_what_is_under_way_finish_and_begins_nothing_between_steps() {
    std::thread::scope(|scope| {
        for (what, stop, go_on) in STOPS {
            scope.spawn(move || pauses(what, stop, go_on));
        }
    });
}

fn pauses(what: &str, stop: Act, go_on: Act) {
    let (server, app, id) = in_the_midst();
    stop(&app, &id);
    let (late, all) = begun_after(&server, Instant::now());
    assert_eq!(late, 0, "{what}: of {all}");
    assert_eq!(app.batch(&id)["counts"]["processing"], 0, "{what}: nobody holds a row");
    go_on(&app, &id);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS, "{what}");
    assert_eq!(server.calls(), 3 * ROWS, "{what}: no step is made twice, and none left out");
}

#[test]
fn a_cancel_begins_nothing_between_steps_and_ends_with_what_was_under_way() {
    let (server, app, id) = in_the_midst();
    done(&app, &format!("/v2/batches/{id}/cancel"));
    let (late, all) = begun_after(&server, Instant::now());
    assert_eq!(late, 0, "of {all}");
    let batch = app.batch(&id);
    assert_eq!(batch["status"], "cancelled", "{batch}");
}

#[test]
fn a_row_that_is_asked_for_by_name_is_worked_whatever_is_paused() {
    let (server, app, id) = in_the_midst();
    done(&app, &format!("/v2/batches/{id}/pause"));
    app.until("nothing is under way", || (app.batch(&id)["counts"]["processing"] == 0).then_some(()));
    let before = server.calls();
    assert!(app.command(&["row", "run", &format!("{id}/{ROWS}")]).status.success());
    assert!(server.calls() > before);
}
