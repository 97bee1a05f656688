//! Sign-ins that failed: whoever shows one wrong key after the other is answered more slowly, and told to stop.
//!
//! Every key is looked at: nobody is locked out by somebody else's guesses, be it from the same address. Where many were
//! wrong, a key from that address is looked at [`LOOKED_AT_AFTER`] it came, before which nothing can be told from it, so
//! that a guesser has as many guesses a second as connections, twice. Two kinds are looked at without: keys of our own
//! making, which nobody guesses, and tokens that were good before. A token that so many guesses would find is no token
//! ([`crate::config`] refuses those).

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::forwarded::neighbourhood;
use crate::access::KeyHash;

/// Failures of one address that cost nothing: people mistype.
pub const FREE_FAILURES: u32 = 10;
/// What is asked for after the first failure that is too many; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No more is asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// An address without a failure for so long begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// Where many keys were wrong, one is looked at so long after it came.
pub const LOOKED_AT_AFTER: Duration = Duration::from_millis(500);
/// Addresses that are kept.
const ADDRESSES: usize = 10_000;
/// Tokens that are remembered as good: there are a handful.
const KNOWN_TOKENS: usize = 256;

/// What is known of failures. Times are steady nanoseconds.
#[derive(Default)]
pub struct SignIns(Mutex<State>);

#[derive(Default)]
struct State {
    addresses: HashMap<Option<IpAddr>, Failures>,
    good: HashSet<KeyHash>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: i64,
}

impl Failures {
    fn is_forgiven(&self, now: i64) -> bool {
        now - self.last >= nanos(FORGIVEN_AFTER)
    }
}

impl State {
    /// Forgets addresses whose time is over; where there are none, that which failed longest ago.
    fn make_room(&mut self, now: i64) {
        self.addresses.retain(|_, failures| !failures.is_forgiven(now));
        if self.addresses.len() >= ADDRESSES {
            let oldest = self.addresses.iter().min_by_key(|(_, failures)| failures.last).map(|(address, _)| *address);
            oldest.map(|address| self.addresses.remove(&address));
        }
    }
}

impl SignIns {
    /// How long a key from this address waits until it is looked at.
    pub fn waits(&self, origin: Option<IpAddr>, shown: &KeyHash, now: i64) -> Duration {
        let state = self.state();
        let failures = state.addresses.get(&place(origin)).filter(|failures| !failures.is_forgiven(now));
        let guesses = failures.is_some_and(|failures| failures.count > FREE_FAILURES);
        if guesses && !state.good.contains(shown) { LOOKED_AT_AFTER } else { Duration::ZERO }
    }

    /// Notes a wrong key, and says for how many seconds this address should show no other, if it were too many.
    pub fn failed(&self, origin: Option<IpAddr>, now: i64) -> Option<u64> {
        let (mut state, key) = (self.state(), place(origin));
        if state.addresses.len() >= ADDRESSES && !state.addresses.contains_key(&key) {
            state.make_room(now);
        }
        let failures = state.addresses.entry(key).or_default();
        if failures.is_forgiven(now) {
            *failures = Failures::default();
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if failures.count <= FREE_FAILURES {
            return None;
        }
        let doublings = (failures.count - FREE_FAILURES - 1).min(16);
        Some(FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT).as_secs())
    }

    /// Remembers that this was a good token.
    pub fn succeeded(&self, shown: &KeyHash) {
        let mut state = self.state();
        if !state.good.contains(shown) {
            if state.good.len() >= KNOWN_TOKENS {
                state.good.clear();
            }
            state.good.insert(*shown);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one address of these has all of them.
fn place(origin: Option<IpAddr>) -> Option<IpAddr> {
    origin.map(neighbourhood)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const WRONG: KeyHash = [1; 32];

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([203, 0, 113, last]))
    }

    fn fail(sign_ins: &SignIns, origin: Option<IpAddr>, times: u32) -> Option<u64> {
        (0..times).map(|_| sign_ins.failed(origin, SECOND)).last().flatten()
    }

    #[test]
    fn an_address_is_told_to_wait_longer_and_longer_and_no_key_waits_for_more_than_a_second() {
        let sign_ins = SignIns::default();
        assert_eq!(fail(&sign_ins, address(1), FREE_FAILURES), None);
        assert_eq!(sign_ins.waits(address(1), &WRONG, SECOND), Duration::ZERO);
        let mut now = SECOND;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(sign_ins.failed(address(1), now), Some(wait));
            let waits = sign_ins.waits(address(1), &WRONG, now);
            assert!(waits > Duration::ZERO && waits <= Duration::from_secs(1));
            assert_eq!(sign_ins.waits(address(2), &WRONG, now), Duration::ZERO, "another address");
            now += SECOND;
        }
        now += nanos(FORGIVEN_AFTER);
        assert_eq!(sign_ins.waits(address(1), &WRONG, now), Duration::ZERO);
        assert_eq!(sign_ins.failed(address(1), now), None, "it begins anew");
    }

    #[test]
    fn a_token_that_was_good_is_looked_at_at_once_whoever_guesses_beside_it() {
        let sign_ins = SignIns::default();
        sign_ins.succeeded(&[7; 32]);
        fail(&sign_ins, address(1), FREE_FAILURES + 1);
        assert_eq!(sign_ins.waits(address(1), &[7; 32], SECOND), Duration::ZERO);
        assert_eq!(sign_ins.waits(address(1), &WRONG, SECOND), LOOKED_AT_AFTER);
    }

    #[test]
    fn many_addresses_slow_no_other_one_and_the_memory_is_bounded() {
        let sign_ins = SignIns::default();
        fail(&sign_ins, address(1), FREE_FAILURES + 1);
        for number in 0..ADDRESSES as u32 + 100 {
            sign_ins.failed(Some(IpAddr::from(number.to_be_bytes())), 2 * SECOND);
        }
        assert_eq!(sign_ins.waits(address(9), &WRONG, 2 * SECOND), Duration::ZERO);
        assert!(sign_ins.state().addresses.len() <= ADDRESSES);
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let sign_ins = SignIns::default();
        for last in 0..=FREE_FAILURES {
            sign_ins.failed(Some(format!("2001:db8::{last:x}").parse().expect("an address")), SECOND);
        }
        let neighbour = "2001:db8::ffff".parse().ok();
        assert_eq!(sign_ins.waits(neighbour, &WRONG, SECOND), LOOKED_AT_AFTER);
    }
}
