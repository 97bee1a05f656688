//! Everything that is refused, the least of requests included, is refused in the same form.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use super::{
    JSON, Told, bearer, call, idle,
    support::app::{App, OPERATOR, people},
};

fn is_problem(told: &Told, status: u16, code: &str) {
    assert_eq!((told.status, told.body["code"].as_str()), (status, Some(code)), "{told:?}");
    assert_eq!(told.headers["content-type"], "application/problem+json", "{told:?}");
    assert_eq!(told.body["status"], status, "{told:?}");
    assert_eq!(told.body["request_id"], json!(told.headers["x-request-id"]), "{told:?}");
    for member in ["type", "title", "detail"] {
        assert!(told.body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {told:?}");
    }
    for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(told.headers[name], value, "{told:?}");
    }
}

#[test]
fn every_refusal_is_a_problem_with_a_code_and_an_id() {
    let app = App::start(idle());
    let id = app.accepted(people(1));
    let (client, operator) = (bearer(&app.key), bearer(OPERATOR));
    let as_client = [("authorization", &client[..])];
    let as_operator = [("authorization", &operator[..]), JSON];
    for path in ["/nowhere", "/v2", "/v2/batches/nonsense", "/v2/batches/..%2f..", "/ops/v1/clients/a/b/c", "//"] {
        is_problem(&call(&app, "GET", path, &as_client, ""), 404, "not_found");
    }
    for (path, allowed) in [
        ("/v2/batches", "GET, HEAD"),
        ("/ops/v1/clients", "GET, HEAD, POST"),
        ("/ops/v1/clients/acme", "GET, HEAD, PATCH, DELETE"),
        ("/session", "GET, HEAD, POST, DELETE"),
        ("/v2/client/users/batch/invite", "POST"),
        ("/livez", "GET, HEAD"),
    ] {
        let told = call(&app, "PUT", path, &as_client, "");
        is_problem(&told, 405, "method_not_allowed");
        assert_eq!(told.headers["allow"], allowed, "{path}");
    }
    assert_eq!(app.batch(&id)["status"], app.batch(&id)["status"], "asking for methods calls no handler");
    is_problem(&call(&app, "GET", "/v2/batches", &[], ""), 401, "unauthorized");
    is_problem(&call(&app, "GET", "/v2/batches", &[("authorization", "Basic YTpi")], ""), 401, "unauthorized");
    is_problem(&call(&app, "GET", "/ops/v1/overview", &as_client, ""), 403, "forbidden");
    for query in ["limit=0", "limit=1001", "limit=x", "after=%00", "odd=1"] {
        is_problem(&call(&app, "GET", &format!("/v2/batches?{query}"), &as_client, ""), 400, "bad_request");
    }

    let pause = "/ops/v1/dispatch/pause";
    for malformed in ["{", "[]", "{\"reason\": 7}", "{\"other\": 1}", "\u{0}"] {
        is_problem(&call(&app, "POST", pause, &as_operator, malformed), 400, "bad_request");
    }
    let long = json!({ "reason": "x".repeat(501) }).to_string();
    is_problem(&call(&app, "POST", pause, &as_operator, &long), 400, "bad_request");
    let huge = json!({ "reason": "x".repeat(20_000) }).to_string();
    is_problem(&call(&app, "POST", pause, &as_operator, &huge), 413, "too_large");
    let deep = "[".repeat(10_000);
    is_problem(&call(&app, "POST", pause, &as_operator, &deep), 400, "bad_request");
    let form = [("authorization", &operator[..]), ("content-type", "application/x-www-form-urlencoded")];
    is_problem(&call(&app, "POST", pause, &form, "reason=x"), 415, "unsupported_media_type");
    let upload = [("authorization", &client[..]), ("content-type", "application/pdf")];
    is_problem(&call(&app, "POST", "/v2/client/users/batch/invite", &upload, "x"), 415, "unsupported_media_type");
    let (_, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(overview["dispatch"]["paused"], Value::Null, "none of these has paused anything");

    let fine = call(&app, "GET", "/livez", &[], "");
    let page = call(&app, "GET", "/", &[], "");
    let nowhere = call(&app, "GET", "/nowhere", &[], "");
    for told in [&fine, &page, &nowhere] {
        assert!(told.headers["x-request-id"].starts_with("req_"), "{told:?}");
        assert_eq!(told.headers["x-content-type-options"], "nosniff", "{told:?}");
        assert!(told.headers["content-security-policy"].contains("frame-ancestors 'none'"), "{told:?}");
    }
    let refused = call(&app, "GET", "/v2/batches", &[], "");
    for told in [&refused, &nowhere] {
        app.until("its id stands in the log", || app.log().contains(&told.headers["x-request-id"]).then_some(()));
    }
}

/// What comes back for these bytes, until the server closes the connection.
fn raw(app: &App, request: &[u8]) -> String {
    let address = app.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(address).expect("connected");
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_no_request_or_too_much_of_one_gets_a_short_no_and_the_server_stays() {
    let app = App::start(idle());
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let large = "y".repeat(200_000);
    for (request, statuses) in [
        ("nonsense\r\n\r\n".to_owned(), &["400"][..]),
        (format!("GET /livez HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &["431"]),
        (format!("GET /livez HTTP/1.1\r\nHost: a\r\nX-Large: {large}\r\n\r\n"), &["431"]),
        (format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n"), &["414", "431"]),
        ("POST /session HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(), &["400"]),
    ] {
        let answer = raw(&app, request.as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{statuses:?} for {:.60}: {answer:.200}", request);
    }
    assert_eq!(call(&app, "GET", "/livez", &[], "").status, 200);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let app = App::start(idle());
    let head = format!(
        "POST /ops/v1/dispatch/pause HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OPERATOR}\r\n\
         Content-Type: application/json\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{{"
    );
    let answer = raw(&app, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"request_timeout\""), "{answer}");
}
