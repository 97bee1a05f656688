//! A thread that panics ends the server, at once and loudly, and the next start goes on; a handler that panics is
//! answered with an error; and a server without memory ends or answers, and never stays ready doing nothing.

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::app::{App, OPERATOR, Setup, people};

/// The threads that a server cannot do without, and how often each beats before it panics.
const THREADS: [(&str, u32); 17] = [
    ("writer", 30),
    ("feeder", 5),
    ("settler", 0),
    ("noter", 0),
    ("calls", 0),
    ("alarms", 0),
    ("extract", 2),
    ("chores", 1),
    ("set-clock", 0),
    ("files", 0),
    ("announce", 0),
    ("alerts", 0),
    ("retention", 0),
    ("clear-away", 0),
    ("rescue", 0),
    ("clock", 0),
    ("backup", 0),
];
/// The longest sleep of any of them is ten seconds.
const WITHIN: Duration = Duration::from_secs(30);

/// A server that has work for each of its threads.
fn prepared() -> App {
    let folder = tempfile::tempdir().expect("a folder").keep();
    App::prepared(Setup {
        more: format!("[backup]\nto = \"{}\"\nevery = \"1h\"", folder.join("backups").display()),
        ..Setup::default()
    })
}

fn panicked(app: &App) -> Value {
    let lines = app.log();
    let line = lines.lines().find(|line| line.contains("thread.panicked"));
    serde_json::from_str(line.unwrap_or_else(|| panic!("nothing was told: {lines}"))).expect("JSON")
}

#[test]
fn any_thread_that_panics_ends_the_server_and_the_next_start_goes_on() {
    let mut app = prepared();
    let mut batches = Vec::new();
    for (thread, beats) in THREADS {
        app.launch(&[("FAILPOINTS", &format!("beat.{thread}={beats}*off->panic(quoted-out-of-a-row)"))]);
        if app.listens() {
            // It may end before this is answered, and then it did not say that it has it.
            let uploaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app.upload(&app.key, one(thread))));
            batches.extend(uploaded.ok().filter(|(status, _)| *status == 202).map(|(_, batch)| batch["id"].clone()));
        }
        let ended = app
            .ends_within(WITHIN)
            .unwrap_or_else(|| panic!("{thread} is gone, and the server goes on:\n{}", app.log()));
        assert_eq!(ended.code(), Some(1), "{thread}: {}", app.log());
        let told = panicked(&app);
        assert_eq!((&told["thread"], &told["ends_process"]), (&thread.into(), &true.into()), "{told}");
        assert!(!app.log().contains("quoted-out-of-a-row"), "{told}");
    }
    app.serve();
    assert!(batches.len() > 1, "most of them lived long enough to take a batch");
    // One may have been taken whose answer the end of the process cut off.
    let all = app.get(&app.key, "/v2/batches").1["batches"].as_array().expect("a list").clone();
    let all: Vec<&str> = all.iter().map(|batch| batch["id"].as_str().expect("an id")).collect();
    assert!(batches.iter().all(|id| all.contains(&id.as_str().expect("an id"))), "what was answered is there");
    all.iter().for_each(|id| drop(app.until_status(id, "completed")));
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), (all.len() as u64, 0), "each row once");
}

/// A file of one row of its own.
fn one(name: &str) -> String {
    people(1).replace("p1@", &format!("{name}@"))
}

#[test]
fn a_seal_or_a_parse_that_panics_ends_the_server_too() {
    for (point, thread) in [("extract.sealing", "seal-"), ("extract.parsing", "extract-parse")] {
        let mut app = App::prepared(Setup::default());
        app.launch(&[("FAILPOINTS", &format!("{point}=panic"))]);
        assert!(app.listens());
        // It may end before it has answered, but not before the batch is kept.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app.upload(&app.key, people(3))));
        assert_eq!(app.ends_within(WITHIN).and_then(|ended| ended.code()), Some(1), "{point}: {}", app.log());
        assert!(panicked(&app)["thread"].as_str().expect("a thread").starts_with(thread), "{}", app.log());
        app.serve();
        let kept = app.get(&app.key, "/v2/batches").1["batches"][0]["id"].clone();
        app.until_status(kept.as_str().expect("the batch"), "completed");
    }
}

#[test]
fn a_handler_that_panics_is_told_and_answered_and_the_server_goes_on() {
    let mut app = App::prepared(Setup::default());
    app.launch(&[("FAILPOINTS", "request.handling=1*panic(quoted-out-of-a-row)")]);
    assert!(app.listens());
    let (status, problem) = app.get(OPERATOR, "/v2/batches");
    assert_eq!((status, &problem["code"]), (500, &"internal".into()), "{problem}");
    let told = panicked(&app);
    assert_eq!(told["ends_process"], false, "{told}");
    assert!(!app.log().contains("quoted-out-of-a-row"), "{}", app.log());
    let id = app.accepted(people(3));
    app.until_status(&id, "completed");
}

#[test]
fn a_thread_that_hangs_fails_liveness_by_its_name() {
    let mut app = App::prepared(Setup::default());
    // Five minutes are long for a test.
    app.launch(&[("FAILPOINTS", "heartbeat.hurried=return;beat.chores=3*off->pause")]);
    assert!(app.listens());
    let problem = app.until("liveness fails", || {
        let (status, problem) = app.get("", "/livez");
        (status == 503).then_some(problem)
    });
    assert_eq!(problem["code"], "unavailable");
    let detail = |problem: &Value| problem["detail"].as_str().expect("a sentence").to_owned();
    app.until("it is named", || detail(&app.get("", "/livez").1).contains("chores").then_some(()));
    assert!(!detail(&app.get("", "/livez").1).contains("announce"), "{problem}");
    assert!(app.log().contains("server.stalled"), "{}", app.log());
}

/// With less and less memory, a server that says that it is ready also works; else it ends.
#[test]
fn a_server_without_memory_ends_or_answers_and_never_stays_ready_doing_nothing() {
    let mut ended = 0;
    let mut worked = 0;
    for megabytes in [4_000_u64, 1_200, 900, 700, 600, 500, 450, 400, 350, 300] {
        let mut app = App::prepared(Setup::default());
        app.launch_within(megabytes << 20);
        if !app.listens() {
            ended += 1;
            continue;
        }
        let uploaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app.upload(&app.key, people(20_000))));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if app.ends_within(Duration::from_millis(50)).is_some() {
                ended += 1;
                break;
            }
            let Ok((202, batch)) = &uploaded else {
                // It was told that it did not work out, and the server is there for what is smaller.
                worked += 1;
                break;
            };
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                app.batch(batch["id"].as_str().expect("an id"))
            }));
            if status.is_ok_and(|batch| batch["extracted_at"].is_string() || batch["error"].is_object()) {
                worked += 1;
                break;
            }
            assert!(Instant::now() < deadline, "{megabytes} MB: ready, and does nothing:\n{}", app.log());
        }
        // A database that could have no memory once answers nothing from there on.
        let is_up = app.ends_within(Duration::ZERO).is_none();
        assert!(!(is_up && app.log().contains("database error: out of memory")), "{megabytes} MB: {}", app.log());
    }
    assert!(worked > 0 && ended > 0, "{worked} worked, {ended} ended: the sizes are not those that matter");
}
