//! What holds for whatever is done to sealed bytes: they open as they were sealed, where they were sealed for, or not
//! at all.

mod blobs;
mod streams;

use proptest::{prelude::*, sample::Index};

/// What may be done to sealed bytes; never nothing.
#[derive(Debug, Clone)]
enum Harm {
    Flip(Index, u8),
    Cut(Index),
    CutInFront(Index),
    Lengthen(Vec<u8>),
    Exchange(Index, Index),
}

impl Harm {
    fn done_to(&self, sealed: &[u8]) -> Vec<u8> {
        let mut harmed = sealed.to_vec();
        let length = sealed.len();
        match self {
            Self::Flip(at, bit) => harmed[at.index(length)] ^= 1 << bit,
            Self::Cut(end) => harmed.truncate(end.index(length)),
            Self::CutInFront(start) => drop(harmed.drain(..=start.index(length))),
            Self::Lengthen(more) => harmed.extend(more),
            Self::Exchange(one, other) => harmed.swap(one.index(length), other.index(length)),
        }
        harmed
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        any::<Index>().prop_map(Harm::Cut),
        any::<Index>().prop_map(Harm::CutInFront),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(Harm::Lengthen),
        any::<(Index, Index)>().prop_map(|(one, other)| Harm::Exchange(one, other)),
    ]
}
