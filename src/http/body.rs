//! A request's body: as it comes, and for a thread that blocks, where chunks arrive on the async side and are read on
//! the other.

use std::{
    io::{self, Read},
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};

use super::pace::{Pace, TooSlow};

/// How long a body may pause, and over how long a time it is judged.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long, and how many bytes, the rest of a refused body is read for; and for how long nothing may come meanwhile.
const LINGER: Duration = Duration::from_secs(20);
const LINGER_PAUSE: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1 << 30;
/// Chunks that may wait between the two sides; a body that comes faster than it is read has to wait too.
const CHUNKS: usize = 16;

/// A body as it comes. After an error nothing comes any more.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BrokenBody>> + Send>>;

/// Why a body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BrokenBody {
    /// The connection broke.
    #[error("the connection broke")]
    Broken,
    /// Nothing came for [`LONGEST_PAUSE`].
    #[error("nothing came for too long")]
    Paused,
    /// What its request came with was taken away meanwhile.
    #[error("its key was taken away")]
    Revoked,
    /// Less came than [`LEAST_RATE`](super::pace::LEAST_RATE), for [`LONGEST_PAUSE`].
    #[error(transparent)]
    Slow(#[from] TooSlow),
    /// It was slow, and somebody else waited.
    #[error("it made way")]
    MadeWay,
    /// It says that it is a form, and is none.
    #[error("the form is broken")]
    Form,
    /// It is a form that holds too much besides its parts' content.
    #[error("too much of the form is not content")]
    Frame,
}

/// The body as chunks of bytes, none of which may be long in coming, nor all of them together.
pub fn limited<B: Buf>(stream: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Body {
    let begin = Some((Box::pin(stream), Pace::new(LONGEST_PAUSE)));
    let chunks = futures_util::stream::unfold(begin, |state| async {
        let (mut stream, mut pace) = state?;
        let since = Instant::now();
        match timeout(LONGEST_PAUSE, stream.next()).await {
            Err(_) => Some((Err(BrokenBody::Paused), None)),
            Ok(None) => None,
            Ok(Some(Err(_))) => Some((Err(BrokenBody::Broken), None)),
            Ok(Some(Ok(mut data))) => match pace.came(since.elapsed(), data.remaining()) {
                Err(slow) => Some((Err(slow.into()), None)),
                Ok(()) => Some((Ok(data.copy_to_bytes(data.remaining())), Some((stream, pace)))),
            },
        }
    });
    Box::pin(chunks.fuse())
}

/// Reads and forgets the rest of a body, within limits.
pub async fn linger(mut rest: Body) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(Ok(chunk))) = timeout(LINGER_PAUSE, rest.next()).await {
            bytes += chunk.len() as u64;
            if bytes > LINGER_BYTES {
                return;
            }
        }
    };
    // Whether there was an end to it or not.
    let _ = timeout(LINGER, read).await;
}

/// The end that the async side feeds. Dropped without [`BodyFeed::finish`], the body counts as broken off.
pub struct BodyFeed(Sender<Chunk>);

/// The end that is read.
pub struct BodyReader {
    chunks: Receiver<Chunk>,
    current: Bytes,
    ended: bool,
}

enum Chunk {
    Data(Bytes),
    End,
}

/// Two ends of a body.
pub fn body() -> (BodyFeed, BodyReader) {
    let (feed, chunks) = channel(CHUNKS);
    (BodyFeed(feed), BodyReader { chunks, current: Bytes::new(), ended: false })
}

impl BodyFeed {
    /// Hands a chunk over; `false` when nobody reads any more.
    pub async fn push(&self, data: Bytes) -> bool {
        self.0.send(Chunk::Data(data)).await.is_ok()
    }

    /// The body ended as it should.
    pub async fn finish(self) {
        // Nobody reads any more where the file was refused early.
        let _ = self.0.send(Chunk::End).await;
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Chunk::Data(data)) => self.current = data,
                Some(Chunk::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upload broke off")),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
