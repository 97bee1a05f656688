//! Truth in words: what a batch says of its end lies within a factor of two of what it takes, whatever bounds it, and what it
//! says that it waits for is so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    support::{
        app::App,
        server::{Reply, Server, late, status},
    },
    zoo::{
        Turns, add_client, api, app, created, dependency, gate_is_open, pass, people, post, setup, upload, who, with,
        workflow,
    },
};

/// Between two looks at a batch.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// An estimate is told in whole seconds, and whoever asks hears of the end a little later.
const BLUR: f64 = 1.5;

/// A vendor that takes so long for everything.
fn slow(latency: u64) -> Server {
    Server::start(move |request| late(Duration::from_millis(latency), created(request)))
}

/// What a batch said while it was worked: how long ago, the seconds, and why.
struct Said {
    at: Instant,
    seconds: Option<f64>,
    reason: String,
}

/// Looks at a batch until it is completed, and holds every estimate from `known` on, at which what bounds it could be
/// known, against what it really took.
fn assert_true_all_the_way(app: &App, key: &str, id: &str, known: Duration) -> Vec<Said> {
    let begun = Instant::now();
    let mut said = Vec::new();
    loop {
        let at = Instant::now();
        let batch = app.batch_of(key, id);
        if batch["status"] == "completed" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{batch}");
        let estimate = &batch["estimate"];
        let reason = estimate["reason"].as_str().unwrap_or_default().to_owned();
        said.push(Said { at, seconds: estimate["seconds"].as_f64(), reason });
        pass(LOOK_AGAIN);
    }
    let end = Instant::now();
    let story = || -> String {
        let line = |it: &Said| {
            let (at, left) = (it.at.duration_since(begun).as_secs_f64(), end.duration_since(it.at).as_secs_f64());
            format!("\nat {at:.1} s, {left:.1} s before its end: {:?} {}", it.seconds, it.reason)
        };
        said.iter().map(line).collect()
    };
    let looked_at: Vec<_> = said.iter().filter(|it| it.at.duration_since(begun) >= known).collect();
    assert!(looked_at.len() >= 8, "too few looks to say anything:{}", story());
    for it in looked_at {
        let left = end.duration_since(it.at).as_secs_f64();
        let seconds = it.seconds.unwrap_or_else(|| panic!("no estimate:{}", story()));
        let is_true = seconds >= left / 2.0 - BLUR && seconds <= left * 2.0 + BLUR;
        assert!(is_true, "{seconds} s, and it took {left:.1} s:{}", story());
    }
    said
}

fn assert_says(said: &[Said], what: &str) {
    let reasons: Vec<_> = said.iter().map(|it| it.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains(what)), "{what} in {reasons:#?}");
}

#[test]
fn a_batch_that_waits_for_answers_says_so_and_when_it_ends() {
    let server = slow(400);
    let app = app(&[api("vendor", &server, "rate_per_second = 500\nconcurrency = 4", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 120));
    let said = assert_true_all_the_way(&app, &app.key, &id, Duration::from_secs(2));
    assert_says(&said, "ms to answer, and no more than 4 requests to it may be under way at once");
}

#[test]
fn a_batch_of_several_slow_steps_says_when_it_ends() {
    let server = slow(500);
    let steps = ["first", "second", "third"].map(|name| post(name, "vendor", ""));
    let flow = dependency("vendor", server.address, "rate_per_second = 500\nconcurrency = 8")
        + &workflow("vendor", "", &steps);
    let app = app(&[flow]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 60));
    assert_true_all_the_way(&app, &app.key, &id, Duration::from_secs(2));
}

#[test]
fn a_batch_whose_concurrency_follows_the_latency_says_when_it_ends() {
    let server = slow(1_000);
    let app = app(&[api("vendor", &server, "rate_per_second = 30", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 250));
    assert_true_all_the_way(&app, &app.key, &id, Duration::from_secs(3));
}

#[test]
fn a_batch_that_its_rate_bounds_says_when_it_ends_from_the_beginning() {
    let server = slow(300);
    let app = app(&[api("vendor", &server, "rate_per_second = 10", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 100));
    let said = assert_true_all_the_way(&app, &app.key, &id, Duration::ZERO);
    assert_says(&said, "vendor allows 10 calls a second");
}

#[test]
fn a_batch_that_its_clients_grants_bound_says_when_it_ends_from_the_beginning() {
    let server = slow(50);
    let mut setup = setup(&[api("vendor", &server, "rate_per_second = 200", "", "")]);
    setup.dispatch = "every = \"2s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 10".to_owned();
    let app = App::start(setup);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 65));
    let said = assert_true_all_the_way(&app, &app.key, &id, Duration::ZERO);
    assert_says(&said, "client limit: 10 rows a run, a run every 2 s");
}

#[test]
fn a_batch_beside_others_says_when_it_ends() {
    let server = slow(50);
    let app = app(&[api("vendor", &server, "rate_per_second = 30", "", "")]);
    let other = add_client(&app, "globex");
    upload(&app, &other, "vendor", &people("b.example", 2_000));
    let id = upload(&app, &app.key, "vendor", &people("a.example", 150));
    assert_true_all_the_way(&app, &app.key, &id, Duration::from_secs(1));
}

#[test]
fn a_batch_of_which_many_calls_fail_once_says_when_it_ends() {
    let turns = Turns::default();
    let server = Server::start(move |request| {
        let row = who(request).trim_start_matches('p').parse::<usize>().expect("a number");
        let fails = row % 2 == 0 && turns.take(who(request)) == 1;
        late(Duration::from_millis(50), if fails { status(500) } else { created(request) })
    });
    let app = app(&[api("vendor", &server, "rate_per_second = 15\ngate_after = 100000", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 120));
    assert_true_all_the_way(&app, &app.key, &id, Duration::from_secs(2));
}

#[test]
fn a_batch_behind_a_closed_gate_says_when_it_ends() {
    let turned_away = AtomicBool::new(false);
    let server = Server::start(move |request| {
        if turned_away.swap(true, Ordering::SeqCst) { created(request) } else { with(503, "Retry-After", "6") }
    });
    let app = app(&[api("vendor", &server, "rate_per_second = 20\nadapt = false", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 100));
    app.until("the gate is closed", || (!gate_is_open(&app, "vendor")).then_some(()));
    let said = assert_true_all_the_way(&app, &app.key, &id, Duration::ZERO);
    assert_says(&said, "vendor answers 503, next try ");
}

#[test]
fn a_batch_of_which_one_row_waits_for_long_says_so() {
    let turns = Turns::default();
    let server = Server::start(move |request| {
        let is_first = who(request) == "p1" && turns.take(who(request)) == 1;
        if is_first { with(500, "Retry-After", "9") } else { created(request) }
    });
    let app = app(&[api("vendor", &server, "rate_per_second = 20\ngate_after = 100000", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 60));
    app.until("it was held back", || (server.calls() >= 3).then_some(()));
    let said = assert_true_all_the_way(&app, &app.key, &id, Duration::from_millis(500));
    assert_says(&said, "the last of its rows that failed is tried again at ");
}

/// The time in a sentence, as seconds of the day.
fn time_in(says: &str) -> Option<i64> {
    let clock = says.split_whitespace().find(|word| word.len() == 8 && word.matches(':').count() == 2)?;
    let parts: Vec<i64> = clock.split(':').map(|part| part.parse().expect("a number")).collect();
    Some(parts[0] * 3_600 + parts[1] * 60 + parts[2])
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second().rem_euclid(86_400)
}

/// Looks for so long, and holds that a sentence is there whenever nothing is under way, and names no time that has passed.
fn assert_never_at_a_loss(app: &App, key: &str, id: &str, length: Duration) -> Vec<String> {
    let until = Instant::now() + length;
    let mut said: Vec<String> = Vec::new();
    while Instant::now() < until {
        let before = now();
        let batch = app.batch_of(key, id);
        assert_eq!(batch["status"], "queued", "{batch}");
        let says = batch["waiting_for"].as_str();
        assert!(says.is_some() || batch["counts"]["processing"] != 0, "nothing moves, and nothing is said: {batch}");
        if let Some(says) = says {
            // Around midnight the clock begins anew.
            let named = time_in(says).unwrap_or(before);
            assert!(named >= before || before > 86_000, "{says}, and it is {before} s of the day");
            said.push(says.to_owned());
        }
        pass(Duration::from_millis(70));
    }
    said
}

fn assert_said(said: &[String], begin: &str) {
    assert!(said.iter().any(|says| says.starts_with(begin)), "{begin} in {said:#?}");
}

#[test]
fn what_it_waits_for_is_told_behind_a_gate_and_while_all_rows_wait_for_another_try() {
    let refuses = Server::start(|_| with(503, "Retry-After", "1"));
    let fails = Server::start(|_| status(500));
    let app = app(&[
        api("refuses", &refuses, "rate_per_second = 50", "", ""),
        api("fails", &fails, "rate_per_second = 50\ngate_after = 100000", "max_attempts = 50", ""),
    ]);
    let refused = upload(&app, &app.key, "refuses", &people("a.example", 5));
    app.until("the gate is closed", || (!gate_is_open(&app, "refuses")).then_some(()));
    assert_said(
        &assert_never_at_a_loss(&app, &app.key, &refused, Duration::from_secs(6)),
        "refuses answers 503, next try ",
    );
    let failed = upload(&app, &app.key, "fails", &people("a.example", 3));
    app.until("each has failed", || (fails.calls() >= 3).then_some(()));
    let said = assert_never_at_a_loss(&app, &app.key, &failed, Duration::from_secs(6));
    assert_said(&said, "its rows are tried again, the first at ");
}

#[test]
fn what_it_waits_for_is_told_without_a_grant_and_with_a_paused_client() {
    let server = Server::start(created);
    let mut setup = setup(&[api("vendor", &server, "rate_per_second = 50", "", "")]);
    setup.dispatch = "every = \"4s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 2".to_owned();
    let app = App::start(setup);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 40));
    app.until_status(&id, "queued");
    app.until("the first rows are worked", || (server.calls() >= 2).then_some(()));
    let said = assert_never_at_a_loss(&app, &app.key, &id, Duration::from_secs(6));
    assert_said(&said, "client limit: 2 rows a run, next run ");
    app.command(&["client", "pause", "acme"]);
    pass(Duration::from_millis(500));
    let batch = app.batch(&id);
    assert!(batch["waiting_for"].as_str().is_some_and(|says| says.starts_with("its client is paused")), "{batch}");
}

/// Nothing is wrong yet with requests that are under way, but nothing moves.
#[test]
fn what_it_waits_for_is_told_while_an_api_leaves_requests_without_an_answer() {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = is_well.clone();
    let server = Server::start(move |request| match well.load(Ordering::SeqCst) {
        true => created(request),
        false => Reply::Silence,
    });
    let app = app(&[api("vendor", &server, "rate_per_second = 50\ntimeout = \"5m\"", "", "")]);
    let id = upload(&app, &app.key, "vendor", &people("a.example", 3));
    app.until_status(&id, "completed");
    is_well.store(false, Ordering::SeqCst);
    let id = upload(&app, &app.key, "vendor", &people("b.example", 2));
    app.until("both are sent", || (server.calls() == 5).then_some(()));
    let told = app.until("it is told", || app.batch(&id)["waiting_for"].as_str().map(str::to_owned));
    assert!(told.starts_with("an answer of vendor: its 2 rows under way had none since "), "{told}");
    let row = &app.get(&app.key, &format!("/v2/batches/{id}/rows")).1["rows"][0];
    assert!(row["status"] == "processing", "{row}");
}

#[test]
fn what_it_waits_for_is_told_where_others_have_all_the_places() {
    let silent = Server::start(|_| Reply::Silence);
    let well = Server::start(created);
    let keys = "rate_per_second = 50\ntimeout = \"60s\"\nconcurrency = 2";
    let mut setup = setup(&[api("silent", &silent, keys, "", ""), api("well", &well, "rate_per_second = 50", "", "")]);
    setup.workers = "under_way = 2".to_owned();
    let app = App::start(setup);
    upload(&app, &app.key, "silent", &people("a.example", 20));
    app.until("all places are taken", || (silent.calls() >= 2).then_some(()));
    let other = add_client(&app, "globex");
    let says = |id: &str| -> Value { app.batch_of(&other, id)["waiting_for"].clone() };
    let same = upload(&app, &other, "silent", &people("b.example", 2));
    app.until("it says what it waits for", || {
        (says(&same) == "silent: 2 requests are under way, and no more may be at once").then_some(())
    });
    let elsewhere = upload(&app, &other, "well", &people("b.example", 2));
    app.until("it says what it waits for", || {
        (says(&elsewhere) == "2 requests are under way, and `workers.under_way` allows no more at once").then_some(())
    });
    let estimate = &app.batch_of(&other, &elsewhere)["estimate"];
    assert_ne!(*estimate, Value::Null);
}

#[test]
fn of_two_closed_gates_each_is_probed_when_it_is_due() {
    let refuses = Arc::new(AtomicBool::new(false));
    let first = Server::start({
        let refuses = refuses.clone();
        move |request| if refuses.load(Ordering::SeqCst) { with(503, "Retry-After", "2") } else { created(request) }
    });
    let second = Server::start(|_| with(503, "Retry-After", "600"));
    let two = workflow("two", "", &[post("one", "first", ""), post("other", "second", "")]);
    let app = app(&[
        dependency("first", first.address, "rate_per_second = 50"),
        dependency("second", second.address, "rate_per_second = 50"),
        two,
        workflow("solo", "", &[post("alone", "first", "")]),
    ]);
    let waits = upload(&app, &app.key, "two", &people("a.example", 50));
    app.until("the second is closed", || (!gate_is_open(&app, "second")).then_some(()));
    refuses.store(true, Ordering::SeqCst);
    let solo = upload(&app, &app.key, "solo", &people("b.example", 1));
    app.until("the first is closed", || (!gate_is_open(&app, "first")).then_some(()));
    // Nobody else is left to find out whether the first is well again.
    app.post(&app.key, &format!("/v2/batches/{solo}/pause"));
    refuses.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    app.until("the first is open again", || gate_is_open(&app, "first").then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    app.until("it says what it waits for now", || {
        let batch = app.batch(&waits);
        batch["waiting_for"].as_str().filter(|says| says.starts_with("second answers 503, next try ")).map(|_| ())
    });
}
