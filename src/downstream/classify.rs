//! What an answer means: success, another try, or the end of the row.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use ureq::http::{HeaderMap, header};

use super::client::{Answer, LARGEST_ANSWER, NoAnswer};
use crate::model::{
    FailureCode, Step, StepFailure, Timestamp,
    outcome::{Outcome, Reached},
};

/// How much of an answer's body is kept with an error.
const KEPT_BODY: usize = 4 * 1024;
/// The longest `Retry-After` that is believed.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// The outcome of an answer.
pub(super) fn classify(step: &Step, answer: &Answer) -> Outcome {
    match answer.status {
        200..=299 => match saved(step, answer) {
            Ok(saved) => Outcome::Success(saved),
            Err(what) => Outcome::Permanent(failure(step, answer, FailureCode::BadAnswer, what)),
        },
        status @ (408 | 425 | 429 | 500..=599) => {
            let code = if status < 500 { FailureCode::Rejected } else { FailureCode::ServerError };
            Outcome::Transient {
                failure: failure(step, answer, code, format!("answered {status}")),
                reached: Reached::Answered,
                counted: !matches!(status, 429 | 503),
            }
        }
        status => Outcome::Permanent(failure(step, answer, FailureCode::Rejected, format!("answered {status}"))),
    }
}

/// The outcome where no answer came.
pub(super) fn classify_silence(step: &Step, silence: &NoAnswer) -> Outcome {
    let code = if silence.timed_out { FailureCode::Timeout } else { FailureCode::Connection };
    Outcome::Transient {
        failure: StepFailure {
            code,
            http_status: None,
            message: format!("{} got no answer from {}: {}.", step.name, step.dependency, silence.what),
            body: None,
        },
        reached: silence.reached,
        counted: true,
    }
}

/// When the answer says to come again (RFC 9110, section 10.2.3: seconds or a date), within [`LONGEST_RETRY_AFTER`].
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a very long time.
        value.parse().map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
        Timestamp(at).since(now)
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

fn saved(step: &Step, answer: &Answer) -> Result<BTreeMap<String, Value>, String> {
    if step.save.is_empty() {
        return Ok(BTreeMap::new());
    }
    let body = answer.body.as_ref().ok_or_else(|| format!("answered with more than {LARGEST_ANSWER} bytes"))?;
    let json: Value = serde_json::from_slice(body).map_err(|_| "did not answer with JSON".to_owned())?;
    let find = |(name, pointer): (&String, &String)| match json.pointer(pointer) {
        None | Some(Value::Null) => Err(format!("answered without `{pointer}`, which `{name}` is saved from")),
        Some(value) => Ok((name.clone(), value.clone())),
    };
    step.save.iter().map(find).collect()
}

fn failure(step: &Step, answer: &Answer, code: FailureCode, what: String) -> StepFailure {
    let body = answer.body.as_deref().filter(|body| !body.is_empty());
    StepFailure {
        code,
        http_status: Some(answer.status),
        message: format!("{}: {} {what}.", step.name, step.dependency),
        body: body.map(|body| String::from_utf8_lossy(&body[..body.len().min(KEPT_BODY)]).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ureq::http::HeaderValue;

    use super::*;
    use crate::model::workflow::{Method, Repeat};

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: Some(body.as_bytes().to_vec()) }
    }

    fn step() -> Step {
        Step {
            name: "get-addresses".into(),
            dependency: "addresses".into(),
            method: Method::Get,
            path: "/".into(),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            json: None,
            save: BTreeMap::from([("id".into(), "/list/0/id".into())]),
            repeat: Repeat::Safe,
            result: None,
        }
    }

    fn code_of(outcome: Outcome) -> (&'static str, bool) {
        match outcome {
            Outcome::Success(_) => ("success", false),
            Outcome::Transient { failure, counted, .. } => (failure.code.as_str(), counted),
            Outcome::Permanent(failure) => (failure.code.as_str(), true),
        }
    }

    #[test]
    fn success_saves_what_the_pointers_find() {
        let outcome = classify(&step(), &answer(200, r#"{"list":[{"id":"a1"}]}"#));
        assert_eq!(outcome, Outcome::Success(BTreeMap::from([("id".into(), json!("a1"))])));
    }

    #[test]
    fn each_status_means_what_the_interface_says() {
        for (status, body, expected) in [
            (200, r#"{"list":[]}"#, ("bad_answer", true)),
            (200, r#"{"list":[{"id":null}]}"#, ("bad_answer", true)),
            (200, "<html>", ("bad_answer", true)),
            (302, "", ("rejected", true)),
            (404, "", ("rejected", true)),
            (422, "{}", ("rejected", true)),
            (408, "", ("rejected", true)),
            (429, "", ("rejected", false)),
            (500, "", ("server_error", true)),
            (503, "", ("server_error", false)),
        ] {
            assert_eq!(code_of(classify(&step(), &answer(status, body))), expected, "{status} {body}");
        }
        assert!(matches!(classify(&step(), &answer(408, "")), Outcome::Transient { .. }));
        assert!(matches!(classify(&step(), &answer(404, "")), Outcome::Permanent(_)));
        let too_large = Answer { body: None, ..answer(200, "") };
        assert_eq!(code_of(classify(&step(), &too_large)), ("bad_answer", true));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_within_bounds() {
        let now = Timestamp(784_111_777_000);
        let wait = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999999999999999"), Some(LONGEST_RETRY_AFTER));
        for wrong in ["", "-1", "soon", "1.5", "Sun, 99 Nov 1994 08:50:07 GMT"] {
            assert_eq!(wait(wrong), None, "{wrong}");
        }
    }
}
