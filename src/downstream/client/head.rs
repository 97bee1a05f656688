//! The head of an answer: its status, its headers, and how its body is framed (RFC 9112, section 6).

use bytes::Bytes;
use httparse::{ParserConfig, Status};
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};

use super::body::Framing;

/// The most bytes of an answer's head, together with those that only say that it will come.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// The most lines of a head.
pub(super) const MAX_HEAD_LINES: usize = 256;

/// What came is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotHttp {
    #[error("its first line is none of HTTP/1")]
    FirstLine,
    #[error("its head is longer than {MAX_HEAD} bytes or {MAX_HEAD_LINES} lines")]
    TooLong,
    #[error("a header is malformed")]
    Header,
    #[error("its content-length is no number, or several")]
    ContentLength,
    #[error("it changes to another protocol, unasked")]
    Upgrade,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub status: u16,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the connection can be used again behind it.
    pub keeps: bool,
}

impl Head {
    /// Whether the answer itself is still to come (RFC 9110, section 15.2).
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// The head that these bytes begin with, and how long it is; nothing where it has not come whole. So many of the bytes were
/// looked at before, in vain.
pub(super) fn parse(bytes: &[u8], looked_at: usize) -> Result<Option<(Head, usize)>, NotHttp> {
    if !may_become_http(bytes) {
        return Err(NotHttp::FirstLine);
    }
    // Whoever sends it byte by byte does not get it read from its beginning each time.
    if !ends_a_head(&bytes[looked_at.saturating_sub(3)..]) {
        return Ok(None);
    }
    let mut lines = [std::mem::MaybeUninit::uninit(); MAX_HEAD_LINES];
    let mut response = httparse::Response::new(&mut []);
    let mut reader = ParserConfig::default();
    reader.allow_spaces_after_header_name_in_responses(true);
    reader.allow_obsolete_multiline_headers_in_responses(true);
    let length = match reader.parse_response_with_uninit_headers(&mut response, bytes, &mut lines) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NotHttp::TooLong),
        Err(httparse::Error::Version | httparse::Error::Status) => return Err(NotHttp::FirstLine),
        Err(_) => return Err(NotHttp::Header),
    };
    if length > MAX_HEAD {
        return Err(NotHttp::TooLong);
    }
    let status = response.code.ok_or(NotHttp::FirstLine)?;
    if status == 101 {
        return Err(NotHttp::Upgrade);
    }
    let headers = headers(&bytes[..length], response.headers)?;
    let is_1_1 = response.version == Some(1);
    let framing = framing(status, &headers)?;
    let keeps = says(&headers, "close", "keep-alive", is_1_1) && !is_doubtful(&headers, is_1_1);
    Ok(Some((Head { status, headers, framing, keeps }, length)))
}

/// Whether these bytes, empty lines aside, begin as an answer does, as far as they go.
fn may_become_http(bytes: &[u8]) -> bool {
    let begins = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    bytes[begins..].iter().zip(b"HTTP/1.").all(|(came, due)| came == due)
}

/// Whether an empty line stands somewhere in it.
fn ends_a_head(bytes: &[u8]) -> bool {
    let mut ends = memchr::memchr_iter(b'\n', bytes);
    ends.any(|end| matches!(&bytes[end + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

fn headers(head: &[u8], lines: &[httparse::Header<'_>]) -> Result<HeaderMap, NotHttp> {
    // One piece of memory for all values.
    let shared = Bytes::copy_from_slice(head);
    let begins = head.as_ptr() as usize;
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| NotHttp::Header)?;
        // A line that was folded is one with spaces (RFC 9112, section 5.2).
        let value = match line.value.iter().any(|byte| b"\r\n".contains(byte)) {
            true => HeaderValue::from_bytes(&unfolded(line.value)),
            false => {
                let at = line.value.as_ptr() as usize - begins;
                HeaderValue::from_maybe_shared(shared.slice(at..at + line.value.len()))
            }
        };
        headers.append(name, value.map_err(|_| NotHttp::Header)?);
    }
    Ok(headers)
}

fn unfolded(value: &[u8]) -> Vec<u8> {
    value.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect()
}

/// What ends the body (RFC 9112, section 6.3). No request of ours is a `HEAD`.
fn framing(status: u16, headers: &HeaderMap) -> Result<Framing, NotHttp> {
    if matches!(status, 100..200 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(last) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
        let is_chunked = words(last).last().is_some_and(|word| word.eq_ignore_ascii_case("chunked"));
        return Ok(if is_chunked { Framing::Chunked } else { Framing::UntilClosed });
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter().peekable();
    if lengths.peek().is_none() {
        return Ok(Framing::UntilClosed);
    }
    let mut told = None;
    for value in lengths {
        let text = value.to_str().map_err(|_| NotHttp::ContentLength)?;
        for word in text.split(',').map(str::trim) {
            let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            let length = word.parse().ok().filter(|_| is_number).ok_or(NotHttp::ContentLength)?;
            if *told.get_or_insert(length) != length {
                return Err(NotHttp::ContentLength);
            }
        }
    }
    Ok(Framing::Length(told.unwrap_or_default()))
}

/// Whether `Connection` leaves it open, by what it says or else by its version.
fn says(headers: &HeaderMap, ends: &str, keeps: &str, is_1_1: bool) -> bool {
    let said = |wanted: &str| {
        let values = headers.get_all(header::CONNECTION).iter();
        values.flat_map(words).any(|word| word.eq_ignore_ascii_case(wanted))
    };
    !said(ends) && (is_1_1 || said(keeps))
}

/// Where two headers say two things of its length, or one says what its version does not know, nobody knows what follows.
fn is_doubtful(headers: &HeaderMap, is_1_1: bool) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && (!is_1_1 || headers.contains_key(header::CONTENT_LENGTH))
}

fn words(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}
