//! A bad file's errors as a file of their own, read back and sent piece by piece, within a time.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use warp::{
    Reply,
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{answers::not_stored, error_files::ErrorPlace};
use crate::{
    http::{answer::blocking, standing::Right},
    upload::error_file::ErrorLines,
};

/// How long one may be on its way: a million errors are, over a line of half a megabit a second. Whoever takes less of it gives
/// the place back.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A file of errors on its way to a caller.
struct Sending {
    lines: ErrorLines,
    until: Instant,
    /// The request's, so that what goes wrong later is logged under its id.
    span: Span,
    _place: Option<ErrorPlace>,
}

/// The answer. `place` is held as long as it is being sent, which `right` can end.
pub(super) fn answer(lines: ErrorLines, place: Option<ErrorPlace>, right: Right) -> Response {
    let sending = Sending { lines, until: Instant::now() + LONGEST, span: Span::current(), _place: place };
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
        let Self { mut lines, until, span, _place } = self;
        if Instant::now() >= until {
            return broken(io::ErrorKind::TimedOut);
        }
        let read = blocking(move || {
            let piece = lines.next_chunk().map_err(|error| not_stored(&error.into()))?;
            Ok(piece.map(|piece| (piece, lines)))
        });
        match read.instrument(span.clone()).await {
            Ok(Some((piece, lines))) => Some((Ok(Bytes::from(piece)), Some(Self { lines, until, span, _place }))),
            Ok(None) => None,
            Err(_) => broken(io::ErrorKind::UnexpectedEof),
        }
    }
}

/// The connection breaks, so that the file is not taken for a whole one.
fn broken<T>(why: io::ErrorKind) -> Option<(io::Result<Bytes>, Option<T>)> {
    Some((Err(why.into()), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::error_file::ErrorFile;

    #[test]
    fn a_file_that_is_on_its_way_for_too_long_breaks_off() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let piece = |until| {
            let lines = ErrorFile::new("/nowhere/at/all".into(), || Ok(())).read().expect("nothing to read");
            let sending = Sending { lines, until, span: Span::none(), _place: None };
            runtime.block_on(sending.piece()).expect("a piece").0
        };
        assert!(piece(Instant::now() + LONGEST).is_ok_and(|piece| piece.starts_with(b"line,")));
        assert!(piece(Instant::now()).is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
    }
}
