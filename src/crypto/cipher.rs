//! One message sealed under one key: XAES-256-GCM (<https://c2sp.org/XAES-256-GCM>), whose nonce of 192 bits may be
//! drawn at random.
//!
//! A sealed message is nonce (24 bytes), ciphertext (as long as the plaintext) and tag (16 bytes).

use aes_gcm::aead::{AeadInOut, KeyInit, inout::InOutBuf};
use xaes_256_gcm::Xaes256Gcm;
use zeroize::Zeroizing;

use super::random::random;

pub(super) const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

pub(super) type Nonce = [u8; NONCE_BYTES];

/// How much longer sealed bytes are than what was sealed.
pub const SEALED_OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;

/// Why sealed bytes stay closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key that sealed them is not in the ring.
    #[error("the key ring has no key `{0}`: put it back, below the first line if new data is not to use it")]
    UnknownKey(String),
    /// They were changed, or moved here from another place, or another key sealed them.
    #[error("the sealed data does not open: it is damaged, is not in its place, or was sealed with another key")]
    DoesNotOpen,
}

/// A key, scheduled once and used for many messages.
pub(super) struct Cipher(Xaes256Gcm);

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Xaes256Gcm::new(key.into()))
    }

    pub(super) fn seal(&self, place: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let nonce: Nonce = random();
        let mut sealed = Vec::new();
        append_sealed(&mut sealed, &nonce, plaintext, |buffer| {
            self.0.encrypt_inout_detached(&nonce.into(), place, buffer)
        });
        sealed
    }

    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::DoesNotOpen)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::DoesNotOpen)?;
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        let buffer = InOutBuf::new(ciphertext, &mut plaintext).map_err(|_| OpenError::DoesNotOpen)?;
        self.0.decrypt_inout_detached(nonce.into(), place, buffer, tag.into()).map_err(|_| OpenError::DoesNotOpen)?;
        Ok(plaintext)
    }
}

/// Writes nonce, ciphertext and tag behind what `out` already holds.
pub(super) fn append_sealed(
    out: &mut Vec<u8>,
    nonce: &Nonce,
    plaintext: &[u8],
    encrypt: impl FnOnce(InOutBuf<'_, '_, u8>) -> Result<xaes_256_gcm::Tag, aes_gcm::Error>,
) {
    // Room for everything first: growing later could leave a copy of the plaintext in freed memory.
    out.reserve(plaintext.len() + SEALED_OVERHEAD);
    out.extend_from_slice(nonce);
    let start = out.len();
    out.extend_from_slice(plaintext);
    let tag = encrypt(out[start..].as_mut().into())
        .expect("no message here comes near the 64 GiB that AES-GCM can seal at once");
    out.extend_from_slice(&tag);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits")).collect()
    }

    /// The vectors published with the specification.
    #[test]
    fn is_the_specified_cipher() {
        let (nonce, plaintext) = (b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM");
        let vectors: [(u8, &[u8], &str); 2] = [
            (0x01, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (0x03, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ];
        for (key, place, sealed) in vectors {
            let message = [nonce.as_slice(), &from_hex(sealed)].concat();
            let opened = Cipher::new(&[key; 32]).open(place, &message).expect("a published vector");
            assert_eq!(opened.as_slice(), plaintext);
        }
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let cipher = Cipher::new(&[7; 32]);
        for plaintext in [b"".as_slice(), b"a", &[b'x'; 100_000]] {
            let sealed = cipher.seal(b"here", plaintext);
            assert_eq!(sealed.len(), plaintext.len() + SEALED_OVERHEAD);
            assert_eq!(cipher.open(b"here", &sealed).expect("our own").as_slice(), plaintext);
            assert_eq!(cipher.open(b"there", &sealed), Err(OpenError::DoesNotOpen));
            assert_eq!(Cipher::new(&[8; 32]).open(b"here", &sealed), Err(OpenError::DoesNotOpen));
        }
        let sealed = cipher.seal(b"here", b"some cells");
        for end in 0..sealed.len() {
            assert_eq!(cipher.open(b"here", &sealed[..end]), Err(OpenError::DoesNotOpen), "cut at {end}");
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(cipher.open(b"here", &changed), Err(OpenError::DoesNotOpen), "changed at {at}");
        }
    }

    #[test]
    fn the_same_message_never_looks_the_same() {
        let cipher = Cipher::new(&[7; 32]);
        let mut sealed: Vec<_> = (0..1_000).map(|_| cipher.seal(b"here", b"same")).collect();
        sealed.sort_unstable();
        sealed.dedup_by(|a, b| a[..NONCE_BYTES] == b[..NONCE_BYTES]);
        assert_eq!(sealed.len(), 1_000);
    }
}
