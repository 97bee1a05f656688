//! Good answers, bad ones, and none.

use std::{collections::BTreeMap, time::Duration};

use dripfeed::model::{
    FailureCode, StepFailure,
    outcome::{Effect, Outcome},
};
use serde_json::json;

use crate::{
    fixture::{Fixture, dependency},
    server::{Reply, Server, closed_port, ok, status},
};

fn call(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Outcome {
    let server = Server::start(move |_| reply());
    let mut dependency = dependency(&server.url());
    dependency.timeout = Duration::from_millis(300);
    Fixture::live(dependency).call()
}

fn permanent(outcome: Outcome) -> StepFailure {
    match outcome {
        Outcome::Permanent { failure, .. } => failure,
        other => panic!("{other:?}"),
    }
}

fn transient(outcome: Outcome) -> (StepFailure, Effect, bool) {
    match outcome {
        Outcome::Transient { failure, effect, counted, .. } => (failure, effect, counted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_carry_what_the_step_and_the_dependency_say_over_one_connection() {
    let server = Server::start(|_| ok(r#"{"link": "l-1"}"#));
    let fixture = Fixture::live(dependency(&server.url()));
    for _ in 0..5 {
        let saved = BTreeMap::from([("link".to_owned(), json!("l-1").into())]);
        assert_eq!(fixture.call(), Outcome::Success { http_status: 200, saved });
    }
    let request = fixture.request(1);
    let permit = fixture.permit(crate::fixture::PATIENCE).expect("a permit");
    fixture.send(&request, None, permit, None);

    assert_eq!(server.connections(), 1, "the connection is kept");
    let received = server.received();
    let (post, get) = (&received[0], &received[5]);
    assert_eq!(post.line, "POST /links?postcode=AB1%202CD HTTP/1.1");
    assert_eq!(post.body, r#"{"postcode":"AB1 2CD"}"#);
    let header = |name: &str| post.headers.get(name).map(String::as_str);
    assert_eq!(header("authorization"), Some("Bearer s3cret"));
    assert_eq!(header("idempotency-key"), Some("key-1"));
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("user-agent"), Some(concat!("dripfeed/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(get.line, "GET /addresses?postcode=AB1%202CD HTTP/1.1");
    assert!(!get.headers.contains_key("idempotency-key") && get.body.is_empty());
}

#[test]
fn no_answer_in_time_is_unanswered() {
    let (failure, effect, counted) = transient(call(|| Reply::Silence));
    assert_eq!((failure.code, effect, counted), (FailureCode::Timeout, Effect::Perhaps, true));
    assert_eq!(failure.message, "addresses: no answer in time");
}

#[test]
fn a_refused_connection_was_certainly_not_sent() {
    let fixture = Fixture::live(dependency(&format!("http://{}", closed_port())));
    let (failure, effect, _) = transient(fixture.call());
    assert_eq!((failure.code, effect), (FailureCode::Connection, Effect::NotSent));
    assert_eq!(failure.message, "addresses: no connection (connection refused)");
}

#[test]
fn a_name_that_nobody_has_was_certainly_not_sent() {
    let fixture = Fixture::live(dependency("http://nobody.invalid"));
    let (failure, effect, _) = transient(fixture.call());
    assert_eq!((failure.code, effect), (FailureCode::Connection, Effect::NotSent));
}

#[test]
fn an_answer_that_breaks_off_is_unanswered() {
    let (failure, effect, counted) = transient(call(|| Reply::CutOff));
    assert_eq!((failure.code, effect, counted), (FailureCode::Connection, Effect::Perhaps, true));
    assert_eq!(failure.http_status, Some(200));
}

#[test]
fn garbage_is_a_broken_connection() {
    let (failure, effect, _) = transient(call(|| Reply::Garbage));
    assert_eq!((failure.code, effect), (FailureCode::Connection, Effect::Perhaps));
}

#[test]
fn ten_megabytes_are_a_bad_answer_of_which_little_is_kept() {
    let failure = permanent(call(|| ok(&format!("{{\"link\": \"{}\"}}", "x".repeat(10_000_000)))));
    assert_eq!((failure.code, failure.http_status), (FailureCode::BadAnswer, Some(200)));
    assert_eq!(failure.body.map(|body| body.len()), Some(4_096));
}

#[test]
fn a_redirect_is_not_followed() {
    let target = Server::start(|_| ok("{}"));
    let location = target.url();
    let failure = permanent(call(move || Reply::Answer(307, vec![("Location", location.clone())], String::new())));
    assert_eq!((failure.code, failure.http_status), (FailureCode::Rejected, Some(307)));
    assert_eq!(target.connections(), 0);
}

#[test]
fn a_refusal_keeps_its_body_and_tells_no_url() {
    let failure = permanent(call(|| Reply::Answer(422, Vec::new(), r#"{"why": "no such postcode"}"#.to_owned())));
    assert_eq!(failure.message, "addresses answered 422 Unprocessable Entity");
    assert_eq!(failure.body.as_deref(), Some(r#"{"why": "no such postcode"}"#));
}

#[test]
fn an_answer_without_what_is_to_be_saved_is_a_bad_one() {
    for body in ["", "<html>", "{}", r#"{"link": null}"#] {
        let failure = permanent(call(move || ok(body)));
        assert_eq!((failure.code, failure.body.as_deref()), (FailureCode::BadAnswer, Some(body)));
    }
    assert_eq!(permanent(call(|| status(204))).code, FailureCode::BadAnswer);
}
