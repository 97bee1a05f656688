//! Bodies that are no upload, or no good one: what each is answered, and that a check only says the same.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    CSV, HEADER, PATH, form, gzip, idle, kept,
    support::app::{App, Setup, people},
    upload,
};

fn head(app: &App, more: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n{more}\r\n", app.key)
}

fn connect(app: &App) -> TcpStream {
    let connection = TcpStream::connect(app.url("").trim_start_matches("http://")).expect("connected");
    connection.set_read_timeout(Some(crate::support::app::DEADLINE)).expect("set");
    connection
}

/// Everything of an answer, to the end of the connection.
fn rest(mut connection: TcpStream) -> String {
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("an answer");
    text
}

/// Headers (none: a form's), body, and the status and code that it is answered with.
type Case<'a> = (Vec<(&'a str, &'a str)>, Vec<u8>, u16, &'a str);

#[test]
fn a_check_only_gives_the_answer_that_the_upload_gives() {
    let app = idle();
    let (good, bad) = (people(2), format!("{HEADER}nobody,Ann,Smith,,AB1 2CD,1\n"));
    let parts = |file: &str, context: &str| form(&[("name=\"file\"", file), ("name=\"context\"", context)]);
    let cases: Vec<Case<'_>> = vec![
        (vec![CSV], bad.clone().into_bytes(), 422, "invalid_file"),
        (vec![CSV, ("Content-Encoding", "gzip")], gzip(bad.as_bytes()), 422, "invalid_file"),
        (vec![CSV, ("Content-Encoding", "gzip")], good.clone().into_bytes(), 422, "invalid_file"),
        (vec![CSV, ("Content-Encoding", "zstd")], good.clone().into_bytes(), 415, "unsupported_media_type"),
        (vec![CSV, ("X-Dripfeed-Context", "[1]")], good.clone().into_bytes(), 400, "bad_request"),
        (vec![CSV, ("Idempotency-Key", "")], good.clone().into_bytes(), 400, "bad_request"),
        (vec![], parts(&good, "7").1, 400, "bad_request"),
        (vec![], parts(&bad, "7").1, 422, "invalid_file"),
        (vec![], parts(&bad, "{}").1, 422, "invalid_file"),
        (vec![], form(&[("name=\"file\"", &good), ("name=\"file\"", &good)]).1, 400, "bad_request"),
        (vec![], form(&[("name=\"context\"", "{}")]).1, 400, "bad_request"),
        (vec![], form(&[("name=\"file\"", &good), ("name=\"other\"", "")]).1, 400, "bad_request"),
        (vec![], parts(&good, &format!("{{\"a\":\"{}\"}}", "x".repeat(70_000))).1, 413, "too_large"),
        (vec![], b"--a-boundary\r\nnonsense".to_vec(), 400, "bad_request"),
        (vec![("Content-Type", "text/plain")], good.clone().into_bytes(), 415, "unsupported_media_type"),
    ];
    for (mut headers, body, status, code) in cases {
        if headers.is_empty() {
            headers.push(("Content-Type", "multipart/form-data; boundary=a-boundary"));
        }
        let answers = ["", "?validate_only=true"].map(|query| {
            let answer = upload(&app, &app.key, &format!("{PATH}{query}"), &headers, &body[..]);
            assert_eq!(answer.code(), (status, code.to_owned()), "{query} {headers:?}: {}", answer.json());
            let mut problem = answer.json();
            assert!(problem["request_id"].take().is_string());
            problem
        });
        assert_eq!(answers[0], answers[1], "{headers:?}");
    }
    assert_eq!(kept(&app), (0, 0, 0));
}

#[test]
fn a_check_only_tells_what_the_file_is_and_that_it_was_uploaded_before() {
    let app = idle();
    let check = |query: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = upload(&app, &app.key, &format!("{PATH}?validate_only=true{query}"), headers, body);
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    };
    let csv = people(3);
    let told = check("", &[CSV], csv.as_bytes());
    let columns: Vec<_> = HEADER.trim().split(',').collect();
    let expected = json!({ "valid": true, "rows": 3, "columns": columns, "delimiter": "comma", "warnings": [] });
    assert_eq!(told, expected);
    let (content_type, body) = form(&[("name=\"file\"; filename=\"p.csv\"", &csv), ("name=\"context\"", "{}")]);
    assert_eq!(check("", &[("Content-Type", &content_type)], &body), expected);
    assert_eq!(check("", &[CSV, ("Content-Encoding", "gzip")], &gzip(csv.as_bytes())), expected);
    let id = app.accepted(&csv);
    let warnings = check("", &[CSV], csv.as_bytes())["warnings"].clone();
    assert!(warnings[0].as_str().is_some_and(|warning| warning.contains(&id)), "{warnings}");
    assert_eq!(check("&allow_duplicate=true", &[CSV], csv.as_bytes())["warnings"], json!([]));
    assert_eq!(kept(&app), (1, 1, 0));
    let other = app.add_client("other", None);
    let of_other = upload(&app, &other, &format!("{PATH}?validate_only=true"), &[CSV], csv);
    assert_eq!(of_other.json()["warnings"], json!([]), "another client's files are nobody's business");
}

#[test]
fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let more = "[workflows.invite]\nmax_bytes = \"2kB\"".to_owned();
    let app = App::start(Setup { more, dispatch: String::new(), ..Setup::default() });
    let long = HEADER.to_owned() + &"a@mail.example,Ann,Smith,,AB1 2CD,1\n".repeat(100_000);
    let (content_type, body) = form(&[("name=\"file\"", &long)]);
    let chunked = ureq::SendBody::from_owned_reader(std::io::Cursor::new(long.clone().into_bytes()));
    let answers = [
        upload(&app, &app.key, PATH, &[CSV], &long),
        upload(&app, &app.key, PATH, &[CSV], chunked),
        upload(&app, &app.key, PATH, &[("Content-Type", &content_type)], &body[..]),
        upload(&app, &app.key, &format!("{PATH}?validate_only=true"), &[CSV], &long),
    ];
    for answer in answers {
        assert_eq!(answer.code(), (413, "too_large".to_owned()));
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("2000")));
    }
    assert_eq!(kept(&app), (0, 0, 0));
}

#[test]
fn expect_is_answered_before_the_body_is_sent() {
    let app = idle();
    let csv = people(2);
    let expecting = |content_type: &str| {
        let length = csv.len();
        head(&app, &format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n"))
    };
    let mut connection = connect(&app);
    connection.write_all(expecting("text/csv").as_bytes()).expect("sent");
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    connection.read_exact(&mut go_on).expect("an answer");
    assert_eq!(&go_on[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(csv.as_bytes()).expect("sent");
    assert!(rest(connection).starts_with("HTTP/1.1 202 "));

    let mut refused = connect(&app);
    refused.write_all(expecting("application/json").as_bytes()).expect("sent");
    let answer = rest(refused);
    assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("\"unsupported_media_type\""), "{answer}");
    assert_eq!(kept(&app).0, 1);
}

#[test]
fn a_body_that_pauses_for_too_long_is_given_up() {
    let app = idle();
    let started = head(&app, "Content-Type: text/csv\r\nContent-Length: 1000\r\n") + HEADER;
    let boundary = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n";
    let in_a_head = head(&app, boundary) + "--b\r\nContent-Disposition: form-data; na";
    let connections: Vec<_> = [started, in_a_head]
        .iter()
        .map(|text| {
            let mut connection = connect(&app);
            connection.write_all(text.as_bytes()).expect("sent");
            connection
        })
        .collect();
    for connection in connections {
        let answer = rest(connection);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let problem: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["code"], "request_timeout");
    }
    assert_eq!(kept(&app), (0, 0, 0));
}
