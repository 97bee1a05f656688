//! Values of any kind in a request: they fill their own place, or the request is not made.

use std::collections::BTreeMap;

use hyper::Uri;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    downstream::request::{Filled, Plan},
    model::{
        FailureCode, Step, StepFailure,
        workflow::{Method, Repeat},
    },
    template::{MAX_OUTPUT, Scope},
};

/// One value in the middle of every place that a request has.
fn step() -> Step {
    let template = |text: &str| text.replace("VALUE", "{{ row.value }}");
    Step {
        name: "invite-create".to_owned(),
        dependency: "invites".to_owned(),
        method: Method::Post,
        path: template("/before/VALUE/after"),
        query: BTreeMap::from([
            ("a".to_owned(), "first".to_owned()),
            ("b".to_owned(), template("VALUE")),
            ("c".to_owned(), "last".to_owned()),
        ]),
        headers: BTreeMap::from([("X-Value".to_owned(), template("VALUE"))]),
        json: Some(json!({"text": template("VALUE"), "list": ["before", template("VALUE"), "after"]})),
        save: BTreeMap::new(),
        repeat: Repeat::IdempotencyKey,
        result: None,
    }
}

fn without_path() -> Step {
    Step { path: "/".to_owned(), ..step() }
}

fn without_headers() -> Step {
    Step { headers: BTreeMap::new(), ..step() }
}

fn fill(step: &Step, value: &str) -> Result<Filled, StepFailure> {
    let row = [("value", value), ("email", "zqOTHERqz")];
    Plan::new(step).expect("a good step").fill(&Scope::new(row, &BTreeMap::new(), &json!({})))
}

/// What means something to a template, a path, a query, a header or JSON, alone and among other things.
fn value() -> impl Strategy<Value = String> {
    let meaningful = [
        "{{ row.email }}",
        "{% if row.email %}",
        "{#",
        "}}",
        ".",
        "..",
        "/",
        "../..",
        "%2e%2e",
        "%2F",
        "\\",
        "?",
        "#",
        "&b=2",
        "=",
        "+",
        " ",
        "%",
        ";",
        "@",
        "//",
        "\r\n",
        "\nX-Evil: 1",
        "\0",
        "\t",
        "\u{7f}",
        "\"",
        "\\\"",
        "\",\"",
        "\u{2028}",
        "\u{feff}",
        "é",
        "😀",
        "<",
        "'",
        "null",
        "",
    ];
    let piece =
        prop_oneof![2 => prop::sample::select(meaningful.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_value_stays_in_its_segment_and_its_query_parameter(value in value()) {
        match fill(&without_headers(), &value) {
            Ok(filled) => {
                let uri: Uri = format!("http://host.example{}", filled.target()).parse().expect("an address");
                prop_assert_eq!(uri.authority().map(|it| it.as_str()), Some("host.example"));
                let segments: Vec<_> = uri.path().split('/').map(decoded).collect();
                prop_assert_eq!(segments, ["", "before", value.as_str(), "after"]);
                let query = uri.query().expect("a query");
                prop_assert!(!query.contains(['+', '#']), "{}", query);
                let pairs: Vec<_> = query.split('&').map(|pair| pair.split_once('=').expect("a pair")).collect();
                let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (decoded(name), decoded(value))).collect();
                let expected = [("a", "first"), ("b", value.as_str()), ("c", "last")];
                prop_assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            Err(failure) => {
                prop_assert_eq!(failure.code, FailureCode::Template);
                prop_assert!(matches!(value.as_str(), "" | "." | ".."), "{:?}: {}", value, failure.message);
            }
        }
    }

    #[test]
    fn a_value_stays_one_text_of_the_body(value in value()) {
        let filled = fill(&Step { headers: BTreeMap::new(), ..without_path() }, &value).expect("filled");
        let body: Value = serde_json::from_slice(filled.body.as_deref().unwrap_or_default()).expect("JSON");
        prop_assert_eq!(body, json!({"text": &value, "list": ["before", &value, "after"]}));
    }

    #[test]
    fn a_value_is_all_of_its_header_or_no_request_is_made(value in value()) {
        let can_be_sent = value.chars().all(|symbol| symbol == '\t' || !symbol.is_ascii_control());
        match fill(&without_path(), &value) {
            Ok(filled) => {
                prop_assert!(can_be_sent, "{:?}", value);
                prop_assert_eq!(filled.headers.len(), 1);
                prop_assert_eq!(filled.headers[0].1.as_bytes(), value.as_bytes());
            }
            Err(failure) => {
                prop_assert_eq!(failure.code, FailureCode::Template);
                prop_assert!(!can_be_sent, "{:?}", value);
            }
        }
    }

    #[test]
    fn a_request_that_cannot_be_made_does_not_tell_the_value(before in value(), after in value()) {
        let value = format!("{before}zqVALUEqz{after}\r\n");
        let failure = fill(&step(), &value).expect_err("a line break in a header");
        prop_assert_eq!(failure.body, None);
        prop_assert!(!failure.message.contains("zq"), "{}", failure.message);
    }

    #[test]
    fn two_values_never_make_the_same_request(one in value(), other in value()) {
        let print = |value| fill(&Step { headers: BTreeMap::new(), ..without_path() }, value).expect("filled").fingerprint();
        prop_assert_eq!(one == other, print(&one) == print(&other));
    }

    #[test]
    fn no_name_of_a_column_hides_another(name in ".{0,12}|row|saved|value ", value in value()) {
        let row = [(name.as_str(), "an extra column's"), ("value", value.as_str())];
        let plan = Plan::new(&Step { headers: BTreeMap::new(), ..without_path() }).expect("a good step");
        let filled = plan.fill(&Scope::new(row, &BTreeMap::new(), &json!({}))).expect("filled");
        let body: Value = serde_json::from_slice(filled.body.as_deref().unwrap_or_default()).expect("JSON");
        prop_assert_eq!(body["text"].as_str(), Some(value.as_str()));
    }
}

#[test]
fn a_value_that_is_too_long_is_refused() {
    // A line and its headers have narrower limits of their own.
    let body = Step { query: BTreeMap::new(), headers: BTreeMap::new(), ..without_path() };
    let fits = "x".repeat(MAX_OUTPUT);
    assert!(fill(&body, &fits).is_ok());
    let failure = fill(&body, &(fits + "x")).expect_err("too long");
    assert_eq!(failure.code, FailureCode::Template);
    assert!(failure.message.len() < 200, "{}", failure.message);
}
