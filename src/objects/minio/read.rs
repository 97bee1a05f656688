//! Reading an object of a bucket, piece by piece as the network brings it.

use std::{
    io::{self, Read},
    pin::Pin,
};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};

use super::{ANSWER_LIMIT, Bucket, innermost};

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of an answer, made to block. Holds one piece; the rest waits in the connection.
pub(super) struct BucketReader {
    bucket: Bucket,
    pieces: Pieces,
    piece: Bytes,
}

impl BucketReader {
    pub(super) fn new(bucket: Bucket, pieces: Pieces) -> Self {
        Self { bucket, pieces, piece: Bytes::new() }
    }
}

impl Read for BucketReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !out.is_empty() {
            let next = self.pieces.next();
            // An answer that ends before its Content-Length is an error of the HTTP client, never a quiet end.
            let next = self.bucket.runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, next).await });
            match next.map_err(|_| self.bucket.silent())? {
                Some(piece) => self.piece = piece.map_err(|error| self.bucket.unavailable(innermost(&error)))?,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(out.len());
        self.piece.copy_to_slice(&mut out[..length]);
        Ok(length)
    }
}
