//! Answers of any kind: judged without a panic, and never believed further than they go.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use crate::{
    downstream::{
        MAX_ANSWER,
        classify::{MAX_KEPT_BODY, health, outcome, retry_after},
        client::{Answer, AnswerBody},
        gate::{Gate, GateState, Health, JITTER, Now},
    },
    model::{
        FailureCode, Timestamp,
        nesting::DEEPEST_JSON,
        outcome::{Effect, Outcome},
    },
    work::progress::Progress,
};

/// What the configuration allows where it does not say.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

const NOW: Timestamp = Timestamp(1_786_000_000_000);

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, retry_after: None, advice: None, body: AnswerBody::Whole(body.into()) }
}

/// What an answer means for a step that saves `link` from `/link`.
fn judged(answer: Answer) -> Outcome {
    outcome("addresses", &BTreeMap::from([("link".to_owned(), "/link".to_owned())]), Ok(answer), true, NOW)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let members = vec(("link|[a-z~/]{0,3}", inner.clone()), 0..5).prop_map(|members| members.into_iter().collect());
        prop_oneof![vec(inner, 0..5).prop_map(Value::Array), members.prop_map(Value::Object)]
    })
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any_json(), any::<prop::sample::Index>()).prop_map(|(json, at)| {
        let text = json.to_string().into_bytes();
        text[..at.index(text.len())].to_vec()
    });
    prop_oneof![any_json().prop_map(|json| json.to_string().into_bytes()), cut, vec(any::<u8>(), 0..200)]
}

/// What servers send, and what nobody should.
fn any_retry_after() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u128>().prop_map(|seconds| seconds.to_string()),
        any::<i64>().prop_map(|seconds| seconds.to_string()),
        any::<u32>().prop_map(|seconds| {
            httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(seconds) * 50))
        }),
        "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        "[0-9٣²]{1,30}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn success_is_2xx_with_what_save_asks_for_and_nothing_else_is(status in 100..1_000_u16, body in any_body()) {
        let asked_for = serde_json::from_slice::<Value>(&body).ok().and_then(|json| json.get("link").cloned());
        let asked_for = asked_for.filter(|value| !value.is_null());
        match (judged(answer(status, body.clone())), asked_for) {
            (Outcome::Success { http_status, saved }, Some(value)) => {
                prop_assert_eq!((http_status, http_status / 100), (status, 2));
                prop_assert_eq!(saved.keys().collect::<Vec<_>>(), ["link"]);
                prop_assert_eq!(saved["link"].value(), value);
            }
            (Outcome::Permanent { failure, effect: Effect::Done }, lacking) if failure.code == FailureCode::BadAnswer => {
                prop_assert!(status / 100 == 2 && lacking.is_none(), "{} {:?}", status, lacking);
            }
            (Outcome::Permanent { failure, effect: Effect::Nothing }, _) => {
                prop_assert_eq!((failure.code, failure.http_status), (FailureCode::Rejected, Some(status)));
                prop_assert!(!matches!(status, 200..=299 | 401 | 408 | 425 | 429 | 500..), "{}", status);
            }
            (Outcome::Transient { effect, counted, .. }, _) => {
                prop_assert!(matches!(status, 401 | 408 | 425 | 429 | 500..), "{}", status);
                let may_be_done = !matches!(status, 401 | 425 | 429 | 503);
                let expected = if may_be_done { Effect::Perhaps } else { Effect::Nothing };
                prop_assert_eq!((effect, counted), (expected, !matches!(status, 401 | 429 | 503)));
            }
            other => prop_assert!(false, "{} {:?}", status, other),
        }
    }

    #[test]
    fn what_is_kept_and_told_of_a_body_is_bounded(status in 100..1_000_u16, byte: u8, length in 0..3 * MAX_KEPT_BODY) {
        let bytes = vec![byte; length];
        for body in [AnswerBody::Whole(bytes.clone()), AnswerBody::TooLarge(bytes.clone())] {
            match judged(Answer { status, retry_after: None, advice: None, body }) {
                Outcome::Permanent { failure, .. } | Outcome::Transient { failure, .. } => {
                    prop_assert!(failure.body.is_some_and(|body| body.chars().count() <= MAX_KEPT_BODY));
                    prop_assert!(failure.message.len() < 200, "{}", failure.message);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn no_retry_after_opens_a_gate_in_the_past_or_closes_it_for_long(
        status in prop_oneof![Just(429_u16), Just(503)],
        header in option::of(any_retry_after()),
    ) {
        let told = health(&Ok(Answer { retry_after: header.clone(), ..answer(status, "") }), NOW);
        let Health::Busy { retry_after: wait, .. } = told else { panic!("{told:?}") };
        prop_assert_eq!(wait, header.and_then(|text| retry_after(&text, NOW)));
        let now = Now { steady: 0, wall: NOW };
        let mut gate = Gate::new(GateState::default(), 5, LONGEST_RETRY_AFTER, now);
        let passage = gate.passage(now).expect("open");
        gate.pass(passage);
        gate.report(passage, told, now, &mut rand::rng());
        let until = gate.state().closed.map(|closed| closed.until);
        let latest = NOW.after(LONGEST_RETRY_AFTER.mul_f64(1.0 + JITTER));
        prop_assert!(until.is_some_and(|until| (NOW..=latest).contains(&until)), "{:?}", until);
    }
}

#[test]
fn what_is_saved_from_a_deep_answer_can_be_read_back() {
    for levels in 1..=200 {
        let body = format!("{{\"link\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
        match judged(answer(200, body)) {
            Outcome::Success { saved, .. } => {
                let mut progress = Progress::default();
                progress.note_success("links", saved, Some("link"));
                assert!(Progress::decode(&progress.encode()).is_some(), "{levels} levels are kept and lost");
                assert!(levels <= DEEPEST_JSON);
            }
            Outcome::Permanent { failure, .. } => {
                assert_eq!(failure.code, FailureCode::BadAnswer);
                assert!(levels > DEEPEST_JSON, "{levels} levels are refused");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_depth_overflows_the_stack() {
    for open in ["[", "{\"link\":", "[{\"a\":"] {
        let failure = match judged(answer(200, open.repeat(MAX_ANSWER / open.len()))) {
            Outcome::Permanent { failure, .. } => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure.code, FailureCode::BadAnswer);
    }
    let deep = (0..DEEPEST_JSON).fold(json!(1), |inner, _| json!([inner]));
    let (saved, context) = (BTreeMap::from([("link".to_owned(), deep.into())]), json!({}));
    let scope = crate::template::Scope::new([], &saved, &context);
    let text = crate::template::Template::new("{{ saved.link }}").and_then(|template| template.render(&scope));
    assert_eq!(text.map(|text| text.len()), Ok(2 * DEEPEST_JSON + 1));
}
