//! A connection: its bytes, and what is known of the exchange that it is at.
//!
//! The calls of rows are read and written here, over `httparse`, and not by an HTTP library, for three reasons that were measured
//! (`docs/adr/0001-the-core-again.md`). A connection that waits for its answer holds no buffer, where hyper's holds three, 18 KiB
//! of them resident, and thousands wait where an API is slow. No task stands beside the row's own. And what "never twice" turns
//! on, whether a byte of the request has left and a byte of the answer come, is known at first hand.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    head::{self, Head, NotHttp},
    sockets::Socket,
};

/// The most bytes that are read at once, and that a connection holds of a body that nobody has taken.
const PIECE: usize = 4 * 1024;

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server closed the connection.
    Closed,
    /// It broke.
    Broke(io::ErrorKind),
    /// What came is not an answer.
    NotHttp(NotHttp),
}

/// A connection to a dependency.
pub(super) struct Connection {
    stream: Stream,
    _socket: Socket,
    /// What was read and is not used up yet. It holds no memory while nothing is in it.
    unread: Vec<u8>,
    /// How often the dependency's name had moved when the connection was made.
    pub moves: u64,
    /// Whether it was used before.
    pub is_kept: bool,
    /// Whether a byte of the present request has left.
    pub has_sent: bool,
    /// Whether a byte of its answer has come.
    pub has_received: bool,
    /// Whether all of the request has left.
    pub is_whole: bool,
}

impl Connection {
    pub(super) fn new(stream: Stream, socket: Socket, moves: u64) -> Self {
        let (unread, no) = (Vec::new(), false);
        Self { stream, _socket: socket, unread, moves, is_kept: no, has_sent: no, has_received: no, is_whole: no }
    }

    /// Sends a request, and reads the head of its answer. Those that only say that it will come are passed over. An answer may come
    /// before the request has left whole: it counts, and nothing more is sent then.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Head, Fault> {
        (self.has_sent, self.has_received, self.is_whole) = (false, false, false);
        let (mut left, mut passed_over, mut looked_at) = (request, 0, 0);
        loop {
            let broke = if self.is_whole { None } else { self.send(&mut left).await.err() };
            // Who refuses a request may answer and close before it has come whole.
            let goes_on = !self.is_whole && broke.is_none();
            let found = head::parse(&self.unread, looked_at).map_err(Fault::NotHttp)?;
            looked_at = self.unread.len();
            match found {
                Some((head, bytes)) if head.is_interim() => {
                    passed_over += bytes;
                    self.use_up(bytes);
                    looked_at = 0;
                }
                Some((head, bytes)) => {
                    self.use_up(bytes);
                    return Ok(head);
                }
                None if passed_over + self.unread.len() > head::MAX_HEAD => {
                    return Err(Fault::NotHttp(NotHttp::TooLong));
                }
                None if goes_on => {}
                None => match (self.read_more().await, broke) {
                    (Ok(1..), _) => {}
                    (_, Some(broke)) => return Err(Fault::Broke(broke.kind())),
                    (Ok(0), None) => return Err(Fault::Closed),
                    (Err(error), None) => return Err(Fault::Broke(error.kind())),
                },
            }
        }
    }

    /// Sends what is left until all of it has left, or something comes back.
    async fn send(&mut self, left: &mut &[u8]) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            while !left.is_empty() {
                match self.stream.poll_write(cx, left) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => {
                        self.has_sent = true;
                        *left = &left[written..];
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => match ready!(self.poll_read_more(cx))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        _ => return Poll::Ready(Ok(())),
                    },
                }
            }
            self.stream.poll_flush(cx)
        })
        .await?;
        self.is_whole = left.is_empty();
        Ok(())
    }

    /// What was read and is not used up.
    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }

    pub(super) fn use_up(&mut self, bytes: usize) {
        if bytes < self.unread.len() {
            self.unread.drain(..bytes);
        } else {
            self.unread = Vec::new();
        }
    }

    /// Whether what came on a connection without TLS is TLS.
    pub(super) fn is_tls_unasked(&self) -> bool {
        !self.is_kept && matches!(self.stream, Stream::Plain(_)) && is_tls(&self.unread)
    }

    /// Whether a connection that rests is still there, and silent, as it should be: what came unasked would be taken for the answer
    /// of the next request. The system is asked, because what the runtime knows of it may be older.
    pub(super) fn rests(&mut self) -> bool {
        self.unread.is_empty() && self.stream.is_silent() && self.read_more().now_or_never().is_none()
    }

    /// Reads what has come, once something has; 0 bytes at the end.
    pub(super) async fn read_more(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read_more(cx)).await
    }

    /// Onto the stack first, and from there only what has come: thousands wait for nothing.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(self.stream.poll_read(cx, &mut piece))?;
        let bytes = piece.filled();
        self.has_received |= !bytes.is_empty();
        self.unread.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
}

/// A TLS record: of four types, and of a version that all of them have since 1996 (RFC 8446, section 5.1).
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 3, ..])
}

impl Stream {
    /// Whether nothing has come that was not read, no end either. No byte is taken.
    fn is_silent(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let looked = recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        looked.is_err_and(|error| error == Errno::WOULDBLOCK)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}
