//! A restore brings back what was: rows that were called since, keys that were taken away since, and whatever somebody planted
//! in the backup. None of that may be worth anything.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Output,
};

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{
    app::{App, OPERATOR, Setup, people},
    server::{Reply, Server, ok, status},
};

const FORM: &str = "/v2/client/users/batch/invite";
const ROWS: usize = 30;

pub fn text(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Takes a backup, and gives its folder.
pub fn backup(app: &App, name: &str) -> PathBuf {
    let folder = app.folder.path().join(name);
    let output = app.command(&["backup", &text(&folder)]);
    assert!(output.status.success(), "{}", said(&output));
    folder
}

/// Puts the data folder aside, and gives where it is.
pub fn aside(app: &App, name: &str) -> PathBuf {
    let old = app.folder.path().join(name);
    fs::rename(app.data_dir(), &old).expect("moved");
    old
}

fn upload_with(app: &App, key: &str, body: &str) -> String {
    let headers = [("Content-Type", "text/csv"), ("Idempotency-Key", key)];
    let (status, batch) = app.upload_as(&app.key, FORM, &headers, body.as_bytes());
    assert_eq!(status, 202, "{batch}");
    batch["id"].as_str().expect("an id").to_owned()
}

fn resume(app: &App) {
    let (status, said) = app.post_json(OPERATOR, "/ops/v1/dispatch/resume", &json!({}));
    assert_eq!(status, 200, "{said}");
}

#[test]
fn the_same_upload_after_a_restore_invites_nobody_twice() {
    let mut app = App::start(Setup::default());
    let backup = backup(&app, "backup");
    let first = upload_with(&app, "the spring mailing", &people(ROWS));
    app.until_status(&first, "completed");
    app.kill();
    let _old = aside(&app, "lost");
    let output = app.command(&["restore", &text(&backup), "--keep-revived"]);
    assert!(output.status.success(), "{}", said(&output));
    app.serve();
    resume(&app);
    assert_eq!(app.get(&app.key, &format!("/v2/batches/{first}")).0, 404, "nothing is known of it");
    let again = upload_with(&app, "the spring mailing", &people(ROWS));
    assert_ne!(again, first);
    assert_eq!(app.until_status(&again, "completed")["counts"]["completed"], ROWS);
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), (ROWS as u64, 0), "{stats:?}");
    assert_eq!(stats.replayed, ROWS as u64, "{stats:?}");
    // Under another key it is another mailing.
    let headers = [("Content-Type", "text/csv"), ("Idempotency-Key", "another one")];
    let path = format!("{FORM}?allow_duplicate=true");
    let (status, other) = app.upload_as(&app.key, &path, &headers, people(ROWS).as_bytes());
    assert_eq!(status, 202, "{other}");
    app.until_status(other["id"].as_str().expect("an id"), "completed");
    assert_eq!(app.stats().invites, 2 * ROWS as u64);
}

/// A row of a results file goes on under the keys of the upload that it came from, whatever batch that became.
#[test]
fn a_row_of_a_results_file_carries_the_key_of_the_upload_that_it_came_from() {
    // Nothing is known of the address at first.
    let server = Server::start(|request| match request.path() {
        "/address-links" if request.body.contains("X9") => status(422),
        "/address-links" => ok("{\"link\": \"l\"}"),
        "/addresses" => ok("{\"addresses\": [{\"id\": \"a\"}]}"),
        _ => Reply::Answer(201, Vec::new(), json!({ "check_id": "chk" }).to_string()),
    });
    let app = App::start(Setup { downstream: Some(server.address), ..Setup::default() });
    let body = people(4).replacen("AB1 2CD", "X9 9XX", 1);
    let id = upload_with(&app, "the list", &body);
    assert_eq!(app.until_status(&id, "completed")["counts"]["failed"], 1);
    let results = |app: &App, id: &str| {
        let path = format!("/v2/batches/{id}/results.csv?status=failed&raw=true");
        app.get(&app.key, &path).1.as_str().expect("a file").to_owned()
    };
    let again = app.accepted(results(&app, &id));
    app.until_status(&again, "completed");
    let path = format!("{FORM}?allow_duplicate=true");
    let headers = [("Content-Type", "text/csv")];
    let (status, third) = app.upload_as(&app.key, &path, &headers, results(&app, &again).as_bytes());
    assert_eq!(status, 202, "{third}");
    app.until_status(third["id"].as_str().expect("an id"), "completed");
    let mut keys = BTreeMap::<String, Vec<String>>::new();
    for request in server.received().iter().filter(|request| request.body.contains("X9")) {
        keys.entry(request.path().to_owned()).or_default().push(request.header("idempotency-key").to_owned());
    }
    let of_links = &keys["/address-links"];
    assert_eq!(of_links.len(), 3, "{keys:?}");
    assert!(!of_links[0].is_empty() && of_links.iter().all(|key| *key == of_links[0]), "{keys:?}");
}

/// Who can write where backups lie puts an operator into one, and corrects the hash.
#[test]
fn an_operator_that_somebody_planted_in_a_backup_is_refused() {
    let mut app = App::start(Setup::default());
    let id = app.accepted(people(3));
    app.until_status(&id, "completed");
    let backup = backup(&app, "backup");
    app.kill();
    let _old = aside(&app, "lost");
    let (database, manifest) = (backup.join("dripfeed.db"), backup.join("manifest.json"));
    let whole = (fs::read(&database).expect("read"), fs::read(&manifest).expect("read"));
    let planted = Connection::open(&database).expect("the copy");
    planted
        .execute(
            "INSERT INTO operators (name, role, token_hash, created_at) VALUES ('mallory', 'admin', randomblob(32), 1)",
            [],
        )
        .expect("planted");
    planted.close().expect("closed");
    let bytes = fs::read(&database).expect("read");
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let honest: Value = serde_json::from_slice(&whole.1).expect("JSON");
    let mut forged = honest.clone();
    forged["database"]["sha256"] = json!(digest);
    forged["database"]["bytes"] = json!(bytes.len());
    let mut unsealed = forged.clone();
    unsealed.as_object_mut().expect("an object").remove("seal");
    let mut of_another = forged.clone();
    of_another["seal"]["sealed"] = json!("00".repeat(80));
    for (what, manifest_text) in [("corrected", &forged), ("without a seal", &unsealed), ("another seal", &of_another)]
    {
        fs::write(&manifest, manifest_text.to_string()).expect("written");
        // What is in there is read by nobody: it may be no database at all.
        fs::write(&database, if what == "corrected" { &bytes[..] } else { b"not a database" }).expect("written");
        let refused = app.command(&["restore", &text(&backup), "--keep-revived"]);
        assert_eq!(refused.status.code(), Some(1), "{what}: {}", said(&refused));
        assert!(said(&refused).contains("its seal does not fit"), "{what}: {}", said(&refused));
        assert!(!app.data_dir().join("dripfeed.db").exists(), "{what}");
    }
    fs::write(&database, &whole.0).expect("written");
    fs::write(&manifest, &whole.1).expect("written");
    let restored = app.command(&["restore", &text(&backup), "--keep-revived"]);
    assert!(restored.status.success(), "{}", said(&restored));
}

/// Somebody at a terminal is asked. A yes is a yes, and whatever else is said restores nothing.
#[test]
fn whoever_is_at_a_terminal_is_asked_and_restores_nothing_but_by_a_yes() {
    let mut app = App::start(Setup::default());
    let backup = text(&backup(&app, "backup"));
    let paused = app.command(&["client", "pause", "acme"]);
    assert!(paused.status.success(), "{}", said(&paused));
    app.kill();
    let old = text(&aside(&app, "lost"));
    let database = app.data_dir().join("dripfeed.db");
    let blindly = (&["restore", &backup][..], "restore all the same? [y/n] ");
    let knowing = (&["restore", &backup, "--old", &old][..], "restore, and do the same here? [y/n] ");
    for (arguments, question) in [blindly, knowing] {
        for answer in ["\n", "n\n", "no\n", "yes please\n", "\u{4}"] {
            let (is_done, told) = answered(&app, arguments, question, answer);
            assert!(!is_done && told.contains("nothing was restored"), "{answer:?} to {question}: {told}");
            assert!(arguments == blindly.0 || told.contains("--keep-revived"), "{told}");
            assert!(!database.exists(), "{answer:?} to {question}");
        }
        for answer in ["y\n", " YES \n"] {
            let (is_done, told) = answered(&app, arguments, question, answer);
            assert!(is_done, "{answer:?} to {question}: {told}");
            let restored = Connection::open(&database).expect("the database");
            let paused = "SELECT paused_at IS NOT NULL FROM clients";
            let is_paused: bool = restored.query_row(paused, [], |row| row.get(0)).expect("the client");
            assert_eq!(is_paused, arguments == knowing.0, "{question}");
            drop(restored);
            aside(&app, &format!("restored {question} {}", answer.trim()).replace('/', "-"));
        }
    }
}

/// Answers what a command asks at a terminal; whether it did well, and what it said to that.
fn answered(app: &App, arguments: &[&str], question: &str, answer: &str) -> (bool, String) {
    let (mut child, mut terminal) = app.spawn_at_terminal(arguments);
    let mut shown = String::new();
    // A line of the log may come behind it.
    while !shown.contains("[y/n] ") {
        assert!(hear(&mut terminal, &mut shown), "it was not asked: {shown}");
    }
    assert!(shown.contains(question), "{shown}");
    assert!(!app.data_dir().join("dripfeed.db").exists(), "nothing is there before the answer");
    terminal.write_all(answer.as_bytes()).expect("answered");
    let mut told = String::new();
    while hear(&mut terminal, &mut told) {}
    (child.wait().expect("ended").success(), told)
}

/// Reads what is shown at a terminal; `false` once nobody writes there any more.
fn hear(terminal: &mut fs::File, shown: &mut String) -> bool {
    let mut some = [0; 1024];
    let read = terminal.read(&mut some).unwrap_or(0);
    *shown += &String::from_utf8_lossy(&some[..read]);
    read > 0
}

/// Whatever a restore comes to grief over, the data folder is as it was, and the next one has nothing in its way.
#[test]
fn a_restore_that_fails_leaves_the_data_folder_as_it_was() {
    let mut app = App::start(Setup::default());
    let id = app.accepted(people(3));
    app.until_status(&id, "completed");
    let backup = backup(&app, "backup");
    let paused = app.command(&["client", "pause", "acme"]);
    assert!(paused.status.success(), "{}", said(&paused));
    app.kill();
    let (from, old) = (text(&backup), text(&aside(&app, "lost")));
    let names = || {
        let mut names: Vec<_> = fs::read_dir(app.data_dir()).expect("there").map(|it| it.expect("it").path()).collect();
        names.retain(|name| !name.ends_with("serve.lock"));
        names.sort();
        names
    };
    let fails = |arguments: &[&str], why: &str| {
        let before = if app.data_dir().exists() { names() } else { Vec::new() };
        let refused = app.command(arguments);
        assert!(refused.status.code() == Some(1) && said(&refused).contains(why), "{why}: {}", said(&refused));
        assert_eq!(names(), before, "{why}");
    };
    // Nobody is there to be asked.
    fails(&["restore", &from, "--old", &old], "--revoke-since");
    let blind = ["restore", &from, "--keep-revived"];
    let stored = fs::read_dir(backup.join("objects")).expect("files").find_map(|it| it.ok()).expect("a file").path();
    for damaged in [&stored, &backup.join("dripfeed.db")] {
        let whole = fs::read(damaged).expect("read");
        fs::write(damaged, &whole[..whole.len() - 1]).expect("written");
        fails(&blind, "is damaged");
        fs::write(damaged, whole).expect("written");
    }
    // What only shows when the database is put in its place, behind the stored files.
    let in_the_way = app.data_dir().join("dripfeed.db");
    std::os::unix::fs::symlink("nowhere", &in_the_way).expect("a link");
    fails(&blind, "is there already");
    fs::remove_file(&in_the_way).expect("removed");
    let restored = app.command(&blind);
    assert!(restored.status.success(), "{}", said(&restored));
    app.serve();
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{id}/rows/1")).0, 200);
}

/// The disk is lost with the data folder; the backups are elsewhere, and beside them is what the server noted there.
#[test]
fn what_was_deleted_since_stays_deleted_where_nothing_is_left_but_the_backups() {
    let shelf = tempfile::tempdir().expect("a folder");
    let backups = format!("[backup]\nto = \"{}\"\nkeep = \"30d\"", shelf.path().display());
    let mut app = App::start(Setup { more: backups, ..Setup::default() });
    let [kept, dropped, purged] = ["kept", "dropped", "purged"].map(|domain| {
        let id = app.accepted(people(3).replace("mail.example", &format!("{domain}.example")));
        app.until_status(&id, "completed");
        id
    });
    let taken = shelf.path().join("by-hand");
    let output = app.command(&["backup", &text(&taken)]);
    assert!(output.status.success(), "{}", said(&output));
    for id in [&dropped, &purged] {
        assert_eq!(app.delete(OPERATOR, &format!("/v2/batches/{id}")).0, 200);
    }
    let is_over = || app.get(OPERATOR, "/ops/v1/overview").1["deletions"].as_array().is_some_and(Vec::is_empty);
    app.until("the deletions are over", || is_over().then_some(()));
    app.kill();
    let _lost = aside(&app, "lost");
    // Somebody who can write there would like the rest to be gone as well.
    let lists: Vec<_> =
        fs::read_dir(shelf.path().join("deleted")).expect("lists").map(|it| it.expect("one").path()).collect();
    let list = lists.iter().find(|path| path.is_file()).expect("a list");
    let forged = fs::read_to_string(list).expect("read").replace(&dropped, &kept);
    assert!(forged.contains(&kept), "it is on the list");
    fs::write(shelf.path().join("deleted").join("20991124T150000Z-aaaaaaaa-forged.json"), forged).expect("written");

    let restored = app.command(&["restore", &text(&taken), "--keep-revived", "--json"]);
    assert!(restored.status.success(), "{}", said(&restored));
    let told: Value = serde_json::from_slice(&restored.stdout).expect("JSON");
    assert_eq!((told["deleted"].as_array().map(Vec::len), &told["deletions_known"]), (Some(2), &json!(true)), "{told}");
    app.serve();
    for (id, status) in [(&kept, 200), (&dropped, 404), (&purged, 404)] {
        assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{id}")).0, status, "{id}");
    }
}
