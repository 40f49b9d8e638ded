use std::net::SocketAddr;

use super::{is_unicast, items};
use crate::config::meaning::HTTP;
use crate::config::read::{Place, Reader};
use crate::config::written::Root;
use crate::types::Host;

/// A socket that would be bound.
pub(super) struct Listener<'a> {
    pub(super) address: SocketAddr,
    /// Where it is written; the default of control.http is not.
    pub(super) place: Option<&'a Place>,
    /// Whether an unspecified IPv6 address takes IPv4 too.
    both_families: bool,
}

pub(super) fn check(root: &Root, reader: &mut Reader<'_>) {
    let listeners = listeners(root);
    for (index, listener) in listeners.iter().enumerate() {
        let Some(place) = listener.place else {
            continue;
        };
        let earlier = listeners[..index]
            .iter()
            .find(|other| collide(other, listener));
        if let Some(earlier) = earlier {
            let path = earlier
                .place
                .map_or("control.http by default", |place| place.path.as_str());
            reader.reject(
                place,
                format!("an address and port of its own: {path} has them"),
            );
        }
        let ip = listener.address.ip();
        if !ip.is_unspecified() && !is_unicast(ip) {
            reader.reject(place, "an address that a host can have");
        }
    }
    tunnel_port(root, reader);
    loops(root, reader);
}

/// Every TCP socket that the configuration asks for.
pub(super) fn listeners(root: &Root) -> Vec<Listener<'_>> {
    let one = |address, place, both_families| Listener {
        address,
        place,
        both_families,
    };
    let http = root.control.as_ref().and_then(|at| at.value.http.as_ref());
    let mut listeners = Vec::new();
    match http {
        Some(at) => {
            listeners.extend(
                at.value
                    .0
                    .map(|address| one(address, Some(&at.place), true)),
            );
        }
        None => listeners.push(one(HTTP, None, true)),
    }
    let ports = items(&root.ports).iter();
    let ports = ports.filter_map(|relay| relay.value.listen.as_ref());
    listeners.extend(ports.map(|at| one(at.value, Some(&at.place), false)));
    if let Some(dns) = &root.dns {
        let dns = items(&dns.value.listen).iter();
        listeners.extend(dns.map(|at| one(at.value.0, Some(&at.place), false)));
    }
    listeners
}

fn collide(a: &Listener<'_>, b: &Listener<'_>) -> bool {
    let holds = |a: &Listener<'_>, b: &Listener<'_>| {
        let same_family = a.address.is_ipv4() == b.address.is_ipv4();
        let takes_both = a.both_families && a.address.is_ipv6();
        a.address.ip().is_unspecified() && (same_family || takes_both)
    };
    a.address.port() == b.address.port()
        && (a.address.ip() == b.address.ip() || holds(a, b) || holds(b, a))
}

/// The tunnel's UDP port is taken on every address, so DNS over UDP can't have it.
fn tunnel_port(root: &Root, reader: &mut Reader<'_>) {
    let port = root
        .tunnel
        .as_ref()
        .and_then(|tunnel| tunnel.value.listen_port.as_ref());
    let (Some(port), Some(dns)) = (port, &root.dns) else {
        return;
    };
    for listen in items(&dns.value.listen) {
        if u64::from(listen.value.0.port()) == port.value.0 {
            reader.reject(&listen.place, "another port than tunnel.listenPort");
        }
    }
}

/// A local port that leads to itself.
fn loops(root: &Root, reader: &mut Reader<'_>) {
    for relay in items(&root.ports) {
        let (Some(listen), Some(to)) = (&relay.value.listen, &relay.value.to) else {
            continue;
        };
        let Host::Address(ip) = to.value.host else {
            continue;
        };
        let here =
            ip == listen.value.ip() || (listen.value.ip().is_unspecified() && ip.is_loopback());
        if here && to.value.port == listen.value.port() {
            reader.reject(&to.place, "another address than the one listened on");
        } else if !is_unicast(ip) {
            reader.reject(&to.place, "the address of one host");
        }
    }
}
