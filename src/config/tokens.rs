//! The tokens under `[access]`: what is refused as one, because it can be guessed or cannot be sent.

use super::{reader::Section, secret::Secret};

/// A token that could be guessed is worse than none.
const SHORTEST: usize = 16;
/// One of fewer different characters is somebody's keyboard held down.
const FEWEST_CHARACTERS: usize = 6;
/// The longest text of which one that is nothing but its repetition is no token.
const LONGEST_UNIT: usize = 8;

/// The tokens of these keys, each from its variable or else the file. No two are equal: each role has its own.
pub(super) fn read<const N: usize>(section: &mut Section<'_>, keys: [(&'static str, &str); N]) -> [Option<Secret>; N] {
    let mut before: Vec<(&str, Secret)> = Vec::new();
    keys.map(|(key, variable)| {
        let given = section.secret(key);
        let token = section.env(variable).map(Secret::new).or(given).map(without_line_end)?;
        if let Some(weakness) = weakness(token.expose()) {
            section.fault(key, weakness);
        }
        if let Some((other, _)) = before.iter().find(|(_, known)| *known == token) {
            section.fault(key, format!("is the same as `{other}`: each has its own"));
        }
        before.push((key, token.clone()));
        Some(token)
    })
}

/// Files of secrets, and `$(cat ...)` in other shells than one thinks, end with a line feed that is no part of them.
fn without_line_end(token: Secret) -> Secret {
    let bare = token.expose().trim_end_matches(['\n', '\r']);
    if bare.len() == token.expose().len() { token } else { Secret::new(bare.to_owned()) }
}

/// What is wrong with a token.
fn weakness(token: &str) -> Option<String> {
    let characters: Vec<char> = token.chars().collect();
    let mut different = characters.clone();
    different.sort_unstable();
    different.dedup();
    let better = "`openssl rand -hex 16` makes one that nobody guesses";
    if characters.len() < SHORTEST {
        return Some(format!("has less than {SHORTEST} characters; {better}"));
    }
    if token.trim() != token || token.chars().any(char::is_control) {
        return Some("has a control character in it, or a space at an end: no header carries that".to_owned());
    }
    if different.len() < FEWEST_CHARACTERS || repeats(&characters) {
        return Some(format!("can be guessed: it is next to nothing, again and again; {better}"));
    }
    None
}

/// Whether it is a short text, again and again.
fn repeats(characters: &[char]) -> bool {
    let longest = LONGEST_UNIT.min(characters.len() / 2);
    (1..=longest).any(|period| characters.iter().zip(&characters[period..]).all(|(one, next)| one == next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_guessed_or_not_be_sent_is_no_token() {
        for weak in [
            "short",
            "fifteen-chars-x",
            "aaaaaaaaaaaaaaaa",
            "abababababababababab",
            "1234123412341234",
            "passwordpassword",
            "changemechangemech",
            " a-token-with-a-space-0123",
            "a-token-with\na-line-in-it",
            "a-token-with-a-bell\u{7}0123",
        ] {
            assert!(weakness(weak).is_some(), "{weak:?}");
        }
        for fine in [
            "operator-token-0123456789",
            "9f86d081884c7d659a2feaa0c55ad015",
            "correct horse battery staple",
            "6e1bb1a1c9b7c5b5",
            "dfo_4oQyWcY6m1xK8sVb2ZtRn7PgLd0EhUja",
        ] {
            assert_eq!(weakness(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_line_end_is_no_part_of_a_token() {
        for text in ["operator-token-0123456789", "operator-token-0123456789\n", "operator-token-0123456789\r\n"] {
            assert_eq!(without_line_end(Secret::new(text.to_owned())).expose(), "operator-token-0123456789");
        }
    }
}
