//! Names to addresses, remembered for a while.
//!
//! ureq asks its resolver for every request, also on a connection that is open already, and its own resolver starts a
//! thread each time when there is a timeout. Literal addresses need no look-up, and a name's addresses are good for
//! some seconds; a failed look-up is not remembered.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// How long a name's addresses are believed.
const LIFETIME: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct CachingResolver {
    inner: DefaultResolver,
    known: Mutex<HashMap<String, (Vec<SocketAddr>, Instant)>>,
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let name = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        if let Some((addresses, since)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&name)
            && since.elapsed() < LIFETIME
        {
            let mut known = self.empty();
            addresses.iter().for_each(|address| known.push(*address));
            return Ok(known);
        }
        let found = self.inner.resolve(uri, config, timeout)?;
        let entry = (found.iter().copied().collect(), Instant::now());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, entry);
        Ok(found)
    }
}
