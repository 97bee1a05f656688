//! What operators change by command as over HTTP: a running server takes it up, and the audit has it under the same name.

use serde_json::{Value, json};

use crate::{
    idle, parsed, printed, said,
    support::app::{App, DISPATCH, OPERATOR, Setup, people},
};

/// The entries of commands in the audit, oldest first: what was done, to what, and why.
fn done_by_commands(app: &App) -> Vec<(String, Value, Value)> {
    let (_, audit) = app.get(OPERATOR, "/ops/v1/audit");
    let entries = audit["entries"].as_array().expect("entries");
    let of_commands = entries.iter().rev().filter(|entry| entry["from"] == "command");
    let told = of_commands.map(|entry| {
        assert_eq!(entry["who"], format!("uid:{}", rustix::process::getuid().as_raw()));
        (entry["action"].as_str().expect("an action").to_owned(), entry["target"].clone(), entry["why"].clone())
    });
    // The client that each app begins with.
    told.filter(|(action, ..)| action != "client.add").collect()
}

fn deed(action: &str, target: &str, why: Value) -> (String, Value, Value) {
    (action.to_owned(), json!(target), why)
}

#[test]
fn dispatch_is_paused_and_goes_on_by_command_beside_a_server_and_without_one() {
    let mut app = App::start(idle());
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    printed(&app.command(&["dispatch", "pause", "--reason", "vendor maintenance"]));
    let paused = &app.get(OPERATOR, "/ops/v1/overview").1["dispatch"]["paused"];
    let who = format!("uid:{}", rustix::process::getuid().as_raw());
    assert_eq!((&paused["by"], &paused["reason"]), (&json!(who), &json!("vendor maintenance")));
    let run = || app.post(DISPATCH, "/ops/v1/dispatch").1;
    assert_eq!(run()["outcome"], "paused", "nothing is granted");
    printed(&app.command(&["dispatch", "resume"]));
    assert_eq!(app.get(OPERATOR, "/ops/v1/overview").1["dispatch"]["paused"], Value::Null);
    run();
    app.until_status(&id, "completed");
    assert_eq!(
        done_by_commands(&app),
        [
            deed("dispatch.pause", "dispatch", json!("vendor maintenance")),
            deed("dispatch.resume", "dispatch", Value::Null)
        ]
    );
    app.terminate();
    printed(&app.command(&["dispatch", "pause"]));
    app.serve();
    assert_eq!(app.get(OPERATOR, "/ops/v1/overview").1["dispatch"]["paused"]["reason"], Value::Null);
    assert_eq!(app.command(&["dispatch", "pause", "--reason", &"x".repeat(501)]).status.code(), Some(2));
    assert_eq!(app.command(&["dispatch", "--url", "http://127.0.0.1:1", "pause"]).status.code(), Some(2));
}

#[test]
fn another_rate_by_command_is_taken_up_by_a_running_server_and_the_configured_one_again() {
    let app = App::start(Setup { dependency: "rate_per_second = 40".into(), ..idle() });
    let listed = |app: &App| {
        let list = parsed(&app.command(&["dependency", "list", "--json"]));
        let of = |it: &&Value| it["name"] == "invites";
        list["dependencies"].as_array().expect("a list").iter().find(of).cloned().expect("it is there")
    };
    let served = |app: &App| {
        let (_, list) = app.get(OPERATOR, "/ops/v1/dependencies");
        let of = |it: &&Value| it["name"] == "invites";
        list["dependencies"].as_array().expect("a list").iter().find(of).cloned().expect("it is there")
    };
    let shown = listed(&app);
    assert_eq!((&shown["rate_per_second"], &shown["gate"]), (&json!(40.0), &served(&app)["gate"]));
    printed(&app.command(&["dependency", "rate", "invites", "2.5"]));
    app.until("the server takes it up", || (served(&app)["rate_per_second"] == 2.5).then_some(()));
    let shown = listed(&app);
    assert_eq!((&shown["rate_per_second"], &shown["configured_rate_per_second"]), (&json!(2.5), &json!(40.0)));
    printed(&app.command(&["dependency", "rate", "invites", "default"]));
    app.until("as configured", || (served(&app)["rate_per_second"] == 40.0).then_some(()));
    assert_eq!(
        done_by_commands(&app),
        [
            deed("dependency.rate", "invites", json!("2.5 a second")),
            deed("dependency.rate", "invites", json!("as configured"))
        ]
    );
    for wrong in ["0", "-1", "NaN", "inf", "fast"] {
        assert_eq!(app.command(&["dependency", "rate", "invites", wrong]).status.code(), Some(2), "{wrong}");
    }
    let unknown = app.command(&["dependency", "rate", "nobody", "1"]);
    assert!(unknown.status.code() == Some(1) && said(&unknown).contains("`dripfeed dependency list`"));
    let table = printed(&app.command(&["dependency", "list"]));
    assert!(table.contains("invites") && table.contains("open"), "{table}");
}

#[test]
fn a_finished_batch_is_deleted_by_command_beside_a_server_and_without_one() {
    let mut app = App::start(idle());
    let ids = [app.accepted(people(3)), app.accepted(people(4))];
    for id in &ids {
        app.until_status(id, "queued");
    }
    let early = app.command(&["batch", "delete", &ids[0]]);
    assert!(early.status.code() == Some(1) && said(&early).contains("cancel it first"), "{}", said(&early));
    app.post(DISPATCH, "/ops/v1/dispatch");
    for id in &ids {
        app.until_status(id, "completed");
    }
    assert!(printed(&app.command(&["batch", "delete", &ids[0]])).contains("a server clears its 3 rows"));
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{}", ids[0])).0, 404);
    assert_eq!(app.command(&["batch", "delete", &ids[0]]).status.code(), Some(1));
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    let left = |table: &str| -> i64 {
        database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
    };
    app.until("the server cleared it away", || (left("deletions") == 0).then_some(()));
    assert_eq!(left("rows"), 4);
    assert_eq!(done_by_commands(&app), [deed("batch.delete", &ids[0], Value::Null)]);
    app.terminate();
    assert!(printed(&app.command(&["batch", "delete", &ids[1]])).contains("is gone: 4 rows"));
    assert_eq!((left("batches"), left("rows"), left("deletions")), (0, 0, 0));
}

#[test]
fn a_rows_values_are_revealed_by_command_and_the_audit_says_who_looked() {
    let app = App::start(idle());
    let id =
        app.accepted("email,first_name,last_name,phone,postcode,house_number\nann@mail.example,Ann,Smith,,AB1 2CD,1\n");
    app.until_status(&id, "queued");
    let row = format!("{id}/1");
    let masked = parsed(&app.command(&["row", "show", &row, "--json"]));
    assert_ne!(masked["data"]["first_name"], "Ann");
    assert_eq!(done_by_commands(&app), []);
    let revealed = parsed(&app.command(&["row", "show", &row, "--reveal", "--json"]));
    assert_eq!(revealed["data"], app.get(OPERATOR, &format!("/v2/batches/{id}/rows/1?reveal=true")).1["data"]);
    assert_eq!(revealed["data"]["first_name"], "Ann");
    assert_eq!(app.command(&["row", "show", &format!("{id}/2"), "--reveal"]).status.code(), Some(1));
    assert_eq!(done_by_commands(&app), [deed("row.reveal", &row, Value::Null)], "what is not there is not looked at");
}

#[test]
fn a_batch_says_by_command_what_it_waits_for_and_when_it_is_done() {
    let app = App::start(Setup { dispatch: "every = \"1h\"\nmin_interval = \"0s\"".into(), ..Setup::default() });
    app.until("the run of the start", || {
        (app.get(OPERATOR, "/ops/v1/dispatch/runs").1["runs"][0].is_object()).then_some(())
    });
    let [waits, paused] = [people(3), people(4).replace("@mail", "@post")].map(|file| app.accepted(file));
    for id in [&waits, &paused] {
        app.until_status(id, "queued");
    }
    printed(&app.command(&["batch", "pause", &paused, "--reason", "the list is an old one"]));
    for id in [&waits, &paused] {
        let shown = printed(&app.command(&["batch", "show", id]));
        let line = |head: &str| shown.lines().find_map(|line| line.strip_prefix(head)).map(str::to_owned);
        let batch = app.batch(id);
        assert_eq!(line("waits for  ").as_deref(), batch["waiting_for"].as_str(), "{shown}");
        let reason = line("done by    ").map(|told| told.split_once("Z: ").expect("a time").1.to_owned());
        assert_eq!(reason.as_deref(), batch["estimate"]["reason"].as_str(), "{shown}");
        eprintln!("{shown}\n{batch}");
    }
}
