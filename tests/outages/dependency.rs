//! A dependency that behaves as badly as it can: each row ends as it should, and says what a person needs to know.

use serde_json::Value;

use crate::support::{
    app::{App, Setup},
    server::{Received, Reply, Server, ok},
};

/// What the dependency does with a row, by its house number, and what becomes of the row.
struct Case {
    house_number: &'static str,
    reply: fn(&str) -> Reply,
    code: &'static str,
    http_status: Option<u16>,
    message: &'static str,
}

/// The house number whose every call succeeds.
const HEALTHY: &str = "healthy";
/// Ten times as much as is read of an answer.
const LARGE: usize = 10_000_000;

const CASES: [Case; 6] = [
    Case {
        house_number: "hang",
        reply: |_| Reply::Silence,
        code: "timeout",
        http_status: None,
        message: "no answer in time",
    },
    Case {
        house_number: "cut",
        reply: |_| Reply::CutOff,
        code: "connection",
        http_status: Some(200),
        message: "the connection broke",
    },
    Case {
        house_number: "no-http",
        reply: |_| Reply::Garbage,
        code: "connection",
        http_status: None,
        message: "what came back is not HTTP",
    },
    Case {
        house_number: "no-json",
        reply: |_| ok("<html>It works!</html>"),
        code: "bad_answer",
        http_status: Some(200),
        message: "its body is not JSON",
    },
    Case {
        house_number: "large",
        reply: |_| ok(&format!(r#"{{"link": "{}"}}"#, "x".repeat(LARGE))),
        code: "bad_answer",
        http_status: Some(200),
        message: "a body of more than 1024 KiB",
    },
    Case {
        house_number: "redirect",
        reply: |elsewhere| Reply::Answer(302, vec![("Location", elsewhere.to_owned())], String::new()),
        code: "rejected",
        http_status: Some(302),
        message: "Redirects are not followed",
    },
];

/// Each case at its first step; whatever else comes is answered well.
fn reply(received: &Received, elsewhere: &str) -> Reply {
    let asked: Value = serde_json::from_str(&received.body).unwrap_or_default();
    match CASES.iter().find(|case| asked["house_number"] == case.house_number) {
        Some(case) => (case.reply)(elsewhere),
        None => ok(r#"{"link": "l", "addresses": [{"id": "a"}], "check_id": "chk_1"}"#),
    }
}

#[test]
fn each_way_of_a_dependency_to_fail_ends_its_row_with_a_message_that_helps() {
    let elsewhere = Server::start(|_| ok(r#"{"link": "followed"}"#));
    let location = elsewhere.url();
    let server = Server::start(move |received| reply(received, &location));
    let app = App::start(Setup {
        downstream: Some(server.address),
        dependency: "rate_per_second = 2000\nburst = 50\ntimeout = \"1s\"".into(),
        // One attempt says how it ends; that others follow is the downstream's own test.
        more: "[workflows.invite]\nmax_attempts = 1".into(),
        ..Setup::default()
    });
    let mut csv = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    for house_number in CASES.map(|case| case.house_number).into_iter().chain([HEALTHY]) {
        csv.push_str(&format!("{house_number}@mail.example,Ann,Smith,,AB1 2CD,{house_number}\n"));
    }
    let id = app.accepted(csv);
    let done = app.until_status(&id, "completed");
    assert_eq!((&done["counts"]["failed"], &done["counts"]["completed"]), (&CASES.len().into(), &1.into()));

    let rows = app.rows(&id);
    for (case, row) in CASES.iter().zip(&rows) {
        let error = &row["error"];
        assert_eq!((&row["status"], &error["code"]), (&"failed".into(), &case.code.into()), "{row}");
        assert_eq!(error["step"], "address-links", "{row}");
        assert_eq!(error["http_status"].as_u64(), case.http_status.map(u64::from), "{row}");
        let message = error["message"].as_str().expect("a sentence");
        assert!(message.contains("addresses") && message.contains(case.message), "{message}");
    }
    assert_eq!(rows.last().expect("the healthy row")["status"], "completed");
    assert_eq!(server.received().len(), CASES.len() + 3, "each row was asked for once a step");
    assert_eq!(elsewhere.connections(), 0, "the redirect was not followed");
}
