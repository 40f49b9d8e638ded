use crate::config::{Dnat, Network, Protocol};
use crate::types::{InterfaceAddress, Prefix};

use crate::netstate::nft::{Action, Chain, ChainKind, Hook, Match, NftRule, Side, Table};
use crate::netstate::{Desired, Family};

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

/// The table of the instance: what is translated, masqueraded, clamped and marked.
pub(super) fn table(desired: &Desired, network: &Network, mtu: u16) -> Table {
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
