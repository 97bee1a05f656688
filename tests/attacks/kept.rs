//! What a client can have stored beside its file and its rows: what is found wrong in records that are left out, and the
//! context. Of an upload that is refused nothing of it comes into the database, and of one that is accepted all of it counts.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::app::{App, OPERATOR, Setup, files};

const UPLOAD: &str = "/v2/client/users/batch/invite";
const CSV: (&str, &str) = ("Content-Type", "text/csv");
const HEADER: &str = "email,first_name,last_name,postcode,house_number\n";
const PERSON: &str = "ada@mail.example,Ada,Lovelace,AB1 2CD,1\n";
/// Pages that a database grows by of itself.
const FEW_PAGES: i64 = 60;

fn setup(more: &str) -> Setup {
    Setup { more: format!("{more}\n[workflows.invite]\non_invalid_row = \"skip\"\n"), ..Setup::default() }
}

fn app(quotas: &str) -> App {
    App::start(setup(&format!("[quotas]\n{quotas}")))
}

/// A record of one person, if any, and so many that are no more than a letter.
fn file(person: &str, wrong: usize) -> String {
    format!("{HEADER}{person}{}", "x\n".repeat(wrong))
}

fn number(app: &App, sql: &str) -> i64 {
    let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    database.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn pages(app: &App) -> i64 {
    number(app, "SELECT page_count FROM pragma_page_count")
}

fn listed(app: &App) -> i64 {
    number(app, "SELECT count(*) FROM skipped")
}

fn stored_bytes(app: &App) -> u64 {
    let (status, client) = app.get(OPERATOR, "/ops/v1/clients/acme");
    assert_eq!(status, 200, "{client}");
    client["quotas"]["stored_bytes"]["used"].as_u64().expect("a number")
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(text.as_bytes()).expect("packed");
    packer.finish().expect("packed")
}

fn upload(app: &App, body: &[u8]) -> (u16, Value) {
    app.upload_as(&app.key, UPLOAD, &[CSV, ("Content-Encoding", "gzip")], body)
}

/// Nothing is left of an upload that was refused.
fn nothing_is_left(app: &App) {
    app.until("it is cleared away", || {
        let left = "SELECT (SELECT count(*) FROM uploads) + (SELECT count(*) FROM deletions)";
        (number(app, left) == 0).then_some(())
    });
    assert_eq!(listed(app), 0);
    let folders = ["objects", "spool"].map(|folder| app.data_dir().join(folder));
    assert!(folders.iter().all(|folder| !folder.exists() || files(folder).is_empty()), "{folders:?}");
}

#[test]
fn what_is_found_wrong_in_a_file_that_is_refused_does_not_come_into_the_database() {
    let app = app("");
    let before = pages(&app);
    let small = packed(&file("", 100_000));
    assert!(small.len() < 1_000, "{} bytes", small.len());
    let (status, refused) = upload(&app, &small);
    assert_eq!((status, &refused["code"]), (422, &json!("invalid_file")), "{refused}");
    let grown = pages(&app) - before;
    assert!(grown < FEW_PAGES, "the database grew by {grown} pages");
    nothing_is_left(&app);
}

#[test]
fn a_file_that_comes_again_brings_its_findings_no_second_time() {
    let app = app("");
    let body = packed(&file(PERSON, 20_000));
    let (status, batch) = upload(&app, &body);
    assert_eq!((status, &batch["skipped"]), (202, &json!(20_000)), "{batch}");
    let id = batch["id"].as_str().expect("an id");
    assert_eq!(listed(&app), 20_000, "they are listed from the 202 on");
    app.until_status(id, "completed");
    let before = (pages(&app), stored_bytes(&app));
    for _ in 0..3 {
        let (status, refused) = upload(&app, &body);
        assert_eq!((status, &refused["code"]), (409, &json!("duplicate_file")), "{refused}");
    }
    let grown = pages(&app) - before.0;
    assert!(grown < FEW_PAGES, "the database grew by {grown} pages");
    assert_eq!((listed(&app), stored_bytes(&app)), (20_000, before.1));
}

#[test]
fn what_is_left_out_counts_in_stored_bytes_until_its_batch_is_deleted() {
    let app = app("stored_bytes = \"3MB\"");
    let (status, refused) = upload(&app, &packed(&file(PERSON, 60_000)));
    assert_eq!((status, &refused["quota"]), (403, &json!("stored_bytes")), "{refused}");
    nothing_is_left(&app);
    assert_eq!(stored_bytes(&app), 0);

    let (status, batch) = upload(&app, &packed(&file(PERSON, 10_000)));
    assert_eq!(status, 202, "{batch}");
    let id = batch["id"].as_str().expect("an id").to_owned();
    assert!(stored_bytes(&app) > 10_000 * 60, "{}", stored_bytes(&app));
    let first = &app.get(&app.key, &format!("/v2/batches/{id}/skipped?limit=1")).1["skipped"][0];
    assert_eq!((&first["line"], &first["code"]), (&json!(3), &json!("wrong_field_count")), "{first}");
    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], 1, "only what is valid was extracted");
    assert_eq!(app.delete(&app.key, &format!("/v2/batches/{id}")).0, 200);
    assert_eq!(stored_bytes(&app), 0);
    nothing_is_left(&app);
}

#[test]
fn a_context_counts_in_stored_bytes() {
    let app = app("stored_bytes = \"100kB\"");
    let text = "c".repeat(40_000);
    let context = format!("{{\"note\": \"{text}\"}}");
    let send = |person: &str| {
        let headers = [CSV, ("X-Dripfeed-Context", context.as_str())];
        app.upload_as(&app.key, UPLOAD, &headers, format!("{HEADER}{person}").as_bytes())
    };
    assert_eq!(send(PERSON).0, 202);
    let used = stored_bytes(&app);
    assert!((40_000..45_000).contains(&used), "{used}");
    assert_eq!(send(&PERSON.replace("ada", "bob")).0, 202);
    let (status, refused) = send(&PERSON.replace("ada", "eve"));
    assert_eq!((status, &refused["quota"]), (403, &json!("stored_bytes")), "{refused}");
}

#[cfg(feature = "failpoints")]
#[test]
fn nothing_is_left_of_findings_that_were_half_written_when_the_server_died() {
    let mut app = App::prepared(setup(""));
    app.launch(&[("FAILPOINTS", "upload.listing=2*off->return")]);
    assert!(app.listens());
    let body = file(PERSON, 5_000);
    let request = crate::support::app::agent().post(app.url(UPLOAD)).header("Content-Type", "text/csv");
    let answer = request.header("Authorization", format!("Bearer {}", app.key)).send(&body);
    assert!(answer.is_err(), "no answer comes");
    app.kill();
    assert!((1_000..5_000).contains(&listed(&app)), "{}", listed(&app));
    app.serve();
    nothing_is_left(&app);
    let (status, batch) = app.upload(&app.key, &body);
    assert_eq!((status, &batch["skipped"], listed(&app)), (202, &json!(5_000), 5_000), "{batch}");
    app.until_status(batch["id"].as_str().expect("an id"), "completed");
}
