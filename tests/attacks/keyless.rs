//! Who shows no key, or a wrong one, learns nothing but that: whatever else is wrong with the request, and on every path.

use std::io::Write;

use serde_json::json;

use crate::{
    raw::{Told, connection_from, heard, idle},
    roles::calls,
    support::app::{App, people},
};

/// What anybody may ask.
const PUBLIC: [&str; 4] = ["/livez", "/readyz", "/openapi.json", "/session"];
/// Each is wrong in another way; the last one never ends.
const BODIES: [&str; 4] = [
    "Content-Length: 7\r\n\r\n{broken",
    "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{broken",
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n",
    "Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n{",
];

#[test]
fn no_key_is_said_before_anything_else_that_is_wrong() {
    let app = App::start(idle());
    let id = app.accepted(people(2));
    let calls = calls(&app, &id);
    let guarded = calls.iter().filter(|(_, path, _)| !PUBLIC.iter().any(|public| path.starts_with(public)));
    let mut asked = 0;
    for (method, path, _) in guarded {
        for query in ["", "?nobody=knows&limit=-1"] {
            for (number, body) in BODIES.iter().enumerate() {
                for key in ["", "Authorization: Bearer nobodys\r\n", "Authorization: Basic eA==\r\n"] {
                    // Wrong keys of one address are slowed down.
                    let mut stream = connection_from(&app, (asked % 250) as u8 + 2);
                    asked += 1;
                    write!(stream, "{method} {path}{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}{body}")
                        .expect("sent");
                    let told = Told::of(&heard(stream));
                    let told_of = (told.status, &told.json()["code"]);
                    let is_slowed = key.contains("nobodys") && told.status == 429;
                    assert!(
                        is_slowed || told_of == (401, &json!("unauthorized")),
                        "{method} {path}{query} with body {number} and {key:?}: {told:?}"
                    );
                }
            }
        }
    }
    assert!(asked > 500, "{asked}");
}

#[test]
fn a_key_that_is_good_is_told_what_is_wrong_with_the_body() {
    let app = App::start(idle());
    for path in ["/ops/v1/dispatch/pause", "/ops/v1/dispatch/resume", "/ops/v1/clients", "/ops/v1/stuck/reconcile"] {
        let (status, problem) = app.post_json(crate::support::app::OPERATOR, path, &json!([1]));
        assert_eq!((status, &problem["code"]), (400, &json!("bad_request")), "{path}: {problem}");
    }
}
