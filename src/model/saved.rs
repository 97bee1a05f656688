//! A value that a step saved from an answer.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{Value, value::RawValue};

/// The longest value that is saved, as JSON: about what fits into a request, where no template comes to more than 64 KiB. What
/// has to be kept of an answer is an id, a link, a token.
pub const LONGEST_VALUE: usize = 64 << 10;
/// ... and what all of one row's may come to: it is written each time that something is noted of the row.
pub const MOST_OF_A_ROW: usize = 1 << 20;

/// A JSON value as it came: every digit, every member in its place. Read into a [`Value`] and written again, `1E3` would
/// be another text.
#[derive(Clone)]
pub struct Saved(Box<RawValue>);

impl Saved {
    /// The value of this text; `None` where it is no JSON.
    pub fn of(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// As it came.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// What it says, to be looked into.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.json()).unwrap_or_default()
    }

    /// Whether nothing is there.
    pub fn is_null(&self) -> bool {
        self.json().starts_with('n')
    }

    /// Whether it is a text.
    pub fn is_text(&self) -> bool {
        self.json().starts_with('"')
    }

    /// A text is itself, anything else is JSON.
    pub fn told(&self) -> Cow<'_, str> {
        match serde_json::from_str::<String>(self.json()) {
            Ok(text) if self.is_text() => Cow::Owned(text),
            _ => Cow::Borrowed(self.json()),
        }
    }
}

impl From<Value> for Saved {
    fn from(value: Value) -> Self {
        // A value is JSON, and so is what it is written as.
        Self(RawValue::from_string(value.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

/// In JSON it stands as what it is; anywhere else as its text.
impl Serialize for Saved {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { self.0.serialize(to) } else { to.serialize_str(self.json()) }
    }
}

impl<'de> Deserialize<'de> for Saved {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return Deserialize::deserialize(from).map(Self);
        }
        let json = String::deserialize(from)?;
        RawValue::from_string(json).map(Self).map_err(|_| D::Error::custom("a value that is no JSON"))
    }
}

/// By its text: what came differently is not the same.
impl PartialEq for Saved {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Saved {}

/// Nothing of it is shown: it is about a row.
impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Saved(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_kept_to_the_letter_through_every_storage() {
        for json in ["1E3", "1.10", "-0", r#"{"b":1E3,"a":[1.0, "é"]}"#, r#""a\/b""#, "true", "null"] {
            let saved = Saved::of(json).expect("JSON");
            let kept = serde_json::to_string(&saved).expect("our own type");
            assert_eq!((saved.json(), kept.as_str()), (json, json));
            assert_eq!(serde_json::from_str::<Saved>(&kept).ok(), Some(saved));
        }
        let told = |json| Saved::of(json).map(|saved| saved.told().into_owned());
        assert_eq!((told("1E3").as_deref(), told(r#""a\/b""#).as_deref()), (Some("1E3"), Some("a/b")));
        assert!(Saved::of("{").is_none());
    }
}
