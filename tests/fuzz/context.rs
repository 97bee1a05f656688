//! `context`, in the header and as a part: JSON of every shape, and what is not JSON.

use proptest::{collection::vec, prelude::*};

use crate::server::{PRIVATE, Request, Server, csv};

/// A JSON object that is so many objects deep.
fn nested(depth: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "-0", "1e400", "123456789012345678901234567890", "01", "NaN"])
            .prop_map(str::to_owned),
        prop::sample::select(vec!["\"\\ud800\"", "\"\\u0000\"", "\"{{ row.email }}\"", "\"\\", "\""])
            .prop_map(str::to_owned),
        "\"[ !#-\\[\\]-~]{0,20}\"",
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let members = vec(("[a-z]{0,3}|request", inner.clone()), 0..5).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![members, vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(",")))]
    })
}

fn contexts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => json().prop_map(|member| format!("{{\"note\": \"{PRIVATE}\", \"more\": {member}}}").into_bytes()),
        2 => json().prop_map(String::into_bytes),
        1 => (100..200_usize).prop_map(|depth| nested(depth).into_bytes()),
        1 => Just("[".repeat(20_000).into_bytes()),
        1 => any::<String>().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => Just(format!("{{\"{PRIVATE}\": \"{}\"}}", "x".repeat(65_536)).into_bytes()),
    ]
}

/// What a header's value cannot hold is no header any more.
fn fits_a_header(value: &[u8]) -> bool {
    value.len() < 50_000 && value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f)
}

fn as_header(context: Vec<u8>) -> Request {
    Request::new("text/csv", csv()).with("X-Dripfeed-Context", context)
}

fn as_part(context: Vec<u8>) -> Request {
    let head = |name: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes();
    let parts =
        [head("context"), context, b"\r\n".to_vec(), head("file"), csv().into_bytes(), b"\r\n--b--\r\n".to_vec()];
    Request::new("multipart/form-data; boundary=b", parts.concat())
}

#[test]
fn every_context_is_refused_or_read_back() {
    let in_header = contexts().prop_filter("a header", |value| fits_a_header(value)).prop_map(as_header);
    Server::start().hold(160, prop_oneof![in_header, contexts().prop_map(as_part)], &[202, 400, 413]);
}

/// JSON has no limit to its depth, and the readers of it do: what is taken must be readable from inside what it is
/// kept in.
#[test]
fn a_context_of_any_depth_is_refused_or_read_back() {
    let server = Server::start();
    for depth in 100..140 {
        server.check(&as_header(nested(depth).into_bytes())).expect("an answer of the interface");
    }
    server.is_well();
}
