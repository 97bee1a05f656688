//! Errors as the API tells them: RFC 9457 problem details with a stable `code`.
//!
//! A problem holds what the caller may know. What went wrong inside goes to the log, under the same request id.

use schemars::JsonSchema;
use serde::Serialize;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{model::words, store::StoreError};

/// When a caller should come again whom the database could not serve.
const RETRY_SECONDS: u64 = 5;

/// What problem details call themselves.
pub(super) const PROBLEM_TYPE: &str = "application/problem+json";

/// The stable codes, each with the one HTTP status that it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
#[allow(missing_docs, reason = "they are the interface's own words")]
pub enum ProblemCode {
    BadRequest,
    Unauthorized,
    Forbidden,
    QuotaExceeded,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    DuplicateFile,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    TooLarge,
    UriTooLong,
    HeadersTooLarge,
    UnsupportedMediaType,
    InvalidFile,
    Busy,
    RateLimited,
    Internal,
    Unavailable,
    DiskFull,
}

impl ProblemCode {
    /// Every code.
    pub(super) const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As the API spells it.
    pub(super) fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// A sentence that comes with it, for the API's description.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::BadRequest => "`limit` is 1 to 1000.",
            Self::Unauthorized => "Send a valid key as `Authorization: Bearer KEY`.",
            Self::Forbidden => "This call is for operators.",
            Self::QuotaExceeded => "`batches` may be 10000: 10000 are used, and this upload would add 1.",
            Self::NotFound => "There is no such batch.",
            Self::MethodNotAllowed => "This path does not know that method.",
            Self::RequestTimeout => "The upload paused for too long.",
            Self::Conflict => "The batch is completed already; nothing was changed.",
            Self::DuplicateFile => "The same file was uploaded before. Send `allow_duplicate=true` if it is meant.",
            Self::IdempotencyKeyInUse => "An upload with this Idempotency-Key is under way.",
            Self::IdempotencyKeyReused => "This Idempotency-Key came with another upload.",
            Self::TooLarge => "The file has more than 1000000000 bytes (inflated). Split it; nothing of it was kept.",
            Self::UriTooLong => "The request's path and query are too long.",
            Self::HeadersTooLarge => "The request has too many headers, or too large ones.",
            Self::UnsupportedMediaType => "Send the file as `text/csv`, or as the part `file` of a form.",
            Self::InvalidFile => "The file has one error; nothing of it was kept.",
            Self::Busy => "As many uploads as may run at once are under way.",
            Self::RateLimited => "This is more than one caller may ask in a minute; wait before the next call.",
            Self::Internal => "Something failed inside; the log has it under this request's id.",
            Self::Unavailable => "The database is busy; nothing was changed. Try again in a while.",
            Self::DiskFull => "The disk is full; the operator has to make room. Nothing was kept.",
        }
    }

    /// The status that it comes with.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::QuotaExceeded => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::DuplicateFile | Self::IdempotencyKeyInUse => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidFile | Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Busy | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

impl JsonSchema for ProblemCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProblemCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": words(Self::ALL) })
    }
}

/// An answer that says no.
#[derive(Debug, Clone)]
pub struct Problem {
    code: ProblemCode,
    detail: String,
    retry_after_seconds: Option<u64>,
    more: serde_json::Map<String, serde_json::Value>,
}

/// Problem details (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody<'a> {
    /// `about:blank`: the status and the code say what it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What programs can rely on.
    #[schemars(with = "ProblemCode")]
    code: &'static str,
    /// What is wrong, and what to do, in a sentence or two.
    detail: &'a str,
    /// The log has it too.
    request_id: &'a str,
    /// `errors` and `error_count` of a refused file, `batch` of a duplicate; `quota`, `limit` and `used`.
    #[serde(flatten)]
    more: &'a serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    /// A problem with one sentence that says what is wrong, and what to do.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_seconds: None, more: serde_json::Map::new() }
    }

    /// What an error says, as a sentence.
    pub fn sentence(code: ProblemCode, error: &impl std::fmt::Display) -> Self {
        let mut told = error.to_string();
        if let Some(first) = told.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let end = if told.ends_with(['?', '.']) { "" } else { "." };
        Self::new(code, told + end)
    }

    /// Nothing of that name, or nothing that the caller may see.
    pub fn not_found(what: &str) -> Self {
        Self::new(ProblemCode::NotFound, format!("There is no such {what}."))
    }

    /// Another sentence behind what it says.
    pub fn and(mut self, sentence: &str) -> Self {
        self.detail.push(' ');
        self.detail.push_str(sentence);
        self
    }

    /// A member besides the standard ones.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.more.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }

    /// Says when it is worth asking again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Its code, as the API spells it.
    pub fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// The status that it comes with.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// When it is worth asking again.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    /// The body of its answer.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let status = self.code.status();
        let body = ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            request_id,
            more: &self.more,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The same as a page, for somebody whose browser asked. What is told has no markup, and gets none here.
    pub fn into_page(self) -> Response {
        let escaped = self.detail.replace('&', "&amp;").replace('<', "&lt;");
        let title = self.code.status().canonical_reason().unwrap_or("Error");
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title} · dripfeed</title>\n<h1>{title}</h1>\n<p>{escaped}</p>\n\
             <p><a href=\"/\">Back to dripfeed</a></p>\n"
        );
        let mut response = self.into_response("");
        *response.body_mut() = page.into();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    }

    /// The answer.
    pub fn into_response(self, request_id: &str) -> Response {
        let mut response = Response::new(self.body(request_id).into());
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == ProblemCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(event = "request.not_served", %error, "the database could not serve a request");
        match error.cause() {
            StoreError::DiskFull => Self::disk_full(),
            StoreError::Busy
            | StoreError::Crowded
            | StoreError::ReadTooLong
            | StoreError::NoReader(_)
            | StoreError::Closed
            | StoreError::RolledBack => {
                Self::new(ProblemCode::Unavailable, "The database is busy; nothing was changed. Try again in a while.")
                    .retry_after(RETRY_SECONDS)
            }
            _ => Self::internal(),
        }
    }
}

impl Problem {
    /// No room is left.
    pub fn disk_full() -> Self {
        Self::new(ProblemCode::DiskFull, "The disk is full; the operator has to make room. Nothing was kept.")
    }

    /// A fault of ours. What it was stands in the log, under this request's id.
    pub fn internal() -> Self {
        Self::new(ProblemCode::Internal, "Something failed inside; the log has it under this request's id.")
    }
}
