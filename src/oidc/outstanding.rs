//! Sign-ins that were begun, until the browser comes back from the provider: each once, in the browser that began it, and not
//! for long.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openidconnect::{Nonce, PkceCodeVerifier};

use crate::access::{KeyHash, key_hash};

/// As long as somebody may take at the provider.
pub const LASTS: Duration = Duration::from_secs(10 * 60);
/// Sign-ins that may be outstanding.
const MOST: usize = 1_024;
/// Those of one address; one more takes the place of its oldest.
const OF_ONE: usize = 16;

/// What only we know of a sign-in, and what its end is held against.
pub struct Secrets {
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
    /// Where the browser comes back to.
    pub(super) redirect: String,
}

struct Waiting {
    /// The hash of what its browser's cookie holds.
    browser: KeyHash,
    origin: Option<IpAddr>,
    /// In steady nanoseconds.
    begun: i64,
    secrets: Secrets,
}

/// All of them, by the hash of their state.
#[derive(Default)]
pub struct Outstanding(Mutex<HashMap<KeyHash, Waiting>>);

impl Outstanding {
    /// Notes that one was begun at this steady time; `false` where there are too many.
    pub fn begin(&self, state: &str, browser: &str, origin: Option<IpAddr>, secrets: Secrets, now: i64) -> bool {
        let mut all = self.all();
        all.retain(|_, waiting| is_fresh(waiting.begun, now));
        let of_one = || all.iter().filter(|(_, waiting)| waiting.origin == origin);
        if of_one().count() >= OF_ONE {
            let oldest = of_one().min_by_key(|(_, waiting)| waiting.begun).map(|(state, _)| *state);
            oldest.map(|state| all.remove(&state));
        }
        if all.len() >= MOST {
            return false;
        }
        all.insert(key_hash(state), Waiting { browser: key_hash(browser), origin, begun: now, secrets });
        true
    }

    /// The one with this state, if this browser began it; there is none from here on.
    pub fn take(&self, state: &str, browser: &str, now: i64) -> Option<Secrets> {
        let (mut all, state) = (self.all(), key_hash(state));
        let is_its = |waiting: &Waiting| waiting.browser == key_hash(browser) && is_fresh(waiting.begun, now);
        if !all.get(&state).is_some_and(is_its) {
            return None;
        }
        all.remove(&state).map(|waiting| waiting.secrets)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<KeyHash, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(begun: i64, now: i64) -> bool {
    now - begun < LASTS.as_nanos() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let verifier = PkceCodeVerifier::new("v".repeat(43));
        Secrets { nonce: Nonce::new("n".into()), verifier, redirect: "http://127.0.0.1/session/oidc/back".into() }
    }

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn each_ends_once_in_its_browser_and_in_time() {
        let all = Outstanding::default();
        assert!(all.begin("s", "b", address(1), secrets(), 0));
        assert!(all.take("s", "other", 1).is_none() && all.take("other", "b", 1).is_none());
        assert!(all.take("s", "b", 1).is_some(), "who does not have it does not end it");
        assert!(all.take("s", "b", 2).is_none(), "once");
        assert!(all.begin("t", "b", address(1), secrets(), 0));
        assert!(all.take("t", "b", LASTS.as_nanos() as i64).is_none());
    }

    #[test]
    fn they_are_never_too_many() {
        let all = Outstanding::default();
        for number in 0..=OF_ONE {
            assert!(all.begin(&format!("s{number}"), "b", address(1), secrets(), number as i64));
        }
        assert_eq!(all.all().len(), OF_ONE);
        assert!(all.take("s0", "b", 20).is_none() && all.take("s1", "b", 20).is_some(), "the oldest made way");
        for number in 0..MOST as u32 {
            all.begin(&format!("t{number}"), "b", address(number + 10), secrets(), 30);
        }
        assert!(!all.begin("u", "b", address(5_000), secrets(), 31), "there is no place");
        assert_eq!(all.all().len(), MOST);
        assert!(all.begin("u", "b", address(5_000), secrets(), 31 + LASTS.as_nanos() as i64), "all of them have ended");
    }
}
