//! The operator's commands: each is there, says how it is used, and does what it says.

#[path = "commands/changes.rs"]
mod changes;
#[path = "commands/doctor.rs"]
mod doctor;
#[path = "commands/examples.rs"]
mod examples;
#[path = "commands/purge.rs"]
mod purge;
#[path = "commands/simulator.rs"]
mod simulator;
mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::app::{App, OPERATOR, Setup, people};

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn parsed(output: &Output) -> Value {
    serde_json::from_str(&printed(output)).expect("JSON")
}

/// Works only when it is told to.
pub fn idle() -> Setup {
    Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() }
}

/// The whole table of what an operator is promised.
const COMMANDS: [&str; 44] = [
    "demo",
    "init",
    "serve",
    "dispatch",
    "dispatch pause",
    "dispatch resume",
    "dependency list",
    "dependency rate",
    "batch list",
    "batch show",
    "batch run",
    "batch pause",
    "batch resume",
    "batch cancel",
    "batch retry",
    "batch delete",
    "row show",
    "row run",
    "stuck",
    "client add",
    "client list",
    "client limit",
    "client pause",
    "client resume",
    "client rotate-key",
    "client remove",
    "client webhook",
    "operator add",
    "operator list",
    "operator remove",
    "keys generate",
    "keys list",
    "keys rotate",
    "audit",
    "healthcheck",
    "completions",
    "backup",
    "backups",
    "restore",
    "purge",
    "doctor",
    "simulator",
    "config",
    "help",
];
/// Those that list.
const LISTS: [&str; 13] = [
    "batch list",
    "batch show",
    "row show",
    "stuck",
    "client list",
    "client add",
    "operator list",
    "keys list",
    "audit",
    "purge",
    "doctor",
    "restore",
    "dependency list",
];

#[test]
fn every_command_is_there_with_an_example_and_what_lists_takes_json() {
    let app = App::prepared(Setup::default());
    let help = |words: &str| {
        let arguments: Vec<&str> = words.split(' ').chain(["--help"]).filter(|word| !word.is_empty()).collect();
        printed(&app.command(&arguments))
    };
    let overview = help("");
    for original in
        ["client:batch-csv-invite-processing", "client:csv-invite-processing", "client:process-stuck-csv-invite"]
    {
        assert!(overview.contains(original), "{overview}");
    }
    for command in COMMANDS {
        let first = command.split(' ').next().expect("a word");
        assert!(overview.lines().any(|line| line.trim_start().starts_with(first)), "{command} in {overview}");
        if command != "help" {
            assert!(help(command).contains(&format!("dripfeed {command}")), "{command}: {}", help(command));
        }
    }
    for command in LISTS {
        assert!(help(command).contains("--json"), "{command}");
    }
}

#[test]
fn exit_statuses_tell_wrong_usage_from_failure_and_errors_say_what_to_run_next() {
    let app = App::prepared(Setup::default());
    for wrong in [&["nonsense"][..], &["batch", "show", "x"], &["purge"], &["purge", "--older-than", "soon"], &["keys"]]
    {
        assert_eq!(app.command(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let missing = app.command(&["batch", "show", "bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"]);
    assert!(missing.status.code() == Some(1) && said(&missing).contains("`dripfeed batch list`"), "{}", said(&missing));
    let nobody = app.command(&["healthcheck", "--url", "http://127.0.0.1:1"]);
    assert!(nobody.status.code() == Some(1) && said(&nobody).contains("does `dripfeed serve` run?"));
}

#[test]
fn a_server_is_ready_until_it_is_gone_and_shells_complete_what_there_is() {
    let mut app = App::start(idle());
    let url = app.url("");
    assert_eq!(printed(&app.command(&["healthcheck", "--url", &url])), "ready\n");
    app.terminate();
    assert_eq!(app.command(&["healthcheck", "--url", &url]).status.code(), Some(1));
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&app.command(&["completions", shell]));
        assert!(script.contains("healthcheck") && script.contains("rotate"), "{shell}");
    }
    assert_eq!(app.command(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn batches_look_on_the_command_line_as_over_http() {
    let app = App::start(idle());
    let other = app.add_client("other", None);
    let ids = [app.accepted(people(2)), app.accepted(people(3))];
    let (_, third) = app.upload(&other, people(4));
    app.until_status(&ids[1], "queued");
    app.until("the other's, too", || (app.batch_of(&other, third["id"].as_str()?)["status"] == "queued").then_some(()));
    // What is told of the future differs from one moment to the next.
    let settled = |mut batch: Value| {
        for moving in ["estimate", "waiting_for"] {
            batch.as_object_mut().expect("a batch").remove(moving).expect(moving);
        }
        batch
    };
    let shown = settled(parsed(&app.command(&["batch", "show", &ids[0], "--json"])));
    assert_eq!(shown, settled(app.batch_of(OPERATOR, &ids[0])));
    assert_eq!(shown["client"], "acme");
    let page = parsed(&app.command(&["batch", "list", "--limit", "2", "--json"]));
    assert_eq!((&page["batches"][0]["id"], &page["batches"][1]["id"]), (&third["id"], &json!(ids[1])));
    let next = page["next"].as_str().expect("there is more");
    let rest = parsed(&app.command(&["batch", "list", "--json", "--after", next]));
    assert_eq!((&rest["batches"][0]["id"], &rest["next"]), (&json!(ids[0]), &Value::Null));
    let table = printed(&app.command(&["batch", "list"]));
    assert!(table.lines().count() == 4 && ids.iter().all(|id| table.contains(id)), "{table}");
}
