//! From the bytes that came to the bytes of the file: inflated, counted, hashed, and handed on as they are read.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Why a file cannot be read on, apart from a fault of the connection.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFault {
    /// It is not gzip, or not whole.
    #[error("the gzip stream is damaged or ends early")]
    BadGzip,
    /// It is larger than it may be.
    #[error("the file is too large")]
    TooLarge,
    /// Whoever stores it could not.
    #[error("the file could not be stored: {0}")]
    Tee(#[source] io::Error),
}

impl DecodeFault {
    /// The fault that an error of [`Decoded::read`] carries; the error itself where it is of the connection.
    pub fn of(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

/// The file's bytes: read here, hashed, and written to `tee` before anybody has looked at them.
pub struct Decoded<R, W> {
    source: Source<R>,
    tee: W,
    stored: bool,
    hash: Sha256,
    bytes: u64,
    max_bytes: u64,
}

enum Source<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
}

impl<R: Read, W: Write> Decoded<R, W> {
    /// Reads `source`, gzipped or not, up to `max_bytes` inflated.
    pub fn new(source: R, gzip: bool, max_bytes: u64, tee: W) -> Self {
        let source = if gzip { Source::Gzip(Box::new(MultiGzDecoder::new(source))) } else { Source::Plain(source) };
        Self { source, tee, stored: true, hash: Sha256::new(), bytes: 0, max_bytes }
    }

    /// The file is refused: what comes is counted, and not stored any more.
    pub fn stop_storing(&mut self) {
        self.stored = false;
    }

    /// Inflated bytes so far, and their SHA-256.
    pub fn digest(self) -> (u64, [u8; 32]) {
        (self.bytes, self.hash.finalize().into())
    }

    fn inflate(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Plain(source) => source.read(buffer),
            Source::Gzip(source) => source.read(buffer).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    io::Error::other(DecodeFault::BadGzip)
                }
                _ => error,
            }),
        }
    }
}

impl<R: Read, W: Write> Read for Decoded<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inflate(buffer)?;
        let read = &buffer[..length];
        self.bytes += length as u64;
        if self.bytes > self.max_bytes {
            return Err(io::Error::other(DecodeFault::TooLarge));
        }
        if self.stored {
            self.hash.update(read);
            self.tee.write_all(read).map_err(|error| io::Error::other(DecodeFault::Tee(error)))?;
        }
        Ok(length)
    }
}
