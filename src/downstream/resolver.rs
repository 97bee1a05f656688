//! Name resolution with a memory. ureq looks a name up for every request, also for those that go over a connection it
//! already has; here that costs a look into a small table. Literal addresses are not looked up at all.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use crate::clock::Clock;

/// How long an answer is believed. A name that moved is followed by the requests after the first one that is later
/// than this, and at once where connecting fails.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// Remembers what another resolver found. Failures are not remembered.
pub struct Remembering<R> {
    inner: R,
    clock: Clock,
    found: Mutex<HashMap<String, Found>>,
    moves: AtomicU64,
}

struct Found {
    addresses: ResolvedSocketAddrs,
    /// Steady time; `None`: not believed any more.
    until: Option<i64>,
}

impl<R> Remembering<R> {
    /// Remembers nothing yet.
    pub fn new(inner: R, clock: Clock) -> Self {
        Self { inner, clock, found: Mutex::default(), moves: AtomicU64::new(0) }
    }

    /// The next request looks the name up again.
    pub fn forget(&self, uri: &Uri) {
        let name = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if let Some(found) = self.found().get_mut(name) {
            found.until = None;
        }
    }

    /// How often a name was found to have other addresses than before.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Resolver> Remembering<R> {
    /// The addresses of a URL's host, all of them, with its port.
    pub fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        if let Some(address) = literal(uri) {
            let mut addresses = self.inner.empty();
            addresses.push(address);
            return Ok(addresses);
        }
        let name = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let now = self.clock.steady();
        if let Some(found) = self.found().get(name).filter(|found| found.until.is_some_and(|until| now < until)) {
            return Ok(found.addresses.clone());
        }
        let addresses = self.inner.resolve(uri, config, timeout)?;
        let until = Some(now.saturating_add(LIFETIME.as_nanos() as i64));
        let before = self.found().insert(name.to_owned(), Found { addresses: addresses.clone(), until });
        if before.is_some_and(|before| !same(&before.addresses, &addresses)) {
            self.moves.fetch_add(1, Ordering::AcqRel);
        }
        Ok(addresses)
    }
}

impl<R> fmt::Debug for Remembering<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembering")
    }
}

/// Whether these are the same addresses, in whatever order: name servers turn it round.
fn same(before: &[SocketAddr], now: &[SocketAddr]) -> bool {
    let set = |addresses: &[SocketAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
    set(before) == set(now)
}

/// The address that a URL has in place of a name.
fn literal(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host()?;
    let address: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let port = uri.port_u16().or(match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_another_order_are_the_same() {
        let [one, two] = [1, 2].map(|host| SocketAddr::from(([127, 0, 0, host], 80)));
        assert!(same(&[one, two], &[two, one]));
        assert!(!same(&[one], &[one, two]));
    }

    #[test]
    fn literal_addresses_need_no_lookup() {
        for (uri, address) in [
            ("http://127.0.0.1:9100/a", Some("127.0.0.1:9100")),
            ("https://127.0.0.1", Some("127.0.0.1:443")),
            ("http://[::1]/a?b", Some("[::1]:80")),
            ("http://localhost:9100", None),
        ] {
            let uri: Uri = uri.parse().expect("a URL");
            assert_eq!(literal(&uri), address.map(|address| address.parse().expect("an address")), "{uri}");
        }
    }
}
