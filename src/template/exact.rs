//! Lists as texts, with every digit of their numbers.

use std::io;

use serde::Serialize;
use serde_json::{Serializer, Value, ser::Formatter};

/// `[1, "two", 1.50]`; `None` where a `null` is in it, which counts as absent.
pub(super) fn text(list: &Value) -> Option<String> {
    if has_null(list) { None } else { spaced(list) }
}

/// As JSON, with a space behind each comma and colon.
pub(super) fn spaced(value: &impl Serialize) -> Option<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)).ok()?;
    String::from_utf8(text).ok()
}

fn has_null(json: &Value) -> bool {
    match json {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

/// As the template language writes lists.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
