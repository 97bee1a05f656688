//! The head of a request, as bytes: where it ends, what follows it, and what hyper's parser lets pass and we do not.
//!
//! A proxy in front may see another request than we do where a line ends in a bare LF, a name or a length stands there
//! twice, or two say differently how long the body is (RFC 9112, 2.2, 3.2 and 6.3). Such a head is refused, not mended.

use crate::http::problem::{Problem, ProblemCode};

/// How large a head may be, and its first line.
pub const HEAD_BYTES: usize = 64 * 1024;
const LONGEST_REQUEST_LINE: usize = 32 * 1024;
/// What whoever expects TLS begins with: the type of a handshake record, and the first half of its version (RFC 8446, 5.1).
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// A head that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, with the empty line behind it and those in front of it.
    pub length: usize,
    /// What follows.
    pub body: Framing,
}

/// How a body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// It has so many bytes.
    Length(u64),
    /// It says itself.
    Chunked,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The beginning of a TLS connection.
    Tls,
    /// A line that ends in LF alone.
    BareLineFeed,
    /// HTTP/1.1 without `Host`.
    NoHost,
    /// `Host` twice.
    TwoHosts,
    /// `Content-Length` twice, or beside `Transfer-Encoding`.
    TwoLengths,
    /// HTTP/2 without TLS and without being asked whether we speak it.
    OtherVersion,
    /// The first line is too long.
    LongRequestLine,
    /// All of it is.
    TooLarge,
}

impl Fault {
    /// What the caller is told.
    pub fn problem(self) -> Problem {
        let (code, detail) = match self {
            Self::Tls => (ProblemCode::BadRequest, "Plain HTTP is spoken on this port: its URL begins with http://."),
            Self::BareLineFeed => {
                (ProblemCode::BadRequest, "A line of the request's head ends in LF; it ends in CRLF.")
            }
            Self::NoHost => (ProblemCode::BadRequest, "A request has a `Host` header."),
            Self::TwoHosts => (ProblemCode::BadRequest, "A request has one `Host` header."),
            Self::TwoLengths => (
                ProblemCode::BadRequest,
                "A request says once how long its body is: by one `Content-Length`, or by `Transfer-Encoding`.",
            ),
            Self::OtherVersion => (ProblemCode::BadRequest, "HTTP/1.1 is spoken here."),
            Self::LongRequestLine => (ProblemCode::UriTooLong, "The request's path and query are too long."),
            Self::TooLarge => (ProblemCode::HeadersTooLarge, "The request has too many headers, or too large ones."),
        };
        Problem::new(code, detail)
    }
}

/// Looks at a head as it comes; what was looked at is not looked at again.
#[derive(Debug, Default)]
pub struct Scanner {
    line_begins: usize,
    at: usize,
    /// Lines that are whole.
    lines: usize,
    needs_host: bool,
    hosts: usize,
    lengths: usize,
    length: u64,
    is_chunked: bool,
}

impl Scanner {
    /// The head that these bytes begin with, if all of it is there. They are those of the last look, and more.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        if bytes.starts_with(TLS_HANDSHAKE) {
            return Err(Fault::Tls);
        }
        while let Some(found) = bytes.get(self.at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
            let end = self.at + found;
            let line = bytes[self.line_begins..end].strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
            (self.line_begins, self.at) = (end + 1, end + 1);
            if self.at > HEAD_BYTES {
                return Err(Fault::TooLarge);
            }
            match (line.is_empty(), self.lines) {
                // Empty lines in front are passed over (RFC 9112, 2.2).
                (true, 0) => {}
                (true, _) => return self.whole().map(Some),
                (false, 0) => self.request_line(line)?,
                (false, _) => self.header(line),
            }
            self.lines += usize::from(!line.is_empty());
        }
        self.at = bytes.len();
        match self.lines {
            0 if bytes.len() - self.line_begins > LONGEST_REQUEST_LINE => Err(Fault::LongRequestLine),
            _ if bytes.len() > HEAD_BYTES => Err(Fault::TooLarge),
            _ => Ok(None),
        }
    }

    /// Lines that are whole: the first one, and headers.
    pub fn lines(&self) -> usize {
        self.lines
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.len() > LONGEST_REQUEST_LINE {
            return Err(Fault::LongRequestLine);
        }
        if line.ends_with(b" HTTP/2.0") {
            return Err(Fault::OtherVersion);
        }
        self.needs_host = line.ends_with(b" HTTP/1.1");
        Ok(())
    }

    /// What is wrong with a line itself, hyper's parser finds.
    fn header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
    }

    fn whole(&self) -> Result<Head, Fault> {
        let body = if self.is_chunked { Framing::Chunked } else { Framing::Length(self.length) };
        match self {
            Self { hosts: 2.., .. } => Err(Fault::TwoHosts),
            Self { needs_host: true, hosts: 0, .. } => Err(Fault::NoHost),
            Self { lengths: 2.., .. } | Self { lengths: 1, is_chunked: true, .. } => Err(Fault::TwoLengths),
            _ => Ok(Head { length: self.at, body }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look at all of it says, and whether one byte after the other comes to the same.
    fn look(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let told = Scanner::default().look(bytes);
        let mut scanner = Scanner::default();
        let steps = (1..=bytes.len()).map(|length| scanner.look(&bytes[..length])).find(|step| *step != Ok(None));
        assert_eq!(steps.unwrap_or(Ok(None)), told, "{:?}", String::from_utf8_lossy(bytes));
        told
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_says_what_follows() {
        for (head, body) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("\r\n\r\nGET / HTTP/1.1\r\nhOST:a\r\n\r\n", Framing::Length(0)),
            ("GET / HTTP/1.0\r\n\r\n", Framing::Length(0)),
            ("POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t17 \r\n\r\n", Framing::Length(17)),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Chunked),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-Host: b\r\nHosts: c\r\n\r\n", Framing::Length(0)),
        ] {
            assert_eq!(look(head.as_bytes()), Ok(Some(Head { length: head.len(), body })), "{head:?}");
            let with_more = [head.as_bytes(), b"\nmore\n"].concat();
            assert_eq!(look(&with_more), Ok(Some(Head { length: head.len(), body })), "{head:?}");
        }
        for unfinished in ["", "\r\n", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\n\r"] {
            assert_eq!(look(unfinished.as_bytes()), Ok(None), "{unfinished:?}");
        }
    }

    #[test]
    fn what_two_could_read_differently_is_refused() {
        for (head, fault) in [
            ("GET / HTTP/1.1\nHost: a\n\n", Fault::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Fault::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::BareLineFeed),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareLineFeed),
            ("GET / HTTP/1.1\r\nX: a\r\n\r\n", Fault::NoHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Fault::TwoHosts),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Fault::TwoHosts),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Fault::TwoLengths),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Fault::TwoLengths,
            ),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::OtherVersion),
            ("\u{16}\u{3}\u{1}\u{2}", Fault::Tls),
        ] {
            assert_eq!(look(head.as_bytes()), Err(fault), "{head:?}");
        }
    }

    #[test]
    fn a_head_has_a_largest_size() {
        let long = format!("GET /{}", "a".repeat(LONGEST_REQUEST_LINE));
        assert_eq!(Scanner::default().look(long.as_bytes()), Err(Fault::LongRequestLine));
        assert_eq!(Scanner::default().look(format!("{long} HTTP/1.1\r\n").as_bytes()), Err(Fault::LongRequestLine));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: yyyyyyyyyyyyyyyy\r\n".repeat(HEAD_BYTES / 16));
        assert_eq!(Scanner::default().look(many.as_bytes()), Err(Fault::TooLarge));
        let empty = "\r\n".repeat(HEAD_BYTES);
        assert_eq!(Scanner::default().look(empty.as_bytes()), Err(Fault::TooLarge));
    }
}
