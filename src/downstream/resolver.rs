//! Name resolution with a memory. ureq looks a name up for every request, also for those that go over a connection it
//! already has; here that costs a look into a small table. Literal addresses are not looked up at all.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
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

/// How long an answer is believed. A name that moved is followed within this, and at once where connecting fails.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// Remembers what another resolver found. Failures are not remembered.
pub struct Remembering<R> {
    inner: R,
    clock: Clock,
    found: Mutex<HashMap<String, Found>>,
}

struct Found {
    addresses: ResolvedSocketAddrs,
    /// Steady time.
    until: i64,
}

impl<R> Remembering<R> {
    /// Remembers nothing yet.
    pub fn new(inner: R, clock: Clock) -> Self {
        Self { inner, clock, found: Mutex::default() }
    }

    /// The next request looks the name up again.
    pub fn forget(&self, uri: &Uri) {
        if let Some(authority) = uri.authority() {
            self.found().remove(authority.as_str());
        }
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
        if let Some(found) = self.found().get(name).filter(|found| now < found.until) {
            return Ok(found.addresses.clone());
        }
        let addresses = self.inner.resolve(uri, config, timeout)?;
        let until = now.saturating_add(LIFETIME.as_nanos() as i64);
        self.found().insert(name.to_owned(), Found { addresses: addresses.clone(), until });
        Ok(addresses)
    }
}

impl<R> fmt::Debug for Remembering<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembering")
    }
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
