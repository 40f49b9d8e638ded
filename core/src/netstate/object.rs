//! The kernel's objects, as far as this program looks at them.

use std::fmt;
use std::net::IpAddr;

use crate::types::{InterfaceAddress, Prefix};

/// The main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// No IPv6 link-local address of the kernel's making (`IN6_ADDR_GEN_MODE_NONE`).
pub const NO_ADDRESS_GENERATION: u8 = 1;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index, above 0.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The alias that an administrator or a program gave it.
    pub alias: Option<String>,
    /// The kind of a virtual link, such as `veth` or `tun`.
    pub kind: Option<String>,
    /// The MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// How the kernel makes its IPv6 link-local address (`IN6_ADDR_GEN_MODE_*`); `None` without
    /// IPv6.
    pub address_generation: Option<u8>,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The index of the link.
    pub link: u32,
    /// The address with the length of its network.
    pub address: InterfaceAddress,
    /// Who put it there (`IFA_PROTO`, Linux 5.18); 0 is not said.
    pub protocol: u8,
    /// The metric of its prefix route (`IFA_RT_PRIORITY`); 0 is the kernel's default.
    pub metric: u32,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// Sends it on (`RTN_UNICAST`).
    Unicast,
    /// Takes it in (`RTN_LOCAL`).
    Local,
    /// Refuses or drops it (`RTN_BLACKHOLE`, `RTN_UNREACHABLE`, `RTN_PROHIBIT`).
    Refuse,
    /// Anything else: broadcast, multicast, throw.
    Other,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// The routing table.
    pub table: u32,
    /// The destination.
    pub to: Prefix,
    /// The metric; 0 is the kernel's default, which IPv6 shows as 1024.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// The routing protocol number (`RTPROT_*`): who put it there.
    pub protocol: u8,
    /// The index of the output link; `None` where there is none, or several.
    pub link: Option<u32>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The MTU of the route in bytes.
    pub mtu: Option<u32>,
}

/// A routing policy rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// The address family.
    pub family: Family,
    /// The priority; lower comes first.
    pub priority: u32,
    /// Who put it there (`FRA_PROTOCOL`).
    pub protocol: u8,
    /// The table that is looked up.
    pub table: u32,
    /// Whether the rule holds for what does not match.
    pub invert: bool,
    /// The mark and the mask that a packet must match.
    pub mark: Option<(u32, u32)>,
    /// Routes of at most this prefix length are not taken.
    pub suppress_prefix_length: Option<u32>,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
