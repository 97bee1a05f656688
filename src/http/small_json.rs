//! Small JSON bodies, as pages and operators send them.

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use warp::{
    Filter, Rejection,
    http::{HeaderMap, header},
};

use super::problem::{Problem, ProblemCode};

/// The most bytes of such a body.
const LARGEST: usize = 16 * 1024;
/// How long such a body may take to arrive.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;

/// A body that was understood; `None` where there was none.
pub type Told<T> = Result<Option<T>, Problem>;

/// Why somebody does something, in their words. It is shown to whoever asks, and kept in the audit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Reads a JSON body. `shape` says to a person what it should have been.
pub fn small_json<T: DeserializeOwned + Send>(
    shape: &'static str,
) -> impl Filter<Extract = (Told<T>,), Error = Rejection> + Clone {
    warp::header::headers_cloned().and(warp::body::stream()).then(move |headers: HeaderMap, body| async move {
        let text = tokio::time::timeout(LONGEST, read(body))
            .await
            .map_err(|_| Problem::new(ProblemCode::RequestTimeout, "The body took too long to arrive."))??;
        if text.is_empty() {
            return Ok(None);
        }
        if !is_json(&headers) {
            let detail = "Send the body as `Content-Type: application/json`.";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
        }
        // Where fields are awaited, serde takes a list of their values too; here a body is an object.
        let is_object = text.trim_ascii_start().starts_with(b"{");
        let parsed = serde_json::from_slice(&text).ok().filter(|_| is_object);
        parsed.map(Some).ok_or_else(|| Problem::new(ProblemCode::BadRequest, format!("The body is {shape}.")))
    })
}

/// A body with a reason, or none at all.
pub fn reason() -> impl Filter<Extract = (Result<Reason, Problem>,), Error = Rejection> + Clone {
    small_json::<Reason>("{\"reason\": TEXT}, or left out").map(|told: Told<Reason>| {
        let told = told?.unwrap_or_default();
        if told.reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
            let detail = format!("`reason` has at most {LONGEST_REASON} characters.");
            return Err(Problem::new(ProblemCode::BadRequest, detail));
        }
        Ok(told)
    })
}

/// What something was changed to, and why where somebody said so: one text for the audit.
pub fn because(to: String, reason: Option<String>) -> String {
    match reason {
        Some(reason) => format!("{to}: {reason}"),
        None => to,
    }
}

/// The body, for calls that need one.
pub fn required<T>(told: Told<T>) -> Result<T, Problem> {
    told?.ok_or_else(|| Problem::new(ProblemCode::BadRequest, "This call needs a JSON body."))
}

/// `application/json`, or a type that says it is JSON (RFC 6839).
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Counts bytes itself: a request without a body need not say how long it is.
async fn read<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>>) -> Result<Vec<u8>, Problem> {
    let mut body = std::pin::pin!(body);
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| Problem::new(ProblemCode::BadRequest, "The body broke off."))?;
        if text.len() + chunk.remaining() > LARGEST {
            return Err(Problem::new(ProblemCode::TooLarge, format!("The body has more than {LARGEST} bytes.")));
        }
        text.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    Ok(text)
}
