//! A request's body for a thread that blocks: chunks arrive on the async side and are read on the other.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks that may wait between the two sides; a body that comes faster than it is read has to wait too.
const CHUNKS: usize = 16;

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
