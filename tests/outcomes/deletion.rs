//! Deleting a batch: gone at once, to the last byte soon after, and nothing else with it.

use serde_json::{Value, json};

use super::{count, database, delete, people_of_whom_rejected};
use crate::support::{
    app::{App, OPERATOR, Setup, files, people},
    proxy::{Line, Proxy},
    s3::{BUCKET, S3Server},
};

/// What is sealed of a batch besides its rows: wrapped data key, details.
fn sealed(app: &App, id: &str) -> (Vec<u8>, Vec<u8>) {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let query = "SELECT data_keys.sealed, batch_details.sealed
                 FROM batches JOIN data_keys USING (batch) JOIN batch_details USING (batch) WHERE id = ?";
    database(app).query_row(query, [id], row).expect("the batch")
}

fn key_of(app: &App, id: &str) -> i64 {
    count(app, "SELECT batch FROM batches WHERE id = ?", id)
}

fn until_chores_are_done(app: &App) {
    app.until("deletions are carried out", || {
        let (status, overview) = app.get(OPERATOR, "/ops/v1/overview");
        assert_eq!(status, 200, "{overview}");
        overview["deletions"].as_array().expect("a list").is_empty().then_some(())
    });
}

/// Whether these bytes stand anywhere in the database's file or its WAL.
fn is_found(app: &App, bytes: &[u8]) -> bool {
    let found = ["dripfeed.db", "dripfeed.db-wal"].map(|name| {
        let file = std::fs::read(app.data_dir().join(name)).expect(name);
        file.windows(bytes.len()).any(|window| window == bytes)
    });
    found.contains(&true)
}

fn listed(app: &App, key: &str) -> Vec<String> {
    let (_, page) = app.get(key, "/v2/batches");
    let ids = page["batches"].as_array().expect("a list").iter();
    ids.map(|batch| batch["id"].as_str().expect("an id").to_owned()).collect()
}

fn objects(app: &App) -> usize {
    files(&app.data_dir().join("objects")).len()
}

fn path(id: &str) -> String {
    format!("/v2/batches/{id}")
}

#[test]
fn a_deleted_batch_is_gone_at_once_and_to_the_last_byte_soon_after() {
    let app = App::start(Setup::default());
    let other_key = app.add_client("globex", None);
    let gone = app.accepted(people_of_whom_rejected(30, |row| row % 3 == 0));
    let kept = app.accepted(people(20));
    let (_, others) = app.upload(&other_key, people_of_whom_rejected(10, |row| row == 2));
    let others = others["id"].as_str().expect("an id").to_owned();
    app.until_status(&gone, "completed");
    app.until_status(&kept, "completed");
    app.until("the other client's is completed", || {
        (app.batch_of(&other_key, &others)["status"] == "completed").then_some(())
    });
    let (data_key, details) = sealed(&app, &gone);
    assert!(is_found(&app, &data_key) && is_found(&app, &details), "it is found while the batch is there");
    let key = key_of(&app, &gone);
    assert_eq!(objects(&app), 3);

    assert_eq!(delete(&app, &other_key, &path(&gone)).0, 404, "it is not theirs");
    let (status, receipt) = delete(&app, &app.key, &path(&gone));
    assert_eq!(status, 200, "{receipt}");
    assert_eq!((&receipt["id"], &receipt["rows"], &receipt["backups_until"]), (&json!(gone), &json!(30), &Value::Null));
    assert!(receipt["deleted_at"].is_string());

    assert_eq!(listed(&app, &app.key), std::slice::from_ref(&kept));
    for path in [path(&gone), path(&gone) + "/rows", path(&gone) + "/rows/1"] {
        assert_eq!(app.get(&app.key, &path).0, 404, "{path}");
        assert_eq!(app.get(OPERATOR, &path).0, 404, "{path}");
    }
    assert_eq!(delete(&app, &app.key, &path(&gone)).0, 404);

    until_chores_are_done(&app);
    assert!(!is_found(&app, &data_key), "a copy of the wrapped data key is left");
    assert!(!is_found(&app, &details), "a copy of the sealed details is left");
    let rows = "SELECT count(*) FROM rows WHERE row >> 24 = ?";
    assert_eq!((count(&app, rows, key), count(&app, rows, key_of(&app, &kept))), (0, 20));
    assert_eq!(count(&app, rows, key_of(&app, &others)), 10);
    assert_eq!(objects(&app), 2);
    assert_eq!(app.rows(&kept).len(), 20);
    assert_eq!(app.rows_of(&other_key, &others).len(), 10);
    assert_eq!(listed(&app, &other_key), [others]);
}

#[test]
fn of_many_batches_that_grew_and_split_their_pages_no_key_is_left_behind() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let ids: Vec<String> = (1..=40).map(|rows| app.accepted(people(rows))).collect();
    for id in &ids {
        app.until_status(id, "queued");
        // Their records grow, as those of batches do that are paused with a reason.
        let reason = "x".repeat(40 + id.len());
        assert!(app.command(&["batch", "pause", id, "--reason", &reason]).status.success());
        assert_eq!(app.post(&app.key, &(path(id) + "/cancel")).0, 200);
    }
    let (gone, kept): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(number, _)| number % 3 != 0);
    let keys: Vec<_> = gone.iter().map(|(_, id)| (sealed(&app, id).0, *id)).collect();
    for (_, id) in &gone {
        assert_eq!(delete(&app, &app.key, &path(id)).0, 200);
    }
    until_chores_are_done(&app);
    let left: Vec<_> = keys.iter().filter(|(data_key, _)| is_found(&app, data_key)).collect();
    assert!(left.is_empty(), "{} of {} keys are left", left.len(), keys.len());
    let (still, all) = (listed(&app, &app.key), kept.iter().rev().map(|(_, id)| (*id).clone()));
    assert_eq!(still, all.collect::<Vec<_>>());
}

#[test]
fn what_is_not_finished_cannot_be_deleted_and_an_operator_who_deletes_is_noted() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let (id, other) = (app.accepted(people(3)), app.accepted(people(4)));
    app.until_status(&id, "queued");
    let (status, problem) = delete(&app, &app.key, &path(&id));
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    assert!(problem["detail"].as_str().expect("a sentence").contains("queued"), "{problem}");
    app.post(&app.key, &(path(&id) + "/cancel"));
    app.until_status(&id, "cancelled");
    assert_eq!(delete(&app, OPERATOR, &path(&id)).0, 200);
    let noted = "SELECT count(*) FROM audit WHERE action = 'batch.delete' AND who = 'root' AND target = ?";
    assert_eq!((count(&app, noted, &id), count(&app, noted, &other)), (1, 0));
    assert_eq!(app.batch(&other)["counts"]["pending"], 4);
}

#[test]
fn the_receipt_tells_until_when_a_backup_can_hold_it() {
    let mut app = App::start(Setup { more: "[backup]\nkeep = \"2d\"".into(), ..Setup::default() });
    let (before, after) = (app.accepted(people(1)), app.accepted(people(2)));
    app.until_status(&before, "completed");
    app.until_status(&after, "completed");
    app.terminate();
    let writer = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    // A backup that was taken before the second batch came, and the first had been there for long.
    writer
        .execute_batch(
            "UPDATE batches SET created_at = 1786000000000 WHERE batch = 1;
             INSERT INTO backups (at, place) VALUES (1786000000123, 'there'), (1785000000000, 'there');",
        )
        .expect("written");
    drop(writer);
    app.serve();
    let (_, receipt) = delete(&app, &app.key, &path(&before));
    assert_eq!(receipt["backups_until"], "2026-08-08T07:06:40.123Z");
    let (_, receipt) = delete(&app, &app.key, &path(&after));
    assert_eq!(receipt["backups_until"], Value::Null, "{receipt}");
}

#[test]
fn a_bucket_that_is_away_holds_up_the_file_alone() {
    let bucket = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(bucket.path());
    let (line, settings) = (Proxy::start(s3.address), s3.settings());
    std::fs::create_dir(bucket.path().join(BUCKET)).expect("a bucket");
    let more = format!(
        "[objects]\nkind = \"minio\"\nendpoint = \"http://{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"",
        line.address, settings.bucket, settings.access_key, settings.secret_key
    );
    let app = App::start(Setup { more, ..Setup::default() });
    let stored = || {
        let names = files(bucket.path());
        names.iter().filter(|name| name.file_name().is_some_and(|it| it.to_string_lossy().starts_with("bat_"))).count()
    };
    let (id, kept) = (app.accepted(people(3)), app.accepted(people(2)));
    app.until_status(&id, "completed");
    app.until_status(&kept, "completed");
    let (data_key, key) = (sealed(&app, &id).0, key_of(&app, &id));
    line.set(Line::Down);
    assert_eq!(delete(&app, &app.key, &path(&id)).0, 200);
    app.until("the key and the rows are gone", || {
        let rows = count(&app, "SELECT count(*) FROM rows WHERE row >> 24 = ?", key);
        (rows == 0 && !is_found(&app, &data_key)).then_some(())
    });
    let (_, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(overview["deletions"], json!([{ "id": id, "rows": 3, "rows_left": 0 }]));
    assert_eq!(stored(), 2);
    line.set(Line::Up);
    until_chores_are_done(&app);
    assert_eq!((stored(), app.rows(&kept).len()), (1, 2));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_deletion_that_a_crash_broke_off_is_carried_out_by_the_next_server() {
    let mut app = App::prepared(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    app.launch(&[("FAILPOINTS", "deletion.between_pieces=1*off->return")]);
    assert!(app.listens());
    let (id, other) = (app.accepted(people(5_000)), app.accepted(people(1_500)));
    app.until_status(&id, "queued");
    app.until_status(&other, "queued");
    let (data_key, key, other_key) = (sealed(&app, &id).0, key_of(&app, &id), key_of(&app, &other));
    app.post(&app.key, &(path(&id) + "/cancel"));
    assert_eq!(delete(&app, &app.key, &path(&id)).0, 200);
    assert!(app.ends_within(crate::support::app::DEADLINE).is_some(), "it dies between two pieces");
    let rows = "SELECT count(*) FROM rows WHERE row >> 24 = ?";
    assert_eq!(count(&app, rows, key), 3_000);

    app.serve();
    until_chores_are_done(&app);
    assert_eq!((count(&app, rows, key), count(&app, rows, other_key)), (0, 1_500));
    assert!(!is_found(&app, &data_key));
    assert_eq!(objects(&app), 1);
    assert_eq!(listed(&app, &app.key), [other]);
}
