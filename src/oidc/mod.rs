//! Signing in by a provider: OpenID Connect's authorization code flow with PKCE (OpenID Connect Core 1.0, 3.1; RFC 7636;
//! RFC 9700).
//!
//! What the provider says of itself is read when it is first needed, and again after an hour, or where a token is signed by
//! a key that is not known. Its endpoints have the issuer's scheme, its answers a largest size and a time, and nothing of
//! what it or a browser sends is followed anywhere but to the provider's own page.

mod outstanding;
mod provider;

use std::fmt;

pub use outstanding::{LASTS, Outstanding, Secrets};
pub use provider::{Begun, Provider};

use crate::model::Role;

/// The longest name that is taken from a token.
const LONGEST_NAME: usize = 40;

/// Conversations with the provider at once: each holds a thread while it waits.
pub const AT_ONCE: usize = 4;

/// Somebody whom the provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the provider calls them for ever; it may be anything.
    pub subject: String,
    /// What the audit calls them: it can stand in a path, and is no e-mail address.
    pub name: String,
    /// What their groups let them do, if anything.
    pub role: Option<Role>,
}

/// Why nobody was signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidcError {
    /// The provider cannot be asked, or says nothing that can be understood.
    Unavailable(&'static str),
    /// What came back is not what was asked for.
    NotAccepted(&'static str),
}

impl fmt::Display for OidcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) | Self::NotAccepted(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for OidcError {}

/// A name as it can stand in paths, logs and lists. Of an address, what stands before its host.
fn plain(name: &str) -> Option<String> {
    let before_host = name.split('@').next().unwrap_or_default();
    let plain = before_host.trim().chars().take(LONGEST_NAME);
    let plain = plain.map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' });
    Some(plain.collect::<String>()).filter(|name| name.chars().any(|c| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_no_address() {
        for (name, becomes) in [
            ("ann", Some("ann")),
            ("Ann Smith", Some("Ann-Smith")),
            ("ann@example.com", Some("ann")),
            ("client:acme", Some("client-acme")),
            ("\u{1b}[2Jx", Some("--2Jx")),
            ("@example.com", None),
            ("…", None),
            ("", None),
        ] {
            assert_eq!(plain(name).as_deref(), becomes, "{name:?}");
        }
        assert_eq!(plain(&"x".repeat(1_000)).map(|name| name.len()), Some(LONGEST_NAME));
    }
}
