//! No log line, at any level, holds what is private: cells, file names, contexts, keys, tokens, or what an API says.

use rusqlite::Connection;

use crate::support::{
    app::{App, OPERATOR, Setup, agent},
    server::{Received, Reply, Server, ok},
};

const CELL: &str = "Quetzalcoatl";
const EMAIL: &str = "zaphod@heart-of-gold.example";
const FILE_NAME: &str = "strictly-confidential.csv";
const CONTEXT: &str = "campaign-nobody-knows";
const ONCE: &str = "idempotency-key-of-a-client";
const API_TOKEN: &str = "token-for-the-api-0123456789";
const WRONG_KEY: &str = "df_wrong-key-that-was-mistyped";
const SAID: &str = "said-by-the-api";

/// An API that quotes what it was sent, in every way that is wrong.
fn quoting(received: &Received) -> Reply {
    let quoted = format!("{SAID} {} {}", received.line, received.body);
    let is_of = |number: u32| received.body.contains(&format!("\"house_number\":\"{number}\""));
    match received.path() {
        _ if is_of(1) => Reply::Answer(422, vec![("X-Quoted", SAID.to_owned())], quoted),
        _ if is_of(2) => Reply::Answer(500, Vec::new(), quoted),
        _ if is_of(3) => ok(&quoted),
        _ if is_of(4) => Reply::Answer(302, vec![("Location", format!("http://nowhere.example/{CELL}"))], quoted),
        _ if is_of(5) => Reply::Garbage,
        _ if is_of(6) => Reply::CutOff,
        "/address-links" => ok(&format!("{{\"link\":\"{SAID}\"}}")),
        "/addresses" => ok(&format!("{{\"addresses\":[{{\"id\":\"{SAID}\"}}]}}")),
        _ => ok(&format!("{{\"check_id\":\"{SAID}\"}}")),
    }
}

fn csv() -> String {
    let mut csv = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    csv.extend((1..=8).map(|row| format!("{row}{EMAIL},{CELL},{CELL}son,,AB1 2CD,{row}\n")));
    csv
}

fn form(csv: &str) -> Vec<u8> {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"context\"\r\n\r\n{{\"c\":\"{CONTEXT}\"}}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{FILE_NAME}\"\r\n\r\n{csv}\r\n--b--\r\n"
    )
    .into_bytes()
}

/// Turns one bit of a row's sealed data, and of what is sealed of its whole batch where `sealed` says so.
fn damage(app: &App, id: &str, column: &str) {
    let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    let (table, place) = match column {
        "data" => ("rows", "row & 0xFFFFFF = 7 AND row >> 24 = (SELECT batch FROM batches WHERE id = ?1)"),
        _ => ("batch_details", "batch = (SELECT batch FROM batches WHERE id = ?1)"),
    };
    let select = format!("SELECT {column} FROM {table} WHERE {place}");
    let mut bytes: Vec<u8> = database.query_row(&select, [id], |row| row.get(0)).expect("sealed bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let update = format!("UPDATE {table} SET {column} = ?2 WHERE {place}");
    assert_eq!(database.execute(&update, (id, bytes)), Ok(1));
}

#[test]
fn nothing_private_stands_in_any_line_at_any_level() {
    let api = Server::start(quoting);
    let mut app = App::start(Setup {
        more: "[log]\nfilter = \"trace\"\n[workflows.invite]\nmax_attempts = 1".into(),
        dispatch: "min_interval = \"0s\"".into(),
        dependency: format!(
            "rate_per_second = 2000\nburst = 50\ntimeout = \"5s\"\nheaders = {{ Authorization = \"Bearer {API_TOKEN}\" }}"
        ),
        downstream: Some(api.address),
        ..Setup::default()
    });
    let path = "/v2/client/users/batch/invite";
    let headers = [("Content-Type", "multipart/form-data; boundary=b"), ("Idempotency-Key", ONCE)];
    let (status, batch) = app.upload_as(&app.key, path, &headers, &form(&csv()));
    assert_eq!(status, 202, "{batch}");
    let id = batch["id"].as_str().expect("an id").to_owned();
    app.until_status(&id, "queued");

    // What is refused, in several ways.
    let bad = csv().replace("AB1 2CD", CELL);
    let unknown = csv().replacen("phone", CELL, 1);
    let csv_type = [("Content-Type", "text/csv")];
    for (headers, body, refused) in [
        (&csv_type, bad.into_bytes(), 422),
        (&csv_type, unknown.into_bytes(), 422),
        (&csv_type, [csv().as_bytes(), b"\xff\xfe"].concat(), 422),
        (&[headers[0]], form(&csv()), 409),
        (&[headers[0]], csv().into_bytes(), 400),
    ] {
        let (status, problem) = app.upload_as(&app.key, path, headers, &body);
        assert_eq!(status, refused, "{problem}");
    }
    let nowhere = agent().get(app.url(&format!("/v2/{CELL}?email={EMAIL}"))).header("X-Dripfeed-Context", CONTEXT);
    assert_eq!(nowhere.call().expect("an answer").status(), 404);
    let (status, _) = app.post_json(OPERATOR, "/session", &serde_json::json!({ "key": OPERATOR }));
    assert_eq!(status, 200);
    for key in [WRONG_KEY; 12] {
        assert!([401, 429].contains(&app.get(key, "/v2/batches").0));
    }
    let reason = serde_json::json!({ "reason": format!("{EMAIL} asked for it") });
    assert_eq!(app.post_json(OPERATOR, &format!("/v2/batches/{id}/pause"), &reason).0, 200);
    assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{id}/resume")).0, 200);

    damage(&app, &id, "data");
    app.post(OPERATOR, "/ops/v1/dispatch");
    let done = app.until_status(&id, "completed");
    assert_eq!(done["counts"]["failed"], 7, "{done}");
    let (status, revealed) = app.get(OPERATOR, &format!("/v2/batches/{id}/rows?reveal=true"));
    assert_eq!(status, 200);
    assert!(revealed.to_string().contains(CELL) && revealed.to_string().contains(SAID), "there is something to hide");
    let results = app.get(&app.key, &format!("/v2/batches/{id}/results.csv")).1.to_string();
    assert!(results.contains(EMAIL), "{results}");

    // A second server on damaged details, and on another key.
    let (mut log, mut complaints) = (app.log(), app.complaints());
    app.terminate();
    damage(&app, &id, "sealed");
    app.serve();
    assert_eq!(app.get(&app.key, &format!("/v2/batches/{id}/rows")).0, 500);
    log += &app.log();
    complaints += &app.complaints();
    app.terminate();
    let wrong_key = "dGhpcyBpcyBhIGtleSBvZiB0aGlydHktdHdvIGJ5dGU=";
    std::fs::write(app.folder.path().join("keys"), format!("test:{wrong_key}\n")).expect("another key");
    let refused = app.command(&["serve"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    log += &String::from_utf8_lossy(&refused.stdout);
    complaints += &String::from_utf8_lossy(&refused.stderr);

    for event in [
        "call.released",
        "call.ended",
        "row.failed",
        "row.completed",
        "row.undecryptable",
        "upload.refused",
        "sign_in.slowed",
        "audit.noted",
        "batch.undecryptable",
        "server.failed",
    ] {
        assert!(log.contains(&format!("\"event\":\"{event}\"")), "{event} was to be tried, too");
    }
    let key_line = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for private in [
        CELL,
        EMAIL,
        FILE_NAME,
        CONTEXT,
        ONCE,
        API_TOKEN,
        WRONG_KEY,
        SAID,
        OPERATOR,
        &app.key,
        key_line,
        wrong_key,
        // Whole, as text and in a URL: three characters of it stand in an id of ours sooner or later.
        "AB1 2CD",
        "AB1%202CD",
        "house_number",
        "asked for it",
    ] {
        for (what, said) in [("the log", &log), ("standard error", &complaints)] {
            let line = said.lines().find(|line| line.contains(private));
            assert!(line.is_none(), "{private} in {what}: {line:?}");
        }
    }
}
