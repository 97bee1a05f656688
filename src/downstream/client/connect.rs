//! New connections. A name has several addresses, and the first of them may be dead: the next is tried while the first is
//! still waited for (RFC 8305, "happy eyeballs"), and what worked comes first the next time.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{Why, sockets::Socket, tls, wire::Stream};
use crate::downstream::lack::Lack;

/// How long an address is waited for before the next one is tried beside it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to one server.
pub(super) struct Connector {
    /// Where it is `https`.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The address that took the last connection.
    worked: Mutex<Option<SocketAddr>>,
}

impl Connector {
    pub(super) fn new(tls: Option<(TlsConnector, ServerName<'static>)>) -> Self {
        Self { tls, worked: Mutex::default() }
    }

    /// A connection to one of these addresses; or why there is none.
    pub(super) async fn connect(&self, addresses: &[SocketAddr]) -> Result<(TcpStream, Socket), Why> {
        let mut order = in_turn(addresses);
        let worked = *self.worked();
        if let Some(worked) = worked {
            order.sort_by_key(|address| *address != worked);
        }
        let why = |error: io::Error| match Lack::of(&error, worked.is_some()) {
            Some(lack) => Why::lack(lack),
            None => Why::other(error.kind().to_string()),
        };
        let (stream, socket, address) = first_of(&order).await.map_err(why)?;
        *self.worked() = Some(address);
        stream.set_nodelay(true).map_err(why)?;
        Ok((stream, socket))
    }

    /// The same connection with TLS, where that is meant; or why that cannot be, for a person.
    pub(super) async fn secure(&self, stream: TcpStream) -> Result<Stream, String> {
        let Some((connector, name)) = &self.tls else { return Ok(Stream::Plain(stream)) };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(tls::tls_in_words(&error)),
        }
    }

    fn worked(&self) -> std::sync::MutexGuard<'_, Option<SocketAddr>> {
        self.worked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One family after the other, beginning with that of the first address (RFC 8305, section 4).
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut like, mut other) = (Vec::new(), Vec::new());
    for address in addresses {
        if address.is_ipv4() == first.is_ipv4() { like.push(*address) } else { other.push(*address) }
    }
    let (mut like, mut other) = (like.into_iter(), other.into_iter());
    std::iter::from_fn(|| Some([like.next(), other.next()]).filter(|pair| pair.iter().any(Option::is_some)))
        .flat_map(|pair| pair.into_iter().flatten())
        .collect()
}

/// The first of these addresses that takes a connection.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<(TcpStream, Socket, SocketAddr)> {
    let mut attempts = FuturesUnordered::new();
    let mut left = addresses.iter();
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    loop {
        let next = left.next();
        if let Some(address) = next {
            attempts.push(open(*address));
        }
        let ended = match next {
            Some(_) => tokio::time::timeout(STAGGER, attempts.next()).await,
            None => Ok(attempts.next().await),
        };
        match ended {
            Ok(Some(Ok(connected))) => return Ok(connected),
            // What is lacking here is lacking for all of them.
            Ok(Some(Err(error))) if Lack::of(&error, false).is_some() => return Err(error),
            Ok(Some(Err(error))) => refused = error,
            Ok(None) => return Err(refused),
            // It is still waited for, beside the next.
            Err(_) => {}
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<(TcpStream, Socket, SocketAddr)> {
    let socket = Socket::take()?;
    Ok((TcpStream::connect(address).await?, socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_take_turns() {
        let [a, b, c] = ["[2001:db8::1]:80", "[2001:db8::2]:80", "[2001:db8::3]:80"].map(address);
        let [d, e] = ["192.0.2.1:80", "192.0.2.2:80"].map(address);
        assert_eq!(in_turn(&[a, b, c, d]), [a, d, b, c]);
        assert_eq!(in_turn(&[d, e, a]), [d, a, e]);
        assert_eq!(in_turn(&[]), []);
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing_and_what_worked_is_remembered() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let lives = listener.local_addr().expect("an address");
        // Nobody listens there: it was free a moment ago.
        let nobody = std::net::TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr());
        let dead = nobody.expect("a free port");
        let connector = Connector::new(None);
        assert!(connector.connect(&[dead]).await.is_err_and(|why| why == Why::other("connection refused")));
        assert!(connector.connect(&[dead, lives]).await.is_ok());
        assert_eq!(*connector.worked(), Some(lives));
        assert!(connector.connect(&[]).await.is_err());
    }
}
