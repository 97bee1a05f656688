//! Backups: by hand and by the server itself, whole or none, and back again with nobody called twice.

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod elsewhere;
#[cfg(feature = "failpoints")]
mod mishaps;
mod schedule;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use support::{
    app::{App, DISPATCH, OPERATOR, Setup, files, people},
    s3::S3Server,
};

/// A server that works only when it is told to, row by row for as long as a test needs.
fn slow() -> Setup {
    Setup {
        dispatch: "every = \"1s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 100000".into(),
        dependency: "rate_per_second = 400\nburst = 10\nconcurrency = 16\ntimeout = \"5s\"".into(),
        ..Setup::default()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Where backups go, beside the data folder.
fn place(app: &App, name: &str) -> PathBuf {
    app.folder.path().join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// From here on, everything is about another data folder.
fn move_to(app: &App, folder: &str) -> PathBuf {
    let path = app.folder.path().join("dripfeed.toml");
    let config = fs::read_to_string(&path).expect("the configuration");
    let new = app.folder.path().join(folder);
    let lines = config.lines().map(|line| match line.starts_with("data_dir") {
        true => format!("data_dir = \"{}\"", new.display()),
        false => line.to_owned(),
    });
    let changed: Vec<String> = lines.collect();
    fs::write(path, changed.join("\n")).expect("written");
    new
}

fn integrity(database: &Path) -> String {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database");
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict")
}

/// A finished batch, an unfinished one, and the server that has them.
fn two_batches(more: &str) -> (App, [String; 2]) {
    let setup = Setup { dispatch: "min_interval = \"0s\"".into(), more: more.to_owned(), ..Setup::default() };
    let app = App::start(setup);
    let finished = app.accepted(people(3));
    app.until_status(&finished, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&finished, "completed");
    let waiting = app.accepted(people(4));
    app.until_status(&waiting, "queued");
    (app, [finished, waiting])
}

/// `[objects]` of a bucket that is reached at this address.
fn objects(s3: &S3Server, endpoint: &str) -> String {
    let settings = s3.settings();
    format!(
        "[objects]\nkind = \"minio\"\nendpoint = \"{endpoint}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key = \
         \"{}\"\n",
        settings.bucket, settings.access_key, settings.secret_key
    )
}

/// What `dripfeed backups` lists.
fn listed(app: &App) -> Vec<Value> {
    let mut listed = parsed(&app.command(&["backups", "--json"]));
    std::mem::take(listed["backups"].as_array_mut().expect("backups"))
}

/// Those of them that are whole.
fn whole(app: &App) -> Vec<Value> {
    listed(app).into_iter().filter(|backup| backup["whole"] == true).collect()
}

/// Puts another text in the place of one in the configuration.
fn configure(app: &App, old: &str, new: &str) {
    let path = app.folder.path().join("dripfeed.toml");
    let config = fs::read_to_string(&path).expect("the configuration");
    assert!(config.contains(old), "{old} in {config}");
    fs::write(path, config.replacen(old, new, 1)).expect("written");
}

/// One number out of the database.
fn number(app: &App, sql: &str) -> i64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(app.data_dir().join("dripfeed.db"), flags).expect("the database");
    database.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// The keys are in no file here, and no plaintext of [`people`] is.
fn assert_sealed(app: &App, folder: &Path) {
    let line = fs::read_to_string(app.folder.path().join("keys")).expect("the key file");
    let secret = line.trim().split(':').nth(1).expect("a key");
    let files = files(folder);
    assert!(!files.is_empty());
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!has(secret.as_bytes()) && !has(KEY_BYTES), "the key is in {}", file.display());
        assert!(!has(b"Ann,Smith,"), "plaintext in {}", file.display());
    }
}

/// What the key of the tests stands for.
const KEY_BYTES: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    31,
];

/// Dispatch is paused for this reason, grants nothing, and is resumed.
fn assert_paused_and_resume(app: &App, reason: &str) {
    let (_, overview) = app.get(OPERATOR, "/ops/v1/overview");
    let said = overview["dispatch"]["paused"]["reason"].as_str().unwrap_or_else(|| panic!("{overview}"));
    assert!(said.contains(reason), "{said}");
    assert_eq!(app.post(DISPATCH, "/ops/v1/dispatch").1["outcome"], "paused");
    let (status, answer) = app.post_json(OPERATOR, "/ops/v1/dispatch/resume", &json!({}));
    assert_eq!(status, 200, "{answer}");
}
