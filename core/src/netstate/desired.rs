use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Config, DEFAULT_FWMARK, Dnat, Network, Protocol, Routes, Tunnel};
use crate::types::{InterfaceAddress, Prefix};

use super::nft::{Action, Chain, ChainKind, Hook, Match, NftRule, Side, Table};
use super::{Family, Instance, MAIN_TABLE, PROTOCOL, Rule};

/// Before the DNAT of kube-proxy and other programs (`NF_IP_PRI_NAT_DST`, -100).
const DNAT_PRIORITY: i32 = -110;
/// Before the masquerading of other programs (`NF_IP_PRI_NAT_SRC`, 100).
const MASQUERADE_PRIORITY: i32 = 90;
/// `NF_IP_PRI_MANGLE`, after connection tracking and before a packet is routed.
const MANGLE_PRIORITY: i32 = -150;
/// IPv4 and TCP headers without options.
const IPV4_TCP_HEADERS: u16 = 40;
/// IPv6 and TCP headers without options.
const IPV6_TCP_HEADERS: u16 = 60;

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
        desired.table = Some(table(&desired, network, facts.mtu));
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

fn table(desired: &Desired, network: &Network, mtu: u16) -> Table {
    let interface = desired.instance.interface().as_str();
    let mark = desired.fwmark.filter(|_| !desired.rules.is_empty());
    let mut chains = Vec::new();
    let mut chain = |name, kind, hook, priority, rules: Vec<NftRule>| {
        if !rules.is_empty() {
            chains.push(Chain {
                name,
                kind,
                hook,
                priority,
                rules,
            });
        }
    };
    let mut incoming = clamp(&input(interface), mtu);
    incoming.extend(mark.map(restore_mark));
    let mut outgoing = clamp(&output(interface), mtu);
    outgoing.extend(mark.map(save_mark));
    let (filter, nat) = (ChainKind::Filter, ChainKind::Nat);
    let translations: Vec<NftRule> = network.dnat.iter().map(translate).collect();
    chain(
        "mangle-prerouting",
        filter,
        Hook::Prerouting,
        MANGLE_PRIORITY,
        incoming,
    );
    chain(
        "mangle-postrouting",
        filter,
        Hook::Postrouting,
        MANGLE_PRIORITY,
        outgoing,
    );
    chain(
        "dnat-prerouting",
        nat,
        Hook::Prerouting,
        DNAT_PRIORITY,
        translations.clone(),
    );
    chain(
        "dnat-output",
        nat,
        Hook::Output,
        DNAT_PRIORITY,
        translations,
    );
    let masquerades = masquerade(interface, &desired.addresses, network);
    chain(
        "masquerade",
        nat,
        Hook::Postrouting,
        MASQUERADE_PRIORITY,
        masquerades,
    );
    Table {
        name: desired.instance.nft_table(),
        chains,
    }
}

fn input(interface: &str) -> Match {
    Match::InputLink {
        name: interface.to_owned(),
        is: true,
    }
}

fn output(interface: &str) -> Match {
    Match::OutputLink {
        name: interface.to_owned(),
        is: true,
    }
}

/// Clamps the segment size to the MTU of the tunnel on each SYN that crosses it.
fn clamp(crosses: &Match, mtu: u16) -> Vec<NftRule> {
    [
        (Family::V4, IPV4_TCP_HEADERS),
        (Family::V6, IPV6_TCP_HEADERS),
    ]
    .into_iter()
    .map(|(family, headers)| NftRule {
        matches: vec![
            crosses.clone(),
            Match::Family(family),
            Match::Protocol(Protocol::Tcp),
            Match::Syn,
        ],
        action: Action::ClampMss(mtu.saturating_sub(headers)),
    })
    .collect()
}

/// Remembers in the flow that its packets are the tunnel's own.
fn save_mark(mark: u32) -> NftRule {
    NftRule {
        matches: vec![Match::Protocol(Protocol::Udp), Match::Mark(mark)],
        action: Action::SetFlowMark(mark),
    }
}

/// Marks the replies to the tunnel's own packets, for the reverse path filter.
fn restore_mark(mark: u32) -> NftRule {
    NftRule {
        matches: vec![Match::Protocol(Protocol::Udp), Match::FlowMark(mark)],
        action: Action::SetMark(mark),
    }
}

fn translate(dnat: &Dnat) -> NftRule {
    NftRule {
        matches: vec![
            Match::Family(Family::of(dnat.address)),
            Match::Address {
                side: Side::Destination,
                prefix: Prefix::host(dnat.address),
                is: true,
            },
            Match::Protocol(dnat.protocol),
            Match::DestinationPort(dnat.port),
        ],
        action: Action::Dnat(dnat.to),
    }
}

fn masquerade(interface: &str, addresses: &[InterfaceAddress], network: &Network) -> Vec<NftRule> {
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        let own: Vec<&InterfaceAddress> = addresses
            .iter()
            .filter(|a| Family::of(a.address()) == family)
            .collect();
        let translated = network
            .dnat
            .iter()
            .any(|dnat| Family::of(dnat.address) == family);
        // Without an address on the tunnel the kernel would take one of another link, which the
        // far side does not expect.
        if translated && !own.is_empty() {
            let mut matches = vec![output(interface), Match::Translated, Match::Family(family)];
            matches.extend(own.iter().map(|address| Match::Address {
                side: Side::Source,
                prefix: Prefix::host(address.address()),
                is: false,
            }));
            rules.push(NftRule {
                matches,
                action: Action::Masquerade,
            });
        }
    }
    for prefix in &network.masquerade {
        let input_is = |is| Match::InputLink {
            name: interface.to_owned(),
            is,
        };
        let output_is = |is| Match::OutputLink {
            name: interface.to_owned(),
            is,
        };
        let mut add = |crosses: [Match; 2]| {
            let mut matches = crosses.to_vec();
            matches.push(Match::Family(Family::of(prefix.address())));
            matches.push(Match::Address {
                side: Side::Source,
                prefix: *prefix,
                is: true,
            });
            rules.push(NftRule {
                matches,
                action: Action::Masquerade,
            });
        };
        add([input_is(false), output_is(true)]);
        // The input link is seen here since Linux 5.7.
        add([input_is(true), output_is(false)]);
    }
    rules
}
