//! What the data folder of before tells a restore: what was ended, changed and held back since the backup, so that it stays so.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    restore::{aside, backup, said, text},
    support::{
        app::{App, OPERATOR, Setup, people},
        server::{Server, status},
    },
};

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

/// A key that was rotated is good for a while; what the backup brings back would be good for ever.
#[test]
fn a_key_in_its_last_hours_gets_no_more_of_them() {
    let mut app = App::start(Setup::default());
    let backup = backup(&app, "backup");
    let rotated = app.command(&["client", "rotate-key", "acme", "--json"]);
    let rotated: Value = serde_json::from_slice(&rotated.stdout).expect("JSON");
    let new_key = rotated["key"].as_str().expect("a key").to_owned();
    app.kill();
    let ends = |app: &App| -> Option<i64> {
        let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
        database.query_row("SELECT old_until FROM client_keys", [], |row| row.get(0)).expect("a key")
    };
    let end = ends(&app).expect("an end");
    let (from, old) = (text(&backup), text(&aside(&app, "lost")));
    let refused = app.command(&["restore", &from, "--old", &old]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("acme/default"), "{}", said(&refused));
    let restored = app.command(&["restore", &from, "--old", &old, "--revoke-since", "--json"]);
    let told: Value = serde_json::from_slice(&restored.stdout).unwrap_or_else(|_| panic!("{}", said(&restored)));
    assert_eq!((&told["revived"]["keys"], &told["ended"]), (&json!(["acme/default"]), &json!(true)));
    assert_eq!(ends(&app), Some(end), "it ends when it would have");
    app.serve();
    for key in [&app.key, &new_key] {
        assert_eq!(app.get(key, "/v2/batches").0, 200, "both are good until then");
    }
}

/// Where a client is told of its batches is where it said last, and not where it said when the backup was taken.
#[test]
fn a_webhook_is_where_its_client_has_it_now() {
    let [then, now] = [(); 2].map(|()| Server::start(|_| status(204)));
    let url = |server: &Server| format!("http://{}/told", server.address);
    let mut app = App::start(Setup::default());
    for client in ["unheard", "heard", "gone", "same"] {
        app.add_client(client, None);
    }
    let set = |app: &App, client: &str, to: &[&str]| {
        let set = app.command(&[&["client", "webhook", client][..], to].concat());
        assert!(set.status.success(), "{}", said(&set));
    };
    for client in ["acme", "unheard", "gone", "same"] {
        set(&app, client, &["--url", &url(&then)]);
    }
    let backup = backup(&app, "backup");
    set(&app, "acme", &["--url", &url(&now)]);
    set(&app, "unheard", &["--remove"]);
    set(&app, "heard", &["--url", &url(&now)]);
    assert!(app.command(&["client", "remove", "gone"]).status.success());
    app.kill();
    let (from, old) = (text(&backup), text(&aside(&app, "lost")));
    let refused = app.command(&["restore", &from, "--old", &old]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("whose webhook is another: acme, heard, unheard)"), "{}", said(&refused));
    let shown = |server: &Server| Some(format!("http://{}/…", server.address));
    for carries in [false, true] {
        let flag = if carries { "--revoke-since" } else { "--keep-revived" };
        let restored = app.command(&["restore", &from, "--old", &old, flag]);
        assert!(restored.status.success(), "{}", said(&restored));
        app.serve();
        let webhook = |client: &str| {
            let (_, webhook) = app.get(OPERATOR, &format!("/ops/v1/clients/{client}/webhook"));
            webhook["url"].as_str().map(str::to_owned)
        };
        let wanted = if carries {
            [shown(&now), None, shown(&now), shown(&then)]
        } else {
            [shown(&then), shown(&then), None, shown(&then)]
        };
        assert_eq!(["acme", "unheard", "heard", "same"].map(webhook), wanted, "{flag}");
        let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
        let of_gone = "SELECT count(*) FROM webhooks JOIN clients USING (client) WHERE name = 'gone'";
        let of_gone: u32 = database.query_row(of_gone, [], |row| row.get(0)).expect("a count");
        assert_eq!(of_gone, u32::from(!carries), "it goes with its client, {flag}");
        if carries {
            assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/resume").0, 200);
            let id = app.accepted(people(3));
            app.until_status(&id, "completed");
            app.until("it is told there", || now.received().iter().any(|it| it.body.contains(&id)).then_some(()));
            assert!(then.received().is_empty());
        }
        app.kill();
        aside(&app, &format!("restored{flag}"));
    }
}

/// Who is wrong about the folder of before hears what is wrong with it, before anything is restored.
#[test]
fn what_is_no_data_folder_of_before_is_refused_by_what_it_is() {
    let mut app = App::start(Setup::default());
    let [backup, later] = ["backup", "later"].map(|name| text(&backup(&app, name)));
    app.kill();
    let lost = aside(&app, "lost");
    let made = |name: &str| {
        let folder = app.folder.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        folder
    };
    let (empty, broken, damaged) = (made("empty"), made("broken"), made("damaged"));
    fs::create_dir(broken.join("dripfeed.db")).expect("a folder in the place of the database");
    fs::write(damaged.join("dripfeed.db"), [7; 8192]).expect("no database");
    let nowhere = app.folder.path().join("nowhere");
    let (is_a_backup, unreadable) = ("is a backup, and not a data folder", "cannot be read");
    for (old, why) in [
        (later.as_str(), is_a_backup),
        (&backup, is_a_backup),
        ("bucket:friday", is_a_backup),
        (&text(&nowhere), unreadable),
        (&text(&empty), unreadable),
        (&text(&broken), unreadable),
        (&text(&damaged), unreadable),
    ] {
        let refused = app.command(&["restore", &backup, "--old", old, "--revoke-since"]);
        assert_eq!(refused.status.code(), Some(1), "{old}: {}", said(&refused));
        for told in [why, old, "--old", "--keep-revived"] {
            assert!(said(&refused).contains(told), "{old}: no {told} in {}", said(&refused));
        }
        assert!(!said(&refused).contains("taken of"), "{old}: {}", said(&refused));
        assert!(!app.data_dir().join("dripfeed.db").exists(), "{old}");
    }
    let restored = app.command(&["restore", &backup, "--old", &text(&lost), "--revoke-since"]);
    assert!(restored.status.success(), "{}", said(&restored));
}

/// A backup may be the first thing that ever happens to a data folder.
#[test]
fn a_folder_that_no_server_ever_opened_is_known_again() {
    let app = App::prepared(Setup::default());
    let backup = text(&backup(&app, "backup"));
    let paused = app.command(&["client", "pause", "acme"]);
    assert!(paused.status.success(), "{}", said(&paused));
    let old = text(&aside(&app, "lost"));
    let restored = app.command(&["restore", &backup, "--old", &old, "--revoke-since", "--json"]);
    assert!(restored.status.success(), "{}", said(&restored));
    let told: Value = serde_json::from_slice(&restored.stdout).expect("JSON");
    assert_eq!(told["revived"]["limits"], json!(["acme"]), "{told}");
}
