//! Answers that are fine and look odd, what was saved from them, and connections that end as a request leaves.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use crate::{
    support::server::{Received, Reply, Server, late, ok, status},
    zoo::{QUICK, Turns, api, app, created, dependency, email, ended, ends, of, people, post, upload, who, workflow},
};

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("in memory")
}

const GOOD: &str = r#"{"id": "i-1"}"#;

/// An answer that is fine, and that careful readers refuse.
fn odd_but_fine(request: &Received) -> Reply {
    let json = |body: Vec<u8>| Reply::Bytes(200, vec![("Content-Type", "application/json".to_owned())], body);
    match who(request).as_str() {
        "bom" => json([b"\xEF\xBB\xBF", GOOD.as_bytes()].concat()),
        "latin" => json(b"{\"id\": \"i-1\", \"name\": \"Ren\xE9\"}".to_vec()),
        "zipped" => Reply::Bytes(200, vec![("Content-Encoding", "gzip".to_owned())], gzipped(GOOD)),
        "head" => Reply::Answer(200, (0..30).map(|_| ("X-Trace", "t".repeat(1_000))).collect(), GOOD.to_owned()),
        "number" => ok(r#"{"id": "i-1", "weight": 1e400}"#),
        "deep" => ok(&format!(r#"{{"id": "i-1", "tree": {}{}}}"#, "[".repeat(100), "]".repeat(100))),
        "plain" => Reply::Answer(200, vec![("Content-Type", "text/plain".to_owned())], GOOD.to_owned()),
        other => panic!("{other} has an answer"),
    }
}

#[test]
fn answers_that_are_fine_are_taken_as_such() {
    let names = ["bom", "latin", "zipped", "head", "number", "deep", "plain"];
    let server = Server::start(odd_but_fine);
    let app = app(&[api("one", &server, QUICK, "max_attempts = 1", "save = { id = \"/id\" }\nresult = \"id\"")]);
    let id = upload(&app, &app.key, "one", &of(names.map(|name| format!("{name}@fine.example"))));
    ended(&app, &app.key, &id);
    let refused: Vec<_> = ends(&app, &id).into_iter().filter(|(_, end)| end != "completed").collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(server.calls(), names.len(), "each at its first call");
    let results: Vec<_> = app.rows(&id).iter().map(|row| row["check_id"].clone()).collect();
    assert!(results.iter().all(|result| result == "i-1"), "{results:?}");
}

#[test]
fn where_nothing_is_saved_it_does_not_matter_what_comes_back() {
    let server = Server::start(|request| match who(request).as_str() {
        "large" => ok(&"x".repeat(3_000_000)),
        "empty" => status(204),
        _ => Reply::Bytes(201, Vec::new(), vec![0xFF, 0x00, 0xFE]),
    });
    let app = app(&[api("one", &server, "rate_per_second = 200\ntimeout = \"5s\"", "max_attempts = 1", "")]);
    let id = upload(&app, &app.key, "one", &of(["large", "empty", "bytes"].map(|name| format!("{name}@any.example"))));
    ended(&app, &app.key, &id);
    assert!(ends(&app, &id).values().all(|end| end == "completed"), "{:?}", ends(&app, &id));
    assert_eq!(server.calls(), 3);
}

#[test]
fn what_was_saved_goes_on_to_the_last_digit() {
    let answer = r#"{"price": 1.10, "big": 1234567890123456789012345, "yes": true, "list": [1, "two", 1.50], "text": "007", "exponent": 1E3, "place": {"street": "x", "at": [1E3, 2.50]}}"#;
    let server = Server::start(move |_| ok(answer));
    let names = ["price", "big", "yes", "list", "text", "exponent", "place"];
    let saves: Vec<_> = names.iter().map(|name| format!("{name} = \"/{name}\"")).collect();
    let first = post("first", "one", &format!("save = {{ {} }}", saves.join(", ")));
    let text =
        |name: &&str| format!("{name} = \"it is {{{{ saved.{name} }}}}\", {name}_itself = \"{{{{ saved.{name} }}}}\"");
    let members: Vec<_> = names.iter().map(text).collect();
    let second = format!(
        "name = \"second\"\ndependency = \"one\"\nmethod = \"POST\"\npath = \"/second\"\njson = {{ {} }}",
        members.join(", ")
    );
    let app = app(&[dependency("one", server.address, QUICK), workflow("chain", "", &[first, second])]);
    let id = upload(&app, &app.key, "chain", &people("saved.example", 1));
    ended(&app, &app.key, &id);
    let received = server.received();
    let body = &received.last().expect("a call").body;
    for itself in [
        r#""price_itself":1.10"#,
        r#""exponent_itself":1E3"#,
        r#""list_itself":[1, "two", 1.50]"#,
        r#""place_itself":{"street": "x", "at": [1E3, 2.50]}"#,
    ] {
        assert!(body.contains(itself), "no {itself} in {body}");
    }
    let body: Value = serde_json::from_str(body).expect("JSON");
    let sent = |name: &str| body[name].as_str().unwrap_or_default().trim_start_matches("it is ").replace(", ", ",");
    let place = r#"{"street": "x","at": [1E3,2.50]}"#;
    let expected = ["1.10", "1234567890123456789012345", "true", "[1,\"two\",1.50]", "007", "1E3", place];
    let altered: Vec<_> = names.iter().zip(expected).filter(|(name, expected)| sent(name) != *expected).collect();
    assert!(altered.is_empty(), "altered: {altered:?} in {body}");
}

/// Idle connections are closed after this, a little before or after the next request.
const IDLE: Duration = Duration::from_millis(90);

#[test]
fn a_kept_connection_that_closes_as_a_request_leaves_costs_no_attempt_and_no_outcome() {
    for repeat in ["never", "idempotency-key", "safe"] {
        let server = Server::start(|request| Reply::ThenIdle(IDLE, Box::new(created(request))));
        // A request each 100 ms: it leaves while the connection is being closed.
        let keys = "rate_per_second = 10\ntimeout = \"2s\"\nconcurrency = 1\ngate_after = 3";
        let app = app(&[api("one", &server, keys, "", &format!("repeat = \"{repeat}\""))]);
        let id = upload(&app, &app.key, "one", &people("kept.example", 40));
        let done = ended(&app, &app.key, &id);
        assert_eq!(done["counts"]["completed"], 40, "{repeat}: {} unread, {:?}", server.unread(), ends(&app, &id));
        let tried: Vec<_> =
            app.rows(&id).iter().map(|row| row["attempts"].as_u64()).filter(|it| *it > Some(1)).collect();
        assert!(tried.is_empty(), "{repeat}: {} rows paid for a connection", tried.len());
        assert_eq!(server.calls(), 40, "{repeat}");
        assert!(repeat != "never" || server.unread() == 0, "nothing leaves on what may be closing");
    }
}

#[test]
fn a_connection_that_closes_before_each_answer_is_tried_again_by_itself() {
    let turns = Turns::default();
    let server = Server::start(move |request| match turns.take(email(request)) {
        1 => Reply::Close,
        2 => late(Duration::from_millis(50), Reply::CutOff),
        _ => created(request),
    });
    let app = app(&[api("one", &server, QUICK, "", "")]);
    let id = upload(&app, &app.key, "one", &people("closes.example", 10));
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 10, "{:?}", ends(&app, &id));
    crate::zoo::assert_one_key_each(&server);
}
