//! Small JSON bodies, as pages and operators send them. A handler reads them, once it is known who sends them.

use std::{marker::PhantomData, pin::Pin, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use warp::http::{HeaderMap, HeaderValue, header};

use super::{
    answer::{beside, blocking},
    listen::no_room,
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::store::audit::{LONGEST_REASON, is_reason};

/// The most bytes of such a body.
const LARGEST: usize = 16 * 1024;
/// How long such a body may take to arrive.
const LONGEST: Duration = Duration::from_secs(10);

/// A body that was understood; `None` where there was none.
pub type Told<T> = Result<Option<T>, Problem>;

/// What a small JSON body says.
pub trait JsonBody: DeserializeOwned + JsonSchema + Send + 'static {
    /// Says to a person what it should have been.
    const SHAPE: &'static str;
    /// Whether there has to be one.
    const REQUIRED: bool = true;
}

/// Why somebody does something, in their words. It is shown to whoever asks, and kept in the audit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

impl JsonBody for Reason {
    const SHAPE: &'static str = "{\"reason\": TEXT}, or left out";
    const REQUIRED: bool = false;
}

/// A JSON body that nobody has read yet.
pub struct Sent<T> {
    body: Pieces,
    of: PhantomData<fn() -> T>,
}

/// A body as it comes.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

impl<T: JsonBody> Sent<T> {
    /// Leaves it to the handler to read it.
    pub fn new(body: Pieces) -> Self {
        Self { body, of: PhantomData }
    }

    /// What the body says. Only somebody whom we know is listened to: nobody else's body is read.
    pub async fn told(self, request: &Request) -> Result<Told<T>, Problem> {
        let known = request.clone();
        blocking(move || known.uncounted_caller().map(drop)).await?;
        Ok(self.told_by_anybody(request).await)
    }

    /// What the body says, whoever sends it.
    pub async fn told_by_anybody(self, request: &Request) -> Told<T> {
        let read = tokio::time::timeout(LONGEST, read(self.body, request));
        let text = request
            .while_waiting(read)
            .await?
            .map_err(|_| Problem::new(ProblemCode::RequestTimeout, "The body took too long to arrive."))??;
        parsed(&text, &request.headers)
    }
}

impl Sent<Reason> {
    /// The reason that it says, if it says one.
    pub async fn reason(self, request: &Request) -> Result<Result<Reason, Problem>, Problem> {
        Ok(self.told(request).await?.and_then(|told| Ok(Reason { reason: checked(told.unwrap_or_default().reason)? })))
    }
}

/// The body of a request, for whichever handler reads it.
pub fn pieces<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Pieces {
    Box::pin(body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))))
}

fn parsed<T: JsonBody>(text: &[u8], headers: &HeaderMap) -> Told<T> {
    if text.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        let detail = "Send the body as `Content-Type: application/json`.";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    }
    // Where fields are awaited, serde takes a list of their values too; here a body is an object.
    let is_object = text.trim_ascii_start().starts_with(b"{");
    let parsed = serde_json::from_slice(text).ok().filter(|_| is_object);
    parsed.map(Some).ok_or_else(|| Problem::new(ProblemCode::BadRequest, format!("The body is {}.", T::SHAPE)))
}

/// A reason that is not longer than one is kept.
pub fn checked(reason: Option<String>) -> Result<Option<String>, Problem> {
    if reason.as_deref().is_none_or(is_reason) {
        return Ok(reason);
    }
    Err(Problem::new(ProblemCode::BadRequest, format!("`reason` has at most {LONGEST_REASON} characters.")))
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
async fn read(mut body: Pieces, request: &Request) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| Problem::new(ProblemCode::BadRequest, "The body broke off."))?;
        let length = text.len() + piece.len();
        if length > LARGEST {
            return Err(Problem::new(ProblemCode::TooLarge, format!("The body has more than {LARGEST} bytes.")));
        }
        if request.line.as_ref().is_some_and(|line| !line.has_room(length)) {
            beside(|headers| drop(headers.insert(header::CONNECTION, HeaderValue::from_static("close"))));
            return Err(no_room());
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}
