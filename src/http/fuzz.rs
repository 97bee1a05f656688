//! For `crate::fuzzing`: what of HTTP strangers' bytes go into first, without a connection.

use bytes::Bytes;
use futures_util::stream;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

use super::{body::Body, form::Form, upload};

/// Reads what an upload says of itself, from lines of `name: value`.
pub fn head(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    upload::understand_head(&headers);
}

/// Reads a form that comes in these pieces as far as it is one; the bytes of its parts' content.
pub fn content_of_form(pieces: Vec<Bytes>, boundary: &str) -> usize {
    let mut body: Body = Box::pin(stream::iter(pieces.into_iter().map(Ok)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (mut form, mut content) = (Form::new(&mut body, boundary.to_owned()), 0);
        while let Ok(Some(mut part)) = form.next_part().await {
            let _ = (part.name().map(str::len), part.file_name().map(str::len));
            while let Ok(Some(chunk)) = part.chunk().await {
                content += chunk.len();
            }
        }
        content
    })
}
