//! `multipart/form-data`: the parts of a form one after the other, with a limit to what stands around their content.
//!
//! multer keeps what comes until it understands it. The head of a part that never ends, or a form whose first boundary
//! never comes, would be kept whole; so what it was given and did not give back is counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::body::{Body, BrokenBody};

/// The most bytes of a form that are not content: heads of parts, boundaries, what stands in front and between.
const LARGEST_FRAME: usize = 256 * 1024;

/// A form that is being read.
pub(super) struct Form<'a> {
    parts: multer::Multipart<'a>,
    held: Held,
}

/// A part of a form, with its content still to come.
pub(super) struct Part<'a> {
    field: multer::Field<'a>,
    held: Held,
}

/// The bytes that multer was given and did not give back as content.
#[derive(Clone, Default)]
struct Held(Arc<AtomicUsize>);

impl Held {
    fn given(&self, chunk: Bytes) -> Result<Bytes, BrokenBody> {
        let before = self.0.fetch_add(chunk.len(), Ordering::Relaxed);
        if before + chunk.len() > LARGEST_FRAME { Err(BrokenBody::Frame) } else { Ok(chunk) }
    }

    fn given_back(&self, content: &Bytes) {
        self.0.fetch_sub(content.len(), Ordering::Relaxed);
    }
}

impl<'a> Form<'a> {
    pub(super) fn new(body: &'a mut Body, boundary: String) -> Self {
        let held = Held::default();
        Self { parts: multer::Multipart::new(counted(body, held.clone()), boundary), held }
    }

    /// The next part. The one before has to be dropped first.
    pub(super) async fn next_part(&mut self) -> Result<Option<Part<'a>>, BrokenBody> {
        let field = self.parts.next_field().await?;
        Ok(field.map(|field| Part { field, held: self.held.clone() }))
    }
}

impl Part<'_> {
    pub(super) fn name(&self) -> Option<&str> {
        self.field.name()
    }

    pub(super) fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// The next piece of its content.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, BrokenBody> {
        let chunk = self.field.chunk().await?;
        Ok(chunk.inspect(|content| self.held.given_back(content)))
    }
}

fn counted<'a>(body: &'a mut Body, held: Held) -> impl Stream<Item = Result<Bytes, BrokenBody>> + Send + 'a {
    futures_util::stream::unfold((body, held), |(body, held)| async move {
        // multer takes as much as is there: here it has to give back what it can before it gets more.
        tokio::task::yield_now().await;
        let chunk = body.next().await?;
        Some((chunk.and_then(|chunk| held.given(chunk)), (body, held)))
    })
}

impl From<multer::Error> for BrokenBody {
    fn from(error: multer::Error) -> Self {
        match error {
            multer::Error::StreamReadFailed(inner) => inner.downcast().map_or(Self::Form, |broken| *broken),
            _ => Self::Form,
        }
    }
}
