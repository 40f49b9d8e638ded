use std::net::IpAddr;

use super::items;
use super::listen::listeners;
use super::tunnel::own_addresses;
use crate::config::meaning::MAIN_TABLE;
use crate::config::model::Upstream;
use crate::config::read::{Place, Reader};
use crate::config::written::{Root, Routes, Tunnel};
use crate::types::{Host, Prefix};

/// Rejects what lies outside of the tunnel and would be routed into it: endpoints, general
/// upstreams, and this host's own addresses that something listens on.
///
/// Under `routes: auto` a prefix that holds an endpoint, or everything, goes to a private table
/// with a rule that lets marked packets pass by; nothing in it is rejected. A route in a table
/// other than the main one has the rules that the user gives it.
pub(super) fn check(root: &Root, reader: &mut Reader<'_>) {
    let Some(tunnel) = &root.tunnel else {
        return;
    };
    let tunnel = &tunnel.value;
    let routed = routed(root, tunnel);
    let reject = |ip: IpAddr, place: &Place, reader: &mut Reader<'_>| {
        if let Some((prefix, path)) = routed.iter().find(|(prefix, _)| prefix.contains(ip)) {
            reader.reject(
                place,
                format!("an address outside {prefix}, which {path} routes into the tunnel"),
            );
        }
    };
    for (ip, place) in endpoints(tunnel) {
        reject(ip, place, reader);
    }
    for server in items(&tunnel.resolvers) {
        reject(server.value.0.ip(), &server.place, reader);
    }
    let general = root.dns.as_ref().map(|dns| items(&dns.value.upstreams));
    for upstream in general.unwrap_or_default() {
        if let Upstream::Server(server) = &upstream.value {
            reject(server.address.ip(), &upstream.place, reader);
        }
    }
    // Answers to the clients beside such an address would go into the tunnel.
    for listener in listeners(root) {
        let ip = listener.address.ip();
        let own = own_addresses(tunnel).iter();
        let in_tunnel = own.map(|at| at.value.address()).any(|own| own == ip);
        if let Some(place) = listener.place
            && !in_tunnel
        {
            reject(ip, place, reader);
        }
    }
}

fn endpoints(tunnel: &Tunnel) -> impl Iterator<Item = (IpAddr, &Place)> {
    items(&tunnel.peers)
        .iter()
        .filter_map(|peer| peer.value.endpoint.as_ref())
        .flat_map(|at| &at.value.0)
        .filter_map(|at| match at.value.host {
            Host::Address(ip) => Some((ip, &at.place)),
            Host::Name(_) => None,
        })
}

/// The prefixes that the main table leads into the tunnel, with the path of what asks for it.
fn routed<'a>(root: &'a Root, tunnel: &'a Tunnel) -> Vec<(Prefix, &'a str)> {
    // The network of an address on the interface is routed by the kernel itself.
    let mut routed: Vec<(Prefix, &str)> = own_addresses(tunnel)
        .iter()
        .map(|at| (at.value.prefix(), at.place.path.as_str()))
        .collect();
    let network = root.network.as_ref().map(|at| &at.value);
    // An address that is translated gets a host route, so that it is dialled from the tunnel's.
    for dnat in network.map_or(&[][..], |network| items(&network.dnat)) {
        if let Some(at) = &dnat.value.address {
            routed.push((Prefix::host(at.value), at.place.path.as_str()));
        }
    }
    let routes = network.and_then(|network| network.routes.as_ref());
    if let Some(Routes::These(list)) = routes.map(|at| &at.value) {
        for route in list {
            let table = route.value.table.as_ref().map(|at| at.value.0);
            if let (Some(to), None | Some(MAIN_TABLE)) = (&route.value.to, table) {
                routed.push((to.value, to.place.path.as_str()));
            }
        }
        return routed;
    }
    let endpoints: Vec<IpAddr> = endpoints(tunnel).map(|(ip, _)| ip).collect();
    let peers = items(&tunnel.peers).iter();
    for prefix in peers.flat_map(|peer| items(&peer.value.allowed_ips)) {
        let holds_endpoint = endpoints.iter().any(|ip| prefix.value.contains(*ip));
        let has_rule = prefix.value.is_default() || holds_endpoint;
        if !has_rule {
            routed.push((prefix.value, prefix.place.path.as_str()));
        }
    }
    routed
}
