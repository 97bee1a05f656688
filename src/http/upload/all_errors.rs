//! A bad file's errors as a file of their own, read back and sent piece by piece.

use std::io;

use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span};
use warp::{
    Reply,
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::answers::not_stored;
use crate::{
    http::{answer::blocking, standing::Right},
    upload::error_file::ErrorLines,
};

/// A file of errors on its way to a caller.
struct Sending {
    lines: ErrorLines,
    /// The request's, so that what goes wrong later is logged under its id.
    span: Span,
    _place: Option<OwnedSemaphorePermit>,
}

/// The answer. `place` is held as long as it is being sent, which `right` can end.
pub(super) fn answer(lines: ErrorLines, place: Option<OwnedSemaphorePermit>, right: Right) -> Response {
    let sending = Sending { lines, span: Span::current(), _place: place };
    // Each piece is read when the caller has taken the one before, so that a slow one keeps no thread.
    let pieces = unfold(Some(sending), |sending| async { sending?.piece().await });
    let pieces = right.guard(pieces, Some(Err(io::ErrorKind::PermissionDenied.into())));
    let mut response = warp::reply::stream(pieces).into_response();
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"errors.csv\""));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Sending {
    async fn piece(self) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let Self { mut lines, span, _place } = self;
        let read = blocking(move || {
            let piece = lines.next_chunk().map_err(|error| not_stored(&error.into()))?;
            Ok(piece.map(|piece| (piece, lines)))
        });
        match read.instrument(span.clone()).await {
            Ok(Some((piece, lines))) => Some((Ok(Bytes::from(piece)), Some(Self { lines, span, _place }))),
            Ok(None) => None,
            // The connection breaks, so that the file is not taken for a whole one.
            Err(_) => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    }
}
