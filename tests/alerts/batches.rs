//! Alerts about batches: what could not be extracted, what paused itself, what no key opens, what is stuck.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    Receiver, assert_tells_nothing_private, database, fail, firing, logged, overview, resolved, said,
    support::{
        app::{App, OPERATOR, Setup, files, people},
        server::{Server, status},
    },
    watched,
};

fn upload(app: &App, rows: usize) -> String {
    let id = app.accepted(people(rows));
    app.until_status(&id, "queued");
    id
}

/// Turns one bit in the middle.
fn damage(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

/// The stored files, by the order in which they were stored.
fn stored(app: &App) -> Vec<PathBuf> {
    let mut files = files(&app.data_dir().join("objects"));
    files.sort();
    files
}

#[test]
fn a_batch_that_cannot_be_extracted_is_told_once_until_it_is_deleted() {
    let (json, slack) = (Receiver::start(), Receiver::start());
    let hooks = json.hook("pager", "json") + &slack.hook("ops", "slack");
    let mut app = App::start(watched("", &hooks));
    let (healthy, broken) = (upload(&app, 3), upload(&app, 4));
    // As if the server had died before it extracted the second one, and its file had been damaged since.
    app.kill();
    database(&app)
        .execute_batch(&format!(
            "DELETE FROM rows WHERE row >> 24 = (SELECT batch FROM batches WHERE id = '{broken}');
             UPDATE batches SET status = 'pending', extracted = 0, extracted_at = NULL WHERE id = '{broken}';"
        ))
        .expect("not extracted");
    let path = stored(&app).pop().expect("a stored file");
    let mut bytes = std::fs::read(&path).expect("its bytes");
    damage(&mut bytes);
    std::fs::write(&path, bytes).expect("damaged");
    app.serve();

    app.until_status(&broken, "failed");
    let told = json.until(&app, "extraction_failed", 1);
    assert_eq!(
        (&told["state"], &told["subject"], &told["appliance"]),
        (&json!("firing"), &json!(broken), &json!("eu-1"))
    );
    assert_eq!(told["what_to_do"], json!([format!("dripfeed batch show {broken}")]));
    assert_eq!(told["since"], app.batch(&broken)["finished_at"]);
    assert!(told["summary"].as_str().expect("a sentence").contains("damaged_file"), "{told}");
    let text = app.until("the other hook is told as well", || slack.messages().pop());
    assert_eq!(text.as_object().expect("an object").len(), 1);
    let text = text["text"].as_str().expect("a text");
    assert!(text.starts_with(":rotating_light: *eu-1*: ") && text.contains(&format!("`dripfeed batch show {broken}`")));
    let shown = overview(&app)["alerts"].clone();
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["id"]), (Some(1), &told["id"]), "{shown}");
    let line = logged(&app, "alert.fired").pop().expect("a line");
    assert_eq!((&line["level"], &line["alert"]), (&json!("WARN"), &json!("extraction_failed")));
    assert_eq!(line["subject"], json!(broken));

    // Another start tells it no second time: a new alert overtakes nothing.
    app.terminate();
    app.serve();
    fail(&app, &healthy);
    json.until(&app, "extraction_failed", 2);
    assert_eq!(json.told("extraction_failed"), [firing(&broken), firing(&healthy)]);

    let deleted = crate::support::app::agent()
        .delete(app.url(&format!("/v2/batches/{broken}")))
        .header("Authorization", format!("Bearer {OPERATOR}"))
        .call();
    assert_eq!(deleted.expect("an answer").status(), 200);
    let over = json.until(&app, "extraction_failed", 3);
    assert_eq!((&over["state"], &over["id"], &over["what_to_do"]), (&json!("resolved"), &told["id"], &json!([])));
    app.until("it is shown no more", || {
        let shown = overview(&app)["alerts"].clone();
        (shown.as_array().map(Vec::len) == Some(1) && shown[0]["subject"] == json!(healthy)).then_some(())
    });
    app.until("the other hook knows as well", || (slack.messages().len() == 3).then_some(()));
    let listed = app.command(&["alerts", "list", "--all", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["alerts"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!((&listed["alerts"][1]["id"], listed["alerts"][1]["resolved_at"].is_string()), (&told["id"], true));
    let printed = said(&app.command(&["alerts", "list"]));
    assert!(printed.contains(&healthy) && !printed.contains(&broken), "{printed}");
    for receiver in [&json, &slack] {
        receiver.server.received().iter().for_each(|received| assert_tells_nothing_private(&received.body));
    }
    assert_eq!(logged(&app, "alert.resolved").len(), 1);
    assert!(!app.log().contains("hush"), "no address of a hook is logged");
}

#[test]
fn a_batch_that_paused_itself_is_told_until_it_goes_on() {
    let downstream = Server::start(|_| status(422));
    let receiver = Receiver::start();
    let setup = watched("", &receiver.hook("pager", "json"));
    let app = App::start(Setup {
        dispatch: "every = \"1s\"\nmin_interval = \"0s\"".into(),
        more: format!("[workflows.invite]\npause_after_failures = 3\npause_failure_share = 0.5\n{}", setup.more),
        downstream: Some(downstream.address),
        ..setup
    });
    let other = app.add_client("globex", None);
    // Somebody's own pause is theirs to know of.
    let (_, theirs) = app.upload(&other, people(2));
    app.post(&other, &format!("/v2/batches/{}/pause", theirs["id"].as_str().expect("an id")));
    let id = app.accepted(people(400));
    let told = receiver.until(&app, "batch_paused", 1);
    assert_eq!((&told["state"], &told["subject"]), (&json!("firing"), &json!(id)));
    let summary = told["summary"].as_str().expect("a sentence");
    assert!(summary.contains("`rejected` (HTTP 422) at address-links"), "{summary}");
    let commands = told["what_to_do"].as_array().expect("commands");
    assert_eq!(commands[1], json!(format!("dripfeed batch resume {id}")));
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    receiver.until(&app, "batch_paused", 2);
    assert_eq!(receiver.told("batch_paused"), [firing(&id), resolved(&id)]);
    receiver.server.received().iter().for_each(|received| assert_tells_nothing_private(&received.body));
}

#[test]
fn rows_that_no_key_opens_are_told_until_they_are_retried() {
    let receiver = Receiver::start();
    let app = App::start(watched("", &receiver.hook("pager", "json")));
    let (id, healthy) = (upload(&app, 3), upload(&app, 4));
    let of_row = "row & 0xFFFFFF = 2 AND row >> 24 = (SELECT batch FROM batches WHERE id = ?)";
    let data: Vec<u8> = database(&app)
        .query_row(&format!("SELECT data FROM rows WHERE {of_row}"), [&id], |row| row.get(0))
        .expect("the row's data");
    let mut damaged = data.clone();
    damage(&mut damaged);
    let write = |data: &[u8]| {
        let sql = format!("UPDATE rows SET data = ?2 WHERE {}", of_row.replace('?', "?1"));
        assert_eq!(database(&app).execute(&sql, (&id, data)), Ok(1));
    };
    write(&damaged);
    app.post(OPERATOR, "/ops/v1/dispatch");
    app.until_status(&healthy, "completed");
    let told = receiver.until(&app, "rows_undecryptable", 1);
    assert_eq!((&told["subject"], &told["what_to_do"][0]), (&json!(id), &json!("dripfeed keys list")));
    assert!(told["summary"].as_str().expect("a sentence").contains("has 1 row that no key opens"), "{told}");
    write(&data);
    assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{id}/retry?code=undecryptable")).0, 200);
    receiver.until(&app, "rows_undecryptable", 2);
    assert_eq!(receiver.told("rows_undecryptable"), [firing(&id), resolved(&id)]);
}

#[test]
fn claims_that_nobody_frees_are_told_until_somebody_does() {
    let receiver = Receiver::start();
    let setup = watched("stuck_for = \"1s\"", &receiver.hook("pager", "json"));
    let app = App::start(Setup { workers: "under_way = 16\nauto_rescue = false".into(), ..setup });
    let (stuck, _other) = (upload(&app, 3), upload(&app, 4));
    database(&app)
        .execute_batch(&format!(
            "BEGIN;
             UPDATE rows SET status = 'processing', owner = 7, claim = 7, claim_expires_at = 1000
              WHERE row & 0xFFFFFF <= 2 AND row >> 24 = (SELECT batch FROM batches WHERE id = '{stuck}');
             UPDATE batches SET pending = 1, processing = 2 WHERE id = '{stuck}';
             COMMIT;"
        ))
        .expect("as a worker that died");
    let told = receiver.until(&app, "rows_stuck", 1);
    assert_eq!((&told["subject"], &told["since"]), (&Value::Null, &json!("1970-01-01T00:00:01.000Z")));
    assert!(told["summary"].as_str().expect("a sentence").starts_with("2 rows and 0 batches are stuck"), "{told}");
    assert_eq!(told["what_to_do"], json!(["dripfeed stuck", "dripfeed stuck --apply"]));
    assert!(app.command(&["stuck", "--apply"]).status.success());
    receiver.until(&app, "rows_stuck", 2);
    assert_eq!(receiver.told("rows_stuck"), [firing(""), resolved("")]);
}

#[test]
fn a_thousand_batches_that_fail_are_one_message() {
    const FAILED: usize = 1_000;
    let receiver = Receiver::start();
    let mut app = App::start(watched("", &receiver.hook("pager", "json")));
    let (first, later) = (upload(&app, 2), upload(&app, 3));
    app.terminate();
    let database = database(&app);
    database
        .execute_batch(&format!("CREATE TEMP TABLE one AS SELECT * FROM batches WHERE id = '{first}'"))
        .expect("one");
    database.execute_batch("BEGIN").expect("begun");
    for number in 1..FAILED as i64 {
        let id = format!("bat_01KB1Y3M0Q8V5T2N7R4C6{number:05}");
        database.execute("UPDATE one SET batch = ?, id = ?", (1_000 + number, id)).expect("another");
        database.execute_batch("INSERT INTO batches SELECT * FROM one").expect("inserted");
    }
    let failed = database.execute(
        "UPDATE batches SET status = 'failed', error_code = 'damaged_file', cancelled = pending, pending = 0,
                            finished_at = unixepoch('now') * 1000 WHERE id <> ?",
        [&later],
    );
    assert_eq!(failed, Ok(FAILED));
    database.execute_batch("COMMIT").expect("committed");
    app.serve();
    let told = receiver.until(&app, "extraction_failed", 1);
    assert_eq!(told["summary"], "1000 batches could not be extracted");
    assert_eq!((&told["subject"], &told["what_to_do"]), (&Value::Null, &json!(["dripfeed batch list"])));
    assert_eq!(overview(&app)["alerts"].as_array().map(Vec::len), Some(1));
    // Whoever fails alone after that is told alone.
    fail(&app, &later);
    receiver.until(&app, "extraction_failed", 2);
    database.execute("DELETE FROM batches WHERE batch > 1000", []).expect("deleted");
    app.until("what is left is counted", || {
        let alerts = overview(&app)["alerts"].clone();
        let summaries = alerts.as_array().expect("alerts").iter().map(|alert| alert["summary"].clone());
        summaries.into_iter().find(|summary| summary == "1 batches could not be extracted")
    });
    database.execute("UPDATE batches SET finished_at = 1000 WHERE id = ?", [&first]).expect("long ago");
    receiver.until(&app, "extraction_failed", 3);
    assert_eq!(receiver.told("extraction_failed"), [firing(""), firing(&later), resolved("")]);
}
