//! Uploads over HTTP: what is taken, what is refused and how, and that a refused one leaves nothing.

mod support;

use std::io::{Read, Write};

use serde_json::{Value, json};
use support::app::{App, Setup, files, people};

const PATH: &str = "/v2/client/users/batch/invite";
const CSV: (&str, &str) = ("Content-Type", "text/csv");
const HEADER: &str = "email,first_name,last_name,phone,postcode,house_number\n";

fn idle() -> App {
    App::start(Setup { dispatch: String::new(), ..Setup::default() })
}

/// Every object that is stored, finished or not.
fn stored(app: &App) -> usize {
    files(&app.data_dir().join("objects")).len()
}

fn batches(app: &App) -> usize {
    app.get(&app.key, "/v2/batches").1["batches"].as_array().expect("a list").len()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn form(parts: &[(&str, &str)]) -> (String, Vec<u8>) {
    let boundary = "a-boundary";
    let parts = parts.iter().map(|(disposition, content)| {
        format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
    });
    let body = parts.collect::<String>() + &format!("--{boundary}--\r\n");
    (format!("multipart/form-data; boundary={boundary}"), body.into_bytes())
}

#[test]
fn raw_form_and_gzip_bodies_become_batches_with_the_same_rows() {
    let app = idle();
    let csv = people(3);
    let (content_type, body) =
        form(&[("name=\"context\"", "{\"campaign\":\"spring\"}"), ("name=\"file\"; filename=\"people.csv\"", &csv)]);
    let named = app.upload_as(&app.key, PATH, &[("Content-Type", &content_type)], &body);
    assert_eq!((named.0, &named.1["file"]["name"]), (202, &json!("people.csv")), "{}", named.1);
    let again = format!("{PATH}?allow_duplicate=true");
    let zipped = app.upload_as(&app.key, &again, &[CSV, ("Content-Encoding", "gzip")], &gzip(csv.as_bytes()));
    assert_eq!(zipped.0, 202, "{}", zipped.1);
    assert_eq!(zipped.1["file"]["sha256"], named.1["file"]["sha256"], "both are of the inflated file");
    assert_eq!(zipped.1["file"]["bytes"], csv.len());
    for batch in [named.1, zipped.1] {
        let id = batch["id"].as_str().expect("an id");
        app.until_status(id, "queued");
        let rows = app.rows(id);
        let emails: Vec<_> = rows.iter().map(|row| row["data"]["email"].clone()).collect();
        assert_eq!(emails, ["p1@mail.example", "p2@mail.example", "p3@mail.example"]);
    }
}

#[test]
fn what_spreadsheets_make_is_understood_and_told() {
    let app = idle();
    let csv = "\u{feff}EMAIL; first_name ;last_name;phone;postcode;house_number\r\n\
               a@mail.example;\"Ann\r\nMarie\";Smith;;AB1 2CD;1\r\n\r\n\
               b@mail.example;Bob;\"O;Brien\";;AB1 2CD;2\r\n\r\n\r\n";
    let (status, told) = app.upload_as(&app.key, &format!("{PATH}?validate_only=true"), &[CSV], csv.as_bytes());
    assert_eq!(
        (status, &told["valid"], &told["rows"], &told["delimiter"]),
        (200, &json!(true), &json!(2), &json!("semicolon"))
    );
    assert_eq!((batches(&app), stored(&app)), (0, 0), "validate_only stores nothing");
    let id = app.accepted(csv);
    app.until_status(&id, "queued");
    let rows = app.rows(&id);
    assert_eq!((&rows[0]["line"], &rows[0]["data"]["first_name"]), (&json!(2), &json!("Ann\r\nMarie")));
    assert_eq!((&rows[1]["line"], &rows[1]["data"]["last_name"]), (&json!(5), &json!("O;Brien")));
}

#[test]
fn a_bad_file_is_refused_with_places_and_leaves_nothing() {
    let app = idle();
    let cells = "a@mail.example,Ann,Smith,,AB1 2CD,1\n";
    let utf16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(Vec<u8>, &str, Value, Value)> = vec![
        (b"".to_vec(), "empty_file", json!(1), json!(null)),
        (HEADER.into(), "no_rows", json!(1), json!(null)),
        (format!("email,first_name\n{cells}").into(), "missing_column", json!(1), json!(null)),
        (format!("colour,{HEADER}").into(), "unknown_column", json!(1), json!(1)),
        (format!("Email,{HEADER}").into(), "duplicate_column", json!(1), json!(2)),
        (utf16, "not_utf8", json!(1), json!(null)),
        ([HEADER.as_bytes(), b"a@mail.example,Jos\xe9,S,,AB1 2CD,1\n"].concat(), "not_utf8", json!(2), json!(2)),
        (format!("{HEADER}a@mail.example,Ann\n").into(), "wrong_field_count", json!(2), json!(null)),
        (format!("{HEADER}\"a@mail.example,Ann\n").into(), "unclosed_quote", json!(2), json!(null)),
        (format!("{HEADER}a@mail.example,,Smith,,AB1 2CD,1\n").into(), "missing_value", json!(2), json!(2)),
        (format!("{HEADER}nobody,Ann,Smith,,AB1 2CD,1\n").into(), "invalid_value", json!(2), json!(1)),
        (
            format!("{HEADER}a@mail.example,{},S,,AB1 2CD,1\n", "x".repeat(1_001)).into(),
            "field_too_long",
            json!(2),
            json!(2),
        ),
        (format!("{HEADER}{cells}A@mail.example,Bob,Jones,,AB1 2CD,2\n").into(), "duplicate_value", json!(3), json!(1)),
    ];
    for (body, code, line, column_number) in cases {
        let (status, problem) = app.upload(&app.key, &body);
        let error = &problem["errors"][0];
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_file")), "{code}: {problem}");
        assert_eq!((&error["code"], &error["line"]), (&json!(code), &line), "{code}: {problem}");
        if !column_number.is_null() {
            assert_eq!(error["column_number"], column_number, "{code}: {problem}");
        }
        let (status, same) = app.upload_as(&app.key, &format!("{PATH}?validate_only=true"), &[CSV], &body);
        assert_eq!((status, &same["errors"]), (422, &problem["errors"]), "validate_only says the same");
    }
    assert_eq!((batches(&app), stored(&app)), (0, 0));
    assert!(!app.log().contains("mail.example"), "no cell is logged");
}

#[test]
fn every_error_of_a_file_is_counted_and_the_first_hundred_are_told() {
    let app = idle();
    let body = HEADER.to_owned() + &"nobody,Ann,Smith,,AB1 2CD,\n".repeat(300);
    let (status, problem) = app.upload(&app.key, body);
    assert_eq!(status, 422);
    let told = problem["errors"].as_array().expect("errors");
    assert_eq!((told.len(), &problem["error_count"]), (100, &json!(600)));
    assert_eq!((&told[99]["line"], &told[99]["column"]), (&json!(51), &json!("house_number")));
    assert!(told.iter().all(|error| !error["message"].as_str().expect("a message").contains("nobody")));
}

#[test]
fn requests_that_are_no_upload_get_a_problem_that_says_so() {
    let app = idle();
    let csv = people(1);
    let twice = form(&[("name=\"file\"", &csv), ("name=\"file\"", &csv)]);
    let without = form(&[("name=\"context\"", "{}")]);
    let bad_context = form(&[("name=\"file\"", &csv), ("name=\"context\"", "[1]")]);
    for (content_type, body, status, code) in [
        ("application/json", csv.as_bytes(), 415, "unsupported_media_type"),
        (twice.0.as_str(), &twice.1[..], 400, "bad_request"),
        (&without.0, &without.1[..], 400, "bad_request"),
        (&bad_context.0, &bad_context.1[..], 400, "bad_request"),
        (&twice.0, b"--a-boundary\r\nnonsense", 400, "bad_request"),
        ("multipart/form-data", b"", 400, "bad_request"),
    ] {
        let (found, problem) = app.upload_as(&app.key, PATH, &[("Content-Type", content_type)], body);
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{content_type}: {problem}");
    }
    let broken = app.upload_as(&app.key, PATH, &[CSV, ("Content-Encoding", "gzip")], csv.as_bytes());
    assert_eq!((broken.0, &broken.1["errors"][0]["code"]), (422, &json!("bad_gzip")));
    assert_eq!(app.upload_as(&app.key, PATH, &[CSV, ("X-Dripfeed-Context", "no")], csv.as_bytes()).0, 400);
    assert_eq!(app.get(&app.key, PATH).0, 405);
    assert_eq!(app.get(&app.key, "/v2/nowhere").0, 404);
    assert_eq!(app.upload("wrong-key", csv).0, 401);
    assert_eq!((batches(&app), stored(&app)), (0, 0));
}

#[test]
fn the_same_file_again_is_refused_unless_it_is_meant() {
    let app = idle();
    let first = app.accepted(people(2));
    let (status, problem) = app.upload(&app.key, people(2));
    assert_eq!((status, &problem["code"], &problem["batch"]), (409, &json!("duplicate_file"), &json!(first)));
    assert_eq!((batches(&app), stored(&app)), (1, 1));
    let meant = app.upload_as(&app.key, &format!("{PATH}?allow_duplicate=true"), &[CSV], people(2).as_bytes());
    assert_eq!(meant.0, 202);
    let other = app.add_client("other", None);
    assert_eq!(app.upload(&other, people(2)).0, 202, "another client's file is its own");
}

#[test]
fn limits_are_kept_by_name() {
    let more = "[workflows.invite]\nmax_rows = 3\nmax_bytes = \"2kB\"\n[uploads]\nat_once = 1".to_owned();
    let app = App::start(Setup { more, dispatch: String::new(), ..Setup::default() });
    let (status, problem) = app.upload(&app.key, people(4));
    assert_eq!(
        (status, &problem["errors"][0]["code"], &problem["errors"][0]["line"]),
        (422, &json!("too_many_rows"), &json!(5))
    );
    let bomb = gzip(&[HEADER.as_bytes(), &vec![b'x'; 1_000_000]].concat());
    let (status, problem) = app.upload_as(&app.key, PATH, &[CSV, ("Content-Encoding", "gzip")], &bomb);
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")), "{problem}");

    // One upload is held open; the second finds no place, and is told when to come again.
    let (pipe, mut held) = std::io::pipe().expect("a pipe");
    let (url, key) = (app.url(PATH), app.key.clone());
    let slow = std::thread::spawn(move || {
        let request = support::app::agent().post(url).header("Authorization", format!("Bearer {key}"));
        let sent = request.header("Content-Type", "text/csv").send(ureq::SendBody::from_owned_reader(pipe));
        sent.expect("an answer").status().as_u16()
    });
    held.write_all(HEADER.as_bytes()).expect("the pipe is open");
    let busy = app.until("the second upload finds no place", || {
        let answer = support::app::agent()
            .post(app.url(PATH))
            .header("Authorization", format!("Bearer {}", app.key))
            .header("Content-Type", "application/csv")
            .send("x")
            .expect("an answer");
        (answer.status() == 429).then_some(answer)
    });
    assert!(busy.headers().contains_key("retry-after"));
    held.write_all(b"a@mail.example,Ann,Smith,,AB1 2CD,1\n").expect("the pipe is open");
    drop(held);
    assert_eq!(slow.join().expect("the slow upload"), 202);
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let app = idle();
    let address = app.url("").trim_start_matches("http://").to_owned();
    let mut connection = std::net::TcpStream::connect(address).expect("the server listens");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: text/csv\r\nContent-Length: 100000\r\n\r\n",
        app.key
    );
    connection.write_all(head.as_bytes()).expect("sent");
    connection.write_all(people(100).as_bytes()).expect("sent");
    app.until("its object is begun", || (stored(&app) == 1).then_some(()));
    connection.shutdown(std::net::Shutdown::Both).expect("broken off");
    app.until("its object is gone", || (stored(&app) == 0).then_some(()));
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest);
    assert_eq!(batches(&app), 0);
}

#[test]
fn invalid_rows_are_left_out_where_the_workflow_says_so() {
    let more = "[workflows.invite]\non_invalid_row = \"skip\"".to_owned();
    let app = App::start(Setup { more, dispatch: String::new(), ..Setup::default() });
    let csv = HEADER.to_owned()
        + "a@mail.example,Ann,Smith,,AB1 2CD,1\n\
           nobody,Bob,,,AB1 2CD,2\n\
           c@mail.example,Cat,Brown,,AB1 2CD,3\n\
           a@mail.example,Dan,Green,,AB1 2CD,4\n";
    let (status, batch) = app.upload(&app.key, csv);
    assert_eq!((status, &batch["counts"]["total"], &batch["skipped"]), (202, &json!(2), &json!(2)), "{batch}");
    let id = batch["id"].as_str().expect("an id");
    app.until_status(id, "queued");
    let lines: Vec<_> = app.rows(id).iter().map(|row| (row["row"].clone(), row["line"].clone())).collect();
    assert_eq!(lines, [(json!(1), json!(2)), (json!(2), json!(4))], "numbers are dense, lines are the file's");
    let (_, page) = app.get(&app.key, &format!("/v2/batches/{id}/skipped"));
    let skipped = page["skipped"].as_array().expect("a list");
    let codes: Vec<_> = skipped.iter().map(|fault| (fault["line"].clone(), fault["code"].clone())).collect();
    let expected = [(3, "invalid_value"), (3, "missing_value"), (5, "duplicate_value")];
    assert_eq!(codes, expected.map(|(line, code)| (json!(line), json!(code))));
}
