//! An answer that comes piece by piece, as functions of bytes alone: what is understood must not hang on where it was cut.

use super::{body::Decoder, head};

/// An answer as it was understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Understood {
    /// Its status; nothing where there was no head, or no HTTP.
    status: Option<u16>,
    body: Vec<u8>,
    /// Whether the body was read to its end, and nothing came behind it.
    is_whole: bool,
}

/// What is understood of an answer that comes in these pieces, and then no more.
pub fn understood<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Understood {
    let mut understood = Understood { status: None, body: Vec::new(), is_whole: false };
    let (mut unread, mut looked_at, mut decoder) = (Vec::new(), 0, None::<Decoder>);
    for piece in pieces {
        unread.extend_from_slice(piece);
        while decoder.is_none() {
            let Ok(found) = head::parse(&unread, looked_at) else { return understood };
            looked_at = unread.len();
            let Some((head, bytes)) = found else { break };
            unread.drain(..bytes);
            looked_at = 0;
            if !head.is_interim() {
                understood.status = Some(head.status);
                decoder = Some(Decoder::new(head.framing));
            }
        }
        let Some(decoder) = &mut decoder else { continue };
        loop {
            let Ok((used, data)) = decoder.decode(&unread) else { return understood };
            let is_stuck = data.is_empty();
            understood.body.extend_from_slice(&unread[data]);
            unread.drain(..used);
            if is_stuck {
                break;
            }
        }
        understood.is_whole = decoder.is_done() && unread.is_empty();
    }
    understood
}
