//! What a configuration as written means. `None` is for what the reader has already rejected.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::leaf::Period;
use super::model::{
    Backend, Cache, Config, Control, Dnat, Dns, HANDSHAKES_PER_ADDRESS, Lifetimes, Log, LogFormat,
    LogLevel, Network, Order, Peer, PortRelay, Route, Routes, Tunnel, Zone, default_socket,
};
use super::read::At;
use super::written::{self, List};
use crate::types::InterfaceName;

/// How often a packet is sent to a peer with an endpoint, so that a NAT between keeps its state.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// The main routing table, RT_TABLE_MAIN in linux/rtnetlink.h.
pub(super) const MAIN_TABLE: u64 = 254;
/// Where health and metrics are served unless written otherwise.
pub(super) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9586);

pub(super) fn of(root: written::Root) -> Option<Config> {
    let tunnel = match root.tunnel {
        Some(at) => Some(tunnel(at.value)?),
        None => None,
    };
    let network = match root.network {
        Some(at) => network(at.value)?,
        None => Network::default(),
    };
    let dns = match root.dns {
        Some(at) => Some(dns(at.value)?),
        None => None,
    };
    let ports = map(root.ports, |port| {
        Some(PortRelay {
            listen: port.listen?.value,
            to: port.to?.value,
        })
    })?;
    let interface = tunnel.as_ref().map(|tunnel| &tunnel.interface);
    let control = control(root.control.map(|at| at.value), interface);
    let log = root.log.map(|at| at.value);
    Some(Config {
        tunnel,
        network,
        ports,
        dns,
        control,
        log: log_of(log),
    })
}

/// The value of a list, each item by `meaning`; no list is an empty one.
fn map<T, U>(list: Option<At<List<T>>>, meaning: impl Fn(T) -> Option<U>) -> Option<Vec<U>> {
    list.map_or_else(Vec::new, |at| at.value)
        .into_iter()
        .map(|item| meaning(item.value))
        .collect()
}

fn tunnel(tunnel: written::Tunnel) -> Option<Tunnel> {
    let private_key = match (tunnel.private_key, tunnel.private_key_file) {
        (Some(key), _) => key.value.0,
        (None, file) => file?.value.0,
    };
    let addresses = match (tunnel.addresses, tunnel.addresses_file) {
        (Some(list), _) => list.value,
        (None, file) => file?.value.0,
    };
    Some(Tunnel {
        interface: tunnel.interface?.value,
        backend: tunnel.backend.map_or(Backend::Auto, |at| at.value),
        private_key,
        addresses: addresses.into_iter().map(|at| at.value).collect(),
        listen_port: tunnel.listen_port.and_then(|at| narrow(at.value.0)),
        mtu: tunnel.mtu.and_then(|at| narrow(at.value.0)),
        fwmark: tunnel.fwmark.map(|at| at.value.0),
        handshakes_per_address: tunnel
            .handshakes_per_address
            .and_then(|at| narrow(at.value.0))
            .unwrap_or(HANDSHAKES_PER_ADDRESS),
        resolvers: map(tunnel.resolvers, |server| Some(server.0))?,
        peers: map(tunnel.peers, peer)?,
    })
}

fn peer(peer: written::Peer) -> Option<Peer> {
    let preshared_key = match (peer.preshared_key, peer.preshared_key_file) {
        (Some(key), _) => Some(key.value.0),
        (None, file) => file.map(|at| at.value.0),
    };
    let endpoints: Vec<_> = peer.endpoint.map_or_else(Vec::new, |at| {
        at.value.0.into_iter().map(|at| at.value).collect()
    });
    let keepalive = match peer.keepalive {
        Some(at) => Some(at.value.0).filter(|period| !period.is_zero()),
        None => Some(KEEPALIVE).filter(|_| !endpoints.is_empty()),
    };
    Some(Peer {
        name: peer.name?.value.0,
        public_key: peer.public_key?.value,
        preshared_key,
        endpoints,
        keepalive,
        allowed_ips: map(peer.allowed_ips, Some)?,
        probe: peer.probe.map(|at| at.value),
    })
}

fn network(network: written::Network) -> Option<Network> {
    let routes = match network.routes.map(|at| at.value) {
        None | Some(written::Routes::Auto) => Routes::Auto,
        Some(written::Routes::These(list)) => {
            let routes = list.into_iter().map(|item| route(item.value));
            Routes::List(routes.collect::<Option<_>>()?)
        }
    };
    Some(Network {
        routes,
        forward: network.forward.is_some_and(|at| at.value),
        masquerade: map(network.masquerade, Some)?,
        dnat: map(network.dnat, |dnat| {
            Some(Dnat {
                protocol: dnat.protocol?.value,
                address: dnat.address?.value,
                port: narrow(dnat.port?.value.0)?,
                to: dnat.to?.value,
            })
        })?,
    })
}

fn route(route: written::Route) -> Option<Route> {
    let table = route.table.map(|at| at.value.0);
    Some(Route {
        to: route.to?.value,
        table: table.filter(|table| *table != MAIN_TABLE).and_then(narrow),
        metric: route.metric.and_then(|at| narrow(at.value.0)),
    })
}

fn dns(dns: written::Dns) -> Option<Dns> {
    let upstreams = match dns.upstreams {
        Some(list) => Some(map(Some(list), Some)?),
        None => None,
    };
    let cache = cache(dns.cache.map(|at| at.value));
    Some(Dns {
        listen: map(dns.listen, |address| Some(address.0))?,
        upstreams,
        zones: map(dns.zones, |zone| {
            Some(Zone {
                zone: zone.zone?.value,
                upstreams: map(zone.upstreams, Some)?,
                probe: zone.probe.map(|at| at.value),
                lifetimes: zone
                    .cache
                    .map_or(cache.lifetimes, |own| lifetimes(own.value, cache.lifetimes)),
            })
        })?,
        order: dns.order.map_or(Order::Fastest, |at| at.value),
        search_domains: map(dns.search_domains, Some)?,
        cache,
    })
}

fn cache(cache: Option<written::Cache>) -> Cache {
    let default = Cache::default();
    let Some(cache) = cache else {
        return default;
    };
    let entries = cache.max_entries.and_then(|at| narrow(at.value.0));
    let own = written::ZoneCache {
        max_ttl: cache.max_ttl,
        max_negative_ttl: cache.max_negative_ttl,
        stale: cache.stale,
        stale_ttl: cache.stale_ttl,
        stale_on_nxdomain: cache.stale_on_nxdomain,
    };
    Cache {
        max_entries: entries.unwrap_or(default.max_entries),
        max_bytes: cache.max_bytes.map_or(default.max_bytes, |at| at.value.0),
        lifetimes: lifetimes(own, default.lifetimes),
    }
}

/// The lifetimes that are written, and those of `default` where none are.
fn lifetimes(cache: written::ZoneCache, default: Lifetimes) -> Lifetimes {
    let value = |at: Option<At<Period>>, default| at.map_or(default, |at| at.value.0);
    let stale_ttl = cache.stale_ttl.and_then(|at| narrow(at.value.0.as_secs()));
    Lifetimes {
        max_ttl: value(cache.max_ttl, default.max_ttl),
        max_negative_ttl: value(cache.max_negative_ttl, default.max_negative_ttl),
        stale: value(cache.stale, default.stale),
        stale_ttl: stale_ttl.unwrap_or(default.stale_ttl),
        stale_on_nxdomain: value(cache.stale_on_nxdomain, default.stale_on_nxdomain),
    }
}

fn control(control: Option<written::Control>, interface: Option<&InterfaceName>) -> Control {
    let default = Control {
        http: Some(HTTP),
        socket: interface.map(default_socket),
        startup_wait: Some(Duration::from_secs(60)),
    };
    let Some(control) = control else {
        return default;
    };
    let socket = control.socket.map(|at| at.value.0);
    let wait = control.startup_wait.map(|at| at.value.0);
    Control {
        http: control.http.map_or(default.http, |at| at.value.0),
        socket: socket.or(default.socket),
        startup_wait: wait.unwrap_or(default.startup_wait),
    }
}

fn log_of(log: Option<written::Log>) -> Log {
    let (level, format) = log.map_or((None, None), |log| (log.level, log.format));
    Log {
        level: level.map_or(LogLevel::Info, |at| at.value),
        format: format.map_or(LogFormat::Text, |at| at.value),
    }
}

/// A number in the width of the model; its bounds were checked when it was read.
fn narrow<T: TryFrom<u64>>(number: u64) -> Option<T> {
    T::try_from(number).ok()
}
