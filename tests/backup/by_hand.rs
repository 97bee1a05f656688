//! Backups that somebody asks for: taken under load, restored elsewhere, interrupted, damaged, and refused where they
//! would do harm.

use std::fs;

use rusqlite::Connection;
use serde_json::json;

use crate::{
    integrity, move_to, parsed, place, said, slow,
    support::{
        app::{App, DISPATCH, OPERATOR, files, people},
        s3::{BUCKET, S3Server},
    },
    text, two_batches,
};

#[test]
fn taken_under_load_and_restored_elsewhere_it_goes_on_where_it_was_and_calls_nobody_twice() {
    const ROWS: usize = 900;
    let mut app = App::start(slow());
    let other = app.add_client("other", None);
    let id = app.accepted(people(ROWS));
    let (_, others) = app.upload(&other, people(ROWS / 3).replace("@mail", "@post"));
    let others = others["id"].as_str().expect("an id").to_owned();
    let completed = |app: &App| app.batch(&id)["counts"]["completed"].as_u64().expect("a count");
    app.until("rows are being worked", || (completed(&app) > 30).then_some(()));

    let backup = place(&app, "backup");
    let taken = parsed(&app.command(&["backup", &text(&backup), "--json"]));
    assert_eq!((&taken["verified"], &taken["files"], &taken["keys"]), (&json!(true), &json!(2), &json!(["test"])));
    let then = completed(&app);
    app.until("more rows are worked", || (completed(&app) > then + 30).then_some(()));
    app.kill();
    assert_eq!(integrity(&backup.join("dripfeed.db")), "ok");
    let key = fs::read(app.folder.path().join("keys")).expect("the key file");
    for file in files(&backup) {
        let bytes = fs::read(&file).expect("a file of the backup");
        assert!(!bytes.windows(key.len()).any(|part| part == key), "the key is in {}", file.display());
        assert!(!bytes.windows(10).any(|part| part == b"Ann,Smith,"), "plaintext in {}", file.display());
    }

    let elsewhere = move_to(&app, "elsewhere");
    let restored = parsed(&app.command(&["restore", &text(&backup), "--keep-revived", "--json"]));
    assert_eq!(integrity(&elsewhere.join("dripfeed.db")), "ok");
    assert!(!elsewhere.join("restoring").exists(), "it is tidied up");
    assert_eq!((&restored["taken_at"], &restored["files"]), (&taken["taken_at"], &json!(2)));
    let at_risk = restored["may_have_been_called"].as_array().expect("batches");
    assert_eq!(at_risk.len(), 2, "{restored}");
    let mine = at_risk.iter().find(|batch| batch["batch"] == json!(id)).expect("the batch");
    let rows = mine["rows"].as_u64().expect("a count");
    assert!(rows <= ROWS as u64 - 30 && rows > 0 && mine["danger"] == "none" && mine["client"] == "acme", "{mine}");
    let by_step: u64 = mine["next_steps"].as_array().expect("steps").iter().filter_map(|it| it["rows"].as_u64()).sum();
    assert_eq!(by_step, rows, "{mine}");

    app.serve();
    let (_, overview) = app.get(OPERATOR, "/ops/v1/overview");
    let reason = overview["dispatch"]["paused"]["reason"].as_str().unwrap_or_else(|| panic!("{overview}"));
    assert!(reason.contains("restored from the backup of"), "{reason}");
    assert_eq!(app.post(DISPATCH, "/ops/v1/dispatch").1["outcome"], "paused");
    assert_eq!(app.batch(&id)["counts"]["processing"], 0, "no claim of the old server is left");
    assert_eq!(app.batch(&id)["counts"]["pending"], rows);
    let (status, answer) = app.post_json(OPERATOR, "/ops/v1/dispatch/resume", &json!({}));
    assert_eq!(status, 200, "{answer}");
    let done = app.until_status(&id, "completed");
    assert_eq!(done["counts"]["completed"], ROWS);
    app.until("the other's, too", || (app.batch_of(&other, &others)["status"] == "completed").then_some(()));
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), ((ROWS + ROWS / 3) as u64, 0), "{stats:?}");
    assert!(stats.replayed > 0, "some had been created since the backup, and were not created again");
    let entries: i64 = Connection::open(elsewhere.join("dripfeed.db"))
        .and_then(|it| it.query_row("SELECT count(*) FROM audit WHERE action = 'backup.restore'", [], |row| row.get(0)))
        .expect("the audit");
    assert_eq!(entries, 1);
}

#[test]
fn it_is_refused_where_something_is_and_where_a_server_runs() {
    let (mut app, [finished, _]) = two_batches("");
    let backup = place(&app, "backup");
    assert!(app.command(&["backup", &text(&backup)]).status.success());
    let again = app.command(&["backup", &text(&backup)]);
    assert!(again.status.code() == Some(1) && said(&again).contains("holds a backup already"), "{}", said(&again));
    let full = place(&app, "full");
    fs::create_dir(&full).expect("a folder");
    fs::write(full.join("thesis.txt"), "mine").expect("a file");
    let refused = app.command(&["backup", &text(&full)]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("is not empty"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(full.join("thesis.txt")).expect("still there"), "mine");
    let nowhere = app.command(&["restore", &text(&place(&app, "nowhere")), "--keep-revived"]);
    assert!(nowhere.status.code() == Some(1) && said(&nowhere).contains("no whole backup"), "{}", said(&nowhere));

    let beside = app.command(&["restore", &text(&backup)]);
    assert!(beside.status.code() == Some(1) && said(&beside).contains("another `dripfeed serve` runs"));
    app.terminate();
    let over = app.command(&["restore", &text(&backup), "--keep-revived"]);
    assert!(over.status.code() == Some(1) && said(&over).contains("has no database"), "{}", said(&over));
    let no_bucket = app.command(&["backup", "bucket:x"]);
    assert!(no_bucket.status.code() == Some(2) && said(&no_bucket).contains("[objects]"), "{}", said(&no_bucket));
    assert_eq!(app.command(&["backup", "bucket:"]).status.code(), Some(2));
    app.serve();
    assert_eq!(app.batch(&finished)["status"], "completed");
}

#[test]
fn what_is_damaged_or_sealed_with_other_keys_is_refused_before_anything_is_put_in_place() {
    let (mut app, _) = two_batches("");
    let backup = place(&app, "backup");
    assert!(app.command(&["backup", &text(&backup)]).status.success());
    app.terminate();
    let elsewhere = move_to(&app, "elsewhere");
    let restore = |app: &App| app.command(&["restore", &text(&backup), "--keep-revived"]);
    let nothing_there = || !elsewhere.join("dripfeed.db").exists() && !elsewhere.join("objects").exists();

    let keys = app.folder.path().join("keys");
    let right = fs::read(&keys).expect("the key file");
    let wrong = app.command(&["keys", "generate", "--id", "test"]).stdout;
    // Whether the key is another or the manifest was changed, nobody can know before something of it was believed.
    let other = app.command(&["keys", "generate"]).stdout;
    for (bytes, status, expected) in [(wrong, 1, "is not the one"), (other, 2, "add its line back")] {
        fs::write(&keys, bytes).expect("written");
        let refused = restore(&app);
        assert!(refused.status.code() == Some(status) && said(&refused).contains(expected), "{}", said(&refused));
        assert!(nothing_there());
    }
    fs::write(&keys, right).expect("written");

    let file = files(&backup.join("objects")).into_iter().next().expect("a stored file");
    for damaged in [file, backup.join("dripfeed.db")] {
        let whole = fs::read(&damaged).expect("bytes");
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&damaged, bytes).expect("written");
        let refused = restore(&app);
        assert!(refused.status.code() == Some(1) && said(&refused).contains("is damaged"), "{}", said(&refused));
        assert!(nothing_there());
        fs::write(&damaged, whole).expect("written");
    }
    let manifest = fs::read(backup.join("manifest.json")).expect("a manifest");
    fs::remove_file(backup.join("manifest.json")).expect("removed");
    assert!(said(&restore(&app)).contains("no whole backup"));
    fs::write(backup.join("manifest.json"), manifest).expect("written");
    let restored = restore(&app);
    assert!(restored.status.success(), "{}", said(&restored));
}

#[test]
fn in_the_bucket_the_stored_files_stay_where_they_are_and_the_database_comes_to_lie_beside_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(folder.path());
    fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
    let settings = s3.settings();
    let (mut app, [finished, waiting]) = two_batches(&format!(
        "[objects]\nkind = \"minio\"\nendpoint = \"{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"",
        settings.endpoint, settings.bucket, settings.access_key, settings.secret_key
    ));
    let taken = parsed(&app.command(&["backup", "bucket:friday", "--json"]));
    assert_eq!(taken["files"], 0);
    let again = app.command(&["backup", "bucket:friday"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("holds a backup already"), "{}", said(&again));
    app.kill();
    let elsewhere = move_to(&app, "elsewhere");
    assert!(said(&app.command(&["restore", "bucket:monday", "--keep-revived"])).contains("no whole backup"));
    let restored = parsed(&app.command(&["restore", "bucket:friday", "--keep-revived", "--json"]));
    assert_eq!(restored["may_have_been_called"][0]["batch"], waiting, "{restored}");
    assert_eq!(restored["may_have_been_called"].as_array().map(Vec::len), Some(1));
    app.serve();
    assert_eq!(app.batch(&finished)["status"], "completed");
    app.post_json(OPERATOR, "/ops/v1/dispatch/resume", &json!({}));
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&waiting, "completed");
    assert!(!elsewhere.join("backing-up").exists());
}

#[cfg(feature = "failpoints")]
mod interrupted {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn killed_at(app: &App, point: &str, arguments: &[&str]) {
        let output = app.command_with(&[("FAILPOINTS", &format!("{point}=return"))], arguments);
        assert_eq!(output.status.signal(), Some(9), "it died at {point}: {}", said(&output));
    }

    #[test]
    fn a_backup_that_was_interrupted_is_none_and_is_taken_anew() {
        let (mut app, [finished, waiting]) = two_batches("");
        let backup = place(&app, "backup");
        for point in ["backup.copied", "backup.files_stored", "backup.database_stored"] {
            killed_at(&app, point, &["backup", &text(&backup)]);
            assert!(!files(&backup).is_empty() && !backup.join("manifest.json").exists(), "{point}");
            let refused = app.command(&["restore", &text(&backup), "--keep-revived"]);
            assert_eq!(refused.status.code(), Some(1), "{point}");
        }
        assert!(app.command(&["backup", &text(&backup)]).status.success());
        let names: Vec<_> = fs::read_dir(&backup).expect("a folder").flatten().map(|it| it.file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        app.terminate();
        move_to(&app, "elsewhere");
        assert!(app.command(&["restore", &text(&backup), "--keep-revived"]).status.success());
        app.serve();
        assert_eq!(
            (app.batch(&finished)["status"].as_str(), app.batch(&waiting)["status"].as_str()),
            (Some("completed"), Some("queued"))
        );
    }

    #[test]
    fn a_restore_that_was_interrupted_is_begun_again_and_never_half_there() {
        let (mut app, [finished, waiting]) = two_batches("");
        let backup = place(&app, "backup");
        assert!(app.command(&["backup", &text(&backup)]).status.success());
        app.terminate();
        let elsewhere = move_to(&app, "elsewhere");
        for point in ["restore.database_staged", "restore.files_staged", "restore.files_placed"] {
            killed_at(&app, point, &["restore", &text(&backup), "--keep-revived"]);
            assert!(!elsewhere.join("dripfeed.db").exists(), "{point}");
        }
        let restored = parsed(&app.command(&["restore", &text(&backup), "--keep-revived", "--json"]));
        assert_eq!(restored["files"], 2);
        assert_eq!(files(&elsewhere.join("objects")).len(), 2);
        app.serve();
        assert_eq!(app.batch(&finished)["status"], "completed");
        assert_eq!(app.batch(&waiting)["counts"]["pending"], 4);
    }
}
