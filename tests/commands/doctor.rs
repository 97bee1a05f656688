//! Faults that somebody planted, and the line that `doctor` has for each.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    idle, printed,
    support::{
        app::{App, OPERATOR, Setup, people, write_private},
        s3::{BUCKET, S3Server},
    },
};

/// What `doctor` says, and how it ended.
fn doctor(app: &App) -> (Option<i32>, Vec<Value>) {
    let output = app.command(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings").clone();
    let count = |level: &str| findings.iter().filter(|finding| finding["level"] == level).count();
    assert_eq!((&report["failed"], &report["warned"]), (&json!(count("fail")), &json!(count("warn"))));
    (output.status.code(), findings)
}

/// That there is a finding like this, with something to do; and that it is what the exit status says.
fn assert_found(app: &App, level: &str, what: &str, says: &str) {
    let (status, findings) = doctor(app);
    let found = findings.iter().find(|it| {
        it["level"] == level && it["what"] == what && it["says"].as_str().is_some_and(|text| text.contains(says))
    });
    let found = found.unwrap_or_else(|| panic!("no {level} {what} `{says}` in {findings:#?}"));
    assert!(found["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{found}");
    let fails = findings.iter().any(|finding| finding["level"] == "fail");
    assert_eq!(status, Some(i32::from(fails)), "{findings:#?}");
}

fn healthy() -> App {
    let app = App::start(idle());
    let backup = app.folder.path().join("backup");
    printed(&app.command(&["backup", backup.to_str().expect("a path")]));
    app
}

fn configuration(app: &App) -> PathBuf {
    app.folder.path().join("dripfeed.toml")
}

/// Runs `body` with this in the place of that in the configuration.
fn with_setting(app: &App, that: &str, this: &str, body: impl FnOnce()) {
    let before = fs::read_to_string(configuration(app)).expect("the configuration");
    assert!(before.contains(that), "{before}");
    fs::write(configuration(app), before.replace(that, this)).expect("written");
    body();
    fs::write(configuration(app), before).expect("written");
}

#[test]
fn a_healthy_installation_passes_and_nothing_of_it_is_changed_or_called() {
    let app = healthy();
    let (status, findings) = doctor(&app);
    let wrong: Vec<&Value> = findings.iter().filter(|finding| finding["level"] == "fail").collect();
    assert!(status == Some(0) && wrong.is_empty(), "{wrong:#?}");
    for what in [
        "configuration",
        "key file",
        "keys",
        "data folder",
        "permissions",
        "database",
        "WAL",
        "claims",
        "webhooks",
        "backup",
        "server",
        "files",
        "dependency",
        "dispatch",
    ] {
        let of = |finding: &&Value| finding["what"] == what;
        let found = findings.iter().find(of).unwrap_or_else(|| panic!("nothing of {what}: {findings:#?}"));
        assert!(found["level"] == "ok" || what == "disk", "{found}");
    }
    assert_eq!(app.stats().calls.total(), 0, "no dependency was called");
    let lines = printed(&app.command(&["doctor", "--full"]));
    assert!(lines.contains("integrity_check finds nothing"), "{lines}");
    assert!(lines.lines().all(|line| ["ok ", "warn", "fail"].iter().any(|level| line.starts_with(level))), "{lines}");
    let empty = App::prepared(idle());
    fs::remove_dir_all(empty.data_dir()).expect("removed");
    assert_found(&empty, "warn", "database", "none yet");
    assert!(!empty.data_dir().exists(), "it made nothing");
}

#[test]
fn faults_of_configuration_and_keys_are_found() {
    let mut app = healthy();
    with_setting(&app, "[workers]", "[workers]\nunder_wax = 3", || {
        assert_found(&app, "fail", "configuration", "did you mean `under_way`");
    });
    let keys = app.folder.path().join("keys");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("a mode");
    assert_found(&app, "fail", "key file", "0644");
    assert_found(&app, "fail", "keys", "allow_readable_key_file");
    let (from, to) = ("[encryption]", "[encryption]\nallow_readable_key_file = true");
    with_setting(&app, from, to, || assert_found(&app, "warn", "key file", "0644"));
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("a mode");

    let right = fs::read(&keys).expect("the keys");
    let wrong = app.command(&["keys", "generate", "--id", "test"]).stdout;
    for (bytes, says) in [
        (wrong, "is not the one that sealed"),
        (app.command(&["keys", "generate", "--id", "k9"]).stdout, "`test` sealed data"),
        (b"test:short".to_vec(), "not 32 bytes"),
    ] {
        fs::write(&keys, bytes).expect("written");
        assert_found(&app, "fail", "keys", says);
    }
    fs::remove_file(&keys).expect("removed");
    assert_found(&app, "fail", "keys", "no encryption keys");
    write_private(&keys, &right);
    let beside = app.data_dir().join("keys");
    write_private(&beside, &right);
    let (from, to) = (format!("key_file = \"{}\"", keys.display()), format!("key_file = \"{}\"", beside.display()));
    with_setting(&app, &from, &to, || assert_found(&app, "warn", "key file", "lies in the data folder"));
    with_setting(&app, "operator_token", "# operator_token", || {
        assert_found(&app, "warn", "tokens", "no operator token")
    });
    app.terminate();
    assert_found(&app, "warn", "server", "none runs");
}

#[test]
fn faults_of_the_database_and_what_it_tells_are_found() {
    let mut app = healthy();
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    assert_found(&app, "warn", "dispatch", "no run yet, and work waits");
    app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "reason": "vendor maintenance" }));
    assert_found(&app, "warn", "dispatch", "vendor maintenance");
    app.post_json(OPERATOR, "/ops/v1/dispatch/resume", &json!({}));
    app.terminate();
    let path = app.data_dir().join("dripfeed.db");
    let change = |sql: &str| Connection::open(&path).and_then(|it| it.execute_batch(sql)).expect(sql);
    change("INSERT INTO runs (at, rows, granted) VALUES (1000, 0, '[]')");
    assert_found(&app, "warn", "dispatch", "1970-01-01");
    change(
        "UPDATE rows SET status = 'processing', owner = 7, claim = 7, claim_expires_at = 1000 WHERE row & 0xFFFFFF = 1",
    );
    assert_found(&app, "warn", "claims", "1 have expired");
    change(
        "INSERT INTO deliveries (id, client, batch_id, payload, status, attempts, next_attempt_at, created_at)
         VALUES ('x', 1, 'bat_x', '{}', 'pending', 3, 1000, 1000)",
    );
    assert_found(&app, "warn", "webhooks", "1 announcements wait");
    change("UPDATE backups SET at = 1000");
    assert_found(&app, "warn", "backup", "1970-01-01");
    change("DELETE FROM backups");
    assert_found(&app, "warn", "backup", "there is none");

    change("PRAGMA user_version = 99");
    assert_found(&app, "fail", "database", "version 99");
    change("PRAGMA user_version = 1");
    let whole = fs::read(&path).expect("the database");
    let mut damaged = whole.clone();
    // The page behind the first: the root of a table or an index.
    damaged[4096 * 5..4096 * 6].fill(0xA5);
    fs::write(&path, damaged).expect("written");
    assert_found(&app, "fail", "database", "damaged");
    fs::write(&path, b"this is no database, but it is long enough to be looked at as if it were one").expect("written");
    assert_found(&app, "fail", "database", "damaged");
    fs::write(&path, whole).expect("written");
    assert_found(&app, "warn", "backup", "there is none");
}

#[test]
fn what_is_out_of_reach_is_found() {
    let app = healthy();
    let address = app.simulator.address().to_string();
    with_setting(&app, &address, "127.0.0.1:1", || {
        assert_found(&app, "fail", "dependency", "addresses");
        assert_found(&app, "fail", "dependency", "invites");
    });
    with_setting(&app, &address, "nowhere.invalid:80", || {
        assert_found(&app, "fail", "dependency", "name is not found")
    });
    with_setting(&app, &format!("http://{address}"), &format!("https://{address}"), || {
        assert_found(&app, "fail", "dependency", "has to begin with http://");
    });
    // A port that answers a greeting as TLS does: a fatal alert.
    let tls = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let speaks_tls = tls.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in tls.incoming().flatten() {
            drop(std::io::Read::read(&mut stream, &mut [0; 4096]));
            drop(std::io::Write::write_all(&mut stream, &[21, 3, 3, 0, 2, 2, 40]));
        }
    });
    with_setting(&app, &address, &speaks_tls, || {
        assert_found(&app, "fail", "dependency", "has to begin with https://");
    });
}

#[test]
fn a_bucket_is_tried_and_left_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(folder.path());
    let settings = s3.settings();
    let bucket = folder.path().join(BUCKET);
    let objects = format!(
        "[objects]\nkind = \"minio\"\nendpoint = \"{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"",
        settings.endpoint, settings.bucket, settings.access_key, settings.secret_key
    );
    let app = App::prepared(Setup { more: objects, ..idle() });
    assert_found(&app, "fail", "files", "");
    assert!(!bucket.exists(), "it makes no bucket");
    fs::create_dir(&bucket).expect("a bucket");
    let files = |app: &App| {
        let report = app.command(&["doctor", "--json"]);
        let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings").clone();
        findings.into_iter().find(|finding| finding["what"] == "files").expect("a finding")
    };
    assert_eq!(files(&app)["level"], "ok", "{}", files(&app));
    assert!(!bucket.join("doctor/probe").exists(), "the probe is taken out again");
    with_setting(&app, &settings.secret_key, "wrong", || {
        assert_eq!(files(&app)["level"], "fail");
        assert!(!files(&app)["says"].as_str().expect("a text").contains("wrong\""), "no secret is shown");
    });
    drop(s3);
    assert_eq!(files(&app)["level"], "fail");
}
