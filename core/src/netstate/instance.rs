//! How an instance knows again what it put into the kernel: marks in the objects themselves, all
//! derived from the name of the interface, so that they outlive the process and differ between
//! instances.

use crate::types::InterfaceName;

use super::{Address, MAIN_TABLE, Route, RouteKind, Rule};

/// The number that says who put a route (`RTPROT_*`), a rule (`FRA_PROTOCOL`) or an address
/// (`IFA_PROTO`) there. No routing daemon uses it (rt_protos of iproute2).
pub const PROTOCOL: u8 = 94;

/// The alias of a tunnel link.
pub const LINK_ALIAS: &str = "seedwire";

/// The upper half of table numbers and metrics that are ours.
const MAGIC: u32 = 0x5eed_0000;
/// What the names of our nf_tables tables begin with.
const TABLE: &str = "seedwire-";
/// The first priority of our rules. They stand before those of `main` (32766) and of wg-quick
/// (just below it).
const FIRST_PRIORITY: u32 = 20_000;
const PRIORITY_BANDS: u32 = 5_000;

/// The identity of an instance within a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    interface: InterfaceName,
    hash: u32,
}

impl Instance {
    /// The instance of this interface.
    pub fn new(interface: InterfaceName) -> Self {
        // FNV-1a, 32 bits.
        let hash = interface
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
        Self { interface, hash }
    }

    /// The name of the tunnel interface.
    pub fn interface(&self) -> &InterfaceName {
        &self.interface
    }

    /// The private routing table.
    pub fn table(&self) -> u32 {
        MAGIC | (self.hash & 0xffff)
    }

    /// The priority of the rule that keeps everything but default routes in the main table; the
    /// rule of the private table has the next.
    pub fn priority(&self) -> u32 {
        FIRST_PRIORITY + 2 * ((self.hash >> 16) % PRIORITY_BANDS)
    }

    /// The metric that marks our addresses on `lo`, and our guards, the `unreachable` routes that
    /// stand behind those into the tunnel. Addresses alone in their network have no prefix route,
    /// so the metric has no other effect on them; and unlike `IFA_PROTO` (Linux 5.18) every kernel
    /// since 4.18 keeps it.
    pub fn metric(&self) -> u32 {
        MAGIC | (self.hash & 0xffff)
    }

    /// Whether the instance of another interface has the same marks, by accident: what belongs to
    /// one of the two can't be told from what belongs to the other.
    pub(super) fn is_confused_with(&self, other: &InterfaceName) -> bool {
        *other != self.interface && Self::new(other.clone()).metric() == self.metric()
    }

    /// The name of the nf_tables table, of the family inet.
    pub fn nft_table(&self) -> String {
        format!("{TABLE}{}", self.interface)
    }

    /// The interface of the instance that names a table so, if one does.
    pub fn of_nft_table(name: &str) -> Option<InterfaceName> {
        name.strip_prefix(TABLE)?.parse().ok()
    }

    /// Whether this rule is ours: by protocol, priority and table.
    pub fn owns_rule(&self, rule: &Rule) -> bool {
        let keeps_main = rule.priority == self.priority()
            && rule.table == MAIN_TABLE
            && rule.suppress_prefix_length == Some(0);
        let looks_up = rule.priority == self.priority() + 1 && rule.table == self.table();
        rule.protocol == PROTOCOL && (keeps_main || looks_up)
    }

    /// Whether this is another instance's rule for its private table, at the priorities that are
    /// ours too: the rule before it is then one for both.
    pub(super) fn shares_priority(&self, rule: &Rule) -> bool {
        let is_private = rule.table & 0xffff_0000 == MAGIC && rule.table != self.table();
        rule.protocol == PROTOCOL && rule.priority == self.priority() + 1 && is_private
    }

    /// Whether this address on `lo` is ours.
    pub fn owns_local_address(&self, address: &Address) -> bool {
        address.metric == self.metric()
    }

    /// Whether this route is a guard of ours. It has no output link; IPv6 shows `lo` as such.
    pub fn owns_guard(&self, route: &Route) -> bool {
        is_guard(route) && route.metric == self.metric()
    }
}

/// Whether this route is a guard of any instance: it lies behind every route that leads somewhere.
pub(super) fn is_guard(route: &Route) -> bool {
    route.protocol == PROTOCOL
        && route.kind == RouteKind::Refuse
        && route.metric & 0xffff_0000 == MAGIC
}
