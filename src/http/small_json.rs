//! Small JSON bodies, as operators send them.

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use warp::{Filter, Rejection};

use super::problem::{Problem, ProblemCode};

/// The most bytes of such a body.
const LARGEST: usize = 16 * 1024;

/// A body that was understood; `None` where there was none.
pub type Told<T> = Result<Option<T>, Problem>;

/// Reads a JSON body. `shape` says to a person what it should have been.
pub fn small_json<T: DeserializeOwned + Send>(
    shape: &'static str,
) -> impl Filter<Extract = (Told<T>,), Error = Rejection> + Clone {
    warp::body::stream().then(move |body| async move {
        read(body).await.ok_or_else(|| Problem::new(ProblemCode::BadRequest, format!("The body is {shape}.")))
    })
}

/// Counts bytes itself: a request without a body need not say how long it is.
async fn read<T: DeserializeOwned, B: Buf>(body: impl Stream<Item = Result<B, warp::Error>>) -> Option<Option<T>> {
    let mut body = std::pin::pin!(body);
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.ok()?;
        if text.len() + chunk.remaining() > LARGEST {
            return None;
        }
        text.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    if text.is_empty() { Some(None) } else { serde_json::from_slice(&text).ok().map(Some) }
}
