//! What an upload says of itself in front of its body: query and headers.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use warp::http::{HeaderMap, HeaderValue, header};

use crate::{
    http::{
        accept::prefers_csv,
        problem::{Problem, ProblemCode},
        request::Request,
    },
    model::nesting::{DEEPEST_JSON, is_too_deep},
};

/// `context` for raw bodies.
const CONTEXT_HEADER: &str = "x-dripfeed-context";
/// What makes a second upload harmless.
const KEY_HEADER: &str = "idempotency-key";
/// The longest `Idempotency-Key`, in characters.
const LONGEST_KEY: usize = 255;

/// The query of an upload.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Options {
    /// Only check the file, and store nothing.
    #[serde(default)]
    pub validate_only: bool,
    /// Take a file that was uploaded before.
    #[serde(default)]
    pub allow_duplicate: bool,
}

/// Everything that is said in front of the body.
pub(super) struct Head {
    pub options: Options,
    pub gzip: bool,
    /// `Content-Length`; 0 where it is left out. What the body is held against is how many bytes come.
    pub announced: u64,
    pub body: BodyKind,
    /// The context, where it comes in a header.
    pub context: Option<Map<String, Value>>,
    /// What we know of the request ourselves, kept with the client's context under `request`.
    pub request: Value,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// Whether all errors of a bad file are wanted, as CSV.
    pub errors_as_csv: bool,
}

impl Head {
    pub(super) fn of(request: &Request) -> Result<Self, Problem> {
        let headers = &request.headers;
        Ok(Self {
            options: request.query()?,
            gzip: is_gzip(headers)?,
            announced: announced(headers),
            body: BodyKind::of(headers)?,
            context: headers.get(CONTEXT_HEADER).map(|value| parse_context(value.as_bytes())).transpose()?,
            request: request_context(headers),
            key: idempotency_key(headers)?,
            errors_as_csv: prefers_csv(headers),
        })
    }
}

/// How a body holds its file.
pub(super) enum BodyKind {
    Csv,
    Form { boundary: String },
}

impl BodyKind {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("text/csv") {
            return Ok(Self::Csv);
        }
        if essence.eq_ignore_ascii_case("multipart/form-data") {
            let boundary = multer::parse_boundary(value);
            return boundary.map(|boundary| Self::Form { boundary }).map_err(|_| bad("The form has no boundary."));
        }
        Err(Problem::new(
            ProblemCode::UnsupportedMediaType,
            "Send the file as `text/csv`, or as the part `file` of `multipart/form-data`.",
        ))
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => Err(Problem::new(ProblemCode::UnsupportedMediaType, "`Content-Encoding` is gzip, or left out.")),
    }
}

fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

pub(super) fn bad(detail: &str) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
}

/// The context that somebody gave.
pub(super) fn parse_context(json: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(json) {
        Ok(context @ Value::Object(_)) if is_too_deep(&context) => {
            Err(bad(&format!("`context` has more than {DEEPEST_JSON} levels of objects and lists.")))
        }
        Ok(Value::Object(context)) => Ok(context),
        _ => Err(bad("`context` is a JSON object.")),
    }
}

fn request_context(headers: &HeaderMap) -> Value {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    serde_json::json!({ "user_agent": text(header::USER_AGENT) })
}

/// The key as the draft writes it, a string in quotes, or bare, as most people do; both mean the same.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong =
        || bad(&format!("`Idempotency-Key` is given once, with 1 to {LONGEST_KEY} visible characters of ASCII."));
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let key = if text.starts_with('"') { unquoted(text).ok_or_else(wrong)? } else { text.to_owned() };
    if values.next().is_some() || key.is_empty() || key.len() > LONGEST_KEY {
        return Err(wrong());
    }
    Ok(Some(key))
}

/// The content of a string as RFC 8941 writes it.
fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut content = String::new();
    let mut symbols = inner.chars();
    while let Some(symbol) = symbols.next() {
        match symbol {
            '"' => return None,
            '\\' => content.push(symbols.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => content.push(other),
        }
    }
    Some(content)
}

/// Reads all of it as [`Head::of`] does, whatever of it is wrong.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::http) fn understand(headers: &HeaderMap) {
    let context = headers.get(CONTEXT_HEADER).map(|value| parse_context(value.as_bytes()));
    if let Some(Ok(context)) = context {
        assert!(!is_too_deep(&Value::Object(context)));
    }
    if let Ok(Some(key)) = idempotency_key(headers) {
        assert!((1..=LONGEST_KEY).contains(&key.len()));
    }
    let _ = (is_gzip(headers).is_ok(), announced(headers), BodyKind::of(headers).is_ok());
    let _ = (prefers_csv(headers), request_context(headers));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Result<Option<String>, ()> {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header");
        idempotency_key(&HeaderMap::from_iter([(KEY_HEADER.parse().expect("a name"), value)])).map_err(|_| ())
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes_and_has_a_limit() {
        for value in ["8e03978e-40d5", "\"8e03978e-40d5\"", " 8e03978e-40d5 "] {
            assert_eq!(key(value), Ok(Some("8e03978e-40d5".to_owned())), "{value}");
        }
        assert_eq!(key(r#""a\"b\\c""#), Ok(Some(r#"a"b\c"#.to_owned())));
        assert!(key(&"k".repeat(LONGEST_KEY)).is_ok());
        for wrong in ["", "\"\"", "\"open", "\"a\"b\"", "\"a\\x\"", "\"", "k\u{e9}y", &"k".repeat(LONGEST_KEY + 1)] {
            assert_eq!(key(wrong), Err(()), "{wrong}");
        }
        assert_eq!(idempotency_key(&HeaderMap::new()).expect("none"), None);
        let mut twice = HeaderMap::new();
        for value in ["one", "other"] {
            twice.append(KEY_HEADER, HeaderValue::from_static(value));
        }
        assert!(idempotency_key(&twice).is_err());
    }
}
