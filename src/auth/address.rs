//! The address of a caller, which nobody can forge: the other end of the connection, or what a configured proxy says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, X_FORWARDED_FOR};
use ipnet::IpNet;

/// The address of who sent a request.
pub(super) fn caller(request: &HttpRequest, proxies: &[IpNet]) -> IpAddr {
    behind(request.peer_addr().map(|peer| peer.ip()), request.headers(), proxies)
}

/// The last address that no configured proxy has: each proxy adds the one that it was called from at the end, and
/// what stands before that may be anybody's invention. The other end of a Unix socket has no address, and is a proxy of
/// this machine.
fn behind(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let is_proxy = |address: &IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut address = peer.map(|peer| peer.to_canonical());
    let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).collect();
    let hops = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        if address.is_some_and(|address| !is_proxy(&address)) {
            break;
        }
        match read(hop) {
            Some(hop) => address = Some(hop),
            // The proxy does not say whom it was called by.
            None => break,
        }
    }
    address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn read(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// What stands for an address where addresses are counted: whoever has one of IPv6 has its whole /64.
pub(super) fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn caller(peer: &str, forwarded: &[&'static str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
        }
        let proxies: Vec<IpNet> = proxies.iter().map(|network| network.parse().unwrap()).collect();
        behind(peer.parse().ok(), &headers, &proxies).to_string()
    }

    #[test]
    fn only_what_configured_proxies_say_is_believed() {
        const PROXIES: &[&str] = &["10.0.0.0/8", "2001:db8::/32"];
        for (peer, forwarded, proxies, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], &[][..], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], PROXIES, "203.0.113.9"),
            ("10.0.0.1", &[], PROXIES, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], PROXIES, "198.51.100.1"),
            // What the caller sent stands first, what the proxy saw last.
            ("10.0.0.1", &["192.0.2.7, 198.51.100.1"], PROXIES, "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.7", "198.51.100.1"], PROXIES, "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.7, 198.51.100.1, 10.9.9.9"], PROXIES, "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.7, 198.51.100.1", "10.9.9.9"], PROXIES, "198.51.100.1"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], PROXIES, "10.1.1.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], PROXIES, "198.51.100.1"),
            ("10.0.0.1", &["[2a00::1]:4711"], PROXIES, "2a00::1"),
            ("2001:db8::1", &["[2a00::1]"], PROXIES, "2a00::1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], PROXIES, "198.51.100.1"),
            ("a Unix socket", &[], &[], "0.0.0.0"),
            ("a Unix socket", &["192.0.2.7, 198.51.100.1"], &[], "198.51.100.1"),
            ("a Unix socket", &["198.51.100.1, 10.9.9.9"], PROXIES, "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], PROXIES, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, "], PROXIES, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, _hidden, 10.0.0.2"], PROXIES, "10.0.0.2"),
        ] {
            assert_eq!(caller(peer, forwarded, proxies), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        for (address, expected) in [
            ("198.51.100.1", "198.51.100.1"),
            ("2a00:1:2:3:4:5:6:7", "2a00:1:2:3::"),
            ("2a00:1:2:3:ffff::", "2a00:1:2:3::"),
            ("2a00:1:2:4::", "2a00:1:2:4::"),
        ] {
            assert_eq!(counted(address.parse().unwrap()).to_string(), expected);
        }
    }
}
