mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Config, DEFAULT_FWMARK, Network, Routes, Tunnel};
use crate::types::{InterfaceAddress, Prefix};

use super::{Family, Instance, MAIN_TABLE, PROTOCOL, Rule, Table};

/// What is known at run time beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The MTU of the tunnel link in bytes.
    pub mtu: u16,
    /// The addresses of the endpoints, as far as they are resolved.
    pub endpoints: Vec<IpAddr>,
}

/// The network state that an instance wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Whose it is.
    pub instance: Instance,
    /// The MTU of the tunnel link; `None`: no tunnel.
    pub mtu: Option<u16>,
    /// The addresses on the tunnel link.
    pub addresses: Vec<InterfaceAddress>,
    /// Addresses that are put on `lo` if the host lacks them.
    pub local_addresses: Vec<IpAddr>,
    /// The routes to the tunnel link.
    pub routes: Vec<DesiredRoute>,
    /// The policy rules.
    pub rules: Vec<Rule>,
    /// The nf_tables table.
    pub table: Option<Table>,
    /// The families for which packets are forwarded.
    pub forward: Vec<Family>,
    /// The mark that the tunnel's own packets need.
    pub fwmark: Option<u32>,
}

/// A route to the tunnel link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DesiredRoute {
    /// The table.
    pub table: u32,
    /// The destination.
    pub to: Prefix,
    /// The metric as the kernel shows it.
    pub metric: u32,
    /// Whether the metric was chosen, so that other routes to the same destination are expected.
    pub metric_chosen: bool,
}

/// The metric that the kernel shows for a route that was added without one (`IP6_RT_PRIO_USER`).
pub(super) fn default_metric(to: &Prefix) -> u32 {
    if to.is_ipv4() { 0 } else { 1024 }
}

impl Desired {
    /// Nothing: what is left once the instance has gone.
    pub fn nothing(instance: Instance) -> Self {
        Self {
            instance,
            mtu: None,
            addresses: Vec::new(),
            local_addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            table: None,
            forward: Vec::new(),
            fwmark: None,
        }
    }
}

/// The network state that this configuration wants, given the facts.
pub fn desired(instance: Instance, config: &Config, facts: &Facts) -> Desired {
    let mut desired = Desired::nothing(instance);
    desired.local_addresses = local_addresses(config);
    if let Some(tunnel) = &config.tunnel {
        let network = &config.network;
        desired.mtu = Some(facts.mtu);
        desired.addresses.clone_from(&tunnel.addresses);
        desired.routes = routes(&desired.instance, tunnel, network, &facts.endpoints);
        desired.rules = rules(&desired.instance, tunnel, &desired.routes);
        desired.fwmark = match desired.rules.is_empty() {
            true => tunnel.fwmark,
            false => Some(fwmark(tunnel)),
        };
        desired.table = Some(table::table(&desired, network, facts.mtu));
        if network.forward {
            desired.forward = forwarded_families(tunnel, network);
        }
    }
    desired
}

fn fwmark(tunnel: &Tunnel) -> u32 {
    tunnel.fwmark.unwrap_or(DEFAULT_FWMARK)
}

/// The link-local and loopback addresses that DNS is served on.
fn local_addresses(config: &Config) -> Vec<IpAddr> {
    let listen = config.dns.iter().flat_map(|dns| &dns.listen);
    let local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback(),
    };
    let addresses: BTreeSet<IpAddr> = listen.map(|s| s.ip()).filter(local).collect();
    addresses.into_iter().collect()
}

fn routes(
    instance: &Instance,
    tunnel: &Tunnel,
    network: &Network,
    endpoints: &[IpAddr],
) -> Vec<DesiredRoute> {
    let needs_rule = |to: &Prefix| to.is_default() || endpoints.iter().any(|e| to.contains(*e));
    let route = |to: Prefix, table: Option<u32>, metric: Option<u32>| DesiredRoute {
        table: table.unwrap_or(match needs_rule(&to) {
            true => instance.table(),
            false => MAIN_TABLE,
        }),
        to,
        metric: metric.unwrap_or_else(|| default_metric(&to)),
        metric_chosen: metric.is_some(),
    };
    let mut routes: BTreeSet<DesiredRoute> = match &network.routes {
        Routes::Auto => tunnel
            .peers
            .iter()
            .flat_map(|peer| &peer.allowed_ips)
            .map(|to| route(*to, None, None))
            .collect(),
        Routes::List(list) => list
            .iter()
            .map(|r| route(r.to, r.table, r.metric.filter(|m| *m != 0)))
            .collect(),
    };
    // So that local connections to it take the tunnel's address and MTU, default route or not.
    let dialled = network.dnat.iter().map(|dnat| Prefix::host(dnat.address));
    for to in dialled {
        if !routes.iter().any(|r| r.to == to && r.table == MAIN_TABLE) {
            routes.insert(route(to, Some(MAIN_TABLE), None));
        }
    }
    routes.into_iter().collect()
}

/// The rules that send everything but the tunnel's own packets to the private table, after the
/// routes of the main table that are more specific than a default route.
fn rules(instance: &Instance, tunnel: &Tunnel, routes: &[DesiredRoute]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        let is_private = |route: &&DesiredRoute| {
            route.table == instance.table() && Family::of(route.to.address()) == family
        };
        if routes.iter().find(is_private).is_none() {
            continue;
        }
        let mark = fwmark(tunnel);
        let keep_main = Rule {
            family,
            priority: instance.priority(),
            protocol: PROTOCOL,
            table: MAIN_TABLE,
            invert: false,
            mark: None,
            suppress_prefix_length: Some(0),
        };
        rules.push(keep_main.clone());
        rules.push(Rule {
            priority: instance.priority() + 1,
            table: instance.table(),
            invert: true,
            mark: Some((mark, mark)),
            suppress_prefix_length: None,
            ..keep_main
        });
    }
    rules
}

/// The families that may cross the tunnel.
fn forwarded_families(tunnel: &Tunnel, network: &Network) -> Vec<Family> {
    let allowed = tunnel.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let prefixes: Vec<&Prefix> = allowed.chain(&network.masquerade).collect();
    [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| {
            let in_prefixes = prefixes.iter().any(|p| Family::of(p.address()) == *family);
            let in_addresses = tunnel
                .addresses
                .iter()
                .any(|a| Family::of(a.address()) == *family);
            in_prefixes || in_addresses
        })
        .collect()
}
