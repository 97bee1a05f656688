//! What may happen to bytes on their way.

use proptest::{collection::vec, prelude::*, sample::Index};

/// One change.
#[derive(Debug, Clone)]
pub enum Damage {
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Double(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Insert(at, more) => drop(bytes.splice(at.index(length)..at.index(length), more.iter().copied())),
            Self::Remove(at, many) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + many));
            }
            Self::Double(from) => bytes.extend_from_within(from.index(length)..),
        }
    }
}

/// Text that means something to one parser or another, and text that means nothing to any.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let meaningful = ["\r\n", "\r\n\r\n", "--", "\r\n--", "\"", "\\\"", ";", ":", "\0", "name=\"file\"", ","];
    let meaningful = prop::sample::select(meaningful.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![meaningful, vec(any::<u8>(), 1..40)]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<Index>(), junk()).prop_map(|(at, more)| Damage::Insert(at, more)),
        (any::<Index>(), 1..60_usize).prop_map(|(at, many)| Damage::Remove(at, many)),
        any::<Index>().prop_map(Damage::Double),
    ]
}

/// These bytes after a few changes, or none.
pub fn damaged(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (bytes, vec(damage(), 0..4)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    })
}
