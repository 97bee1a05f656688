//! What an answer means: for the row (an [`Outcome`]), and for the dependency's gate (its [`Health`]).
//!
//! | answer | row | gate |
//! |---|---|---|
//! | 2xx with all that `save` asks for | success | well |
//! | 2xx without it, not JSON, too large, long or deep | fails: `bad_answer` | well |
//! | 429, 503, 403 with `Retry-After` | again later, not counted | closes |
//! | 401 | again later, not counted; its row's affair where others are not refused | five in a row close |
//! | 425 | again later | well |
//! | 408 | again later; it may have been done | well |
//! | other 5xx, no answer in time, cut off | again later; it may have been done | failing |
//! | no connection | again later | failing |
//! | no connection because this machine lacks something (`lack`) | waits, not counted | none |
//! | anything else (3xx, 4xx) | fails: `rejected` | well |

use std::{collections::BTreeMap, time::Duration};

use hyper::StatusCode;

use super::{
    advice::Advice,
    client::{self, Answer, AnswerBody, CallError, MAX_ANSWER},
    gate::{GateReason, Health},
};
use crate::model::{
    FailureCode, Saved, StepFailure, Timestamp,
    nesting::{DEEPEST_JSON, is_too_deep},
    outcome::{Effect, Outcome},
    saved::LONGEST_VALUE,
};

/// What a person needs to know of a redirect. Where it leads stays out: it may hold what rows hold.
const NOT_FOLLOWED: &str = ". Redirects are not followed: `base_url` should say where the API is";

/// The most bytes of an answer's body that are kept with a failure.
pub const MAX_KEPT_BODY: usize = 4 * 1024;

/// What a call tells about its dependency.
pub fn health(result: &Result<Answer, CallError>, now: Timestamp) -> Health {
    let Ok(answer) = result else { return Health::Failing };
    let busy = |reason| {
        let retry_after = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
        // Where it says so in another way only.
        let hold = || answer.advice.map(Advice::hold).filter(|hold| !hold.is_zero());
        Health::Busy { reason, retry_after: retry_after.or_else(hold) }
    };
    match (answer.status, &answer.body) {
        (401, _) => Health::Unauthorized,
        (403, _) if asks_to_wait(answer, now) => busy(GateReason::RateLimited),
        (429, _) => busy(GateReason::RateLimited),
        (503, _) => busy(GateReason::Unavailable),
        (500.., _) | (200..=299, AnswerBody::Broken(..)) => Health::Failing,
        _ => Health::Well,
    }
}

/// Whether its `Retry-After` says anything.
fn asks_to_wait(answer: &Answer, now: Timestamp) -> bool {
    answer.retry_after.as_deref().is_some_and(|text| retry_after(text, now).is_some())
}

/// How a call ended for its row. `silence_counts`: whether a request without an answer is an attempt.
pub fn outcome(
    dependency: &str,
    save: &BTreeMap<String, String>,
    result: Result<Answer, CallError>,
    silence_counts: bool,
    now: Timestamp,
) -> Outcome {
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => return silent(dependency, error, None, silence_counts),
    };
    let status = answer.status;
    let retry_after = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let failure = |code, message: String, body: &[u8]| StepFailure {
        code,
        http_status: Some(status),
        message,
        body: Some(kept(body)),
    };
    match (status, answer.body) {
        (200..=299, AnswerBody::Whole(body)) => match saved(save, &body) {
            Ok(saved) => Outcome::Success { http_status: status, saved },
            Err(lack) => {
                let message = format!("{dependency} answered {}, but {lack}", told(status));
                Outcome::Permanent { failure: failure(FailureCode::BadAnswer, message, &body), effect: Effect::Done }
            }
        },
        // Where nothing of it is saved, it does not matter how much came back.
        (200..=299, AnswerBody::TooLarge(_)) if save.is_empty() => {
            Outcome::Success { http_status: status, saved: BTreeMap::new() }
        }
        (200..=299, AnswerBody::TooLarge(body)) => {
            let most = MAX_ANSWER / 1024;
            let message = format!("{dependency} answered {}, but with a body of more than {most} KiB", told(status));
            Outcome::Permanent { failure: failure(FailureCode::BadAnswer, message, &body), effect: Effect::Done }
        }
        (200..=299, AnswerBody::Broken(_, error)) => silent(dependency, error, Some(status), silence_counts),
        (_, AnswerBody::Whole(body) | AnswerBody::TooLarge(body) | AnswerBody::Broken(body, _)) => {
            let closes_the_gate = matches!(status, 429 | 503) || (status == 403 && retry_after.is_some());
            let code = match status {
                401 => FailureCode::Unauthorized,
                403 | 429 if closes_the_gate => FailureCode::RateLimited,
                500.. => FailureCode::ServerError,
                _ => FailureCode::Rejected,
            };
            // What the status turns away has not been done, except where it only says that something broke on the way.
            let effect = match status {
                408 | 500..=502 | 504.. => Effect::Perhaps,
                _ => Effect::Nothing,
            };
            let hint = if (300..400).contains(&status) { NOT_FOLLOWED } else { "" };
            let failure = failure(code, format!("{dependency} answered {}{hint}", told(status)), &body);
            match status {
                403 | 429 | 503 if closes_the_gate => {
                    Outcome::Transient { failure, effect, counted: false, retry_after: None }
                }
                401 => Outcome::Transient { failure, effect, counted: false, retry_after },
                408 | 425 | 500.. => Outcome::Transient { failure, effect, counted: true, retry_after },
                _ => Outcome::Permanent { failure, effect },
            }
        }
    }
}

/// A 401 that is its row's own affair: others are not refused.
pub fn of_the_row(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Transient { failure, effect, .. } if failure.code == FailureCode::Unauthorized => {
            Outcome::Permanent { failure: StepFailure { code: FailureCode::Rejected, ..failure }, effect }
        }
        other => other,
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or an HTTP date. A date that has passed is no wait at all.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let since_epoch = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX));
    Some(at.since(now))
}

fn silent(dependency: &str, error: CallError, http_status: Option<u16>, counted: bool) -> Outcome {
    let message = format!("{dependency}: {error}");
    let failure = StepFailure { code: error.code, http_status, message, body: None };
    Outcome::Transient { failure, effect: error.effect, counted, retry_after: None }
}

/// What `save` asks for, or what of it is lacking.
fn saved(save: &BTreeMap<String, String>, body: &[u8]) -> Result<BTreeMap<String, Saved>, String> {
    if save.is_empty() {
        return Ok(BTreeMap::new());
    }
    let json = client::json(body).ok_or("its body is not JSON")?;
    let at = |pointer: &str| json.at(pointer).map_err(|_| format!("its `{pointer}` cannot be read"));
    let pick = |(name, pointer): (&String, &String)| match at(pointer)? {
        None => Err(format!("its body has no `{pointer}`")),
        Some(value) if value.is_null() => Err(format!("its body has no `{pointer}`")),
        Some(value) if value.json().len() > LONGEST_VALUE => {
            let most = LONGEST_VALUE / 1024;
            Err(format!("its `{pointer}` is longer than {most} KiB, the most that is saved of a value"))
        }
        Some(value) if is_too_deep(&value.value()) => {
            Err(format!("its `{pointer}` has more than {DEEPEST_JSON} levels of objects and lists"))
        }
        Some(value) => Ok((name.clone(), value)),
    };
    save.iter().map(pick).collect()
}

fn kept(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(MAX_KEPT_BODY)]).into_owned()
}

/// `404 Not Found`.
fn told(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, retry_after: None, advice: None, body: AnswerBody::Whole(body.as_bytes().to_vec()) }
    }

    fn classify(answer: Answer, save: &[(&str, &str)]) -> Outcome {
        let save = save.iter().map(|(name, pointer)| (name.to_string(), pointer.to_string())).collect();
        outcome("addresses", &save, Ok(answer), true, NOW)
    }

    #[test]
    fn what_nobody_can_read_is_no_harm_where_it_is_not_asked_for() {
        let body = r#"{"note": "\ud800", "link": "x"}"#;
        let told = |pointer| match classify(answer(200, body), &[("link", pointer)]) {
            Outcome::Success { saved, .. } => saved["link"].json().to_owned(),
            Outcome::Permanent { failure, .. } => failure.message,
            other => panic!("{other:?}"),
        };
        assert_eq!(told("/link"), r#""x""#);
        assert_eq!(told("/note"), "addresses answered 200 OK, but its `/note` cannot be read");
        assert_eq!(told("/other"), "addresses answered 200 OK, but its body has no `/other`");
    }

    #[test]
    fn success_is_2xx_with_all_that_save_asks_for() {
        let save = [("link", "/a/0/link"), ("n", "/n")];
        let whole = classify(answer(201, r#"{"a": [{"link": "x"}], "n": 7}"#), &save);
        let saved = BTreeMap::from([("link".into(), json!("x").into()), ("n".into(), json!(7).into())]);
        assert_eq!(whole, Outcome::Success { http_status: 201, saved });
        let nothing = Outcome::Success { http_status: 204, saved: BTreeMap::new() };
        assert_eq!(classify(answer(204, ""), &[]), nothing);
        for body in ["", "garbage", r#"{"a": [], "n": 7}"#, r#"{"a": [{"link": null}], "n": 7}"#] {
            match classify(answer(200, body), &save) {
                Outcome::Permanent { failure, .. } => {
                    assert_eq!((failure.code, failure.http_status), (FailureCode::BadAnswer, Some(200)));
                    assert_eq!(failure.body.as_deref(), Some(body));
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_value_has_a_longest_text() {
        let told = |length: usize| {
            let body = format!("{{\"link\": \"{}\"}}", "x".repeat(length));
            match classify(answer(200, &body), &[("link", "/link")]) {
                Outcome::Success { saved, .. } => Ok(saved["link"].json().len()),
                Outcome::Permanent { failure, effect: Effect::Done } => Err((failure.code, failure.message)),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(LONGEST_VALUE - 2), Ok(LONGEST_VALUE));
        let message =
            "addresses answered 200 OK, but its `/link` is longer than 64 KiB, the most that is saved of a value";
        assert_eq!(told(LONGEST_VALUE - 1), Err((FailureCode::BadAnswer, message.to_owned())));
    }

    #[test]
    fn every_other_status_is_for_later_or_for_good() {
        for (status, code, later, counted, did) in [
            (408, FailureCode::Rejected, true, true, Effect::Perhaps),
            (425, FailureCode::Rejected, true, true, Effect::Nothing),
            (401, FailureCode::Unauthorized, true, false, Effect::Nothing),
            (403, FailureCode::Rejected, false, true, Effect::Nothing),
            (429, FailureCode::RateLimited, true, false, Effect::Nothing),
            (500, FailureCode::ServerError, true, true, Effect::Perhaps),
            (503, FailureCode::ServerError, true, false, Effect::Nothing),
            (599, FailureCode::ServerError, true, true, Effect::Perhaps),
            (302, FailureCode::Rejected, false, true, Effect::Nothing),
            (404, FailureCode::Rejected, false, true, Effect::Nothing),
        ] {
            match classify(answer(status, "why"), &[("x", "/x")]) {
                Outcome::Transient { failure, effect, counted: is_counted, .. } => {
                    assert!(later && is_counted == counted && effect == did, "{status}");
                    assert_eq!(failure.code, code);
                }
                Outcome::Permanent { failure, .. } => {
                    assert!(!later, "{status}");
                    assert_eq!((failure.code, failure.body.as_deref()), (code, Some("why")));
                }
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_403_with_retry_after_asks_for_a_pause_of_everybody_and_one_without_is_its_rows_affair() {
        let busy = |retry_after| Health::Busy { reason: GateReason::RateLimited, retry_after: Some(retry_after) };
        for (header, expected) in [
            (Some("7"), busy(Duration::from_secs(7))),
            (Some("0"), busy(Duration::ZERO)),
            (Some("soon"), Health::Well),
            (None, Health::Well),
        ] {
            let answer = || Answer { retry_after: header.map(str::to_owned), ..answer(403, "") };
            assert_eq!(health(&Ok(answer()), NOW), expected, "{header:?}");
            match (classify(answer(), &[]), expected) {
                (Outcome::Transient { failure, counted: false, retry_after: None, .. }, Health::Busy { .. }) => {
                    assert_eq!(failure.code, FailureCode::RateLimited);
                }
                (Outcome::Permanent { failure, .. }, Health::Well) => assert_eq!(failure.code, FailureCode::Rejected),
                (other, _) => panic!("{header:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_kept_of_a_body_is_bounded_and_may_be_any_bytes() {
        let body = AnswerBody::TooLarge([0xff].repeat(MAX_KEPT_BODY * 2));
        match classify(Answer { status: 400, retry_after: None, advice: None, body }, &[]) {
            Outcome::Permanent { failure, .. } => {
                assert_eq!(failure.body.map(|body| body.chars().count()), Some(MAX_KEPT_BODY));
                assert_eq!(failure.message, "addresses answered 400 Bad Request");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let seconds = |text| retry_after(text, NOW).map(|wait| wait.as_secs());
        for (text, wait) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Thu, 06 Aug 2026 07:07:40 GMT", Some(60)),
            ("Thu, 06 Aug 2020 07:07:40 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(seconds(text), wait, "{text}");
        }
    }
}
