//! Heads that two could read differently, or nobody: all of them are refused in the form that every refusal has. And what
//! is fine goes on as ever: kept-alive connections, pipelines, bodies of both kinds, `HEAD`.

use std::io::{Read, Write};

use crate::{
    raw::{Told, connection, idle, say},
    support::app::{App, OPERATOR, people},
};

fn is_problem(told: &Told, status: u16, code: &str) {
    let body = told.json();
    assert_eq!((told.status, body["code"].as_str(), &body["status"]), (status, Some(code), &status.into()), "{told:?}");
    assert_eq!(told.headers["content-type"], "application/problem+json", "{told:?}");
    assert_eq!(told.headers["content-length"], told.body.len().to_string(), "{told:?}");
    assert_eq!(body["request_id"], told.headers["x-request-id"], "{told:?}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{told:?}");
    for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("connection", "close")]
    {
        assert_eq!(told.headers[name], value, "{told:?}");
    }
}

#[test]
fn a_head_that_is_none_or_that_two_could_read_differently_is_a_problem() {
    let app = App::start(idle());
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let large = "y".repeat(200_000);
    let host = "Host: a\r\n";
    let length = "Content-Length: 1\r\n";
    for (request, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "bad_request"),
        ("\0\u{1}\u{2}\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\n{host}\r\n"), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\r\n{host}\n"), 400, "bad_request"),
        ("GET /livez HTTP/1.1\r\nHost: a\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\r\n{host}{host}\r\n"), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\r\n{host}Host: b\r\n\r\n"), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\r\n{host}X : y\r\n\r\n"), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\r\n{host} folded: y\r\n\r\n"), 400, "bad_request"),
        (format!("GET /livez HTTP/3.0\r\n{host}\r\n"), 400, "bad_request"),
        (format!("G(T /livez HTTP/1.1\r\n{host}\r\n"), 400, "bad_request"),
        (format!("POST /session HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"), 400, "bad_request"),
        (format!("POST /session HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"), 400, "bad_request"),
        (format!("POST /session HTTP/1.1\r\n{host}{length}{length}\r\nx"), 400, "bad_request"),
        (
            format!("POST /session HTTP/1.1\r\n{host}{length}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "bad_request",
        ),
        (format!("POST /session HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"), 400, "bad_request"),
        (format!("GET /livez HTTP/1.1\r\n{host}{many}\r\n"), 431, "headers_too_large"),
        (format!("GET /livez HTTP/1.1\r\n{host}X-Large: {large}\r\n\r\n"), 431, "headers_too_large"),
        (format!("GET /{large} HTTP/1.1\r\n{host}\r\n"), 414, "uri_too_long"),
        (format!("GET /livez?{} HTTP/1.1\r\n{host}\r\n", &large[..40_000]), 414, "uri_too_long"),
    ] {
        let answer = say(connection(&app), request.as_bytes());
        assert!(answer.starts_with("HTTP/1."), "{request:.60?}: {answer:?}");
        is_problem(&Told::of(&answer), status, code);
        // Behind one that was fine, on a connection that was kept, it is the same.
        let behind = format!("GET /livez HTTP/1.1\r\n{host}\r\n{request}");
        let answers = say(connection(&app), behind.as_bytes());
        let second = answers.rfind("HTTP/1.1 4").unwrap_or_else(|| panic!("{request:.60?}: {answers}"));
        assert!(answers.starts_with("HTTP/1.1 200 "), "{answers}");
        is_problem(&Told::of(&answers[second..]), status, code);
    }
    let log = app.log();
    assert!(log.contains("\"headers_too_large\"") && log.contains("\"uri_too_long\""), "it is logged: {log}");
}

#[test]
fn requests_on_one_connection_are_taken_apart_where_they_end() {
    let app = App::start(idle());
    let key = &app.key;
    let upload = |framing: &str| {
        format!(
            "POST /v2/client/users/batch/invite?validate_only=true HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nAuthorization: Bearer {key}\r\n{framing}\r\n\r\n"
        )
    };
    let livez = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    // Line feeds of a body are nobody's head.
    let csv = people(3);
    let whole = format!("\r\n{livez}{}{csv}{livez}", upload(&format!("Content-Length: {}", csv.len())));
    let last = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = say(connection(&app), format!("{whole}{last}").as_bytes());
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 4, "{answers}");
    assert!(answers.contains("\"valid\":true"), "{answers}");

    let mut stream = connection(&app);
    for piece in format!("{whole}{last}").as_bytes().chunks(7) {
        stream.write_all(piece).expect("sent");
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers");
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 4, "in pieces: {answers}");

    let chunked = format!("{}{:x}\r\n{csv}\r\n0\r\n\r\n{livez}", upload("Transfer-Encoding: chunked"), csv.len());
    let answers = say(connection(&app), chunked.as_bytes());
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "behind a chunked body the connection ends: {answers}");
    assert!(answers.contains("\"valid\":true") && answers.contains("connection: close"), "{answers}");

    let expecting = format!("{}{csv}{last}", upload(&format!("Expect: 100-continue\r\nContent-Length: {}", csv.len())));
    let answers = say(connection(&app), expecting.as_bytes());
    assert!(answers.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answers}");
}

#[test]
fn head_works_wherever_get_does() {
    let app = App::start(idle());
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    let paths = [
        "/".to_owned(),
        "/livez".to_owned(),
        "/readyz".to_owned(),
        "/openapi.json".to_owned(),
        "/metrics".to_owned(),
        "/v2/batches".to_owned(),
        "/v2/workflows".to_owned(),
        format!("/v2/batches/{id}"),
        format!("/v2/batches/{id}/rows?limit=2"),
        format!("/v2/batches/{id}/results.csv"),
        format!("/v2/batches/{id}/events"),
        "/v2/client/users/batch/invite/template.csv".to_owned(),
        "/ops/v1/overview".to_owned(),
        "/ops/v1/audit".to_owned(),
        "/nowhere".to_owned(),
    ];
    for path in paths {
        let key = if path.contains("/users/") || path.contains("workflows") { &app.key } else { OPERATOR };
        let ask = |method: &str, then: &str| {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n{then}\r\n");
            format!(
                "{head}{}",
                if then.is_empty() { "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" } else { "" }
            )
        };
        let answers = say(connection(&app), ask("HEAD", "").as_bytes());
        let (head, behind) = answers.split_once("\r\n\r\n").expect("a head");
        assert!(behind.starts_with("HTTP/1.1 200 "), "{path} has no body, and the next answer follows: {answers}");
        let head = Told::of(&format!("{head}\r\n\r\n"));
        if path.ends_with("/events") {
            assert_eq!(head.status, 200, "{head:?}");
            continue;
        }
        let get = Told::of(&say(connection(&app), ask("GET", "Connection: close\r\n").as_bytes()));
        assert_eq!((head.status, &head.headers["content-type"]), (get.status, &get.headers["content-type"]), "{path}");
        // What tells the time, or counts, may be longer by now.
        if !["/metrics", "/ops/v1/overview", "/ops/v1/audit"].contains(&&path[..]) {
            assert_eq!(head.headers.get("content-length"), get.headers.get("content-length"), "{path}");
        }
    }
}
