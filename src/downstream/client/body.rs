//! The body of an answer, out of its frame (RFC 9112, sections 6 and 7).

use std::ops::Range;

use httparse::Status;

use super::{head::MAX_HEAD, wire::Connection};

/// The longest line with which a chunk begins, and the most trailing lines: both say nothing that anybody reads.
const MAX_CHUNK_LINE: usize = 4 * 1024;
const MAX_TRAILERS: usize = 64;

/// What tells where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its length in front.
    Chunked,
    /// The end of the connection.
    UntilClosed,
}

/// It ended before its end, or its frame is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// Takes a body out of its frame.
#[derive(Debug)]
pub(super) struct Decoder(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Left(u64),
    UntilClosed,
    /// A chunk's length is next.
    ChunkLength,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The end of a chunk's line is next.
    ChunkEnd,
    /// Behind the last chunk.
    Trailers,
    Done,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Left(length),
            Framing::Chunked => State::ChunkLength,
            Framing::UntilClosed => State::UntilClosed,
        })
    }

    /// Whether all of it was read.
    pub(super) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Whether it may end where the connection does.
    pub(super) fn may_end(&self) -> bool {
        matches!(self.0, State::UntilClosed | State::Done)
    }

    /// How much of the front of these bytes is understood, and where in there the body goes on. Nothing of both: more has to
    /// come first.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<(usize, Range<usize>), Broken> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let more = Ok((used, used..used));
            match self.0 {
                State::Done => return more,
                _ if rest.is_empty() => return more,
                State::UntilClosed => return Ok((bytes.len(), used..bytes.len())),
                State::Left(left) | State::Chunk(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.0 = self.behind(left - taken as u64);
                    return Ok((used + taken, used..used + taken));
                }
                // That reads no digit as zero, which would be the end.
                State::ChunkLength if !rest[0].is_ascii_hexdigit() => return Err(Broken),
                State::ChunkLength => match httparse::parse_chunk_size(rest).map_err(|_| Broken)? {
                    Status::Complete((line, length)) if line <= MAX_CHUNK_LINE => {
                        used += line;
                        self.0 = if length == 0 { State::Trailers } else { State::Chunk(length) };
                    }
                    Status::Partial if rest.len() <= MAX_CHUNK_LINE => return more,
                    _ => return Err(Broken),
                },
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.0 = State::ChunkLength;
                    }
                    [b'\r'] => return more,
                    _ => return Err(Broken),
                },
                State::Trailers => {
                    let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILERS];
                    match httparse::parse_headers(rest, &mut lines).map_err(|_| Broken)? {
                        Status::Complete((trailers, _)) if trailers <= MAX_HEAD => {
                            used += trailers;
                            self.0 = State::Done;
                        }
                        Status::Partial if rest.len() <= MAX_HEAD => return more,
                        _ => return Err(Broken),
                    }
                }
            }
        }
    }

    fn behind(&self, left: u64) -> State {
        match (self.0, left) {
            (State::Chunk(_), 0) => State::ChunkEnd,
            (State::Chunk(_), left) => State::Chunk(left),
            (_, 0) => State::Done,
            (_, left) => State::Left(left),
        }
    }
}

/// A body that is being read from its connection.
pub(super) struct Body<'c> {
    connection: &'c mut Connection,
    decoder: Decoder,
    /// Of the bytes that the connection has read, so many are used up.
    used: usize,
}

impl<'c> Body<'c> {
    pub(super) fn new(connection: &'c mut Connection, framing: Framing) -> Self {
        Self { connection, decoder: Decoder::new(framing), used: 0 }
    }

    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        loop {
            self.connection.use_up(std::mem::take(&mut self.used));
            let (used, data) = self.decoder.decode(self.connection.unread())?;
            self.used = used;
            if !data.is_empty() {
                return Ok(Some(&self.connection.unread()[data]));
            }
            if self.decoder.is_done() {
                self.connection.use_up(std::mem::take(&mut self.used));
                return Ok(None);
            }
            if self.connection.read_more().await.map_err(|_| Broken)? == 0 {
                return if self.decoder.may_end() { Ok(None) } else { Err(Broken) };
            }
        }
    }

    /// Whether its end was read, and nothing behind it.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.decoder.is_done() && self.connection.unread().len() == self.used
    }
}
