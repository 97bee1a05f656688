//! Backups that the server takes by itself: when, where to, how long they stay, and what they are good for.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

use crate::{
    assert_paused_and_resume, assert_sealed, configure, listed, move_to, number, objects, parsed, said, slow,
    support::{
        app::{App, DISPATCH, OPERATOR, Setup, files, people},
        proxy::{Line, Proxy},
        s3::{BUCKET, S3Server},
    },
    whole,
};

const FINISHED: &str = "SELECT count(*) FROM backups WHERE finished_at IS NOT NULL AND name IS NOT NULL";

fn events(app: &App, event: &str) -> usize {
    app.log().lines().filter(|line| line.contains(&format!("\"{event}\""))).count()
}

#[test]
fn they_follow_each_other_share_what_did_not_change_and_go_when_they_are_old() {
    let shelf = tempfile::tempdir().expect("a folder");
    let (to, others) = (shelf.path().display(), shelf.path().join("20200101T000000Z-deadbeef"));
    fs::create_dir(&others).expect("another appliance's");
    fs::write(others.join("manifest.json"), "{}").expect("a manifest");
    let backup = format!("[backup]\nevery = \"1s\"\nto = \"{to}\"\nkeep = \"1h\"");
    let mut app = App::start(Setup { more: backup, ..Setup::default() });
    let first = app.accepted(people(3));
    app.until_status(&first, "completed");
    let second = app.accepted(people(4));
    app.until_status(&second, "completed");
    let of_both = |app: &App| whole(app).into_iter().filter(|it| it["files"] == 2).collect::<Vec<_>>();
    let taken = app.until("two have both files", || Some(of_both(&app)).filter(|both| both.len() >= 2));
    assert!(taken.iter().all(|it| it["scheduled"] == true), "{taken:?}");
    assert!(
        taken.is_sorted_by_key(|it| it["name"].to_string()) && taken.is_sorted_by_key(|it| it["taken_at"].to_string())
    );

    // The same two files on the disk, however many backups have them.
    let stored = |name: &str| files(&shelf.path().join(name).join("objects"));
    let inodes =
        |name: &str| stored(name).iter().map(|it| fs::metadata(it).expect("a file").ino()).collect::<BTreeSet<_>>();
    let name = |at: usize| taken[at]["name"].as_str().expect("a name");
    assert_eq!((inodes(name(0)).len(), inodes(name(0))), (2, inodes(name(1))));
    assert_sealed(&app, shelf.path());

    // With the batch its file leaves the backups that follow, and stays in those before: the receipt says how long.
    let receipt = app.delete(&app.key, &format!("/v2/batches/{first}")).1;
    let at = receipt["deleted_at"].as_str().expect("a time").parse::<dripfeed::model::Timestamp>().expect("RFC 3339");
    let until = receipt["backups_until"].as_str().expect("a time").parse::<dripfeed::model::Timestamp>().expect("one");
    let kept = until.since(at).as_secs();
    assert!((3_590..=3_600).contains(&kept), "an hour behind the last one: {receipt}");
    app.until("a backup has one file again", || whole(&app).last().is_some_and(|it| it["files"] == 1).then_some(()));
    assert_eq!(stored(name(1)).len(), 2);

    // Shorter kept: all go but the last whole one, and those of others.
    app.terminate();
    configure(&app, "[backup]\nevery = \"1s\"", "[backup]\nevery = \"1h\"");
    configure(&app, "keep = \"1h\"", "keep = \"1s\"");
    let before = whole(&app);
    let mark = name(0).split_once('-').expect("a mark").1;
    fs::create_dir_all(shelf.path().join(format!("20200101T000000Z-{mark}/objects"))).expect("one that broke off");
    app.serve();
    let mine = || listed(&app).into_iter().filter(|it| it["name"].as_str().is_some_and(|name| name.ends_with(mark)));
    let left = app.until("the old ones are gone", || Some(mine().collect::<Vec<_>>()).filter(|left| left.len() == 1));
    assert_eq!(left[0]["name"], before.last().expect("one")["name"], "the last stays, however old it is");
    app.until("it is told", || (events(&app, "backup.removed") > 0).then_some(()));
    assert!(others.join("manifest.json").exists(), "nobody else's is removed");
    app.until("and are forgotten", || (number(&app, FINISHED) == 1).then_some(()));
    assert_eq!(number(&app, "SELECT count(*) FROM audit WHERE action = 'backup.remove'"), before.len() as i64);
}

#[test]
fn the_last_one_brings_an_empty_volume_back_and_nobody_is_called_twice() {
    const ROWS: usize = 600;
    let bucket = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(bucket.path());
    fs::create_dir(bucket.path().join(BUCKET)).expect("a bucket");
    let more = format!("{}[backup]\nevery = \"1s\"", objects(&s3, &s3.settings().endpoint));
    let mut app = App::start(Setup { more, ..slow() });
    let other = app.add_client("other", None);
    let id = app.accepted(people(ROWS));
    let (_, others) = app.upload(&other, people(ROWS / 3).replace("@mail", "@post"));
    let others = others["id"].as_str().expect("an id").to_owned();
    let completed = |app: &App| app.batch(&id)["counts"]["completed"].as_u64().expect("a count");
    app.until("rows are being worked", || (completed(&app) > 30).then_some(()));
    let so_far = number(&app, FINISHED);
    app.until("a backup was taken meanwhile", || (number(&app, FINISHED) > so_far).then_some(()));
    app.kill();
    assert_sealed(&app, bucket.path());

    let beside = app.command(&["restore", "latest", "--if-empty"]);
    assert!(
        beside.status.success() && String::from_utf8_lossy(&beside.stdout).contains("is there already"),
        "{beside:?}"
    );
    let elsewhere = move_to(&app, "elsewhere");
    let last = whole(&app).pop().expect("a backup");
    let restored = parsed(&app.command(&["restore", "latest", "--keep-revived", "--if-empty", "--json"]));
    assert_eq!(restored["taken_at"], last["taken_at"], "{restored}");
    assert_eq!(restored["may_have_been_called"].as_array().map(Vec::len), Some(2), "{restored}");
    app.serve();
    assert!(elsewhere.join("dripfeed.db").exists());
    assert_paused_and_resume(&app, "restored from the backup of");
    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
    app.until("the other's, too", || (app.batch_of(&other, &others)["status"] == "completed").then_some(()));
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), ((ROWS + ROWS / 3) as u64, 0), "{stats:?}");
    // The restored server goes on with the schedule, and takes what it was restored from for whole.
    let known = last["name"].clone();
    app.until("another one", || whole(&app).last().is_some_and(|it| it["name"] != known).then_some(()));
    assert!(listed(&app).iter().any(|it| it["name"] == known && it["whole"] == true));
}

#[test]
fn a_bucket_that_is_away_is_told_and_tried_again_while_work_goes_on() {
    let bucket = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(bucket.path());
    fs::create_dir(bucket.path().join(BUCKET)).expect("a bucket");
    let line = Proxy::start(s3.address);
    let more = format!("{}[backup]\nevery = \"1s\"", objects(&s3, &format!("http://{}", line.address)));
    let app = App::start(Setup { more, dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(5));
    app.until_status(&id, "queued");
    app.until("one is taken", || (number(&app, FINISHED) > 0).then_some(()));
    // In the middle of what goes up, and then altogether.
    for broken in [Line::UpFor(20_000), Line::Down] {
        line.set(broken);
        let failed = events(&app, "backup.failed");
        app.until("it fails", || (events(&app, "backup.failed") > failed).then_some(()));
    }
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&id, "completed");
    let before = number(&app, FINISHED);
    line.set(Line::Up);
    app.until("it goes on by itself", || (number(&app, FINISHED) > before).then_some(()));
    app.until("nothing is left of what broke off", || listed(&app).iter().all(|it| it["whole"] == true).then_some(()));
    let (status, answer) = app.get(OPERATOR, "/ops/v1/overview");
    assert!(
        status == 200 && answer["last_backup"]["place"].as_str().is_some_and(|it| it.contains("bucket:")),
        "{answer}"
    );
}

#[test]
fn the_doctor_knows_whether_one_is_overdue_and_what_lies_in_the_wrong_place() {
    let shelf = tempfile::tempdir().expect("a folder");
    let backup = format!("[backup]\nevery = \"1h\"\nto = \"{}\"", shelf.path().display());
    let mut app = App::start(Setup { more: backup, ..Setup::default() });
    app.until("one is taken", || (number(&app, FINISHED) > 0).then_some(()));
    let finding = |app: &App, what: &str, says: &str| {
        let report: serde_json::Value =
            serde_json::from_slice(&app.command(&["doctor", "--json"]).stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings").clone();
        let found = findings
            .into_iter()
            .find(|it| it["what"] == what && it["says"].as_str().is_some_and(|it| it.contains(says)));
        found.unwrap_or_else(|| panic!("{what}: {says} in {report}"))
    };
    assert_eq!(finding(&app, "backup", "of 2")["level"], "ok");
    app.terminate();
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    database.execute("UPDATE backups SET at = at - 3 * 3600 * 1000", []).expect("made older");
    let overdue = finding(&app, "backup", "the last one is of");
    assert_eq!(overdue["level"], "warn");
    assert!(overdue["advice"].as_str().is_some_and(|it| it.contains("backup.failed")), "{overdue}");
    assert_eq!(finding(&app, "backups", "is on the disk of the data folder")["level"], "warn");
    let keys = shelf.path().join("keys");
    fs::rename(app.folder.path().join("keys"), &keys).expect("moved");
    configure(&app, "key_file = ", &format!("key_file = \"{}\" # ", keys.display()));
    assert_eq!(finding(&app, "key file", "lies in the folder of the backups")["level"], "warn");
}

#[test]
fn a_schedule_without_a_place_is_a_fault_and_so_is_one_in_the_data_folder() {
    let app = App::prepared(Setup { more: "[backup]\nkeep = \"1d\"".into(), ..Setup::default() });
    let no_shelf = app.command(&["backups"]);
    assert!(no_shelf.status.code() == Some(2) && said(&no_shelf).contains("backup.to"), "{}", said(&no_shelf));
    let inside = app.data_dir().join("backups").display().to_string();
    for (setting, expected) in [
        ("every = \"24h\"", "backup.every: has no place to go"),
        ("every = \"24h\"\nto = \"bucket\"", "backup.to: is \"bucket\", and there is none"),
        (&format!("to = \"{inside}\""), "backup.to: lies in storage.data_dir"),
        ("every = \"10ms\"\nto = \"/backups\"", "backup.every: is at least"),
    ] {
        configure(&app, "keep = \"1d\"", &format!("{setting}\nkeep = \"1d\""));
        let refused = app.command(&["config"]);
        let told = said(&refused);
        assert!(refused.status.code() == Some(2) && told.contains(expected), "{setting}: {told}");
        assert_eq!(told.lines().filter(|line| line.starts_with("  ")).count(), 1, "{told}");
        configure(&app, setting, "");
    }
    assert_eq!(app.command(&["config"]).status.code(), Some(0));
    assert_eq!(app.command(&["restore", "latest", "--keep-revived"]).status.code(), Some(2));
    let shelf = tempfile::tempdir().expect("a folder");
    configure(&app, "keep = \"1d\"", &format!("to = \"{}\"\nkeep = \"1d\"", shelf.path().display()));
    move_to(&app, "new");
    let none = app.command(&["restore", "latest", "--keep-revived"]);
    assert!(none.status.code() == Some(1) && said(&none).contains("no whole scheduled backup"), "{}", said(&none));
    let first_start = app.command(&["restore", "latest", "--if-empty"]);
    assert!(first_start.status.success() && !app.folder.path().join("new/dripfeed.db").exists(), "{first_start:?}");
}
