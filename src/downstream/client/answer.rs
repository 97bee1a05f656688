//! Answers: read to their end, so that the connection can be used again, and kept within bounds.

use std::{borrow::Cow, fmt, io::Read, sync::LazyLock};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{super::advice::Advice, CallError, Care, body::Body, head::Head, wire::Connection};
use crate::model::{FailureCode, Saved};

/// The most bytes of an answer's body that are read into memory, and what it may inflate to.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// The most bytes of a body that are read to its end, only to keep the connection.
const MAX_PASSED_OVER: usize = 8 * MAX_ANSWER;
/// Answers up to this need no leave to be held: thousands may be.
const SMALL: usize = 4 * 1024;
/// And those up to this are held by the hundred.
const MEDIUM: usize = 64 * 1024;
/// So many of those are held at once, over all dependencies: 16 MiB. The others are waited with, unread.
const MEDIUM_AT_ONCE: usize = 256;
/// So many of those that are larger still: 16 MiB.
const LARGE_AT_ONCE: usize = 16;

/// Leaves to hold an answer. Who waits for one of the second kind has one of the first, and never the other way round.
static LEAVES: [(usize, LazyLock<Semaphore>); 2] = [
    (SMALL, LazyLock::new(|| Semaphore::new(MEDIUM_AT_ONCE))),
    (MEDIUM, LazyLock::new(|| Semaphore::new(LARGE_AT_ONCE))),
];

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
    serde_json::from_str::<IgnoredAny>(&text).is_ok().then_some(Json(text))
}

/// The text of JSON. Not all of it need be readable: half of a surrogate pair may stand somewhere in it, or more levels
/// than anybody reads.
pub struct Json<'b>(Cow<'b, str>);

/// What stands there is JSON, and no value.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Json<'_> {
    /// What stands at a JSON Pointer, where something does. What nobody can read beside it is passed over.
    pub fn at(&self, pointer: &str) -> Result<Option<Saved>, Unreadable> {
        let mut names = pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
        if names.next().is_some_and(|before| !before.is_empty()) {
            return Ok(None);
        }
        let names: Vec<String> = names.collect();
        let found = Wanted(&names).deserialize(&mut serde_json::Deserializer::from_str(&self.0));
        match found.map_err(|_| Unreadable)? {
            Some(found) if serde_json::from_str::<serde_json::Value>(found.json()).is_err() => Err(Unreadable),
            found => Ok(found),
        }
    }
}

/// Behind these names, of members or places.
struct Wanted<'n>(&'n [String]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Option<Saved>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        match self.0.is_empty() {
            true => Saved::deserialize(value).map(Some),
            false => value.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Option<Saved>;

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

/// A body that was read, and whether the connection stands behind it.
pub(super) struct Gathered {
    pub body: AnswerBody,
    pub at_its_end: bool,
}

/// Reads a body to its end, or until it is clear that this is not worth it.
pub(super) async fn gather(head: &Head, connection: &mut Connection, care: Care, deadline: Instant) -> Gathered {
    let most = if care.keeps_body { MAX_ANSWER } else { MEDIUM };
    let mut gathering = Gathering { most, bytes: Vec::new(), passed_over: 0, leaves: Vec::new() };
    let mut body = Body::new(connection, head.framing);
    let ended = gathering.read(&mut body, deadline).await;
    let at_its_end = body.is_at_its_end();
    let body = match ended {
        // Where there is too much of it, it does not matter any more how it ends.
        _ if gathering.passed_over > 0 => AnswerBody::TooLarge(gathering.bytes),
        Ok(()) => inflated(&head.headers, gathering.bytes),
        Err(error) => AnswerBody::Broken(gathering.bytes, error),
    };
    Gathered { body, at_its_end }
}

struct Gathering {
    /// So many bytes are kept.
    most: usize,
    bytes: Vec<u8>,
    passed_over: usize,
    /// Of [`LEAVES`], as far as it is long.
    leaves: Vec<SemaphorePermit<'static>>,
}

impl Gathering {
    async fn read(&mut self, body: &mut Body<'_>, deadline: Instant) -> Result<(), CallError> {
        let late = || CallError::unanswered(FailureCode::Timeout, "no answer in time");
        let broke = |_| CallError::unanswered(FailureCode::Connection, "the connection broke within the answer");
        while let Some(data) = timeout_at(deadline, body.next()).await.map_err(|_| late())?.map_err(broke)? {
            let keep = data.len().min(self.most - self.bytes.len());
            for (beyond, leaves) in LEAVES.iter().skip(self.leaves.len()) {
                if self.bytes.len() + keep > *beyond {
                    let leave = timeout_at(deadline, leaves.acquire()).await.map_err(|_| late())?;
                    self.leaves.extend(leave);
                }
            }
            self.bytes.extend_from_slice(&data[..keep]);
            self.passed_over += data.len() - keep;
            if self.passed_over > MAX_PASSED_OVER {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What was compressed, asked for or not, as it was before. What cannot be read stays as it came.
fn inflated(headers: &HeaderMap, bytes: Vec<u8>) -> AnswerBody {
    // Some say of the way what is true of the content.
    let said =
        [header::CONTENT_ENCODING, header::TRANSFER_ENCODING].map(|name| headers.get(name)).into_iter().flatten();
    let encoding = said.filter_map(|value| value.to_str().ok()?.split(',').next()).next().unwrap_or_default();
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
            let whole = json(body).and_then(|json| json.at("").ok()?);
            assert_eq!(whole.map(|whole| whole.value()), Some(value));
        }
        let told = |body: &[u8]| json(body).and_then(|json| json.at("").ok()?).map(|value| value.json().to_owned());
        for number in ["1e400", "1E3", "1.10", "1234567890123456789012345"] {
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
            let at = |pointer| body.at(pointer).map(|value| value.map(|value| value.json().to_owned()));
            assert_eq!(at("/a~1b/1/id"), Ok(Some("7.10".to_owned())));
            assert_eq!(at("/a~1b/1"), Ok(Some(r#"{"id": 1, "id": 7.10}"#.to_owned())));
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
