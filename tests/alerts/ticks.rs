//! Dispatch calls that stop, come again, or come twice.

use std::thread;

use serde_json::{Value, json};

use crate::{
    logged, overview, said,
    support::app::{App, DISPATCH, OPERATOR, Setup, people},
};

const MISSING: &str = "calls.missing";
const AGAIN: &str = "calls.came_again";

/// A server that expects calls, each of which grants every client two rows.
fn expecting(dispatch: &str) -> App {
    App::start(Setup { dispatch: format!("rows_per_client_per_run = 2\n{dispatch}"), ..Setup::default() })
}

fn call(app: &App) -> Value {
    let (status, answer) = app.post(DISPATCH, "/ops/v1/dispatch");
    assert_eq!(status, 200, "{answer}");
    answer
}

fn until_missing(app: &App) -> Value {
    app.until("calls are missing", || {
        let dispatch = overview(app)["dispatch"].clone();
        dispatch["missing_since"].is_string().then_some(dispatch)
    })
}

fn runs(app: &App) -> Vec<Value> {
    let (status, list) = app.get(OPERATOR, "/ops/v1/dispatch/runs?limit=1000");
    assert_eq!(status, 200, "{list}");
    list["runs"].as_array().expect("runs").clone()
}

fn asked_by(runs: &[Value]) -> Vec<&str> {
    runs.iter().map(|run| run["asked_by"].as_str().expect("a word")).collect()
}

fn at(run: &Value) -> dripfeed::model::Timestamp {
    run["at"].as_str().expect("a time").parse().expect("RFC 3339")
}

fn upload(app: &App, key: &str, rows: usize) -> String {
    let (status, batch) = app.upload(key, people(rows));
    assert_eq!(status, 202, "{batch}");
    batch["id"].as_str().expect("an id").to_owned()
}

#[test]
fn calls_that_stop_are_told_once_everywhere_and_told_again_when_they_come() {
    let mut app = expecting("expect_every = \"1s\"\nmin_interval = \"0s\"");
    let globex = app.add_client("globex", None);
    let (ours, theirs) = (upload(&app, &app.key, 4), upload(&app, &globex, 4));
    app.until_status(&ours, "queued");
    let dispatch = until_missing(&app);
    assert_eq!((&dispatch["taken_over"], &dispatch["last_run"]), (&json!(false), &Value::Null));
    let waits = app.batch_of(&globex, &theirs);
    let says = waits["waiting_for"].as_str().expect("a sentence");
    assert!(says.starts_with("no dispatch run came since ") && says.ends_with(", and one is due every 1 s"), "{says}");
    assert_eq!(waits["estimate"], Value::Null);
    assert_eq!((app.get("", "/readyz").0, app.get("", "/livez").0), (200, 200));
    assert!(runs(&app).is_empty(), "nobody takes over who may not");

    assert_eq!(call(&app)["outcome"], "granted");
    app.until("the call is heard", || (logged(&app, AGAIN).len() == 1).then_some(()));
    let dispatch_now = overview(&app)["dispatch"]["missing_since"].clone();
    assert!(dispatch_now.is_null() || logged(&app, MISSING).len() == 2, "{dispatch_now}");
    for (key, id) in [(&app.key, &ours), (&globex, &theirs)] {
        app.until("it goes on", || (app.batch_of(key, id)["counts"]["completed"] == 2).then_some(()));
    }
    let since = until_missing(&app)["missing_since"].clone();
    let (told, ended) = (logged(&app, MISSING), logged(&app, AGAIN));
    assert_eq!((told.len(), ended.len()), (2, 1), "once when it begins, once when it ends:\n{}", app.log());
    assert_eq!((&told[0]["level"], &told[1]["since"]), (&json!("WARN"), &since));
    assert_eq!(ended[0]["missing_since"], dispatch["missing_since"]);
    assert_eq!(asked_by(&runs(&app)), ["call"]);

    // Another server gives them their time anew, and then tells of the last one that came to the one before.
    app.terminate();
    app.serve();
    assert!(overview(&app)["dispatch"]["missing_since"].is_null() || !logged(&app, MISSING).is_empty());
    let last_call = runs(&app)[0]["at"].clone();
    assert_eq!(until_missing(&app)["missing_since"], last_call);
    assert_eq!(logged(&app, MISSING).len(), 1);
}

#[test]
fn the_built_in_clock_takes_over_and_steps_back_when_calls_come_again() {
    let app = expecting("expect_every = \"1s\"\nmin_interval = \"0s\"\ntake_over = true");
    let globex = app.add_client("globex", None);
    let (ours, theirs) = (upload(&app, &app.key, 5), upload(&app, &globex, 3));
    // Two rows a run: one run is not enough for either.
    app.until_status(&ours, "completed");
    app.until("theirs too", || (app.batch_of(&globex, &theirs)["status"] == "completed").then_some(()));
    let before = runs(&app);
    assert!(before.len() >= 3 && asked_by(&before).iter().all(|by| *by == "take_over"), "{before:?}");
    let dispatch = overview(&app)["dispatch"].clone();
    assert!(dispatch["taken_over"] == true && dispatch["missing_since"].is_string(), "runs of its own are no calls");
    assert_eq!(logged(&app, MISSING).len(), 1);
    assert_eq!(logged(&app, "dispatch.taken_over").len(), 1);
    let findings = said(&app.command(&["doctor"]));
    assert!(findings.contains("made by the built-in clock because calls are missing"), "{findings}");

    assert_eq!(call(&app)["outcome"], "granted");
    let dispatch = overview(&app)["dispatch"].clone();
    assert!(dispatch["taken_over"] == false || logged(&app, MISSING).len() > 1, "{dispatch}");
    let again = logged(&app, AGAIN);
    assert_eq!(again.len(), 1);
    assert!(again[0]["runs_taken_over"].as_u64() >= Some(3), "{again:?}");

    app.until("they are missing again", || (logged(&app, MISSING).len() == 2).then_some(()));
    let after = app.until("it takes over again", || {
        let runs = runs(&app);
        let called = runs.iter().position(|run| run["asked_by"] == "call")?;
        (called > 0).then(|| runs[..=called].to_vec())
    });
    let (first, called) = (&after[after.len() - 2], &after[after.len() - 1]);
    assert_eq!(first["asked_by"], "take_over");
    let silence = at(first).since(at(called));
    assert!(silence.as_millis() >= 2_900, "it stepped back until three calls were missing: {silence:?}");
}

#[test]
fn a_call_that_finds_dispatch_paused_is_no_silence() {
    let app = expecting("expect_every = \"1s\"\nmin_interval = \"0s\"");
    app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "reason": "vendor maintenance" }));
    until_missing(&app);
    assert_eq!(call(&app)["outcome"], "paused");
    app.until("the call is heard", || (!logged(&app, AGAIN).is_empty()).then_some(()));
    assert!(runs(&app).is_empty());
}

#[test]
fn doubled_calls_are_one() {
    let app = expecting("min_interval = \"30s\"");
    let globex = app.add_client("globex", None);
    let (ours, theirs) = (upload(&app, &app.key, 6), upload(&app, &globex, 6));
    app.until_status(&ours, "queued");
    app.until("theirs too", || (app.batch_of(&globex, &theirs)["status"] == "queued").then_some(()));
    let outcomes: Vec<String> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| call(&app)["outcome"].to_string())).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    });
    let granted = outcomes.iter().filter(|outcome| *outcome == "\"granted\"").count();
    assert_eq!(granted, 1, "{outcomes:?}");
    let harmless = ["\"granted\"", "\"too_early\"", "\"already_running\""];
    assert!(outcomes.iter().all(|outcome| harmless.contains(&outcome.as_str())), "{outcomes:?}");
    for (key, id) in [(&app.key, &ours), (&globex, &theirs)] {
        app.until("the grant is used up", || (app.batch_of(key, id)["counts"]["completed"] == 2).then_some(()));
    }
    assert_eq!(call(&app)["outcome"], "too_early");
    assert!(app.command(&["dispatch", "--url", &app.url("")]).status.success(), "the CronJob has done its part");
    let runs = runs(&app);
    assert_eq!((runs.len(), &runs[0]["rows"]), (1, &json!(4)), "{runs:?}");
    for (key, id) in [(&app.key, &ours), (&globex, &theirs)] {
        let counts = app.batch_of(key, id)["counts"].clone();
        assert_eq!((&counts["completed"], &counts["pending"]), (&json!(2), &json!(4)));
    }
}

#[test]
fn settings_that_make_no_sense_together_are_told() {
    for (dispatch, says) in [
        ("every = \"60s\"\nexpect_every = \"60s\"", "dispatch.expect_every: dispatch.every is set"),
        ("every = \"60s\"\ntake_over = true", "dispatch.take_over: dispatch.every is set"),
        ("take_over = true", "a call is expected every 1m"),
        ("expect_every = \"5s\"", "dispatch.min_interval: 30s is longer than dispatch.expect_every, 5s"),
    ] {
        let app = expecting(dispatch);
        let idle = app.until("it is told", || logged(&app, "setting.idle").pop());
        let setting = idle["setting"].as_str().expect("a sentence");
        assert!(setting.contains(says) && idle["level"] == "WARN", "{idle}");
        let doctor = said(&app.command(&["doctor"]));
        assert!(doctor.lines().any(|line| line.starts_with("warn") && line.contains(says)), "{doctor}");
    }
    let sound = expecting("expect_every = \"60s\"\ntake_over = true");
    assert!(logged(&sound, "setting.idle").is_empty());
    let mut wrong = App::prepared(Setup { dispatch: String::new(), ..Setup::default() });
    let path = wrong.folder.path().join("dripfeed.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, text.replace("[dispatch]", "[dispatch]\nexpect_every = \"0s\"")).expect("written");
    wrong.launch(&[]);
    assert!(
        !wrong.listens() && wrong.complaints().contains("dispatch.expect_every: is longer than 0s"),
        "{}",
        wrong.complaints()
    );
}
