//! What lies between hyper and a connection: deadlines for a head, and an answer to what hyper would refuse by itself.
//!
//! hyper is given one head at a time, once it is whole, in time, and such that nobody reads it in two ways ([`head`]).
//! Behind a body of a known length the next head begins; behind one that says itself where it ends, the connection
//! ends with the answer. hyper's own refusals have no body and no id: in their place goes a problem like all others. A
//! head that we refuse is handed over as one that hyper refuses too, so that there is one way to end.
//!
//! A head is kept once: what was handed over is let go of here, and hyper is not led to take larger buffers than it needs.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take},
    time::Sleep,
};

use super::{
    exchange::{Exchange, no_room},
    head::{Framing, Head, Scanner},
};
use crate::http::problem::{Problem, ProblemCode};

/// How long a request's head may take to arrive: the first from when the connection was accepted, further ones from
/// their first byte on.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of a head are read at once.
const PIECE: usize = 4 * 1024;
/// How many bytes of a head, or of a small body, hyper is given at once: one less than it asks for at first. Whenever that is
/// filled it asks for twice as much, and keeps a buffer of that size.
const HANDED: usize = 8 * 1024 - 1;
/// A body up to this size is a small one.
const SMALL_BODY: u64 = 64 * 1024;
/// No head: hyper refuses it.
const NO_HEAD: &[u8] = b"?\r\n\r\n";
/// What each answer of ours has in its head, and none of hyper's.
const OUR_MARK: &[u8] = b"\r\nx-request-id: ";
/// How long, and how many bytes, are read of what was refused, so that the caller gets to see why.
pub const LINGER: Duration = Duration::from_secs(1);
pub const LINGER_BYTES: u64 = 256 * 1024;

/// Where in the stream of bytes hyper's reading is.
enum Reading {
    Head(Scanner),
    /// A head that is whole is handed over: so many bytes of it are left, and this follows.
    Handing(usize, Framing),
    /// So much of a body is left, and so much of it is handed over at once.
    Body(u64, u64),
    /// All that comes, to the end.
    Rest,
}

/// How a wait for a head ended.
enum Heard {
    Head(Head),
    Refused(Problem),
    End,
}

/// A connection as hyper sees it.
pub struct Wire<S> {
    inner: Take<S>,
    exchange: Arc<Exchange>,
    reading: Reading,
    /// What was read and not handed over.
    buffer: BytesMut,
    /// How long nothing may come between two requests.
    idle: Duration,
    deadline: Option<tokio::time::Instant>,
    timer: Pin<Box<Sleep>>,
    /// Something waits to be written.
    is_writing: bool,
    /// Why the head that was handed over as none is none.
    refused: Option<Problem>,
    /// What is written in the place of what hyper says.
    instead: Option<Bytes>,
    /// What lingers after that: until when, and how many bytes.
    lingers: Option<(tokio::time::Instant, u64)>,
    tell: Tell,
}

/// Makes a whole answer of a problem.
pub type Tell = Arc<dyn Fn(Problem) -> Bytes + Send + Sync>;

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection whose first head is there by `deadline`, and further ones not later than `idle` begin.
    pub fn new(inner: S, exchange: Arc<Exchange>, deadline: tokio::time::Instant, idle: Duration, tell: Tell) -> Self {
        Self {
            inner: inner.take(u64::MAX),
            exchange,
            reading: Reading::Head(Scanner::default()),
            buffer: BytesMut::new(),
            idle,
            deadline: Some(deadline),
            timer: Box::pin(tokio::time::sleep_until(deadline)),
            is_writing: false,
            refused: None,
            instead: None,
            lingers: None,
            tell,
        }
    }

    /// The next head, when it is whole.
    fn head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        let Reading::Head(scanner) = &mut self.reading else { return Poll::Ready(Ok(Heard::End)) };
        loop {
            let whole = match scanner.look(&self.buffer) {
                Ok(whole) => whole,
                Err(fault) => return Poll::Ready(Ok(Heard::Refused(fault.problem()))),
            };
            let length = whole.map_or(self.buffer.len(), |head| head.length);
            if !self.exchange.has_room(length, scanner.lines()) {
                return Poll::Ready(Ok(Heard::Refused(no_room())));
            }
            if let Some(head) = whole {
                self.exchange.hands(length, scanner.lines());
                return Poll::Ready(Ok(Heard::Head(head)));
            }
            let mut space = [0; PIECE];
            let mut piece = ReadBuf::new(&mut space);
            self.inner.set_limit(u64::MAX);
            match Pin::new(&mut self.inner).poll_read(context, &mut piece) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Poll::Ready(Ok(Heard::End)),
                Poll::Ready(Ok(())) => {
                    if self.buffer.is_empty() {
                        let now = tokio::time::Instant::now();
                        self.deadline =
                            Some(self.deadline.map_or(now + HEAD_TIMEOUT, |known| known.min(now + HEAD_TIMEOUT)));
                    }
                    self.buffer.extend_from_slice(piece.filled());
                }
                Poll::Pending if self.exchange.is_busy() || self.is_writing => {
                    self.deadline = None;
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let patience = if self.buffer.is_empty() { self.idle } else { HEAD_TIMEOUT };
                    let deadline = *self.deadline.get_or_insert_with(|| tokio::time::Instant::now() + patience);
                    if self.timer.deadline() != deadline {
                        self.timer.as_mut().reset(deadline);
                    }
                    ready!(self.timer.as_mut().poll(context));
                    // Who never began to speak is not spoken to.
                    let is_silent = self.buffer.is_empty();
                    let detail = "The request's head took too long to arrive.";
                    let late = || Heard::Refused(Problem::new(ProblemCode::RequestTimeout, detail));
                    return Poll::Ready(Ok(if is_silent { Heard::End } else { late() }));
                }
            }
        }
    }

    /// Hands over what was read already, up to so many bytes; how many those were.
    fn hand_over(&mut self, most: u64, to: &mut ReadBuf<'_>) -> usize {
        let length = self.buffer.len().min(to.remaining()).min(usize::try_from(most).unwrap_or(usize::MAX));
        to.put_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        length
    }

    fn behind(&mut self, body: Framing) {
        self.deadline = None;
        // What was read behind the head is less than a piece; the head's own memory goes.
        self.buffer = BytesMut::from(&self.buffer[..]);
        self.reading = match body {
            Framing::Length(0) => Reading::Head(Scanner::default()),
            Framing::Length(length) if length <= SMALL_BODY => Reading::Body(length, HANDED as u64),
            Framing::Length(length) => Reading::Body(length, u64::MAX),
            Framing::Chunked => Reading::Rest,
        };
    }

    /// Writes what goes in the place of hyper's words, all of it.
    fn write_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(instead) = &mut self.instead {
            let written = ready!(Pin::new(self.inner.get_mut()).poll_write(context, instead))?;
            instead.advance(written);
            if written == 0 || instead.is_empty() {
                self.instead = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether these are hyper's own words, in whose place ours go.
    fn takes_over(&mut self, said: &[u8]) -> bool {
        let Some(status) = said.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)) else { return false };
        let has_id = || said.windows(OUR_MARK.len()).any(|bytes| bytes == OUR_MARK);
        if !status.starts_with(b"4") || self.lingers.is_some() || !self.exchange.has_refused() || has_id() {
            return false;
        }
        let problem = self.refused.take().unwrap_or_else(|| match status {
            b"414" => Problem::new(ProblemCode::UriTooLong, "The request's path and query are too long."),
            b"431" => {
                Problem::new(ProblemCode::HeadersTooLarge, "The request has too many headers, or too large ones.")
            }
            _ => Problem::new(ProblemCode::BadRequest, "This is no HTTP/1.1 request."),
        });
        self.instead = Some((self.tell)(problem));
        self.lingers = Some((tokio::time::Instant::now() + LINGER, LINGER_BYTES));
        true
    }

    /// What was answered before its body was there lingers too.
    fn forget_the_rest(&mut self) {
        if matches!(self.reading, Reading::Body(1.., _) | Reading::Rest) {
            self.reading = Reading::Head(Scanner::default());
            self.lingers = self.lingers.or_else(|| Some((tokio::time::Instant::now() + LINGER, LINGER_BYTES)));
        }
    }

    /// Reads and forgets what was refused: a connection that is closed with something unread takes its answer along.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some((until, bytes)) = &mut self.lingers {
            let mut space = [0; PIECE];
            let mut piece = ReadBuf::new(&mut space);
            self.inner.set_limit(u64::MAX);
            match Pin::new(&mut self.inner).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    *bytes = bytes.saturating_sub(piece.filled().len() as u64);
                    if *bytes == 0 || tokio::time::Instant::now() >= *until {
                        self.lingers = None;
                    }
                }
                Poll::Ready(_) => self.lingers = None,
                Poll::Pending => {
                    if self.timer.deadline() != *until {
                        self.timer.as_mut().reset(*until);
                    }
                    ready!(self.timer.as_mut().poll(context));
                    self.lingers = None;
                }
            }
        }
        Poll::Ready(())
    }

    fn written<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if self.is_writing != written.is_pending() {
            self.is_writing = written.is_pending();
            self.exchange.stalls(self.is_writing);
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.reading {
                Reading::Head(_) => match ready!(this.head(context))? {
                    Heard::End => return Poll::Ready(Ok(())),
                    Heard::Head(head) => this.reading = Reading::Handing(head.length, head.body),
                    Heard::Refused(problem) => {
                        this.exchange.hands_none();
                        this.refused = Some(problem);
                        this.buffer = BytesMut::from(NO_HEAD);
                        this.reading = Reading::Handing(NO_HEAD.len(), Framing::Chunked);
                    }
                },
                Reading::Handing(0, body) => {
                    let body = *body;
                    this.behind(body);
                }
                Reading::Handing(left, _) => {
                    let most = (*left).min(HANDED);
                    let handed = this.hand_over(most as u64, to);
                    if let Reading::Handing(left, _) = &mut this.reading {
                        *left -= handed;
                    }
                    return Poll::Ready(Ok(()));
                }
                Reading::Body(0, _) => this.behind(Framing::Length(0)),
                Reading::Body(left, at_once) => {
                    let (left, at_once) = (*left, *at_once);
                    let most = left.min(at_once);
                    let handed = if this.buffer.is_empty() {
                        let before = to.filled().len();
                        this.inner.set_limit(most);
                        ready!(Pin::new(&mut this.inner).poll_read(context, to))?;
                        to.filled().len() - before
                    } else {
                        this.hand_over(most, to)
                    };
                    this.reading = if handed == 0 && to.remaining() > 0 {
                        Reading::Rest
                    } else {
                        Reading::Body(left.saturating_sub(handed as u64), at_once)
                    };
                    return Poll::Ready(Ok(()));
                }
                Reading::Rest if this.buffer.is_empty() => {
                    this.inner.set_limit(u64::MAX);
                    return Pin::new(&mut this.inner).poll_read(context, to);
                }
                Reading::Rest => {
                    this.hand_over(u64::MAX, to);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_instead(context))?;
        if this.takes_over(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(this.inner.get_mut()).poll_write(context, bytes);
        this.written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_instead(context))?;
        if pieces.first().is_some_and(|first| this.takes_over(first)) {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        let written = Pin::new(this.inner.get_mut()).poll_write_vectored(context, pieces);
        this.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_instead(context))?;
        let flushed = Pin::new(this.inner.get_mut()).poll_flush(context);
        this.written(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_instead(context))?;
        ready!(Pin::new(this.inner.get_mut()).poll_shutdown(context))?;
        this.forget_the_rest();
        this.linger(context).map(Ok)
    }
}
