//! What an object can be called.

use super::ObjectError;

const MAX_BYTES: usize = 200;

/// A name that is safe as the path of a file below a folder, and as a key of a bucket: parts of letters, digits, `-`,
/// `_` and `.`, joined by `/`. No part is empty or begins with a dot, so no name leads out of the folder, or to the
/// files that the store keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectName(String);

impl ObjectName {
    pub(super) fn parse(name: &str) -> Result<Self, ObjectError> {
        let fits = name.len() <= MAX_BYTES && name.split('/').all(is_part);
        if fits { Ok(Self(name.to_owned())) } else { Err(ObjectError::BadName) }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_part(part: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["a", "batches/bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X.csv", "a/b/c-1.2"] {
            assert!(ObjectName::parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_BYTES + 1);
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.b", "a\\b", "a b", "a\0", "é", &long]
        {
            assert!(ObjectName::parse(bad).is_err(), "{bad}");
        }
    }
}
