//! Scheduled backups that die, are damaged on their way, or are in the way of a shutdown.

use std::{fs, os::unix::process::ExitStatusExt, time::Duration};

use crate::{
    assert_sealed, listed, move_to, number, objects, parsed,
    support::{
        app::{App, DEADLINE, OPERATOR, Setup, files, people},
        s3::{BUCKET, S3Server},
    },
    whole,
};

const FINISHED: &str = "SELECT count(*) FROM backups WHERE finished_at IS NOT NULL AND name IS NOT NULL";

#[test]
fn a_server_that_dies_within_a_backup_goes_on_and_takes_the_next() {
    const ROWS: usize = 400;
    let shelf = tempfile::tempdir().expect("a folder");
    let backup = format!("[backup]\nevery = \"1s\"\nto = \"{}\"", shelf.path().display());
    let mut app = App::start(Setup {
        more: backup,
        dependency: "rate_per_second = 200\nburst = 10\nconcurrency = 16\ntimeout = \"5s\"".into(),
        ..Setup::default()
    });
    let id = app.accepted(people(ROWS));
    app.until_status(&id, "queued");
    for point in ["backup.copied", "backup.files_stored", "backup.database_stored", "backup.manifest_written"] {
        app.kill();
        app.launch(&[("FAILPOINTS", &format!("{point}=return"))]);
        let ended = app.ends_within(DEADLINE).unwrap_or_else(|| panic!("{point} was not reached"));
        assert_eq!(ended.signal(), Some(9), "{point}: {}", app.log());
        let before = number(&app, FINISHED);
        app.serve();
        app.until("the next one is taken", || (number(&app, FINISHED) > before).then_some(()));
        app.until("what broke off is cleared away", || listed(&app).iter().all(|it| it["whole"] == true).then_some(()));
    }
    app.until_status(&id, "completed");
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), (ROWS as u64, 0), "{stats:?}");
    app.kill();
    move_to(&app, "elsewhere");
    let restored = parsed(&app.command(&["restore", "latest", "--keep-revived", "--json"]));
    assert_eq!(restored["files"], 1, "{restored}");
}

/// Flips a bit of the database of a backup between writing and reading back.
fn assert_damage_is_noticed(app: &mut App, shelf: &std::path::Path) {
    app.launch(&[("FAILPOINTS", "backup.database_stored=1*sleep(4000)->off")]);
    assert!(app.listens(), "{}", app.log());
    let written = app.until("the database is written", || {
        let found = files(shelf);
        found.into_iter().find(|file| {
            file.ends_with("dripfeed.db") && !file.parent().is_some_and(|it| it.join("manifest.json").exists())
        })
    });
    let mut bytes = fs::read(&written).expect("bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&written, bytes).expect("written");
    app.until("it is noticed", || {
        app.log().lines().find(|line| line.contains("backup.failed") && line.contains("reads back from")).map(drop)
    });
    assert_eq!(number(app, FINISHED), 0, "a damaged one is none");
    assert!(!written.exists(), "and what is left of it goes");
    app.until("another one is taken", || (number(app, FINISHED) > 0).then_some(()));
}

#[test]
fn what_reads_back_as_something_else_is_no_backup_and_is_taken_again() {
    let shelf = tempfile::tempdir().expect("a folder");
    let backup = format!("[backup]\nevery = \"1s\"\nto = \"{}\"", shelf.path().display());
    let mut app = App::prepared(Setup { more: backup, ..Setup::default() });
    assert_damage_is_noticed(&mut app, shelf.path());
}

#[test]
fn the_same_in_a_bucket() {
    let bucket = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(bucket.path());
    fs::create_dir(bucket.path().join(BUCKET)).expect("a bucket");
    let more = format!("{}[backup]\nevery = \"1s\"", objects(&s3, &s3.settings().endpoint));
    let mut app = App::prepared(Setup { more, ..Setup::default() });
    assert_damage_is_noticed(&mut app, &bucket.path().join(BUCKET));
    assert_sealed(&app, bucket.path());
}

#[test]
fn a_stored_file_that_was_damaged_in_an_older_backup_is_copied_anew() {
    let shelf = tempfile::tempdir().expect("a folder");
    let backup = format!("[backup]\nevery = \"1s\"\nto = \"{}\"", shelf.path().display());
    let mut app = App::start(Setup { more: backup, ..Setup::default() });
    let id = app.accepted(people(3));
    app.until_status(&id, "completed");
    let with_file = |app: &App| whole(app).into_iter().rfind(|it| it["files"] == 1);
    let first = app.until("one has the file", || with_file(&app))["name"].clone();
    let stored = files(&shelf.path().join(first.as_str().expect("a name")).join("objects")).pop().expect("a file");
    let mut bytes = fs::read(&stored).expect("bytes");
    bytes[100] ^= 1;
    fs::write(&stored, bytes).expect("written in place, in every backup that shares it");
    app.until("the damage is told", || app.log().contains("gets its own copy").then_some(()));
    app.until("the next one is whole", || {
        whole(&app).iter().filter(|it| it["name"].as_str() > first.as_str() && it["files"] == 1).nth(2).map(drop)
    });
    app.kill();
    move_to(&app, "elsewhere");
    assert_eq!(parsed(&app.command(&["restore", "latest", "--keep-revived", "--json"]))["files"], 1);
}

#[test]
fn a_shutdown_does_not_wait_for_a_backup() {
    let shelf = tempfile::tempdir().expect("a folder");
    let backup = format!("[backup]\nevery = \"1h\"\nto = \"{}\"", shelf.path().display());
    let mut app = App::prepared(Setup { more: backup, ..Setup::default() });
    app.launch(&[("FAILPOINTS", "backup.copied=1*sleep(1500)->off")]);
    assert!(app.listens(), "{}", app.log());
    app.until("a backup is under way", || (number(&app, "SELECT count(*) FROM backups") > 0).then_some(()));
    // Whoever answers hears signals, too.
    assert_eq!(app.get(OPERATOR, "/ops/v1/overview").0, 200);
    app.signal(rustix::process::Signal::TERM);
    let ended = app.ends_within(Duration::from_secs(15)).expect("it ends before the drain is over");
    assert_eq!(ended.code(), Some(0), "{}", app.log());
    assert!(app.log().contains("broken off, because the server ends"), "{}", app.log());
    assert!(listed(&app).is_empty(), "nothing is left of it");
    app.serve();
    app.until("it is taken at the next start", || (number(&app, FINISHED) > 0).then_some(()));
}
