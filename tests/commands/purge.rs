//! What is old goes: by command and by setting, whole, and nothing else with it.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    idle, parsed, printed, said,
    support::app::{App, DISPATCH, OPERATOR, Setup, files, people},
};

fn database(app: &App) -> Connection {
    Connection::open(app.data_dir().join("dripfeed.db")).expect("the database")
}

fn count(app: &App, what: &str) -> i64 {
    database(app).query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).expect("a count")
}

fn make_old(app: &App, id: &str, days: i64) {
    let moved = database(app)
        .execute("UPDATE batches SET finished_at = finished_at - ? WHERE id = ?", (days * 86_400_000, id))
        .expect("moved");
    assert_eq!(moved, 1);
}

/// Two finished batches of two clients, and one that waits.
fn three_batches(setup: Setup) -> (App, [String; 3]) {
    let app = App::start(setup);
    let other = app.add_client("other", None);
    let old = app.accepted(people(3));
    let (_, young) = app.upload(&other, people(2));
    let young = young["id"].as_str().expect("an id").to_owned();
    app.until_status(&old, "queued");
    app.until("both are queued", || (app.batch_of(&other, &young)["status"] == "queued").then_some(()));
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&old, "completed");
    app.until("both are completed", || (app.batch_of(&other, &young)["status"] == "completed").then_some(()));
    let waiting = app.accepted(people(4));
    app.until_status(&waiting, "queued");
    (app, [old, young, waiting])
}

#[test]
fn by_command_a_dry_run_changes_nothing_and_apply_takes_rows_key_and_file_with_or_without_a_server() {
    let (mut app, [old, young, waiting]) = three_batches(idle());
    make_old(&app, &old, 40);
    make_old(&app, &young, 20);
    let purge = |app: &App, age: &str, apply: &[&str]| {
        parsed(&app.command(&[&["purge", "--older-than", age, "--json"], apply].concat()))
    };
    let dry = purge(&app, "30d", &[]);
    assert_eq!((&dry["total"], &dry["applied"]), (&json!(1), &Value::Null));
    assert_eq!((&dry["batches"][0]["id"], &dry["batches"][0]["rows"]), (&json!(old), &json!(3)));
    assert!(printed(&app.command(&["purge", "--older-than", "30d"])).contains("--apply"));
    assert_eq!((count(&app, "batches"), count(&app, "rows")), (3, 9));

    let applied = purge(&app, "30d", &["--apply"]);
    assert_eq!(applied["applied"], json!({ "batches": 1, "carried_out": false }), "the server does the rest");
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{old}")).0, 404);
    app.until("its rows are gone", || (count(&app, "rows") == 6 && count(&app, "deletions") == 0).then_some(()));

    app.terminate();
    let applied = purge(&app, "10d", &["--apply"]);
    assert_eq!(applied["applied"], json!({ "batches": 1, "carried_out": true }));
    assert_eq!((count(&app, "batches"), count(&app, "rows"), count(&app, "deletions")), (1, 4, 0));
    assert_eq!(files(&app.data_dir().join("objects")).len(), 1, "the file of the batch that waits");
    assert_eq!(count(&app, "audit WHERE action = 'batch.purge'"), 2);
    assert_eq!(purge(&app, "0s", &["--apply"])["applied"]["batches"], 0, "what is not finished stays");
    app.serve();
    assert_eq!(app.batch(&waiting)["counts"]["pending"], 4);
}

#[test]
fn by_setting_the_server_purges_and_forgets_old_entries_of_the_audit() {
    let retention = "[retention]\nfinished_batches = \"30d\"\naudit = \"100d\"";
    let (mut app, [old, young, _]) = three_batches(Setup { more: retention.into(), ..idle() });
    assert!(printed(&app.command(&["config"])).contains("finished_batches = \"30d\""));
    app.terminate();
    make_old(&app, &old, 31);
    make_old(&app, &young, 29);
    let note =
        "INSERT INTO audit (at, who, action, origin, hash) VALUES (?, 'ann', 'dispatch.pause', 'test', zeroblob(32))";
    let now = "SELECT max(at) FROM runs";
    let now: i64 = database(&app).query_row(now, [], |row| row.get(0)).expect("a time");
    database(&app).execute("DELETE FROM audit", []).expect("emptied");
    for days in [101, 99] {
        database(&app).execute(note, [now - days * 86_400_000]).expect("noted");
    }
    app.serve();
    app.until("the old one is gone", || (count(&app, "rows") == 6).then_some(()));
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{old}")).0, 404);
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{young}")).0, 200);
    app.until("the old entry is gone", || (count(&app, "audit WHERE who = 'ann'") == 1).then_some(()));
    let by = count(&app, "audit WHERE who = 'retention' AND action = 'batch.purge'");
    assert_eq!(by, 1);
}

#[test]
fn ages_of_nothing_are_refused_as_a_setting() {
    let app = App::prepared(idle());
    let path = app.folder.path().join("dripfeed.toml");
    let config = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, format!("{config}\n[retention]\nfinished_batches = \"0s\"")).expect("written");
    let refused = app.command(&["config"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("retention.finished_batches"), "{}", said(&refused));
}
