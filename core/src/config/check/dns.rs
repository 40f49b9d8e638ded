use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::tunnel::own_addresses;
use super::{Once, is_unicast, items};
use crate::config::leaf::Period;
use crate::config::model::{DnsProtocol, Server, Upstream};
use crate::config::read::{At, Place, Reader};
use crate::config::report::Problem;
use crate::config::written::{Dns, List, Root, Zone};
use crate::types::{DnsName, Host};

pub(super) fn check(root: &Root, reader: &mut Reader<'_>) {
    relays(root, reader);
    let Some(dns) = &root.dns else {
        return;
    };
    let place = &dns.place;
    let dns = &dns.value;
    if items(&dns.zones).is_empty() && items(&dns.upstreams).is_empty() {
        let rejected = |problem: &Problem| {
            ["dns.zones", "dns.upstreams"]
                .iter()
                .any(|path| problem.path.starts_with(path))
        };
        if !reader.errors.iter().any(rejected) {
            reader.missing(place, "zones", "zones, upstreams or both");
        }
    }
    if let Some(list) = &dns.upstreams {
        not_empty(list, reader);
    }
    upstreams(root, dns, reader);
    zones(dns, reader);
    search_domains(dns, reader);
    let cache = dns
        .cache
        .as_ref()
        .and_then(|at| at.value.stale_ttl.as_ref());
    let of_zones = items(&dns.zones)
        .iter()
        .filter_map(|zone| zone.value.cache.as_ref()?.value.stale_ttl.as_ref());
    cache
        .into_iter()
        .chain(of_zones)
        .for_each(|ttl| stale_ttl(ttl, reader));
    endpoint_names(root, dns, reader);
}

/// Every upstream with its address, general ones and those of the zones.
fn addresses(dns: &Dns) -> impl Iterator<Item = (SocketAddr, &Place)> {
    let general = items(&dns.upstreams)
        .iter()
        .filter_map(|at| match at.value {
            Upstream::Server(ref server) => Some((server.address, &at.place)),
            Upstream::System => None,
        });
    let of_zones = items(&dns.zones)
        .iter()
        .flat_map(|zone| items(&zone.value.upstreams))
        .map(|at| (at.value.address, &at.place));
    general.chain(of_zones)
}

fn upstreams(root: &Root, dns: &Dns, reader: &mut Reader<'_>) {
    let tunnel = root.tunnel.as_ref().map(|at| own_addresses(&at.value));
    let own: HashSet<IpAddr> = tunnel
        .unwrap_or_default()
        .iter()
        .map(|at| at.value.address())
        .collect();
    for (address, place) in addresses(dns) {
        if !is_unicast(address.ip()) {
            reader.reject(place, "the address of one server");
        }
        let ours = items(&dns.listen)
            .iter()
            .find(|at| takes(at.value.0, address, &own));
        if let Some(ours) = ours {
            let path = &ours.place.path;
            reader.reject(
                place,
                format!("another server than this one itself, which listens there: {path}"),
            );
        }
    }
    let mut seen = Once::new();
    for upstream in items(&dns.upstreams) {
        seen.see(&upstream.value, &upstream.place, "an upstream", reader);
    }
}

/// Whether what is sent to `target` comes to a socket that listens on `listen`.
fn takes(listen: SocketAddr, target: SocketAddr, own: &HashSet<IpAddr>) -> bool {
    let ip = target.ip();
    let here = ip == listen.ip()
        || (listen.ip().is_unspecified()
            && listen.is_ipv4() == target.is_ipv4()
            && (ip.is_loopback() || own.contains(&ip)));
    listen.port() == target.port() && here
}

fn zones(dns: &Dns, reader: &mut Reader<'_>) {
    let mut names = Once::new();
    for zone in items(&dns.zones) {
        let Zone {
            zone: name,
            upstreams,
            probe,
            cache: _,
        } = &zone.value;
        if let Some(list) = upstreams {
            not_empty(list, reader);
        }
        let mut seen = Once::new();
        for upstream in items(upstreams) {
            seen.see(&upstream.value, &upstream.place, "an upstream", reader);
        }
        let Some(name) = name else {
            continue;
        };
        names.see(&name.value, &name.place, "a zone", reader);
        if name.value.is_root() {
            reader.reject(
                &name.place,
                "a zone below the root; dns.upstreams is for all",
            );
        }
        if let Some(probe) = probe
            && !name.value.covers(&probe.value)
        {
            reader.reject(&probe.place, format!("a name in the zone {}", name.value));
        }
    }
}

fn search_domains(dns: &Dns, reader: &mut Reader<'_>) {
    let mut names = Once::new();
    for domain in items(&dns.search_domains) {
        names.see(&domain.value, &domain.place, "a search domain", reader);
        if domain.value.is_root() {
            reader.reject(&domain.place, "a domain below the root");
        }
    }
}

/// A TTL has 31 bits (RFC 2181, 8).
fn stale_ttl(period: &At<Period>, reader: &mut Reader<'_>) {
    let ttl = period.value.0;
    let is_whole = ttl.subsec_nanos() == 0 && ttl.as_secs() > 0;
    if !is_whole || ttl.as_secs() > i32::MAX as u64 {
        reader.reject(&period.place, "whole seconds, 1s or more");
    }
}

/// Rejects a list of upstreams without any, unless it is for those that were rejected.
fn not_empty<T>(list: &At<List<T>>, reader: &mut Reader<'_>) {
    let path = &list.place.path;
    let rejected = |problem: &Problem| problem.path.starts_with(path);
    if list.value.is_empty() && !reader.errors.iter().any(rejected) {
        reader.reject(&list.place, "at least one upstream");
    }
}

/// The zone that answers for a name.
fn zone_of<'a>(dns: &'a Dns, name: &DnsName) -> Option<&'a At<Zone>> {
    let of = |zone: &'a At<Zone>| zone.value.zone.as_ref().map(|at| &at.value);
    items(&dns.zones)
        .iter()
        .filter(|zone| of(zone).is_some_and(|zone| zone.covers(name)))
        .max_by_key(|zone| of(zone).map_or(0, |zone| zone.as_str().len()))
}

/// Whether there are upstreams, and none is asked over UDP.
fn only_streams<'a>(upstreams: impl Iterator<Item = &'a Upstream>) -> bool {
    let is_stream = |upstream: &Upstream| match upstream {
        Upstream::Server(Server { protocol, .. }) => *protocol != DnsProtocol::Udp,
        Upstream::System => false,
    };
    let mut upstreams = upstreams.peekable();
    upstreams.peek().is_some() && upstreams.all(is_stream)
}

/// An endpoint's name must be known before the tunnel is up.
fn endpoint_names(root: &Root, dns: &Dns, reader: &mut Reader<'_>) {
    let Some(tunnel) = &root.tunnel else {
        return;
    };
    let peers = items(&tunnel.value.peers);
    let in_tunnel = |ip: IpAddr| {
        peers
            .iter()
            .flat_map(|peer| items(&peer.value.allowed_ips))
            .any(|prefix| prefix.value.contains(ip))
    };
    for endpoint in peers
        .iter()
        .filter_map(|peer| peer.value.endpoint.as_ref())
        .flat_map(|at| &at.value.0)
    {
        let Host::Name(name) = &endpoint.value.host else {
            continue;
        };
        let general = items(&dns.upstreams).iter().map(|at| &at.value);
        if items(&tunnel.value.resolvers).is_empty() && only_streams(general) {
            let expected = "tunnel.resolvers too, for endpoint names are resolved over UDP, and \
                            dns.upstreams are not asked that way";
            reader.reject(&endpoint.place, expected);
        }
        let Some(zone) = zone_of(dns, name) else {
            continue;
        };
        let mut upstreams = items(&zone.value.upstreams).iter();
        if upstreams.any(|at| in_tunnel(at.value.address.ip())) {
            let path = &zone.place.path;
            reader.reject(
                &endpoint.place,
                format!("a name outside {path}, which is only served through this tunnel"),
            );
        }
    }
}

/// The names that local ports lead to are resolved through the zones alone.
fn relays(root: &Root, reader: &mut Reader<'_>) {
    for relay in items(&root.ports) {
        let Some(to) = &relay.value.to else {
            continue;
        };
        let Host::Name(name) = &to.value.host else {
            continue;
        };
        let dns = root.dns.as_ref().map(|at| &at.value);
        if dns.and_then(|dns| zone_of(dns, name)).is_none() {
            reader.reject(&to.place, "an address, or a name in one of dns.zones");
        }
    }
}
