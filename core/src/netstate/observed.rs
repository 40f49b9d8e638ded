use std::collections::BTreeMap;

use crate::types::InterfaceName;

use super::{Address, Instance, LINK_ALIAS, Link, PROTOCOL, Route, Rule, Table};

/// The network state as it was at one moment, whole.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Observed {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// Whether the kernel keeps the protocol of an address (`IFA_PROTO`, Linux 5.18).
    pub address_protocols: bool,
    /// All routes in all tables.
    pub routes: Vec<Route>,
    /// All policy rules.
    pub rules: Vec<Rule>,
    /// The nf_tables table with the name of ours.
    pub table: Option<ObservedTable>,
    /// The interfaces of other instances, running or killed, by their nf_tables tables.
    pub others: Vec<InterfaceName>,
    /// The sysctls that matter, by their path below /proc/sys.
    pub sysctls: BTreeMap<String, String>,
    /// Whether /proc/sys can be written.
    pub sysctls_writable: bool,
}

/// An nf_tables table as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedTable {
    /// Its comment.
    pub comment: Option<String>,
    /// How many rules it holds.
    pub rules: usize,
    /// Tells contents apart, as far as they matter; comparable within one process.
    pub fingerprint: u64,
    /// What it holds, where this process made it.
    pub content: Option<Table>,
    /// Whether it was edited in place since this process made it.
    pub edited: bool,
}

impl ObservedTable {
    pub(super) fn is_ours(&self) -> bool {
        self.comment.as_deref().is_some_and(Table::is_ours)
    }

    pub(super) fn is(&self, table: &Table) -> bool {
        !self.edited
            && self.comment.as_deref() == Some(&table.comment())
            && self.rules == table.rules()
    }
}

impl Observed {
    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The name of the link of this index.
    pub fn link_name(&self, index: u32) -> &str {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or("an unknown link", |link| &link.name)
    }

    /// Whether this address is ours: on the tunnel link by the alias of the link, on `lo` by the
    /// mark of the instance.
    pub(super) fn owns_address(&self, instance: &Instance, address: &Address) -> bool {
        let Some(link) = self.links.iter().find(|link| link.index == address.link) else {
            return false;
        };
        if link.name == "lo" {
            instance.owns_local_address(address)
        } else if link.name == instance.interface().as_str() {
            let alias_is_ours = link.alias.as_deref() == Some(LINK_ALIAS);
            alias_is_ours && (address.protocol == PROTOCOL || !self.address_protocols)
        } else {
            false
        }
    }

    /// Whether this route is ours: by its protocol number and output link.
    pub(super) fn owns_route(&self, instance: &Instance, route: &Route) -> bool {
        let tunnel = self.link(instance.interface().as_str()).map(|l| l.index);
        route.protocol == PROTOCOL && route.link.is_some() && route.link == tunnel
    }
}

/// Paths of sysctls below /proc/sys.
pub mod sysctl {
    /// Whether IPv4 packets are forwarded.
    pub const IPV4_FORWARD: &str = "net/ipv4/ip_forward";
    /// Whether IPv6 packets are forwarded.
    pub const IPV6_FORWARD: &str = "net/ipv6/conf/all/forwarding";
    /// Whether the reverse path filter takes the packet's mark into account.
    pub const SRC_VALID_MARK: &str = "net/ipv4/conf/all/src_valid_mark";

    /// The reverse path filter of a link or of `all`: 0 off, 1 strict, 2 loose; the greater of
    /// the two holds.
    pub fn rp_filter(link: &str) -> String {
        format!("net/ipv4/conf/{link}/rp_filter")
    }

    /// Whether router advertisements are taken: 1 unless forwarding, 2 always.
    pub fn accept_ra(link: &str) -> String {
        format!("net/ipv6/conf/{link}/accept_ra")
    }

    /// Whether IPv4 packets that come in by a link are forwarded.
    pub fn ipv4_forwarding(link: &str) -> String {
        format!("net/ipv4/conf/{link}/forwarding")
    }

    /// Whether a link takes no IPv6 addresses; containers often set it for new links.
    pub fn disable_ipv6(link: &str) -> String {
        format!("net/ipv6/conf/{link}/disable_ipv6")
    }

    /// The name as sysctl(8) writes it.
    pub fn name(path: &str) -> String {
        path.chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect()
    }
}
