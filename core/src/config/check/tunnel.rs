use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Once, family, is_unicast, items};
use crate::config::read::{At, Place, Reader};
use crate::config::report::Topic;
use crate::config::written::{Peer, Root, Tunnel};
use crate::types::{Host, InterfaceAddress, Prefix, PrivateKey};

pub(super) fn check(root: &Root, reader: &mut Reader<'_>) {
    let Some(tunnel) = &root.tunnel else {
        return;
    };
    let interface = tunnel.value.interface.as_ref();
    if let Some(interface) = interface.filter(|at| at.value.as_str() == "lo") {
        reader.reject(&interface.place, "another interface than the loopback");
    }
    either_or(&tunnel.value, &tunnel.place, reader);
    addresses(&tunnel.value, reader);
    mtu(&tunnel.value, reader);
    fwmark(&tunnel.value, reader);
    let mut resolvers = Once::new();
    for server in items(&tunnel.value.resolvers) {
        resolvers.see(server.value.0, &server.place, "an address", reader);
        if !is_unicast(server.value.0.ip()) {
            reader.reject(&server.place, "the address of one server");
        }
    }
    peers(&tunnel.value, reader);
}

/// The addresses on the interface, however they were given.
pub(super) fn own_addresses(tunnel: &Tunnel) -> &[At<InterfaceAddress>] {
    match (&tunnel.addresses, &tunnel.addresses_file) {
        (Some(list), _) => &list.value,
        (None, Some(file)) => &file.value.0,
        (None, None) => &[],
    }
}

fn private_key(tunnel: &Tunnel) -> Option<&PrivateKey> {
    let file = tunnel.private_key_file.as_ref();
    let written = tunnel.private_key.as_ref().map(|at| &at.value.0);
    written.or_else(|| file.map(|at| &at.value.0))
}

fn either_or(tunnel: &Tunnel, place: &Place, reader: &mut Reader<'_>) {
    if let (Some(_), Some(file)) = (&tunnel.private_key, &tunnel.private_key_file) {
        reader.reject(&file.place, "either privateKey or privateKeyFile");
    }
    if let (Some(_), Some(file)) = (&tunnel.addresses, &tunnel.addresses_file) {
        reader.reject(&file.place, "either addresses or addressesFile");
    }
    let rejected = |prefix: &str, reader: &Reader<'_>| {
        reader.errors.iter().any(|problem| {
            problem
                .path
                .strip_prefix(&place.path)
                .is_some_and(|rest| rest.starts_with(prefix))
        })
    };
    if tunnel.private_key.is_none()
        && tunnel.private_key_file.is_none()
        && !rejected(".privateKey", reader)
    {
        reader.missing(place, "privateKeyFile", "privateKeyFile or privateKey");
    }
    if own_addresses(tunnel).is_empty() && !rejected(".addresses", reader) {
        reader.missing(
            place,
            "addresses",
            "at least one address, here or in addressesFile",
        );
    }
}

fn addresses(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    let mut seen = Once::new();
    for address in own_addresses(tunnel) {
        let ip = address.value.address();
        if !is_unicast(ip) || ip.is_loopback() {
            reader.reject(&address.place, "an address that one host can have");
        }
        seen.see(ip, &address.place, "an address", reader);
    }
}

fn mtu(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    /// The least MTU of a link that carries IPv6 (RFC 8200, 5).
    const LEAST_IPV6: u64 = 1280;
    let has_ipv6 = own_addresses(tunnel)
        .iter()
        .any(|address| address.value.address().is_ipv6());
    if let Some(mtu) = &tunnel.mtu
        && has_ipv6
        && mtu.value.0 < LEAST_IPV6
    {
        reader.reject(&mtu.place, "at least 1280, for the IPv6 address");
    }
}

fn fwmark(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    const TAKEN: [(u32, &str); 4] = [
        (0x4000, "kube-proxy"),
        (0x8000, "kube-proxy"),
        (0x0f00, "Cilium"),
        (0xffff_0000, "Calico"),
    ];
    let Some(mark) = &tunnel.fwmark else {
        return;
    };
    for (bits, owner) in TAKEN {
        if mark.value.0 & bits != 0 {
            let text = format!("better a mark without the bits {bits:#06x}, which {owner} uses");
            reader.warn(Topic::Doubtful, &mark.place, text);
        }
    }
}

fn peers(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    let mut names = Once::new();
    let mut keys = Once::new();
    let mut endpoints = Once::new();
    let mut prefixes = Once::new();
    let private_key = private_key(tunnel);
    let own_key = private_key.map(PrivateKey::public_key);
    let own: HashMap<_, _> = own_addresses(tunnel)
        .iter()
        .map(|at| (Prefix::host(at.value.address()), &at.place))
        .collect();
    for peer in items(&tunnel.peers) {
        let peer = &peer.value;
        if let Some(name) = &peer.name {
            names.see(&name.value.0, &name.place, "a name", reader);
        }
        if let Some(key) = &peer.public_key {
            keys.see(key.value, &key.place, "a key", reader);
            if own_key == Some(key.value) {
                reader.reject(&key.place, "the key of another host: this one is our own");
            }
            if private_key.is_some_and(|own| !own.agrees_with(&key.value)) {
                reader.reject(
                    &key.place,
                    "the key of a host: with this one no secret can be agreed on",
                );
            }
        }
        if let (Some(_), Some(file)) = (&peer.preshared_key, &peer.preshared_key_file) {
            reader.reject(&file.place, "either presharedKey or presharedKeyFile");
        }
        keepalive(peer, reader);
        for endpoint in peer.endpoint.iter().flat_map(|at| &at.value.0) {
            endpoints.see(&endpoint.value, &endpoint.place, "an endpoint", reader);
            if matches!(endpoint.value.host, Host::Address(ip) if !is_unicast(ip)) {
                reader.reject(&endpoint.place, "the address of one host");
            }
        }
        for prefix in items(&peer.allowed_ips) {
            prefixes.see(prefix.value, &prefix.place, "a prefix", reader);
            // A wider prefix may hold our address: the kernel delivers it here all the same.
            if let Some(place) = own.get(&prefix.value) {
                let expected = format!("a prefix that is not our own address, {}", place.path);
                reader.reject(&prefix.place, expected);
            }
        }
    }
    probes(tunnel, reader);
    unreachable_family(tunnel, reader);
    unknown_port(tunnel, reader);
}

fn probes(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    let longest = |address: IpAddr, peer: &Peer| {
        let prefixes = items(&peer.allowed_ips).iter().map(|at| at.value);
        let holding = prefixes.filter(|prefix| prefix.contains(address));
        holding.map(|prefix| prefix.length()).max()
    };
    let own = own_addresses(tunnel);
    for peer in items(&tunnel.peers) {
        let Some(probe) = &peer.value.probe else {
            continue;
        };
        let address = probe.value;
        let others = items(&tunnel.peers).iter();
        let leads_there = longest(address, &peer.value);
        if leads_there.is_none()
            || others.map(|p| longest(address, &p.value)).max() > Some(leads_there)
        {
            reader.reject(
                &probe.place,
                "an address that allowedIPs leads to this peer",
            );
        } else if !is_unicast(address) || own.iter().any(|at| at.value.address() == address) {
            reader.reject(&probe.place, "the address of a host behind the peer");
        } else if !own
            .iter()
            .any(|at| at.value.address().is_ipv4() == address.is_ipv4())
        {
            let family = family(address);
            let expected =
                format!("an address of the other family: the interface has no {family} address");
            reader.reject(&probe.place, expected);
        }
    }
}

/// Warns of a peer that is to call a port which nobody can know.
fn unknown_port(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    let calls_us = |peer: &&At<Peer>| peer.value.endpoint.is_none();
    let caller = items(&tunnel.peers).iter().find(calls_us);
    if let (Some(peer), None) = (caller, &tunnel.listen_port) {
        let text = "better a tunnel.listenPort beside a peer without an endpoint, which calls us";
        reader.warn(Topic::Doubtful, &peer.place, text);
    }
}

fn keepalive(peer: &Peer, reader: &mut Reader<'_>) {
    // The kernel and the UAPI count it in seconds, as 16 bits.
    const LONGEST: Duration = Duration::from_secs(65535);
    if let Some(period) = &peer.keepalive
        && (period.value.0 > LONGEST || period.value.0.subsec_nanos() != 0)
    {
        reader.reject(&period.place, "whole seconds from 0s to 65535s");
    }
}

/// Warns of prefixes that no local program can reach, for want of an own address to send from.
fn unreachable_family(tunnel: &Tunnel, reader: &mut Reader<'_>) {
    let own = own_addresses(tunnel);
    if own.is_empty() {
        return;
    }
    let has = |ipv4: bool| own.iter().any(|at| at.value.address().is_ipv4() == ipv4);
    for peer in items(&tunnel.peers) {
        for prefix in items(&peer.value.allowed_ips) {
            let address: IpAddr = prefix.value.address();
            if !has(address.is_ipv4()) {
                let text = format!(
                    "the interface has no {} address to send from",
                    family(address)
                );
                reader.warn(Topic::Doubtful, &prefix.place, text);
            }
        }
    }
}
