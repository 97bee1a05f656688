//! A row spends one of its client's grant when it starts, and none for going on to its next step, also where it was put down in
//! between.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    support::{
        app::{App, OPERATOR},
        server::{Server, late},
    },
    zoo::{created, dependency, email, pass, people, post, setup, upload, workflow},
};

/// How long the vendor takes: rows are between their steps that often.
const LATENCY: Duration = Duration::from_millis(400);
/// What the only run grants.
const GRANT: usize = 10;
const STEPS: [&str; 3] = ["first", "second", "third"];

fn done(app: &App, path: &str) {
    let (status, said) = app.post(OPERATOR, path);
    assert_eq!(status, 200, "{path}: {said}");
}

#[test]
fn rows_that_a_pause_puts_down_between_their_steps_go_on_though_no_grant_is_left() {
    let server = Server::start(|request| late(LATENCY, created(request)));
    let api = dependency("api", server.address, "rate_per_second = 500\nburst = 50\nconcurrency = 16");
    let mut setup = setup(&[api, workflow("chain", "", &STEPS.map(|name| post(name, "api", "")))]);
    setup.dispatch = format!("min_interval = \"0s\"\nrows_per_client_per_run = {GRANT}");
    let app = App::start(setup);
    let id = upload(&app, &app.key, "chain", &people("spent.example", GRANT * 3));
    app.until_status(&id, "queued");
    done(&app, "/ops/v1/dispatch");
    // Once between the first two steps, once between the others.
    for calls in [GRANT / 2, GRANT + GRANT / 2] {
        app.until("some rows are under way", || (server.calls() >= calls).then_some(()));
        done(&app, &format!("/v2/batches/{id}/pause"));
        pass(LATENCY * 3);
        let counts = &app.batch(&id)["counts"];
        assert!(counts["processing"] == 0 && counts["completed"] == 0, "all were put down: {counts}");
        done(&app, &format!("/v2/batches/{id}/resume"));
    }
    app.until("as many rows are completed as were granted", || {
        (app.batch(&id)["counts"]["completed"] == GRANT).then_some(())
    });
    pass(Duration::from_secs(1));
    let begun: BTreeSet<String> = server.received().iter().map(email).collect();
    assert_eq!((begun.len(), server.calls()), (GRANT, GRANT * STEPS.len()), "no more rows, and no call twice");
}
