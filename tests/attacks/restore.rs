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

fn text(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Takes a backup, and gives its folder.
fn backup(app: &App, name: &str) -> PathBuf {
    let folder = app.folder.path().join(name);
    let output = app.command(&["backup", &text(&folder)]);
    assert!(output.status.success(), "{}", said(&output));
    folder
}

/// Puts the data folder aside, and gives where it is.
fn aside(app: &App, name: &str) -> PathBuf {
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

#[test]
fn what_was_ended_since_the_backup_stays_ended_where_the_old_folder_tells() {
    let mut app = App::start(Setup::default());
    let added = |app: &App, arguments: &[&str]| -> Value {
        let output = app.command(arguments);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let eve = added(&app, &["operator", "add", "eve", "--json"]);
    let eve = eve["token"].as_str().or(eve["key"].as_str()).expect("a token").to_owned();
    let gone = app.add_client("gone", None);
    let stays = app.add_client("stays", None);
    let job = added(&app, &["client", "key", "add", "stays", "job", "--json"]);
    let job = job["key"].as_str().expect("a key").to_owned();
    let low = added(&app, &["operator", "add", "low", "--role", "admin", "--json"]);
    let low = low["token"].as_str().expect("a token").to_owned();
    let [kept, dropped] = ["kept.example", "dropped.example"].map(|domain| {
        let id = app.accepted(people(3).replace("mail.example", domain));
        app.until_status(&id, "completed");
        id
    });
    // Deleted later too, and not finished yet.
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let unfinished = app.accepted(people(3).replace("mail.example", "unfinished.example"));
    app.until_status(&unfinished, "queued");
    let backup = backup(&app, "backup");

    let new_key = added(&app, &["client", "rotate-key", "acme", "--json"]);
    let new_key = new_key["key"].as_str().expect("a key").to_owned();
    for arguments in [
        &["operator", "remove", "eve"][..],
        &["operator", "role", "low", "viewer"],
        &["client", "remove", "gone"],
        &["client", "key", "remove", "stays", "job"],
    ] {
        added(&app, arguments);
    }
    assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{unfinished}/cancel")).0, 200);
    app.until("it is cancelled", || {
        (app.get(OPERATOR, &format!("/v2/batches/{unfinished}")).1["status"] == "cancelled").then_some(())
    });
    for id in [&dropped, &unfinished] {
        let (status, said) = app.delete(OPERATOR, &format!("/v2/batches/{id}"));
        assert!(matches!(status, 200 | 202), "{said}");
    }
    app.kill();
    // The old key is good for a while after a rotation; that is over.
    let lost = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    lost.execute("UPDATE client_keys SET old_until = 1 WHERE old_until IS NOT NULL", []).expect("over");
    drop(lost);
    let old = text(&aside(&app, "lost"));

    let from = text(&backup);
    // Without the old folder nothing tells what was ended, and nobody is at a terminal to say that this is known.
    for arguments in [&["restore", &from][..], &["restore", &from, "--revoke-since"]] {
        let refused = app.command(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", said(&refused));
        for told in ["--old", "--keep-revived", "rotate"] {
            assert!(said(&refused).contains(told), "no {told} in {}", said(&refused));
        }
        assert!(!app.data_dir().join("dripfeed.db").exists(), "nothing was restored");
    }
    let refused = app.command(&["restore", &from, "--old", &old]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    for told in ["eve", "low", "gone", "acme/default", "stays/job", "--revoke-since", "--keep-revived"] {
        assert!(said(&refused).contains(told), "no {told} in {}", said(&refused));
    }
    assert!(!app.data_dir().join("dripfeed.db").exists(), "nothing was restored");
    // A folder that it was not taken of tells nothing.
    let other = App::prepared(Setup::default());
    let foreign = app.command(&["restore", &from, "--old", &text(&other.data_dir())]);
    assert_eq!(foreign.status.code(), Some(1), "{}", said(&foreign));
    assert!(said(&foreign).contains("is not the data folder that this backup was taken of"), "{}", said(&foreign));

    for revokes in [true, false] {
        let flag = if revokes { "--revoke-since" } else { "--keep-revived" };
        let restored = app.command(&["restore", &from, "--old", &old, flag]);
        assert!(restored.status.success(), "{}", said(&restored));
        app.serve();
        let is_let_in = |app: &App, key: &str, path: &str| app.get(key, path).0 == 200;
        let batches = "/v2/batches";
        assert_eq!(is_let_in(&app, &app.key, batches), !revokes, "the rotated key, {flag}");
        assert_eq!(is_let_in(&app, &new_key, batches), revokes, "the key since, {flag}");
        assert_eq!(is_let_in(&app, &gone, batches), !revokes, "the removed client, {flag}");
        assert_eq!(is_let_in(&app, &eve, "/ops/v1/overview"), !revokes, "the removed operator, {flag}");
        assert_eq!(is_let_in(&app, &job, batches), !revokes, "the removed key, {flag}");
        assert_eq!(is_let_in(&app, &low, "/ops/v1/sessions"), !revokes, "the lowered role, {flag}");
        assert!(is_let_in(&app, &low, "/ops/v1/overview") && is_let_in(&app, &stays, batches));
        assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{kept}")).0, 200);
        for id in [&dropped, &unfinished] {
            assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{id}")).0, 404, "{id} was deleted, {flag}");
        }
        app.kill();
        aside(&app, &format!("restored{flag}"));
    }
}

/// Whoever paused a client, lowered a rate or cancelled a batch at 3 a.m. had a reason, and the disk that failed at four is none to
/// forget it.
#[test]
fn what_held_work_back_since_the_backup_does_so_again_where_the_old_folder_tells() {
    let mut app = App::start(Setup::default());
    app.add_client("globex", None);
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let [cancelled, paused, goes] = ["cancelled", "paused", "goes"].map(|domain| {
        let id = app.accepted(people(3).replace("mail.example", &format!("{domain}.example")));
        app.until_status(&id, "queued");
        id
    });
    let backup = backup(&app, "backup");
    for arguments in [
        &["client", "pause", "acme"][..],
        &["client", "limit", "globex", "--pending-rows", "5", "--rows-per-run", "7"],
        &["dependency", "rate", "invites", "3"],
        &["batch", "cancel", &cancelled],
        &["batch", "pause", &paused],
    ] {
        let output = app.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    app.kill();
    let (from, old) = (text(&backup), text(&aside(&app, "lost")));
    let refused = app.command(&["restore", &from, "--old", &old]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    for told in ["acme, globex", "another rate: invites", &cancelled, &paused] {
        assert!(said(&refused).contains(told), "no {told} in {}", said(&refused));
    }
    assert!(!said(&refused).contains(&goes), "{}", said(&refused));
    for holds in [true, false] {
        let flag = if holds { "--revoke-since" } else { "--keep-revived" };
        let restored = app.command(&["restore", &from, "--old", &old, flag]);
        assert!(restored.status.success(), "{}", said(&restored));
        app.serve();
        let clients = app.get(OPERATOR, "/ops/v1/clients").1;
        let client = |name: &str| -> Value {
            let all = clients["clients"].as_array().expect("clients");
            all.iter().find(|client| client["name"] == name).expect("the client").clone()
        };
        assert_eq!(client("acme")["paused"], holds, "{clients}");
        assert_eq!(client("globex")["rows_per_run"] == 7, holds, "{clients}");
        assert_eq!(client("globex")["quotas"]["pending_rows"]["limit"] == 5, holds, "{clients}");
        let dependencies = app.get(OPERATOR, "/ops/v1/dependencies").1;
        assert_eq!(dependencies.to_string().contains("\"rate_per_second\":3.0"), holds, "{dependencies}");
        let batch = |id: &str| app.get(OPERATOR, &format!("/v2/batches/{id}")).1;
        if holds {
            app.until_status(&cancelled, "cancelled");
        } else {
            assert_eq!(batch(&cancelled)["status"], "queued");
        }
        assert_eq!((&batch(&paused)["paused"], &batch(&goes)["paused"]), (&json!(holds), &json!(false)));
        app.kill();
        aside(&app, &format!("restored{flag}"));
    }
}

/// Somebody at a terminal is asked, and what they say holds; saying nothing restores nothing.
#[test]
fn whoever_is_at_a_terminal_is_asked_and_restores_nothing_by_saying_nothing() {
    let mut app = App::start(Setup::default());
    let backup = text(&backup(&app, "backup"));
    let removed = app.command(&["client", "pause", "acme"]);
    assert!(removed.status.success(), "{}", said(&removed));
    app.kill();
    let old = text(&aside(&app, "lost"));
    let database = app.data_dir().join("dripfeed.db");
    let answered = |arguments: &[&str], question: &str, answer: &str| {
        let (mut child, mut terminal) = app.spawn_at_terminal(arguments);
        let mut shown = String::new();
        while !shown.contains(question) {
            let mut some = [0; 1024];
            let read = terminal.read(&mut some).unwrap_or(0);
            assert!(read > 0, "it was not asked: {shown}");
            shown += &String::from_utf8_lossy(&some[..read]);
        }
        assert!(!database.exists(), "nothing is there before the answer");
        terminal.write_all(answer.as_bytes()).expect("answered");
        child.wait().expect("ended").success()
    };
    let blindly = "restore all the same? [y/N] ";
    for answer in ["\n", "n\n", "yes please\n", "\u{4}"] {
        assert!(!answered(&["restore", &backup], blindly, answer), "{answer:?}");
        assert!(!database.exists(), "{answer:?}");
    }
    assert!(answered(&["restore", &backup], blindly, "y\n") && database.exists());
    aside(&app, "restored blindly");
    for (answer, holds) in [("\n", true), ("y\n", true), ("n\n", false)] {
        let asked = answered(&["restore", &backup, "--old", &old], "do the same here? [Y/n] ", answer);
        assert!(asked && database.exists(), "{answer:?}");
        let restored = Connection::open(&database).expect("the database");
        let paused = restored.query_row("SELECT paused_at IS NOT NULL FROM clients", [], |row| row.get::<_, bool>(0));
        assert_eq!(paused.expect("the client"), holds, "{answer:?}");
        drop(restored);
        aside(&app, &format!("restored {}", answer.escape_default()));
    }
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
