//! Kept apart: what one API, client, batch or step goes through is not felt by any other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use dripfeed::downstream::LEAD;

use crate::{
    support::{
        app::App,
        server::{Received, Reply, Server, late, status},
    },
    zoo::{
        DISPATCH, add_client, api, app, between, counts, created, dependency, dispatch, ended, first_call,
        gate_is_open, pass, people, post, setup, upload, with, workflow,
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
fn slow_apis_hold_up_no_other_one_with_everything_by_default() {
    const RATE: usize = 100;
    let slow = [0, 1].map(|_| Server::start(|request| late(Duration::from_secs(3), created(request))));
    let server = Server::start(created);
    let app = app(&[well("slow-a", &slow[0], 100), well("slow-b", &slow[1], 100), well("well", &server, RATE)]);
    for (name, server) in ["slow-a", "slow-b"].into_iter().zip(&slow) {
        let key = add_client(&app, name);
        upload(&app, &key, name, &people(&format!("{name}.example"), 3_000));
        first_call(&app, server);
    }
    assert_not_held_up(&app, &server, RATE, "slow APIs");
    // What is slow gets its rate as well: as many are under way as that takes.
    for server in &slow {
        let first = first_call(&app, server) + Duration::from_secs(4);
        let calls = between(server, first, first + Duration::from_secs(2));
        assert!(calls >= 120, "{calls} calls in two seconds at 100 a second");
    }
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

#[test]
fn an_outage_of_a_later_steps_api_lets_the_first_step_get_some_way_ahead_and_no_further() {
    const ROWS: usize = 20_000;
    let away = Arc::new(AtomicBool::new(true));
    let is_away = away.clone();
    let first = Server::start(created);
    let third = Server::start(move |request| match is_away.load(SeqCst) {
        true => with(503, "Retry-After", "2"),
        false => created(request),
    });
    let fast = "rate_per_second = 5000\nburst = 100\nconcurrency = 32";
    let steps = [post("first", "early", ""), post("second", "early", ""), post("third", "late", "")];
    let mut setup = setup(&[
        dependency("early", first.address, fast),
        dependency("late", third.address, fast),
        workflow("chain", "", &steps),
    ]);
    setup.dispatch = DISPATCH.to_owned();
    let app = App::start(setup);
    dispatch(&app, "pause");
    let id = upload(&app, &app.key, "chain", &people("chain.example", ROWS));
    app.until_status(&id, "queued");
    dispatch(&app, "resume");
    let ahead = || first.received().iter().filter(|request| request.path() == "/first").count();
    app.until("some hundred rows are ahead", || (ahead() >= 300).then_some(()));
    let (mut seen, mut since) = (ahead(), Instant::now());
    app.until("the lead is as far as it goes", || {
        let now = ahead();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(2_500)).then_some(())
    });
    // Those that are just being written down are not counted yet, and each try of the API takes one away.
    assert!((LEAD..LEAD * 6 / 5).contains(&seen), "{seen} of {ROWS} rows have begun, and the third step's API is away");
    assert!(third.calls() < 60, "{} calls to an API that is away", third.calls());
    away.store(false, SeqCst);
    app.until("it goes on", || (app.batch(&id)["counts"]["completed"].as_u64() > Some(200)).then_some(()));
    assert_eq!(app.batch(&id)["counts"]["failed"], 0);
}

#[test]
fn a_row_that_is_always_turned_away_shuts_nobody_else_out() {
    const RATE: usize = 20;
    type Turned = fn() -> Reply;
    let kinds: [(&str, Turned); 2] = [("429", || status(429)), ("503", || with(503, "Retry-After", "0"))];
    std::thread::scope(|scope| {
        let watch = |(kind, turned): (&'static str, Turned)| {
            let server = Server::start(move |request| match crate::zoo::who(request).starts_with("poison") {
                true => turned(),
                false => created(request),
            });
            let app = app(&[api("well", &server, &format!("rate_per_second = {RATE}"), "", "")]);
            let other = add_client(&app, "poisonous");
            upload(&app, &other, "well", &crate::zoo::of(["poison@others.example".to_owned()]));
            first_call(&app, &server);
            upload(&app, &app.key, "well", &people("good.example", 600));
            pass(Duration::from_secs(30));
            let good =
                server.received().iter().filter(|request| !crate::zoo::who(request).starts_with("poison")).count();
            assert!(good * 3 >= RATE * 30, "{kind}: {good} calls of the others in thirty seconds at {RATE} a second");
        };
        let running: Vec<_> = kinds.into_iter().map(|kind| scope.spawn(move || watch(kind))).collect();
        running.into_iter().for_each(|kind| kind.join().expect("nobody is shut out"));
    });
}
