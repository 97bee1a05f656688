//! Names and their addresses. A name is looked up off the thread that makes the calls, once at a time, and believed for a
//! while. Literal addresses are not looked up at all.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use tokio::sync::oneshot;

use super::Why;
use crate::{clock::Clock, downstream::lack::Lack};

/// How long an answer is believed. A name that moved is followed by the requests after the first one that is later
/// than this, and at once where connecting fails.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// How long a call waits for news of a name whose addresses it knows. A name server that hangs then holds nobody up.
const PATIENCE_WITH_NEWS: Duration = Duration::from_secs(1);

/// Looks a name up. Blocks.
pub(super) trait Lookup: Send + Sync + 'static {
    /// All its addresses, with this port.
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// As the machine does it.
pub(super) struct Machine;

impl Lookup for Machine {
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

type Looked = Result<Arc<[SocketAddr]>, Why>;
type Flight = Shared<BoxFuture<'static, Looked>>;

/// The addresses of one name.
pub(super) struct Name {
    host: Arc<str>,
    port: u16,
    lookup: Arc<dyn Lookup>,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    addresses: Option<Arc<[SocketAddr]>>,
    /// Steady time; `None`: not believed any more.
    until: Option<i64>,
    /// How often it was found to have other addresses than before.
    moves: u64,
    /// The lookup under way: its thread goes on, whoever gives up waiting for it.
    under_way: Option<Flight>,
}

/// Where a name leads now.
pub(super) struct Where {
    pub addresses: Arc<[SocketAddr]>,
    /// How often the name had moved.
    pub moves: u64,
}

impl Name {
    pub(super) fn new(host: &str, port: u16, lookup: Arc<dyn Lookup>, clock: Clock) -> Self {
        let literal = host.parse::<IpAddr>().ok().map(|ip| Arc::from([SocketAddr::new(ip, port)]));
        let until = literal.is_some().then_some(i64::MAX);
        let known = Mutex::new(Known { addresses: literal, until, ..Known::default() });
        Self { host: host.into(), port, lookup, clock, known }
    }

    /// The next call looks the name up again.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.until = known.until.filter(|until| *until == i64::MAX);
    }

    /// Its addresses: as they are known, or as they are looked up now.
    pub(super) async fn addresses(&self) -> Result<Where, Why> {
        let (flight, stale) = {
            let mut known = self.known();
            let stale = known.known();
            if known.until.is_some_and(|until| self.clock.steady() < until)
                && let Some(fresh) = stale
            {
                return Ok(fresh);
            }
            (known.under_way.get_or_insert_with(|| self.look_up()).clone(), stale)
        };
        let looked = match stale {
            None => Some(flight.clone().await),
            Some(_) => tokio::time::timeout(PATIENCE_WITH_NEWS, flight.clone()).await.ok(),
        };
        let mut known = self.known();
        let Some(looked) = looked else { return stale.ok_or_else(|| Why::other("")) };
        if known.under_way.as_ref().is_some_and(|under_way| under_way.ptr_eq(&flight)) {
            known.under_way = None;
            if let Ok(addresses) = &looked {
                let until = self.clock.steady().saturating_add(LIFETIME.as_nanos() as i64);
                known.learn(addresses.clone(), until);
            }
        }
        match (known.known(), looked) {
            // What was known is better than nothing.
            (Some(known), _) => Ok(known),
            (None, Err(error)) => Err(error),
            (None, Ok(addresses)) => Ok(Where { addresses, moves: known.moves }),
        }
    }

    fn look_up(&self) -> Flight {
        let (lookup, host, port) = (self.lookup.clone(), self.host.clone(), self.port);
        let (found, looking) = oneshot::channel();
        // A thread of its own: a runtime that can start none for what blocks ends the process.
        let looks = move || drop(found.send(looked_up(&*lookup, &host, port)));
        let thread = thread::Builder::new().name("names".to_owned()).spawn(looks);
        let told = async move {
            match thread {
                Ok(_) => looking.await.unwrap_or_else(|_| Err(Why::other("it could not be looked up"))),
                Err(_) => Err(Why::lack(Lack::Threads)),
            }
        };
        told.boxed().shared()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All addresses of a name; or why there are none.
fn looked_up(lookup: &dyn Lookup, host: &str, port: u16) -> Looked {
    match lookup.lookup(host, port) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses.into()),
        // Which of the many ways of not finding a name it is, the machines tell by words of their own; also that they could not
        // open a file to ask.
        _ => Err(lack_of_files().map_or_else(|| Why::other("host not found"), Why::lack)),
    }
}

/// Whether no file can be opened now.
fn lack_of_files() -> Option<Lack> {
    File::open("/dev/null").err().and_then(|error| Lack::of(&error, false))
}

impl Known {
    fn known(&self) -> Option<Where> {
        Some(Where { addresses: self.addresses.clone()?, moves: self.moves })
    }

    fn learn(&mut self, addresses: Arc<[SocketAddr]>, until: i64) {
        let moved = self.addresses.as_ref().is_some_and(|before| !same(before, &addresses));
        self.moves += u64::from(moved);
        self.until = Some(until);
        self.addresses = Some(addresses);
    }
}

/// Whether these are the same addresses, in whatever order: name servers turn it round.
fn same(before: &[SocketAddr], now: &[SocketAddr]) -> bool {
    let set = |addresses: &[SocketAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
    set(before) == set(now)
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
}
