//! Requests as they go over the wire.

use hyper::{
    header::{self, HeaderName, HeaderValue},
    http::uri::PathAndQuery,
};

use super::{super::request::Filled, ClientError};
use crate::model::{Dependency, workflow::Method};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a body is, and where it ends, is said here alone.
const OURS_TO_SAY: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
/// A request's head is seldom longer.
const ROOM_FOR_HEAD: usize = 512;

/// What every request to a dependency carries.
pub(super) fn headers(dependency: &Dependency, authority: &str) -> Result<Vec<(HeaderName, HeaderValue)>, ClientError> {
    // A user in it is no part of the host.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let agent = HeaderValue::from_static(concat!("dripfeed/", env!("CARGO_PKG_VERSION")));
    let mut headers = vec![
        (header::HOST, HeaderValue::from_str(host).map_err(|_| ClientError::BaseUrl)?),
        (header::ACCEPT, HeaderValue::from_static("*/*")),
        (header::USER_AGENT, agent),
    ];
    for (name, value) in &dependency.headers {
        let wrong = || ClientError::Header(name.clone());
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        headers.retain(|(before, _)| *before != name);
        headers.push((name, value));
    }
    headers.retain(|(name, _)| !OURS_TO_SAY.contains(name));
    Ok(headers)
}

/// A request below this path, with these headers where its step has none of the name; nothing where it cannot be written.
pub(super) fn written(
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    filled: &Filled,
    key: Option<&str>,
) -> Option<Vec<u8>> {
    let target = PathAndQuery::try_from(format!("{path}{}", filled.target())).ok()?;
    let key = key.map(HeaderValue::from_str).transpose().ok()?.map(|key| (IDEMPOTENCY_KEY, key));
    let body = filled.body.as_deref();
    let mut bytes = Vec::with_capacity(ROOM_FOR_HEAD + body.map_or(0, <[u8]>::len));
    put(&mut bytes, &[filled.method.as_str(), " ", target.as_str(), " HTTP/1.1\r\n"]);

    // Of one name, the last one counts.
    let all = || headers.iter().chain(&filled.headers).chain(&key);
    for (place, (name, value)) in all().enumerate() {
        let is_said_again = all().skip(place + 1).any(|(later, _)| later == name);
        if !is_said_again && !OURS_TO_SAY.contains(name) {
            put_header(&mut bytes, name, value.as_bytes());
        }
    }
    if body.is_some() && !all().any(|(name, _)| *name == header::CONTENT_TYPE) {
        put_header(&mut bytes, &header::CONTENT_TYPE, b"application/json");
    }
    // A method that is about what it brings says so where it brings nothing, too (RFC 9110, section 8.6).
    if body.is_some() || matches!(filled.method, Method::Post | Method::Put | Method::Patch) {
        let length = body.map_or(0, <[u8]>::len).to_string();
        put_header(&mut bytes, &header::CONTENT_LENGTH, length.as_bytes());
    }
    put(&mut bytes, &["\r\n"]);
    bytes.extend_from_slice(body.unwrap_or_default());
    Some(bytes)
}

fn put(bytes: &mut Vec<u8>, pieces: &[&str]) {
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece.as_bytes()));
}

fn put_header(bytes: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    put(bytes, &[name.as_str(), ": "]);
    bytes.extend_from_slice(value);
    put(bytes, &["\r\n"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(method: Method, own: &[(&'static str, &'static str)], body: Option<&str>, key: Option<&str>) -> String {
        let headers = [("host", "a.example"), ("x-key", "theirs"), ("content-length", "7")];
        let all = |of: &[(&'static str, &'static str)]| -> Vec<_> {
            of.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
        };
        let filled = Filled {
            method,
            path: "/p".to_owned(),
            query: "q=1".to_owned(),
            headers: all(own),
            body: body.map(|body| body.as_bytes().to_vec()),
        };
        let written = written("/v1", &all(&headers), &filled, key).expect("can be written");
        String::from_utf8(written).expect("text").replace("\r\n", "|")
    }

    #[test]
    fn a_request_is_written_with_what_its_step_says_last_and_its_length_is_ours() {
        assert_eq!(lines(Method::Get, &[], None, None), "GET /v1/p?q=1 HTTP/1.1|host: a.example|x-key: theirs||");
        assert_eq!(
            lines(Method::Post, &[("x-key", "its own"), ("transfer-encoding", "chunked")], Some("{}"), Some("k")),
            "POST /v1/p?q=1 HTTP/1.1|host: a.example|x-key: its own|idempotency-key: k|\
             content-type: application/json|content-length: 2||{}"
        );
        let xml = lines(Method::Put, &[("content-type", "text/xml")], Some("<a/>"), None);
        assert!(xml.ends_with("|content-type: text/xml|content-length: 4||<a/>"), "{xml}");
        assert!(lines(Method::Patch, &[], None, None).ends_with("|content-length: 0||"));
    }

    #[test]
    fn what_would_be_another_line_is_not_written() {
        let filled = |path: &str| Filled {
            method: Method::Get,
            path: path.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: None,
        };
        assert!(written("", &[], &filled("/a b"), None).is_none());
        assert!(written("", &[], &filled("/a\r\nX: 1"), None).is_none());
        assert!(written("", &[], &filled("/a"), Some("k\r\nX: 1")).is_none());
    }
}
