//! The operator's keys.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    cipher::{Cipher, OpenError},
    data_key::DataKey,
    locked::Locked,
    mac::MacKey,
    place::{Place, Purpose},
    random::fill,
};
use crate::model::BatchId;

const KEY_BYTES: usize = 32;
/// A key's id is at most this long.
const MAX_ID_BYTES: usize = 64;

/// The keys that wrap every other key: the first seals, each opens what it has sealed. To rotate, a new key is put
/// in front, everything is wrapped again, and the old one is taken out.
pub struct KeyRing {
    // Never empty: `parse` refuses that.
    keys: Vec<RingKey>,
}

struct RingKey {
    id: String,
    cipher: Locked<Cipher>,
}

/// A small secret, most often a key, sealed under a ring key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The ring key that opens it.
    pub key_id: String,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
}

/// What is wrong with a text that should hold keys. Tells where, never what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No key at all.
    #[error("there is no key; `dripfeed keys generate` makes one")]
    Empty,
    /// Not `id:key`.
    #[error("line {line}: a key is written `id:base64 of 32 bytes`")]
    Form { line: usize },
    /// An id that could not be told apart from the rest of the line.
    #[error("line {line}: a key's id is 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` or `.`")]
    Id { line: usize },
    /// Not 32 bytes in base64.
    #[error("line {line}: the key is not 32 bytes in base64 (44 characters)")]
    Key { line: usize },
    /// Two keys with one id: nobody could say which of them opens.
    #[error("line {line}: there is another key with this id above")]
    Duplicate { line: usize },
}

impl KeyRing {
    /// Reads keys, `id:base64 of 32 bytes`, one a line or separated by commas. Blank lines and what follows a `#` are
    /// passed over. The first key is the one that seals.
    pub fn parse(text: &str) -> Result<Self, RingError> {
        let mut keys: Vec<RingKey> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let content = line.split_once('#').map_or(line, |(content, _comment)| content);
            for entry in content.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                let key = RingKey::parse(entry, at + 1)?;
                if keys.iter().any(|other| other.id == key.id) {
                    return Err(RingError::Duplicate { line: at + 1 });
                }
                keys.push(key);
            }
        }
        if keys.is_empty() { Err(RingError::Empty) } else { Ok(Self { keys }) }
    }

    /// A new key as [`KeyRing::parse`] reads it, without the end of the line. The only error is an `id` that no key
    /// can have, reported for line 1.
    pub fn generate_line(id: &str) -> Result<Zeroizing<String>, RingError> {
        check_id(id, 1)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill(&mut *bytes);
        // Room for the whole line at once, so that no part of it is left behind by growing.
        let mut line = Zeroizing::new(String::with_capacity(id.len() + 1 + KEY_BYTES * 2));
        line.push_str(id);
        line.push(':');
        BASE64_STANDARD.encode_string(bytes.as_slice(), &mut line);
        Ok(line)
    }

    /// The ids of all keys, the sealing one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Whether the kernel keeps all of them in RAM.
    pub fn is_locked(&self) -> bool {
        self.keys.iter().all(|key| key.cipher.is_locked())
    }

    /// The id of the key that seals.
    pub fn first_id(&self) -> &str {
        &self.first().id
    }

    /// Seals a batch's data key.
    pub fn wrap(&self, key: &DataKey, batch: BatchId) -> WrappedKey {
        self.first().wrap(&Place::batch(Purpose::DataKey, batch).to_bytes(), key.root().as_bytes())
    }

    /// Opens a batch's data key.
    pub fn unwrap(&self, wrapped: &WrappedKey, batch: BatchId) -> Result<DataKey, OpenError> {
        let root = self.open(&Place::batch(Purpose::DataKey, batch).to_bytes(), wrapped)?;
        MacKey::from_bytes(&root).map(DataKey::from_root).ok_or(OpenError::DoesNotOpen)
    }

    /// Seals a small secret of the installation, like the key behind `Idempotency-Key`s. Opens under this name only.
    pub fn wrap_secret(&self, name: &str, secret: &[u8]) -> WrappedKey {
        self.first().wrap(&named(Purpose::Secret, name), secret)
    }

    /// Opens a secret that was sealed under this name.
    pub fn unwrap_secret(&self, wrapped: &WrappedKey, name: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open(&named(Purpose::Secret, name), wrapped)
    }

    /// Something to keep beside what the first key seals: [`KeyRing::verify_proof`] then tells at the next start whether
    /// the key with this id still has the same bytes, before anything depends on it.
    pub fn first_proof(&self) -> WrappedKey {
        let key = self.first();
        key.wrap(&named(Purpose::Proof, &key.id), &[])
    }

    /// The same data key of a batch, wrapped under the first key.
    pub fn rewrap(&self, wrapped: &WrappedKey, batch: BatchId) -> Result<WrappedKey, OpenError> {
        Ok(self.wrap(&self.unwrap(wrapped, batch)?, batch))
    }

    /// The same secret, sealed under the first key.
    pub fn rewrap_secret(&self, wrapped: &WrappedKey, name: &str) -> Result<WrappedKey, OpenError> {
        Ok(self.wrap_secret(name, &self.unwrap_secret(wrapped, name)?))
    }

    /// Whether the key with the proof's id is the one that made it.
    pub fn verify_proof(&self, proof: &WrappedKey) -> Result<(), OpenError> {
        self.open(&named(Purpose::Proof, &proof.key_id), proof).map(drop)
    }

    fn open(&self, place: &[u8], wrapped: &WrappedKey) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let key = self.keys.iter().find(|key| key.id == wrapped.key_id);
        let key = key.ok_or_else(|| OpenError::UnknownKey(wrapped.key_id.clone()))?;
        key.cipher.open(place, &wrapped.sealed)
    }

    fn first(&self) -> &RingKey {
        &self.keys[0]
    }
}

impl RingKey {
    fn parse(entry: &str, line: usize) -> Result<Self, RingError> {
        let (id, base64) = entry.split_once(':').ok_or(RingError::Form { line })?;
        let (id, base64) = (id.trim(), base64.trim());
        check_id(id, line)?;
        // A buffer somewhat longer than a key, because the decoder works in whole groups of three bytes.
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 4]);
        let length = BASE64_STANDARD.decode_slice(base64, &mut *bytes).map_err(|_| RingError::Key { line })?;
        match bytes.first_chunk::<KEY_BYTES>() {
            Some(key) if length == KEY_BYTES => Ok(Self { id: id.to_owned(), cipher: Locked::new(Cipher::new(key)) }),
            _ => Err(RingError::Key { line }),
        }
    }

    fn wrap(&self, place: &[u8], secret: &[u8]) -> WrappedKey {
        WrappedKey { key_id: self.id.clone(), sealed: self.cipher.seal(place, secret) }
    }
}

fn check_id(id: &str, line: usize) -> Result<(), RingError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(known);
    if fits { Ok(()) } else { Err(RingError::Id { line }) }
}

fn named(purpose: Purpose, name: &str) -> Vec<u8> {
    [&[purpose as u8], name.as_bytes()].concat()
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(ids: &[&str]) -> (KeyRing, Vec<String>) {
        let lines: Vec<String> =
            ids.iter().map(|id| KeyRing::generate_line(id).expect("a good id").to_string()).collect();
        (KeyRing::parse(&lines.join("\n")).expect("our own lines"), lines)
    }

    #[test]
    fn reads_lines_and_commas_and_passes_comments_over() {
        let (_, lines) = ring(&["new", "old"]);
        let text = format!("# since March, not before\n\n  {}  # sealing\r\n{}\n", lines[0], lines[1]);
        for text in [text, lines.join(","), format!(" {} ,\n{},", lines[0], lines[1])] {
            let ring = KeyRing::parse(&text).expect("good keys");
            assert_eq!(ring.ids().collect::<Vec<_>>(), ["new", "old"]);
            assert_eq!(ring.first_id(), "new");
        }
    }

    #[test]
    fn faults_name_the_line_and_no_content() {
        let good = KeyRing::generate_line("k").expect("a good id").to_string();
        let half = BASE64_STANDARD.encode([1; 31]);
        let long = BASE64_STANDARD.encode([1; 33]);
        for (text, fault) in [
            ("# nothing\n\n".to_owned(), RingError::Empty),
            (format!("{good}\nSECRET"), RingError::Form { line: 2 }),
            (format!("a key:{half}"), RingError::Id { line: 1 }),
            (format!(":{half}"), RingError::Id { line: 1 }),
            (format!("\nx:{half}"), RingError::Key { line: 2 }),
            (format!("x:{long}"), RingError::Key { line: 1 }),
            ("x:SECRET*".to_owned(), RingError::Key { line: 1 }),
            (format!("x:{}", "SECR".repeat(1_000)), RingError::Key { line: 1 }),
            (format!("{good}\n{good}"), RingError::Duplicate { line: 2 }),
        ] {
            let error = KeyRing::parse(&text).expect_err(&text);
            assert_eq!(error, fault);
            assert!(!error.to_string().contains("SECR"), "{error}");
        }
        assert!(KeyRing::generate_line("two words").is_err());
    }

    #[test]
    fn a_data_key_comes_back_for_its_batch_only() {
        let (ring, _) = ring(&["k1"]);
        let (key, batch) = (DataKey::generate(), BatchId::random());
        let place = Place::row(Purpose::Row, batch, 1);
        let sealed = key.seal(place, b"cells");
        let wrapped = ring.wrap(&key, batch);
        assert_eq!(wrapped.key_id, "k1");
        let again = ring.unwrap(&wrapped, batch).expect("its batch");
        assert_eq!(again.open(place, &sealed).expect("the same key").as_slice(), b"cells");
        assert_eq!(ring.unwrap(&wrapped, BatchId::random()).expect_err("another batch"), OpenError::DoesNotOpen);
        assert_eq!(ring.unwrap_secret(&wrapped, "x").expect_err("another purpose"), OpenError::DoesNotOpen);
    }

    #[test]
    fn after_a_rotation_old_keys_open_and_the_new_one_seals() {
        let (old, mut lines) = ring(&["old"]);
        let batch = BatchId::random();
        let wrapped = old.wrap(&DataKey::generate(), batch);
        lines.insert(0, KeyRing::generate_line("new").expect("a good id").to_string());
        let both = KeyRing::parse(&lines.join("\n")).expect("good keys");
        let again = both.wrap(&both.unwrap(&wrapped, batch).expect("the old key is there"), batch);
        assert_eq!(again.key_id, "new");
        let new = KeyRing::parse(&lines[0]).expect("good keys");
        assert!(new.unwrap(&again, batch).is_ok());
        assert_eq!(new.unwrap(&wrapped, batch).expect_err("gone"), OpenError::UnknownKey("old".into()));
    }

    #[test]
    fn secrets_open_under_their_name() {
        let (ring, _) = ring(&["k1"]);
        let wrapped = ring.wrap_secret("idempotency", b"0123");
        assert_eq!(ring.unwrap_secret(&wrapped, "idempotency").expect("its name").as_slice(), b"0123");
        assert_eq!(ring.unwrap_secret(&wrapped, "webhook").expect_err("not its name"), OpenError::DoesNotOpen);
    }

    #[test]
    fn a_proof_tells_a_key_with_the_right_id_and_the_wrong_bytes() {
        let (first, lines) = ring(&["k1", "k2"]);
        let (second, _) = ring(&["k1"]);
        let turned = KeyRing::parse(&[&*lines[1], &*lines[0]].join("\n")).expect("our own lines");
        let proofs = [first.first_proof(), turned.first_proof()];
        assert_eq!((proofs[0].key_id.as_str(), proofs[1].key_id.as_str()), ("k1", "k2"));
        for proof in &proofs {
            assert_eq!(first.verify_proof(proof), Ok(()));
        }
        assert_eq!(second.verify_proof(&proofs[0]), Err(OpenError::DoesNotOpen));
        assert_eq!(second.verify_proof(&proofs[1]), Err(OpenError::UnknownKey("k2".into())));
        let renamed = WrappedKey { key_id: "k2".into(), ..proofs[0].clone() };
        assert_eq!(first.verify_proof(&renamed), Err(OpenError::DoesNotOpen));
    }

    #[test]
    fn shows_ids_and_no_keys() {
        let (ring, lines) = ring(&["k1", "k2"]);
        assert_eq!(format!("{ring:?}"), r#"["k1", "k2"]"#);
        assert!(lines[0].starts_with("k1:"));
    }
}
