//! Wrong keys are slowed down, and no caller can take all of the API.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Told, bearer, call, idle,
    support::app::{App, DISPATCH, OPERATOR, Setup},
};

/// As [`dripfeed::http::sign_ins::LOOKED_AT_AFTER`].
const LOOKED_AT_AFTER: Duration = Duration::from_millis(500);

fn behind_proxy() -> Setup {
    Setup { server: "trusted_proxies = [\"127.0.0.1\"]".into(), ..idle() }
}

fn seconds(told: &Told) -> u64 {
    told.headers["retry-after"].parse().expect("seconds")
}

#[test]
fn whoever_shows_wrong_keys_is_slowed_down_and_locks_nobody_out() {
    let app = App::start(behind_proxy());
    let from = |address: &str, key: &str| {
        call(&app, "GET", "/v2/batches", &[("authorization", &bearer(key)), ("x-forwarded-for", address)], "")
    };
    let stranger = "198.51.100.7";
    let mut wrong = (0..10).map(|number| from(stranger, &format!("guess-{number:016}")).status);
    assert!(wrong.all(|status| status == 401), "people mistype");
    let waits: Vec<_> = (0..3)
        .map(|number| {
            let slowed = from(stranger, &format!("guess-again-{number}"));
            assert_eq!((slowed.status, slowed.body["code"].as_str()), (429, Some("rate_limited")), "{slowed:?}");
            seconds(&slowed)
        })
        .collect();
    assert!(waits.is_sorted_by(|one, next| one < next), "more is asked for each time: {waits:?}");

    let took = |address: &str, key: &str| {
        let begun = Instant::now();
        let told = from(address, key);
        (told.status, begun.elapsed())
    };
    let (status, waited) = took(stranger, "one-more-guess-0123456789");
    assert!(status == 429 && waited >= LOOKED_AT_AFTER, "a guess is looked at only then: {waited:?}");
    let session = |key: &str| {
        let body = json!({ "key": key }).to_string();
        let headers = [("content-type", "application/json"), ("x-forwarded-for", stranger)];
        let begun = Instant::now();
        (call(&app, "POST", "/session", &headers, &body).status, begun.elapsed())
    };
    let (status, waited) = session("a-guess-on-the-page-0123456789");
    assert!(status == 429 && waited >= LOOKED_AT_AFTER, "by the other door too: {waited:?}");
    let (status, waited) = took(stranger, DISPATCH);
    assert_eq!(status, 403, "a token that is right is taken, for what it may do");
    assert!(waited < 3 * LOOKED_AT_AFTER, "within a second from where the guesses come: {waited:?}");
    assert_eq!(session(OPERATOR).0, 200, "on the page too");
    for (address, key) in [("198.51.100.8", OPERATOR), (stranger, OPERATOR), (stranger, &app.key)] {
        let (status, waited) = took(address, key);
        assert_eq!(status, 200);
        assert!(waited < LOOKED_AT_AFTER, "another address, a token that was good before, a key: {waited:?}");
    }
    assert_eq!(from("198.51.100.8", "guess").status, 401, "another address is not slowed");
    let first = format!("203.0.113.1, {stranger}");
    assert_eq!(from(&first, "guess").status, 429, "what a guesser writes in front does not make it another one");
}

#[test]
fn each_caller_has_a_limit_which_is_told_and_kept() {
    let app = App::start(Setup { more: "[limits]\nrequests_per_minute = 5".into(), ..idle() });
    let globex = app.add_client("globex", None);
    let list = |key: &str| call(&app, "GET", "/v2/batches", &[("authorization", &bearer(key))], "");
    let first = list(&app.key);
    assert_eq!(first.headers["ratelimit-policy"], "\"caller\";q=5;w=60");
    assert!(first.headers["ratelimit"].starts_with("\"caller\";r=4;t="), "{first:?}");
    let refused = app.until("the limit is reached", || Some(list(&app.key)).filter(|told| told.status != 200));
    assert_eq!((refused.status, refused.body["code"].as_str()), (429, Some("rate_limited")), "{refused:?}");
    assert!((1..=60).contains(&seconds(&refused)), "{refused:?}");
    assert!(refused.headers["ratelimit"].starts_with("\"caller\";r=0;t="), "{refused:?}");

    for key in [&globex[..], OPERATOR] {
        assert_eq!(list(key).status, 200, "others have limits of their own");
    }
    for _ in 0..8 {
        for path in ["/livez", "/readyz"] {
            assert_eq!(call(&app, "GET", path, &[], "").status, 200);
        }
        for key in [DISPATCH, OPERATOR] {
            assert_eq!(app.post(key, "/ops/v1/dispatch").0, 200, "dispatch is not held up");
        }
    }
    let missing = call(&app, "GET", "/v2/batches", &[], "");
    assert_eq!((missing.status, missing.headers.contains_key("ratelimit")), (401, false));
    let query = call(&app, "GET", "/v2/batches/bat_0", &[("authorization", &bearer(&globex))], "");
    assert_eq!(query.body["code"], json!("not_found"));
}
