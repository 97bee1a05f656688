//! What a proxy in front says of a request: whom it comes from, over what, and to which name. Believed from the
//! configured proxies only: anybody can send these headers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use warp::http::{HeaderMap, header};

use crate::config::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// The address that a request comes from: the last one that no believed proxy has. Each proxy adds, at the end, the
/// address that it was called from, so what stands before the first stranger is that stranger's word.
pub fn origin(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut last = peer.to_canonical();
    for hop in list(headers, FORWARDED_FOR).rev() {
        if !is_trusted(last) {
            break;
        }
        // A proxy that says `unknown` has nothing to tell: the proxy itself is the last one known.
        let Some(address) = address_in(hop) else { break };
        last = address.to_canonical();
    }
    last
}

/// The address, or all of those that its owner has: whoever has an IPv6 address has 2^64 of them.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Whether the request came over TLS, as the proxy that we believe says.
pub fn is_secure(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> bool {
    let is_trusted = trusted.iter().any(|network| network.contains(peer));
    is_trusted && list(headers, FORWARDED_PROTO).next_back().is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

/// The name, with its port where it has one, that the request was sent to.
pub fn host<'a>(peer: IpAddr, headers: &'a HeaderMap, trusted: &[Network]) -> Option<&'a str> {
    let is_trusted = trusted.iter().any(|network| network.contains(peer));
    let forwarded = list(headers, FORWARDED_HOST).next_back().filter(|_| is_trusted);
    forwarded.or_else(|| headers.get(header::HOST).and_then(|value| value.to_str().ok()))
}

/// The entries of a header that may be sent several times, in order.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// An address, perhaps with a port: `10.0.0.1`, `10.0.0.1:5678`, `2001:db8::1`, `[2001:db8::1]:5678`.
fn address_in(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn the_origin_is_the_last_address_that_no_believed_proxy_has() {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().expect("a network")).collect();
        for (peer, forwarded, origin_is) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.66, 198.51.100.1, 10.2.3.4"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.66", "198.51.100.1", "10.2.3.4"], "198.51.100.1"),
            ("10.0.0.1", &["10.7.7.7, 10.2.3.4"], "10.7.7.7"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
        ] {
            let pairs: Vec<_> = forwarded.iter().map(|value| (FORWARDED_FOR, *value)).collect();
            let found = origin(peer.parse().expect("an address"), &headers(&pairs), &trusted);
            assert_eq!(found.to_string(), origin_is, "{peer} with {forwarded:?}");
        }
    }

    #[test]
    fn tls_and_name_are_believed_from_a_proxy_only() {
        let trusted = ["10.0.0.1".parse().expect("a network")];
        let said =
            headers(&[(FORWARDED_PROTO, "https"), (FORWARDED_HOST, "dripfeed.example"), ("host", "127.0.0.1:8080")]);
        let [proxy, stranger] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("an address"));
        assert!(is_secure(proxy, &said, &trusted) && !is_secure(stranger, &said, &trusted));
        assert_eq!(host(proxy, &said, &trusted), Some("dripfeed.example"));
        assert_eq!(host(stranger, &said, &trusted), Some("127.0.0.1:8080"));
    }
}
