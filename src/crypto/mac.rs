//! Keyed fingerprints (HMAC-SHA256, RFC 2104): what stands in for a value that must be recognised but not kept.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::random::fill;

/// What a [`MacKey`] makes of a value.
pub type Tag = [u8; 32];

/// A key for fingerprints: 32 random bytes. `Idempotency-Key`s are derived with one, API keys are hashed with one.
pub struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    /// A key that nobody else has.
    pub fn generate() -> Self {
        let mut key = Self::zeroed();
        fill(&mut *key.0);
        key
    }

    /// The key with these bytes; `None` where they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::zeroed();
        if bytes.len() != key.0.len() {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    /// The bytes of the key: to be sealed, and for nothing else.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of these parts, in this order. Each part goes in behind its length, so that `["ab", "c"]` and
    /// `["a", "bc"]` are different values.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// A key of its own for whatever `parts` name.
    pub(super) fn derive(&self, parts: &[&[u8]]) -> Self {
        Self(Zeroizing::new(self.tag(parts)))
    }

    // The bytes are always written in place: a value moved into `Zeroizing` would leave its first copy behind.
    fn zeroed() -> Self {
        Self(Zeroizing::new([0; 32]))
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

/// Plain HMAC-SHA256, for whoever else has the key and follows a rule that is not ours.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Tag {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Whether two secrets or fingerprints are equal, in a time that tells nothing about where they differ (it may tell
/// that their lengths do).
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_hmac_sha256_over_parts_behind_their_lengths() {
        let key = MacKey::from_bytes(&[0x0b; 32]).expect("32 bytes");
        let mut expected = Hmac::<Sha256>::new_from_slice(&[0x0b; 32]).expect("any length");
        expected.update(b"\0\0\0\0\0\0\0\x02ab\0\0\0\0\0\0\0\x01c");
        assert_eq!(key.tag(&[b"ab", b"c"]).as_slice(), expected.finalize().into_bytes().as_slice());
    }

    #[test]
    fn tells_keys_parts_and_their_borders_apart() {
        let key = MacKey::generate();
        let values: [&[&[u8]]; 5] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[]];
        for (at, parts) in values.iter().enumerate() {
            assert_eq!(key.tag(parts), key.tag(parts));
            assert_ne!(key.tag(parts), MacKey::generate().tag(parts));
            for other in &values[at + 1..] {
                assert_ne!(key.tag(parts), key.tag(other));
            }
        }
    }

    #[test]
    fn comes_back_from_its_bytes_and_shows_nothing() {
        let key = MacKey::generate();
        let again = MacKey::from_bytes(key.as_bytes()).expect("32 bytes");
        assert!(same(&key.tag(&[b"x"]), &again.tag(&[b"x"])));
        assert!(!same(b"x", b"y") && !same(b"x", b"xx"));
        assert!(MacKey::from_bytes(&[1; 31]).is_none());
        assert_eq!(format!("{key:?}"), "MacKey(…)");
    }
}
