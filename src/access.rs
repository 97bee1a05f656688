//! API keys: how they are made, and what is kept of them.

use rand::RngExt;
use sha2::{Digest, Sha256};

/// What a client's key begins with, so that it is known for what it is wherever it turns up.
const CLIENT_KEY_PREFIX: &str = "dfk_";
/// Random characters of a key: 190 bits of them.
const KEY_LENGTH: usize = 32;

/// A new key for a client. It is shown once; the database gets its hash.
pub fn new_client_key() -> String {
    let random = rand::rng().sample_iter(rand::distr::Alphanumeric).take(KEY_LENGTH).map(char::from);
    CLIENT_KEY_PREFIX.chars().chain(random).collect()
}

/// What is kept of a key, and compared. Keys are random and long, so a plain hash is as good as a slow one.
pub fn key_hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
