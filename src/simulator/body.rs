//! What an answer's body is sent as: whole, or cut off.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Sleep, sleep};
use warp::hyper::body::{Body, Frame, SizeHint};

/// How long after the first half a connection is closed: the other side has read it by then.
const PAUSE: Duration = Duration::from_millis(20);

/// A body on its way.
pub(super) enum Sent {
    /// What is still to be sent; then the end.
    Whole(Option<Bytes>),
    /// The first half; then, a little later, an error, which closes the connection.
    CutOff(Option<Bytes>, Pin<Box<Sleep>>),
}

impl Sent {
    /// How many bytes a head says that it has.
    pub(super) fn announced(&self) -> usize {
        // Also what has no body at all breaks off before its end.
        self.left().max(1)
    }

    /// The half of it.
    pub(super) fn cut_off(self) -> Self {
        let (Self::Whole(bytes) | Self::CutOff(bytes, _)) = self;
        let half = bytes.map(|bytes| bytes.slice(..bytes.len() / 2));
        Self::CutOff(half, Box::pin(sleep(PAUSE)))
    }

    fn left(&self) -> usize {
        let (Self::Whole(bytes) | Self::CutOff(bytes, _)) = self;
        bytes.as_ref().map_or(0, Bytes::len)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let (Self::Whole(bytes) | Self::CutOff(bytes, _)) = &mut *self;
        if let Some(bytes) = bytes.take().filter(|bytes| !bytes.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut *self {
            Self::Whole(_) => Poll::Ready(None),
            Self::CutOff(_, pause) => {
                ready!(pause.as_mut().poll(context));
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(_)) && self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(_) => SizeHint::with_exact(self.left() as u64),
            // What the head announces is said there.
            Self::CutOff(..) => SizeHint::default(),
        }
    }
}
