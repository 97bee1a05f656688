//! `Content-Type` and `Content-Encoding` as nobody sends them.

use proptest::{collection::vec, option, prelude::*};

use crate::server::{Request, Server, csv};

/// Any text that is a header's value to HTTP.
fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8, Just(b'\t')], 0..60)
}

fn content_types() -> impl Strategy<Value = Vec<u8>> {
    let known = ["text/csv", "TEXT/CSV ; charset=x", "text/csv;;;=", "text/csvx", "", ";", "text/csv, text/csv", "*/*"];
    prop_oneof![2 => Just(b"text/csv".to_vec()), 1 => prop::sample::select(known.to_vec()).prop_map(Vec::from), 1 => value()]
}

fn encodings() -> impl Strategy<Value = Vec<u8>> {
    let known = ["gzip", "GZIP", "x-gzip", "identity", "", "br", "gzip, gzip", "deflate", " gzip "];
    prop_oneof![1 => Just(b"gzip".to_vec()), 2 => prop::sample::select(known.to_vec()).prop_map(Vec::from), 1 => value()]
}

#[test]
fn odd_content_types_and_encodings_are_understood_or_refused() {
    let requests = (vec(content_types(), 0..3), option::of(encodings())).prop_map(|(types, encoding)| {
        let mut request = Request::new("text/csv", csv());
        request.headers.clear();
        for kind in types {
            request = request.with("Content-Type", kind);
        }
        encoding.into_iter().fold(request, |request, encoding| request.with("Content-Encoding", encoding))
    });
    Server::start().hold(150, requests, &[202, 415, 422]);
}
