//! A batch's own key.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    bulk::BulkSealer,
    cipher::{Cipher, OpenError},
    mac::MacKey,
    place::Place,
};

const BLOBS: &[&[u8]] = &[b"blobs"];
const STREAM: &[u8] = b"stream";

/// The key that everything of one batch is sealed under. Kept only wrapped by a ring key; scheduled once for
/// all that it seals and opens. Share it by reference or `Arc`.
pub struct DataKey {
    root: MacKey,
    blobs: Cipher,
}

impl DataKey {
    /// A key that nobody else has.
    pub fn generate() -> Self {
        Self::from_root(MacKey::generate())
    }

    /// Seals `plaintext` for its place: nonce, ciphertext and tag, [`SEALED_OVERHEAD`](super::SEALED_OVERHEAD) bytes
    /// more than went in.
    pub fn seal(&self, place: Place, plaintext: &[u8]) -> Vec<u8> {
        self.blobs.seal(&place.to_bytes(), plaintext)
    }

    /// A sealer for many blobs, more than twice as fast as [`DataKey::seal`] for each: what it seals opens all the same.
    pub fn bulk(&self) -> BulkSealer {
        BulkSealer::new(&self.root.derive(BLOBS))
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.blobs.open(&place.to_bytes(), sealed)
    }

    /// The key of the one stream with this place and salt.
    pub(super) fn stream_key(&self, place: Place, salt: &[u8]) -> MacKey {
        self.root.derive(&[STREAM, &place.to_bytes(), salt])
    }

    pub(super) fn from_root(root: MacKey) -> Self {
        let blobs = Cipher::new(root.derive(BLOBS).as_bytes());
        Self { root, blobs }
    }

    /// What the ring wraps.
    pub(super) fn root(&self) -> &MacKey {
        &self.root
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Purpose;
    use super::*;
    use crate::model::BatchId;

    #[test]
    fn a_blob_opens_in_its_place_only() {
        let (key, batch, other_batch) = (DataKey::generate(), BatchId::random(), BatchId::random());
        let place = Place::row(Purpose::Row, batch, 17);
        let sealed = key.seal(place, b"ann@example.org");
        assert_eq!(key.open(place, &sealed).expect("in its place").as_slice(), b"ann@example.org");
        for elsewhere in [
            Place::row(Purpose::Row, batch, 18),
            Place::row(Purpose::Progress, batch, 17),
            Place::row(Purpose::Row, other_batch, 17),
            Place::batch(Purpose::Row, batch),
        ] {
            assert_eq!(key.open(elsewhere, &sealed), Err(OpenError::DoesNotOpen), "{elsewhere:?}");
        }
        assert_eq!(DataKey::generate().open(place, &sealed), Err(OpenError::DoesNotOpen));
    }

    #[test]
    fn shows_nothing() {
        assert_eq!(format!("{:?}", DataKey::generate()), "DataKey(…)");
    }
}
