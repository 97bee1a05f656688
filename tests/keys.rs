//! Keys: rotated under a running server, interrupted, refused where that would lose something.

mod support;

use std::{fs, process::Output};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::app::{App, DISPATCH, Setup, people};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Works only when it is told to.
fn idle() -> Setup {
    Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() }
}

fn key_file(app: &App) -> String {
    fs::read_to_string(app.folder.path().join("keys")).expect("the key file")
}

fn set_keys(app: &App, lines: &[&str]) {
    fs::write(app.folder.path().join("keys"), lines.join("\n")).expect("written");
}

fn new_key(app: &App, id: &str) -> String {
    let output = app.command(&["keys", "generate", "--id", id]);
    String::from_utf8(output.stdout).expect("a line").trim().to_owned()
}

fn rotate(app: &App) -> Output {
    app.command(&["keys", "rotate", "--json"])
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Sends SIGHUP and waits for this in the log, once more often than before.
fn hang_up(app: &App, expected: &str) {
    let before = app.log().matches(expected).count();
    app.signal(Signal::HUP);
    app.until(expected, || (app.log().matches(expected).count() > before).then_some(()));
}

/// The keys that wrap something, by what they wrap.
fn keys_in_use(app: &App) -> Vec<String> {
    let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    let mut statement = database
        .prepare(
            "SELECT key_id FROM data_keys UNION SELECT key_id FROM secrets UNION
                  SELECT key_id FROM workflow_versions UNION SELECT key_id FROM ring",
        )
        .expect("a query");
    let keys = statement.query_map([], |row| row.get(0)).expect("rows");
    keys.map(|key| key.expect("a key")).collect()
}

const TAKEN: &str = "the changed key ring is in use";
const REFUSED: &str = "the changed key ring cannot be used";

#[test]
fn rotated_under_a_running_server_the_old_key_can_go_and_everything_still_opens() {
    let mut app = App::start(idle());
    let other = app.add_client("other", None);
    let first = app.accepted(people(3));
    let (_, second) = app.upload(&other, people(2));
    let second = second["id"].as_str().expect("an id").to_owned();
    app.until_status(&first, "queued");
    let old = key_file(&app);
    let new = new_key(&app, "k2");
    set_keys(&app, &[&new, &old]);

    let too_early = rotate(&app);
    assert!(too_early.status.code() == Some(1) && said(&too_early).contains("SIGHUP"), "{}", said(&too_early));
    assert_eq!(app.rows(&first)[0]["data"]["first_name"], "Ann", "nothing was changed under the server");

    for (lines, why) in [(vec![new.as_str()], "add its line back"), (vec!["k2:short"], "not 32 bytes")] {
        set_keys(&app, &lines);
        hang_up(&app, REFUSED);
        assert!(app.log().contains(why), "{}", app.log());
    }
    set_keys(&app, &[&new, &old]);
    hang_up(&app, TAKEN);
    let third = app.accepted(people(4));

    let rotated = parsed(&rotate(&app));
    assert_eq!(rotated, json!({ "key": "k2", "batches": 2, "secrets": 1, "workflows": 1, "not_needed": ["test"] }));
    assert_eq!(keys_in_use(&app), ["k2"]);
    assert_eq!(parsed(&rotate(&app))["batches"], 0, "a second one finds nothing to do");
    // A command that reads the whole key file does not bring the old key back into use.
    assert!(app.command(&["row", "show", &format!("{first}/1")]).status.success());
    assert_eq!(keys_in_use(&app), ["k2"]);

    set_keys(&app, &[&new]);
    hang_up(&app, TAKEN);
    assert_eq!(app.rows(&first)[2]["data"]["first_name"], "Ann");
    app.terminate();
    app.serve();
    assert_eq!(app.rows_of(&other, &second)[1]["data"]["first_name"], "Ann");
    app.until_status(&third, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    for (key, id) in [(&app.key, &first), (&other, &second), (&app.key, &third)] {
        app.until("it is completed", || (app.batch_of(key, id)["status"] == "completed").then_some(()));
    }
    let stats = app.stats();
    assert_eq!(stats.invites, 9, "each row of each file once");
    assert!(!app.log().contains(&new[3..]), "no key is logged");
}

#[cfg(feature = "failpoints")]
#[test]
fn interrupted_anywhere_it_is_simply_run_again() {
    use std::os::unix::process::ExitStatusExt;

    let mut app = App::start(idle());
    let ids: Vec<String> = (1..4).map(|rows| app.accepted(people(rows))).collect();
    app.until_status(&ids[2], "queued");
    app.terminate();
    let mut lines = key_file(&app);
    let mut deaths = 0;
    for (round, point) in ["writer.written", "writer.committed"].iter().cycle().take(12).enumerate() {
        lines = format!("{}\n{lines}", new_key(&app, &format!("r{round}")));
        set_keys(&app, &[&lines]);
        let when = format!("{point}={}*off->return", round / 2);
        let output = app.command_with(&[("FAILPOINTS", &when)], &["keys", "rotate"]);
        deaths += u32::from(output.status.signal() == Some(9));
        app.serve();
        for id in &ids {
            assert_eq!(app.rows(id)[0]["data"]["first_name"], "Ann", "{when}");
        }
        app.terminate();
    }
    assert!(deaths >= 6, "it died {deaths} times");
    let rotated = parsed(&rotate(&app));
    assert_eq!(rotated["not_needed"].as_array().map(Vec::len), Some(12), "{rotated}");
    assert_eq!(keys_in_use(&app), ["r11"]);
    set_keys(&app, &[lines.lines().next().expect("the newest")]);
    app.serve();
    assert_eq!(app.rows(&ids[0])[0]["data"]["first_name"], "Ann");
}
