//! Writing an object of a bucket while its bytes are still coming in: a multipart upload in a task of its own, fed
//! through a short queue.
//!
//! An object of less than one part goes up in one request. Each part is signed together with the SHA-256 of its
//! bytes, so what the store accepted is what was sent.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use minio::s3::{builders::ObjectContent, error::Error};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{ANSWER_LIMIT, Bucket, ObjectError, ObjectName};

/// The client holds one part while it goes up. S3's least, so that memory is small; 10,000 of them (S3's most) are
/// 48 GiB.
const PART_BYTES: u64 = 5 * 1024 * 1024;
/// Bytes are handed over in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;
/// So many pieces may wait: 2 MiB, for the writer to go on while a part is under way.
const WAITING_PIECES: usize = 8;

enum Message {
    Piece(Bytes),
    /// The object is whole. A queue that closes without this was abandoned.
    End,
}

/// Feeds an upload. Dropped unfinished, it closes the queue, and the task takes the upload back.
pub(in crate::objects) struct BucketWriter {
    bucket: Bucket,
    piece: BytesMut,
    sent: u64,
    /// None once the upload failed.
    upload: Option<Upload>,
}

struct Upload {
    queue: mpsc::Sender<Message>,
    task: JoinHandle<Result<u64, Error>>,
}

impl BucketWriter {
    pub(super) fn new(bucket: Bucket, name: &ObjectName) -> Result<Self, ObjectError> {
        let (queue, waiting) = mpsc::channel(WAITING_PIECES);
        let content = ObjectContent::new_from_stream(pieces(waiting), None);
        let request = bucket
            .client
            .put_object_content(&bucket.name, name.as_str(), content)
            .map_err(|error| bucket.sort(&error.into()))?
            .part_size(PART_BYTES)
            .build();
        let task = bucket.runtime.spawn(async { Ok(request.send().await?.object_size()) });
        Ok(Self { bucket, piece: BytesMut::new(), sent: 0, upload: Some(Upload { queue, task }) })
    }

    pub(in crate::objects) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece.reserve(PIECE_BYTES);
        }
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.send_piece()?;
        }
        Ok(taken)
    }

    pub(in crate::objects) fn finish(mut self) -> Result<u64, ObjectError> {
        // The client takes an empty piece for the end of the stream, so none may be sent.
        if !self.piece.is_empty() {
            self.send_piece()?;
        }
        self.send(Message::End)?;
        let stored = self.result()?;
        if stored == self.sent {
            Ok(stored)
        } else {
            Err(self.bucket.unavailable(format!("{} bytes were sent and {stored} stored", self.sent)))
        }
    }

    fn send_piece(&mut self) -> Result<(), ObjectError> {
        let piece = self.piece.split().freeze();
        let length = piece.len() as u64;
        self.send(Message::Piece(piece))?;
        self.sent += length;
        Ok(())
    }

    fn send(&mut self, message: Message) -> Result<(), ObjectError> {
        let upload = self.upload.as_ref().ok_or_else(|| self.bucket.unavailable("the upload has failed".into()))?;
        let sent = self.bucket.runtime.block_on(async { timeout(ANSWER_LIMIT, upload.queue.send(message)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            // The queue is closed only by a task that has ended, and it ends early only by an error.
            Ok(Err(_)) => match self.result() {
                Ok(_) => Err(self.bucket.unavailable("the upload ended too early".into())),
                Err(error) => Err(error),
            },
            Err(_) => Err(self.give_up()),
        }
    }

    /// Waits for the task: what it stored, or why it could not.
    fn result(&mut self) -> Result<u64, ObjectError> {
        let Some(Upload { queue, mut task }) = self.upload.take() else {
            return Err(self.bucket.unavailable("the upload has failed".into()));
        };
        drop(queue);
        match self.bucket.runtime.block_on(async { timeout(ANSWER_LIMIT, &mut task).await }) {
            Ok(Ok(stored)) => stored.map_err(|error| self.bucket.sort(&error)),
            Ok(Err(_)) => Err(self.bucket.unavailable("the upload was broken off by a shutdown".into())),
            Err(_) => {
                task.abort();
                Err(self.bucket.silent())
            }
        }
    }

    fn give_up(&mut self) -> ObjectError {
        if let Some(upload) = self.upload.take() {
            upload.task.abort();
        }
        self.bucket.silent()
    }
}

/// The queue as the client wants it: a stream that fails where the writer was dropped, upon which the client aborts
/// the multipart upload.
fn pieces(waiting: mpsc::Receiver<Message>) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(waiting), |waiting| async {
        let mut waiting = waiting?;
        match waiting.recv().await {
            Some(Message::Piece(piece)) => Some((Ok(piece), Some(waiting))),
            Some(Message::End) => None,
            None => Some((Err(io::ErrorKind::Interrupted.into()), None)),
        }
    })
}
