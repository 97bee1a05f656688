//! Keys, tokens and names of those who may enter: how they are made, and what is kept of them.

use rand::RngExt;
use sha2::{Digest, Sha256};

/// What a client's key begins with, so that it is known for what it is wherever it turns up.
const CLIENT_KEY_PREFIX: &str = "dfk_";
/// What an operator's token begins with.
const OPERATOR_TOKEN_PREFIX: &str = "dfo_";
/// Random characters of a key: 190 bits of them.
const KEY_LENGTH: usize = 32;
/// Random characters of a session: as many bits as a key.
const SESSION_LENGTH: usize = 32;

/// The operator that the configured token stands for. Nobody else is called so.
pub const ROOT: &str = "root";
/// The longest name of a client or an operator.
pub const LONGEST_NAME: usize = 64;

/// What is kept of a key, a token or a session, and compared. They are random and long, so a plain hash is as good as a
/// slow one.
pub type KeyHash = [u8; 32];

/// A new key for a client. It is shown once; the database gets its hash.
pub fn new_client_key() -> String {
    format!("{CLIENT_KEY_PREFIX}{}", random(KEY_LENGTH))
}

/// A new token for an operator. It is shown once; the database gets its hash.
pub fn new_operator_token() -> String {
    format!("{OPERATOR_TOKEN_PREFIX}{}", random(KEY_LENGTH))
}

/// A new value for a session's cookie.
pub fn new_session() -> String {
    random(SESSION_LENGTH)
}

/// Whether this has the form of a key or token that we made. Nobody guesses one of those.
pub fn is_one_of_ours(key: &str) -> bool {
    let random = key.strip_prefix(CLIENT_KEY_PREFIX).or_else(|| key.strip_prefix(OPERATOR_TOKEN_PREFIX));
    random.is_some_and(|random| random.len() == KEY_LENGTH && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// See [`KeyHash`].
pub fn key_hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// Whether a client or an operator can be called so: names stand in paths, logs and lists.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // A path with a segment of dots alone is another path.
    let is_dots = name.chars().all(|c| c == '.');
    !is_dots && name.len() <= LONGEST_NAME && name.chars().all(allowed)
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(length).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_for_what_they_are() {
        let (key, token) = (new_client_key(), new_operator_token());
        assert!(is_one_of_ours(&key) && is_one_of_ours(&token) && key != new_client_key());
        for other in ["", "dfk_", "operator-token-0123456789", &key[1..], &format!("{key}x"), &new_session()] {
            assert!(!is_one_of_ours(other), "{other}");
        }
    }

    #[test]
    fn names_can_stand_in_a_path() {
        for name in ["acme", "a.b-c_D9", &"x".repeat(LONGEST_NAME)] {
            assert!(is_name(name), "{name}");
        }
        for wrong in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
