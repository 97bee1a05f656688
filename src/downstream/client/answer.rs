//! Answers: read to their end, so that the connection can be used again, and kept within bounds.

use std::{
    borrow::Cow,
    fmt,
    io::Read,
    sync::{Arc, LazyLock},
};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::{Body, Incoming},
    header,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{super::advice::Advice, CallError, Care};
use crate::model::FailureCode;

/// The most bytes of an answer's body that are read into memory, and what it may inflate to.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// The most bytes of a body that are read to its end, only to keep the connection.
const MAX_PASSED_OVER: usize = 8 * MAX_ANSWER;
/// Answers up to this need no leave to be held.
const SMALL: usize = 64 * 1024;
/// So many larger ones are held at once, over all dependencies: 32 MiB. The others are waited with, unread.
const LARGE_AT_ONCE: usize = 32;

static LARGE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LARGE_AT_ONCE)));

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// What its headers say of what is left of a quota.
    pub advice: Option<Advice>,
    /// As far as it was read.
    pub body: AnswerBody,
}

/// An answer's body. Private: it is about a row.
pub enum AnswerBody {
    /// All of it.
    Whole(Vec<u8>),
    /// The beginning of one that is longer than [`MAX_ANSWER`], or than what is kept where nothing of it is saved.
    TooLarge(Vec<u8>),
    /// The beginning of one that broke off.
    Broken(Vec<u8>, CallError),
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            Self::Whole(bytes) => ("Whole", bytes),
            Self::TooLarge(bytes) => ("TooLarge", bytes),
            Self::Broken(bytes, _) => ("Broken", bytes),
        };
        write!(f, "{kind}({} bytes)", bytes.len())
    }
}

/// The JSON of a body: also behind a byte order mark, and where single bytes of it are Latin-1 and not UTF-8.
pub fn json(body: &[u8]) -> Option<Json<'_>> {
    let text = as_text(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body));
    match serde_json::from_str(&text) {
        Ok(value) => Some(Json(Ok(value))),
        Err(_) => serde_json::from_str::<IgnoredAny>(&text).is_ok().then_some(Json(Err(text))),
    }
}

/// JSON; or the text of such that cannot be taken over as a whole: half of a surrogate pair stands somewhere in it, or more
/// levels than anybody reads.
pub struct Json<'b>(Result<serde_json::Value, Cow<'b, str>>);

/// What stands there is JSON, and no value.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Json<'_> {
    /// What stands at a JSON Pointer, where something does. What nobody can read beside it is passed over.
    pub fn at(&self, pointer: &str) -> Result<Option<serde_json::Value>, Unreadable> {
        let text = match &self.0 {
            Ok(value) => return Ok(value.pointer(pointer).cloned()),
            Err(text) => text,
        };
        let mut names = pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
        if names.next().is_some_and(|before| !before.is_empty()) {
            return Ok(None);
        }
        let names: Vec<String> = names.collect();
        Wanted(&names).deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|_| Unreadable)
    }
}

/// Behind these names, of members or places.
struct Wanted<'n>(&'n [String]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Option<serde_json::Value>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        match self.0.is_empty() {
            true => serde_json::Value::deserialize(value).map(Some),
            false => value.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Option<serde_json::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let Some((name, behind)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(member) = members.next_key::<String>()? {
            // Of several the last one counts.
            if member == *name {
                found = members.next_value_seed(Wanted(behind))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((name, behind)) = self.0.split_first() else { return Ok(None) };
        // As in RFC 6901: no sign, and no zero before other digits.
        let wanted = name.parse::<usize>().ok().filter(|place| place.to_string() == *name);
        let (mut found, mut place) = (None, 0);
        loop {
            if wanted == Some(place) {
                let Some(value) = items.next_element_seed(Wanted(behind))? else { return Ok(None) };
                found = value;
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            place += 1;
        }
    }
}

fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        // Latin-1 is the first 256 characters of Unicode.
        text.extend(chunk.invalid().iter().map(|byte| char::from(*byte)));
    }
    Cow::Owned(text)
}

/// A body that was read, and whether its connection can be used again.
pub(super) struct Gathered {
    pub body: AnswerBody,
    pub at_its_end: bool,
}

/// Reads a body to its end, or until it is clear that this is not worth it.
pub(super) async fn gather(headers: &HeaderMap, body: Incoming, care: Care, deadline: Instant) -> Gathered {
    let most = if care.keeps_body { MAX_ANSWER } else { SMALL };
    let mut gathering = Gathering { most, bytes: Vec::new(), passed_over: 0, leave: None };
    let ended = gathering.read(body, deadline).await;
    let at_its_end = ended == Ok(End::Whole);
    let body = match ended {
        // Where there is too much of it, it does not matter any more how it ends.
        _ if gathering.passed_over > 0 => AnswerBody::TooLarge(gathering.bytes),
        Ok(_) => inflated(headers, gathering.bytes),
        Err(error) => AnswerBody::Broken(gathering.bytes, error),
    };
    Gathered { body, at_its_end }
}

#[derive(PartialEq)]
enum End {
    Whole,
    NotWorthIt,
}

struct Gathering {
    /// So many bytes are kept.
    most: usize,
    bytes: Vec<u8>,
    passed_over: usize,
    /// Needed beyond [`SMALL`].
    leave: Option<SemaphorePermit<'static>>,
}

impl Gathering {
    async fn read(&mut self, mut body: Incoming, deadline: Instant) -> Result<End, CallError> {
        let late = || CallError::unanswered(FailureCode::Timeout, "no answer in time");
        let broke = |_| CallError::unanswered(FailureCode::Connection, "the connection broke within the answer");
        while !body.is_end_stream() {
            let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| late())? else { break };
            let Ok(data) = frame.map_err(broke)?.into_data() else { continue };
            let keep = data.len().min(self.most - self.bytes.len());
            if self.bytes.len() + keep > SMALL && self.leave.is_none() {
                let leave = timeout_at(deadline, LARGE.acquire()).await.map_err(|_| late())?;
                self.leave = leave.ok();
            }
            self.bytes.extend_from_slice(&data[..keep]);
            self.passed_over += data.len() - keep;
            if self.passed_over > MAX_PASSED_OVER {
                return Ok(End::NotWorthIt);
            }
        }
        Ok(End::Whole)
    }
}

/// What was compressed, asked for or not, as it was before. What cannot be read stays as it came.
fn inflated(headers: &HeaderMap, bytes: Vec<u8>) -> AnswerBody {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let inflated = match encoding.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => read_bounded(MultiGzDecoder::new(&bytes[..])),
        // Some send it without the frame that it is to have (RFC 9110, section 8.4.1.2).
        "deflate" => {
            read_bounded(ZlibDecoder::new(&bytes[..])).or_else(|| read_bounded(DeflateDecoder::new(&bytes[..])))
        }
        _ => None,
    };
    match inflated {
        None => AnswerBody::Whole(bytes),
        Some(mut inflated) if inflated.len() > MAX_ANSWER => {
            inflated.truncate(MAX_ANSWER);
            AnswerBody::TooLarge(inflated)
        }
        Some(inflated) => AnswerBody::Whole(inflated),
    }
}

fn read_bounded(decoder: impl Read) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    decoder.take(MAX_ANSWER as u64 + 1).read_to_end(&mut inflated).ok()?;
    Some(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write};
    use hyper::header::HeaderValue;
    use serde_json::json;

    use super::*;

    fn encoded(encoding: &'static str, bytes: Vec<u8>) -> AnswerBody {
        inflated(&HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))]), bytes)
    }

    #[test]
    fn json_is_read_behind_a_mark_with_stray_bytes_and_with_any_number() {
        for (body, value) in [
            (&b"\xEF\xBB\xBF{\"a\": 1}"[..], json!({"a": 1})),
            (b"{\"a\": \"Ren\xE9 \xC3\xA9\"}", json!({"a": "René é"})),
        ] {
            assert_eq!(json(body).map(|json| json.at("")), Some(Ok(Some(value))));
        }
        // serde_json gives an exponent its sign: the digits are kept, and so is the value.
        let told = |body: &[u8]| json(body).and_then(|json| json.at("").ok()?).map(|value| value.to_string());
        assert_eq!(told(b"1e400").as_deref(), Some("1e+400"));
        for number in ["1.10", "1234567890123456789012345"] {
            assert_eq!(told(number.as_bytes()).as_deref(), Some(number));
        }
        assert_eq!(told(b"{"), None);
    }

    #[test]
    fn what_is_wanted_is_found_beside_what_nobody_can_read() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for odd in [r#""\ud800""#, deep.as_str()] {
            let body =
                format!(r#"{{"odd": {odd}, "a/b": [{odd}, {{"id": 1, "id": 7.10}}], "none": null, "last": {odd}}}"#);
            let body = json(body.as_bytes()).expect("JSON");
            let at = |pointer| body.at(pointer).map(|value| value.map(|value| value.to_string()));
            assert_eq!(at("/a~1b/1/id"), Ok(Some("7.10".to_owned())));
            assert_eq!(at("/a~1b/1"), Ok(Some(r#"{"id":7.10}"#.to_owned())));
            assert_eq!(at("/none"), Ok(Some("null".to_owned())));
            for lacking in ["/", "/b", "/a~1b/2", "/a~1b/01", "/a~1b/id", "a~1b"] {
                assert_eq!(at(lacking), Ok(None), "{lacking}");
            }
            for unreadable in ["", "/odd", "/a~1b/0", "/a~1b"] {
                assert_eq!(at(unreadable), Err(Unreadable), "{unreadable}");
            }
        }
        for broken in [r#"{"a": 1, "odd": "\ud800""#, r#"{"a": 1, "odd": "\ud800"}}"#, r#"{"a": 1, "odd": "\x"}"#] {
            assert!(json(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn what_is_compressed_is_inflated_within_bounds() {
        let zip = |text: &[u8]| {
            let mut gzip = write::GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(text).and_then(|()| gzip.finish()).expect("in memory")
        };
        let deflate = |text: &[u8]| {
            let mut raw = write::DeflateEncoder::new(Vec::new(), Compression::fast());
            raw.write_all(text).and_then(|()| raw.finish()).expect("in memory")
        };
        for body in
            [encoded("gzip", zip(b"text")), encoded(" X-GZIP", zip(b"text")), encoded("deflate", deflate(b"text"))]
        {
            assert!(matches!(&body, AnswerBody::Whole(text) if text == b"text"), "{body:?}");
        }
        let bomb = encoded("gzip", zip(&vec![0; 3 * MAX_ANSWER]));
        assert!(matches!(&bomb, AnswerBody::TooLarge(bytes) if bytes.len() == MAX_ANSWER), "{bomb:?}");
        assert!(matches!(encoded("gzip", b"not at all".to_vec()), AnswerBody::Whole(text) if text == b"not at all"));
        assert!(matches!(encoded("br", b"x".to_vec()), AnswerBody::Whole(_)));
    }
}
