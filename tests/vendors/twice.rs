//! Never twice: whatever a vendor answers, however often a person tries again, whatever is edited or restarted in
//! between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    support::{
        app::App,
        server::{Received, Reply, Server, closed_port, late, ok, status},
    },
    zoo::{
        QUICK, TOO_LATE, Turns, api, app, assert_one_key_each, counts, created, dispatch, email, ended, ends,
        left_alone, pass, people, post, retry, upload, who, with, workflow,
    },
};

/// What a vendor answers to the repeat of a request that it has done already.
const REFUSALS: [u16; 11] = [302, 400, 401, 403, 404, 408, 409, 410, 422, 500, 504];

/// Creates at the first call of each row and answers too late; refuses the repeats by the status in the row's name
/// (`s409@...`; anything else: says nothing again), until it is mended.
fn creates_and_refuses() -> (Server, Arc<AtomicBool>) {
    let (turns, mended) = (Turns::default(), Arc::new(AtomicBool::new(false)));
    let heals = mended.clone();
    let server = Server::start(move |request| match turns.take(email(request)) {
        1 => late(TOO_LATE, created(request)),
        _ if heals.load(SeqCst) => created(request),
        _ => who(request).strip_prefix('s').and_then(|code| code.parse().ok()).map_or(Reply::Silence, status),
    });
    (server, mended)
}

fn refused_rows() -> String {
    let refused = REFUSALS.iter().map(|code| format!("s{code}@twice.example"));
    crate::zoo::of(refused.chain(["silent@twice.example".to_owned()]))
}

/// Waits until a batch is completed, or for what only a person or another answer can move (401 has no end).
fn settled(app: &App, id: &str) {
    app.until("only a row that is not let in is left", || {
        let counts = &app.batch(id)["counts"];
        let left = counts["pending"].as_u64().expect("a count") + counts["processing"].as_u64().expect("a count");
        (left <= 1).then_some(())
    });
}

#[test]
fn a_request_that_was_done_and_whose_repeat_is_refused_never_leaves_under_a_second_key() {
    let (server, mended) = creates_and_refuses();
    let app = app(&[api("one", &server, QUICK, "max_attempts = 2", "save = { id = \"/id\" }")]);
    let id = upload(&app, &app.key, "one", &refused_rows());
    settled(&app, &id);
    // The one that is left may not have had its turn again.
    app.until("each was repeated", || counts(&server).values().all(|calls| *calls >= 2).then_some(()));
    assert_one_key_each(&server);
    // Through the API, through the command, and by hand, row by row.
    retry(&app, &id, "");
    settled(&app, &id);
    assert_one_key_each(&server);
    assert!(app.command(&["batch", "retry", &id]).status.success());
    settled(&app, &id);
    assert_one_key_each(&server);
    dispatch(&app, "pause");
    retry(&app, &id, "");
    let before = counts(&server);
    for number in 1..=3 {
        app.command(&["row", "run", &format!("{id}/{number}")]);
    }
    assert!(counts(&server).values().sum::<usize>() >= before.values().sum::<usize>() + 3, "`row run` sends them");
    assert_one_key_each(&server);

    mended.store(true, SeqCst);
    dispatch(&app, "resume");
    settled(&app, &id);
    retry(&app, &id, "");
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], REFUSALS.len() + 1);
    assert_one_key_each(&server);
}

#[test]
fn a_conflict_about_a_request_that_is_noted_means_later() {
    let turns = Turns::default();
    let server = Server::start(move |request| match turns.take(email(request)) {
        1 => late(TOO_LATE, created(request)),
        2 => status(409),
        _ => created(request),
    });
    let app = app(&[api("one", &server, QUICK, "", "save = { id = \"/id\" }")]);
    let id = upload(&app, &app.key, "one", &people("later.example", 3));
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 3, "{:?}", ends(&app, &id));
    assert!(counts(&server).values().all(|calls| *calls == 3));
    assert_one_key_each(&server);
}

#[test]
fn once_the_vendor_has_forgotten_the_key_only_a_person_has_it_sent_again() {
    let (server, mended) = creates_and_refuses();
    let keys_of_workflow = "max_attempts = 2\nrepeat_window = \"4s\"";
    let app = app(&[api("one", &server, QUICK, keys_of_workflow, "save = { id = \"/id\" }")]);
    let rows = crate::zoo::of(["s500", "s422", "s409", "s400", "silent"].map(|name| format!("{name}@window.example")));
    let id = upload(&app, &app.key, "one", &rows);
    ended(&app, &app.key, &id);
    pass(Duration::from_millis(4_500));
    let before = counts(&server);
    mended.store(true, SeqCst);
    retry(&app, &id, "");
    app.until("all are unknown", || {
        ends(&app, &id).values().all(|end| end == "outcome_unknown" || end == "completed").then_some(())
    });
    assert_eq!(counts(&server), before, "nothing is sent: {:?}", ends(&app, &id));
    assert!(app.command(&["batch", "retry", &id]).status.success());
    pass(Duration::from_millis(1_500));
    assert_eq!(counts(&server), before, "nor by the command");
    assert_eq!(retry(&app, &id, "?code=outcome_unknown")["rows"], 5);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 5);
}

/// A vendor whose answers say nothing of whether it was done, by the row's name.
fn says_nothing_of_use(request: &Received) -> Reply {
    match who(request).as_str() {
        "silent" => Reply::Silence,
        "late" => late(TOO_LATE, created(request)),
        "cut" => Reply::CutOff,
        "closed" => Reply::Close,
        "garbage" => Reply::Garbage,
        code => status(code[1..].parse().expect("a status")),
    }
}

const USELESS: [&str; 11] =
    ["s500", "s501", "s502", "s504", "s505", "s408", "silent", "late", "cut", "closed", "garbage"];

#[test]
fn what_is_never_repeated_is_sent_once_whatever_comes_back() {
    let server = Server::start(says_nothing_of_use);
    let mut app = app(&[api("once", &server, QUICK, "", "repeat = \"never\"")]);
    let id = upload(&app, &app.key, "once", &crate::zoo::of(USELESS.map(|name| format!("{name}@once.example"))));
    let once = |app: &App, when: &str| {
        let calls = counts(&server);
        assert!(calls.len() == USELESS.len() && calls.values().all(|calls| *calls == 1), "{when}: {calls:?}");
        let ends = ends(app, &id);
        assert!(ends.values().all(|end| end == "outcome_unknown"), "{when}: {ends:?}");
    };
    ended(&app, &app.key, &id);
    once(&app, "by itself");
    let retried = retry(&app, &id, "");
    assert_eq!((&retried["rows"], left_alone(&retried)), (&0.into(), USELESS.len() as u64), "{retried}");
    assert!(app.command(&["batch", "retry", &id]).status.success());
    assert_eq!(app.command(&["row", "run", &format!("{id}/1")]).status.code(), Some(1));
    app.terminate();
    app.serve();
    pass(Duration::from_millis(1_500));
    once(&app, "after retries, a command and a restart");
}

#[test]
fn what_was_certainly_not_done_is_tried_again_also_under_never() {
    let turns = Turns::default();
    let server = Server::start(move |request| match (turns.take(email(request)), who(request).as_str()) {
        (1, "busy") => with(429, "Retry-After", "1"),
        (1, "away") => with(503, "Retry-After", "1"),
        (1, "early") => status(425),
        _ => created(request),
    });
    let refused = closed_port();
    let dependency = crate::zoo::dependency("gone", refused, QUICK);
    let gone = workflow("gone", "max_attempts = 50", &[post("gone", "gone", "repeat = \"never\"")]);
    let app = app(&[api("once", &server, QUICK, "", "repeat = \"never\""), dependency, gone]);
    let id =
        upload(&app, &app.key, "once", &crate::zoo::of(["busy", "away", "early"].map(|it| format!("{it}@a.example"))));
    let nobody = upload(&app, &app.key, "gone", &people("gone.example", 2));
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 3, "{:?}", ends(&app, &id));
    assert!(counts(&server).values().all(|calls| *calls == 2), "{:?}", counts(&server));
    let later = Server::start_at(refused, created);
    assert_eq!(ended(&app, &app.key, &nobody)["counts"]["completed"], 2, "{:?}", ends(&app, &nobody));
    assert_eq!(later.calls(), 2);
}

#[test]
fn accepted_without_what_is_saved_it_is_left_alone_by_a_plain_retry_unless_it_is_safe() {
    let server = Server::start(|_| ok("{}"));
    let save = |repeat: &str| format!("save = {{ id = \"/id\" }}\nrepeat = \"{repeat}\"");
    let kinds = ["never", "idempotency-key", "safe"];
    let apis = kinds.map(|kind| api(kind, &server, QUICK, "max_attempts = 1", &save(kind)));
    let app = app(&apis);
    for kind in kinds {
        let id = upload(&app, &app.key, kind, &people(&format!("{kind}.example"), 2));
        ended(&app, &app.key, &id);
        let is_bad = |when: &str| {
            let ends = ends(&app, &id);
            assert!(ends.values().all(|end| end == "bad_answer"), "{kind}, {when}: {ends:?}");
        };
        is_bad("at first");
        let calls = server.calls();
        let retried = retry(&app, &id, "");
        if kind == "safe" {
            assert_eq!(retried["rows"], 2, "{kind}: {retried}");
            ended(&app, &app.key, &id);
            assert_eq!(server.calls(), calls + 2, "{kind}");
            continue;
        }
        assert_eq!((&retried["rows"], left_alone(&retried)), (&0.into(), 2), "{kind}: {retried}");
        let said = app.command(&["batch", "retry", &id]);
        assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains('2'), "{kind}: {said:?}");
        pass(Duration::from_millis(1_200));
        assert_eq!(server.calls(), calls, "{kind}: nothing is sent");
        assert_eq!(retry(&app, &id, "?code=bad_answer")["rows"], 2, "{kind}");
        ended(&app, &app.key, &id);
        assert_eq!(server.calls(), calls + 2, "{kind}: asked for by name it is sent");
        is_bad("in the end");
    }
}

/// Kept alive for longer than a test needs it.
const KEPT: Duration = Duration::from_secs(60);

#[test]
fn what_left_on_a_connection_that_was_given_up_stays_noted_and_its_repeat_takes_a_permit() {
    const RATE: usize = 10;
    let (turns, mended) = (Turns::default(), Arc::new(AtomicBool::new(false)));
    let heals = mended.clone();
    // It does what the lost ones ask for, closes without a word, and does not know them again.
    let server = Server::start(move |request| match turns.take(email(request)) {
        1 if who(request).starts_with("lost") => Reply::Close,
        2 if who(request).starts_with("lost409") => status(409),
        2 if who(request).starts_with("lost") && !heals.load(SeqCst) => status(422),
        _ => Reply::ThenIdle(KEPT, Box::new(created(request))),
    });
    let keys = format!("rate_per_second = {RATE}\nconcurrency = 1\ntimeout = \"5s\"");
    let app = app(&[api("one", &server, &keys, "", "")]);
    // Each of the lost ones follows one that leaves a connection behind.
    let rows = (0..10).flat_map(|row| {
        let lost = if row % 2 == 0 { "lost422" } else { "lost409" };
        [format!("kept{row}@given-up.example"), format!("{lost}-{row}@given-up.example")]
    });
    let id = upload(&app, &app.key, "one", &crate::zoo::of(rows));
    ended(&app, &app.key, &id);
    let ends = ends(&app, &id);
    let conflicts: Vec<_> = ends.iter().filter(|(email, _)| email.starts_with("lost409")).collect();
    assert!(conflicts.iter().all(|(_, end)| *end == "completed"), "a conflict means later: {conflicts:?}");
    assert!(ends.values().any(|end| end != "completed"), "some were lost: {ends:?}");
    mended.store(true, SeqCst);
    retry(&app, &id, "");
    ended(&app, &app.key, &id);
    assert_eq!(app.batch(&id)["counts"]["completed"], 20);
    assert_one_key_each(&server);

    let left: Vec<_> = server.received().iter().map(|request| request.at).collect();
    let second = Duration::from_secs(1);
    let busiest = left.iter().map(|from| left.iter().filter(|at| *at >= from && **at - *from < second).count()).max();
    // Where they arrive, which moves one into another window.
    assert!(busiest <= Some(RATE + 2), "{busiest:?} in a second");
}

#[test]
fn what_is_known_of_a_request_that_is_never_repeated_outlives_the_server_while_the_next_step_is_asked() {
    const ROWS: usize = 8;
    let (server, slow) = (Server::start(created), Server::start(|_| Reply::Silence));
    let once = post("once", "one", "repeat = \"never\"");
    let look = "name = \"look\"\ndependency = \"slow\"\nmethod = \"GET\"\npath = \"/look\"".to_owned();
    let mut app = app(&[
        crate::zoo::dependency("one", server.address, QUICK),
        crate::zoo::dependency("slow", slow.address, "rate_per_second = 200\nburst = 20\ntimeout = \"60s\""),
        workflow("chain", "", &[once, look]),
    ]);
    let id = upload(&app, &app.key, "chain", &people("known.example", ROWS));
    app.until("all are at the second step", || (slow.calls() == ROWS).then_some(()));
    app.kill();
    app.serve();
    app.until("they are asked again", || (slow.calls() > ROWS).then_some(()));
    let ends = ends(&app, &id);
    assert!(ends.values().all(|end| end != "outcome_unknown"), "{ends:?}");
    assert_eq!(server.calls(), ROWS);
}
