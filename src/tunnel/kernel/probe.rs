//! A packet that a peer has to answer, however its host takes it: WireGuard acknowledges data
//! within 10 s, and where it does not the kernel begins a handshake 5 s later. There is no other
//! way to make the kernel ask a peer with whom a session stands.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use seedwire_core::types::{InterfaceName, Prefix};
use socket2::{Domain, Socket, Type};
use tracing::debug;

/// The service discard (RFC 863).
const PORT: u16 = 9;
/// More than a few keepalives, so that it shows among them in the counters.
const PAYLOAD: [u8; 128] = [0; 128];

/// Sends it to an address of the peer. It goes no further than the peer: its TTL is 1.
pub(super) fn send(
    interface: &InterfaceName,
    peer: &str,
    allowed_ips: &[Prefix],
    is_its: impl Fn(IpAddr) -> bool,
) {
    let Some(to) = address(allowed_ips, is_its) else {
        debug!(peer, "the peer has no address to be probed at");
        return;
    };
    if let Err(error) = send_to(interface, to) {
        debug!(peer, %to, %error, "the peer was not probed");
    }
}

fn send_to(interface: &InterfaceName, to: IpAddr) -> io::Result<()> {
    let to = SocketAddr::new(to, PORT);
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
    socket.bind_device(Some(interface.as_str().as_bytes()))?;
    if to.is_ipv4() {
        socket.set_ttl_v4(1)?;
    } else {
        socket.set_unicast_hops_v6(1)?;
    }
    socket.set_nonblocking(true)?;
    socket.send_to(&PAYLOAD, &to.into()).map(drop)
}

/// An address that belongs to the peer: a single one rather than one of a network, IPv4 rather than
/// IPv6, which needs a route.
fn address(allowed_ips: &[Prefix], is_its: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let is_host = |prefix: &&Prefix| prefix.length() == if prefix.is_ipv4() { 32 } else { 128 };
    let hosts = allowed_ips.iter().filter(is_host).map(Prefix::address);
    let networks = allowed_ips.iter().filter(|prefix| !is_host(prefix));
    let mut all: Vec<IpAddr> = hosts.chain(networks.map(within)).collect();
    all.sort_by_key(IpAddr::is_ipv6);
    all.into_iter().find(|address| is_its(*address))
}

/// The first address after that of the network itself; one for documentation where that would be
/// one of 0.0.0.0/8.
fn within(network: &Prefix) -> IpAddr {
    match network.address() {
        IpAddr::V4(first) if first.octets()[0] == 0 => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | 1).into(),
        IpAddr::V6(first) if first.is_unspecified() => {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
        }
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | 1).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_the_peer() {
        let prefixes = ["0.0.0.0/0", "10.240.16.0/20", "fd88::1/128", "10.88.0.1/32"];
        let prefixes = prefixes.map(|text| text.parse().expect("a prefix"));
        let chosen = |allowed: &[Prefix]| address(allowed, |_| true).map(|to| to.to_string());
        assert_eq!(chosen(&prefixes).as_deref(), Some("10.88.0.1"));
        assert_eq!(chosen(&prefixes[..3]).as_deref(), Some("192.0.2.1"));
        assert_eq!(chosen(&prefixes[1..2]).as_deref(), Some("10.240.16.1"));
        assert_eq!(chosen(&prefixes[2..3]).as_deref(), Some("fd88::1"));
        assert_eq!(address(&prefixes, |_| false), None);
    }
}
