//! Kept apart: what one API, client, batch or step goes through is not felt by any other.

use std::time::{Duration, Instant};

use crate::{
    support::{
        app::App,
        server::{Received, Reply, Server, status},
    },
    zoo::{
        add_client, api, app, between, counts, created, ended, first_call, gate_is_open, pass, people, setup, upload,
        with,
    },
};

/// So long the one is watched that nobody may hold up.
const WATCHED: Duration = Duration::from_secs(5);

/// A well API at this rate, everything else by default.
fn well(name: &str, server: &Server, rate: usize) -> String {
    api(name, server, &format!("rate_per_second = {rate}"), "", "")
}

/// A client's batch on the API `well` gets at least four fifths of its rate in these seconds.
fn assert_not_held_up(app: &App, server: &Server, rate: usize, by: &str) {
    let key = add_client(app, "bystander");
    upload(app, &key, "well", &people("bystander.example", rate * 12));
    let first = first_call(app, server) + Duration::from_secs(1);
    pass(WATCHED + Duration::from_secs(1));
    let (calls, expected) = (between(server, first, first + WATCHED), rate * WATCHED.as_secs() as usize);
    assert!(calls * 5 >= expected * 4, "{by}: {calls} of {expected} calls");
}

#[test]
fn many_clients_behind_a_closed_gate_hold_up_nobody_elsewhere() {
    const CLIENTS: usize = 200;
    const RATE: usize = 50;
    let closed = Server::start(|_| with(503, "Retry-After", "600"));
    let server = Server::start(created);
    let mut setup = setup(&[well("closed", &closed, 100), well("well", &server, RATE)]);
    setup.dispatch = "every = \"1s\"\nmin_interval = \"0s\"".to_owned();
    let app = App::start(setup);
    for client in 0..CLIENTS {
        let key = add_client(&app, &format!("waits-{client}"));
        upload(&app, &key, "closed", &people(&format!("waits-{client}.example"), 30));
    }
    app.until("the gate is closed", || (!gate_is_open(&app, "closed")).then_some(()));
    assert_not_held_up(&app, &server, RATE, "a closed gate");
    assert!(closed.calls() < 40, "{} calls through a closed gate", closed.calls());
}

#[test]
fn a_clients_second_batch_moves_while_its_first_is_stuck() {
    type Stuck = fn(&Received) -> Reply;
    let kinds: [(&str, Stuck); 3] =
        [("gate", |_| with(503, "Retry-After", "600")), ("silence", |_| Reply::Silence), ("failures", |_| status(500))];
    for (kind, reply) in kinds {
        let (stuck, server) = (Server::start(reply), Server::start(created));
        let slow = "rate_per_second = 100\ntimeout = \"60s\"\nconcurrency = 16";
        let app = app(&[api("stuck", &stuck, slow, "", ""), well("well", &server, 100)]);
        upload(&app, &app.key, "stuck", &people("first.example", 2_000));
        app.until("the first is stuck", || (stuck.calls() >= 1).then_some(()));
        pass(Duration::from_secs(1));
        let begun = Instant::now();
        let second = upload(&app, &app.key, "well", &people("second.example", 200));
        ended(&app, &app.key, &second);
        assert!(begun.elapsed() < Duration::from_secs(6), "{kind}: the second took {:?}", begun.elapsed());
    }
}

#[test]
fn many_batches_with_a_row_in_backoff_each_make_nobody_elses_calls_dearer() {
    const BATCHES: usize = 150;
    const RATE: usize = 100;
    let (failing, server) = (Server::start(|_| status(500)), Server::start(created));
    let fails =
        api("fails", &failing, "rate_per_second = 500\nburst = 50\ngate_after = 100000", "max_attempts = 50", "");
    let app = app(&[fails, well("well", &server, RATE)]);
    for batch in 0..BATCHES {
        upload(&app, &app.key, "fails", &people(&format!("b{batch}.example"), 1));
    }
    app.until("each has failed once", || (counts(&failing).len() == BATCHES).then_some(()));
    assert_not_held_up(&app, &server, RATE, "rows in backoff");
}
