//! JSON as texts, with every digit of its numbers.

use std::borrow::Cow;

/// A text is itself, and so are numbers; lists and objects are written as the template language writes them: `[1, "two", 1.50]`.
/// `None` where a `null` is in it, which counts as absent. What is given has to be JSON.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    match json.bytes().next()? {
        b'"' => serde_json::from_str(json).ok().map(Cow::Owned),
        b'[' | b'{' if tokens(json).all(|token| token != "null") => spaced(json).map(Cow::Owned),
        b'n' | b'[' | b'{' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

/// JSON with a space behind each comma and colon, and nowhere else.
pub(super) fn spaced(json: &str) -> Option<String> {
    let mut spaced = String::with_capacity(json.len() + json.len() / 8);
    for token in tokens(json) {
        match token.bytes().next()? {
            // As it is written without need for escapes.
            b'"' => spaced.push_str(&serde_json::Value::from(serde_json::from_str::<String>(token).ok()?).to_string()),
            b',' | b':' => spaced.extend([token, " "]),
            _ => spaced.push_str(token),
        }
    }
    Some(spaced)
}

/// Texts with their quotes, numbers and words, and what stands between them, without blanks.
fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let length = match rest.bytes().next()? {
            b'"' => text_length(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest.find(|it: char| it.is_ascii_whitespace() || ",:]}".contains(it)).unwrap_or(rest.len()),
        };
        let (token, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(token)
    })
}

/// The bytes of the text that this begins with, with its quotes.
fn text_length(json: &str) -> usize {
    let mut bytes = json.bytes().enumerate().skip(1);
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return place + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_order_stay_and_blanks_are_as_the_language_has_them() {
        for (json, expected) in [
            ("1E3", Some("1E3")),
            (r#""a\"\u00e9""#, Some("a\"é")),
            (r#"[1.50 ,"tw\u006f",  {"b":1E3,"a":[]}]"#, Some(r#"[1.50, "two", {"b": 1E3, "a": []}]"#)),
            (r#"{"a, b: c\\": true}"#, Some(r#"{"a, b: c\\": true}"#)),
            ("null", None),
            ("[1, null]", None),
        ] {
            assert_eq!(text(json).as_deref(), expected, "{json}");
        }
    }
}
