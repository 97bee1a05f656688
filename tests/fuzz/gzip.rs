//! Gzipped bodies: with bits flipped, cut, in several members, with something behind the end.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use crate::{
    damage::damaged,
    server::{Request, Server, csv},
};

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// The file in one member or in two, of which one may be empty or not compressed.
fn members() -> impl Strategy<Value = Vec<u8>> {
    let csv = csv().into_bytes();
    (0..=csv.len(), 0..10_u32, 0..10_u32)
        .prop_map(move |(at, first, second)| [gzip(&csv[..at], first), gzip(&csv[at..], second)].concat())
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => members(), 1 => Just(csv().into_bytes()), 1 => any::<Vec<u8>>()]
}

#[test]
fn whatever_is_called_gzip_is_a_file_or_refused() {
    let zipped = |body| Request::new("text/csv", body).with("Content-Encoding", "gzip");
    Server::start().hold(150, damaged(bodies()).prop_map(zipped), &[202, 422]);
}
