//! Wrong keys are slowed down, and no caller can take all of the API.

use serde_json::json;

use super::{
    Told, bearer, call, idle,
    support::app::{App, DISPATCH, OPERATOR, Setup},
};

fn behind_proxy() -> Setup {
    Setup { server: "trusted_proxies = [\"127.0.0.1\"]".into(), ..idle() }
}

fn seconds(told: &Told) -> u64 {
    told.headers["retry-after"].parse().expect("seconds")
}

#[test]
fn whoever_shows_wrong_keys_waits_longer_and_longer_and_nobody_else_does() {
    let app = App::start(behind_proxy());
    let from = |address: &str, key: &str| {
        call(&app, "GET", "/v2/batches", &[("authorization", &bearer(key)), ("x-forwarded-for", address)], "")
    };
    let stranger = "198.51.100.7";
    assert_eq!(from(stranger, OPERATOR).status, 200);
    let mut wrong = (0..10).map(|number| from(stranger, &format!("guess-{number:016}")).status);
    assert!(wrong.all(|status| status == 401), "people mistype");
    let mut waits = Vec::new();
    for number in 0..2 {
        let slowed = app.until("the next guess is looked at", || {
            let told = from(stranger, &format!("guess-again-{number}"));
            let is_fresh = waits.last().is_none_or(|last| seconds(&told) > *last);
            is_fresh.then_some(told)
        });
        assert_eq!((slowed.status, slowed.body["code"].as_str()), (429, Some("rate_limited")), "{slowed:?}");
        waits.push(seconds(&slowed));
    }
    assert!(waits[1] > waits[0], "each wait is longer: {waits:?}");
    let unseen = from(stranger, DISPATCH);
    assert_eq!(unseen.status, 429, "while it waits, no guess of its is looked at, and be it right");

    assert_eq!(from("198.51.100.8", "guess").status, 401, "another address does not wait");
    assert_eq!(from(stranger, &app.key).status, 200, "a client behind the same proxy is not locked out");
    assert_eq!(from(stranger, OPERATOR).status, 200, "nor an operator whose token was good before");
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
