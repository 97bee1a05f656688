//! Sign-ins that failed: whoever shows one wrong key after the other has to wait, each time longer.
//!
//! Counted for each address, and for all together, because a guesser may have many addresses. While an address has to
//! wait, what it shows is not even looked at, so waiting cannot be told from a wrong guess. Two things are looked at
//! always, so that nobody is locked out by somebody else's guesses behind the same proxy: keys of our own making, which
//! nobody guesses, and tokens that were good before.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::access::KeyHash;

/// Failures of one address that cost nothing: people mistype.
pub const FREE_FAILURES: u32 = 10;
/// The wait after the first failure that costs something; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait of an address is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// An address without a failure for so long begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// Failures of all addresses together within [`OVERALL_PERIOD`]; behind that everybody has to wait for its end.
const OVERALL_FAILURES: u32 = 1_000;
const OVERALL_PERIOD: Duration = Duration::from_secs(60);
/// Addresses that are kept; more share one place.
const ADDRESSES: usize = 10_000;
/// Tokens that are remembered as good: there are a handful.
const KNOWN_TOKENS: usize = 256;

/// What is known of failures. Times are steady nanoseconds.
#[derive(Default)]
pub struct SignIns(Mutex<State>);

#[derive(Default)]
struct State {
    addresses: HashMap<Option<IpAddr>, Failures>,
    overall: Failures,
    overall_since: i64,
    good: HashSet<KeyHash>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: i64,
    wait_until: i64,
}

impl SignIns {
    /// How many seconds this address has to wait before a key is looked at; `None`: none.
    pub fn must_wait(&self, origin: Option<IpAddr>, shown: &KeyHash, now: i64) -> Option<u64> {
        let state = self.state();
        if state.good.contains(shown) {
            return None;
        }
        let of_address = state.addresses.get(&place(origin)).or_else(|| state.addresses.get(&None));
        let until = of_address.map_or(0, |failures| failures.wait_until).max(state.overall.wait_until);
        (until > now).then(|| seconds_until(until, now))
    }

    /// Notes a wrong key, and says how many seconds the address now has to wait, if it has to.
    pub fn failed(&self, origin: Option<IpAddr>, now: i64) -> Option<u64> {
        let mut state = self.state();
        if state.overall.count == 0 || now - state.overall_since > nanos(OVERALL_PERIOD) {
            (state.overall_since, state.overall) = (now, Failures::default());
        }
        state.overall.count += 1;
        if state.overall.count > OVERALL_FAILURES {
            state.overall.wait_until = state.overall_since + nanos(OVERALL_PERIOD);
        }
        if state.addresses.len() >= ADDRESSES {
            state.addresses.retain(|_, failures| now - failures.last < nanos(FORGIVEN_AFTER));
        }
        let mut key = place(origin);
        if state.addresses.len() >= ADDRESSES && !state.addresses.contains_key(&key) {
            key = None;
        }
        let failures = state.addresses.entry(key).or_default();
        if now - failures.last >= nanos(FORGIVEN_AFTER) {
            *failures = Failures::default();
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if failures.count <= FREE_FAILURES {
            return None;
        }
        let doublings = (failures.count - FREE_FAILURES - 1).min(16);
        failures.wait_until = now + nanos(FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT));
        Some(seconds_until(failures.wait_until, now))
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

/// Whoever has an IPv6 address has 2^64 of them.
fn place(origin: Option<IpAddr>) -> Option<IpAddr> {
    origin.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    })
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn seconds_until(until: i64, now: i64) -> u64 {
    (until - now).max(0).unsigned_abs().div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const WRONG: KeyHash = [1; 32];

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([203, 0, 113, last]))
    }

    #[test]
    fn an_address_waits_longer_and_longer_and_others_do_not() {
        let sign_ins = SignIns::default();
        for _ in 0..FREE_FAILURES {
            assert_eq!(sign_ins.failed(address(1), SECOND), None);
        }
        assert_eq!(sign_ins.must_wait(address(1), &WRONG, SECOND), None);
        let mut now = SECOND;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(sign_ins.failed(address(1), now), Some(wait));
            assert_eq!(sign_ins.must_wait(address(1), &WRONG, now), Some(wait));
            assert_eq!(sign_ins.must_wait(address(2), &WRONG, now), None);
            now += wait as i64 * SECOND;
            assert_eq!(sign_ins.must_wait(address(1), &WRONG, now), None);
        }
        now += nanos(FORGIVEN_AFTER);
        assert_eq!(sign_ins.failed(address(1), now), None, "it begins anew");
    }

    #[test]
    fn a_token_that_was_good_is_looked_at_whoever_guesses_beside_it() {
        let sign_ins = SignIns::default();
        sign_ins.succeeded(&[7; 32]);
        for _ in 0..=FREE_FAILURES {
            sign_ins.failed(address(1), SECOND);
        }
        assert_eq!(sign_ins.must_wait(address(1), &[7; 32], SECOND), None);
        assert!(sign_ins.must_wait(address(1), &WRONG, SECOND).is_some());
    }

    #[test]
    fn many_addresses_together_are_slowed_and_the_memory_is_bounded() {
        let sign_ins = SignIns::default();
        for number in 0..=OVERALL_FAILURES {
            sign_ins.failed(Some(IpAddr::from(number.to_be_bytes())), SECOND);
        }
        assert_eq!(sign_ins.must_wait(address(9), &WRONG, SECOND), Some(60));
        assert_eq!(sign_ins.must_wait(address(9), &WRONG, 61 * SECOND), None);
        for number in 0..3 * ADDRESSES as u32 {
            sign_ins.failed(Some(IpAddr::from(number.to_be_bytes())), 62 * SECOND);
        }
        assert!(sign_ins.state().addresses.len() <= ADDRESSES + 1);
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let sign_ins = SignIns::default();
        for last in 0..=FREE_FAILURES {
            sign_ins.failed(Some(format!("2001:db8::{last:x}").parse().expect("an address")), SECOND);
        }
        let neighbour = "2001:db8::ffff".parse().ok();
        assert!(sign_ins.must_wait(neighbour, &WRONG, SECOND).is_some());
    }
}
