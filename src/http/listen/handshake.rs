//! The start of a connection where TLS is spoken: hands are shaken before the first head's deadline, on the place that the
//! connection has. Who speaks plain HTTP there is told so in plain HTTP.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    STALL_TIMEOUT,
    stall::Impatient,
    wire::{LINGER, LINGER_BYTES, Tell},
};
use crate::http::problem::{Problem, ProblemCode};

/// What every TLS connection begins with: the type of a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// How much may come until hands are shaken: a hello with keys that outlast quantum computers has less than 3 KiB, and
/// rustls would keep 64 KiB of it.
const HANDSHAKE_BYTES: usize = 16 * 1024;
/// How much is sealed of an answer ahead of what the system takes in. Twice as much can be held: a record that has left in part,
/// and the next one. By itself rustls would have 64 KiB ready for each caller who takes nothing.
const SEALED_AHEAD: usize = 4 * 1024;

/// A stream that TLS is spoken on.
pub type Secured = TlsStream<Impatient<TcpStream>>;

/// Shakes hands until `deadline`. `None`: there was nobody to shake hands with.
pub async fn shake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    deadline: Instant,
    tell: &Tell,
) -> io::Result<Option<Secured>> {
    let mut first = [0];
    // Some only look whether a port is open, and some never say a word.
    let Ok(heard) = timeout_at(deadline, stream.peek(&mut first)).await else { return Ok(None) };
    if heard? == 0 {
        return Ok(None);
    }
    if first[0] != HANDSHAKE {
        // Who does not take the answer misses it.
        let _ = timeout_at(deadline, refuse(stream, tell)).await;
        return Ok(None);
    }
    let mut stream = Impatient::new(stream, STALL_TIMEOUT);
    stream.let_come(Some(HANDSHAKE_BYTES));
    let mut secured = timeout_at(deadline, acceptor.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (stream, session) = secured.get_mut();
    stream.let_come(None);
    session.set_buffer_limit(Some(SEALED_AHEAD));
    Ok(Some(secured))
}

/// Says in plain HTTP that this is not where it is spoken.
async fn refuse(mut stream: TcpStream, tell: &Tell) -> io::Result<()> {
    let detail = "TLS is spoken on this port: its URL begins with https://.";
    stream.write_all(&tell(Problem::new(ProblemCode::BadRequest, detail))).await?;
    stream.shutdown().await?;
    // A connection that is closed with something unread takes its answer along.
    let rest = &mut stream.take(LINGER_BYTES);
    let _ = timeout(LINGER, tokio::io::copy(rest, &mut tokio::io::sink())).await;
    Ok(())
}
