//! The nf_tables table of an instance, written as nft(8) writes it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::Protocol;
use crate::types::Prefix;

use super::Family;

/// What the comment of every table of ours begins with.
const COMMENT: &str = "seedwire";

/// A table of the family inet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name.
    pub name: String,
    /// The chains, with names that differ.
    pub chains: Vec<Chain>,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The name.
    pub name: &'static str,
    /// What it may do.
    pub kind: ChainKind,
    /// Where it is called.
    pub hook: Hook,
    /// When it is called there; lower comes first.
    pub priority: i32,
    /// The rules, at least one.
    pub rules: Vec<NftRule>,
}

/// What a chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Look at and change packets.
    Filter,
    /// Translate addresses; sees the first packet of a flow alone.
    Nat,
}

/// Where a chain is called (`NF_INET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// As a packet comes in, before it is routed.
    Prerouting,
    /// As this host sends a packet.
    Output,
    /// As a packet goes out.
    Postrouting,
}

/// A rule: what must all hold, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftRule {
    /// What must hold.
    pub matches: Vec<Match>,
    /// What is done.
    pub action: Action,
}

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where a packet comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The packet came in by this link, or it did not.
    InputLink {
        /// The name of the link.
        name: String,
        /// Whether it is this one.
        is: bool,
    },
    /// The packet goes out by this link, or it does not.
    OutputLink {
        /// The name of the link.
        name: String,
        /// Whether it is this one.
        is: bool,
    },
    /// The packet is of this address family.
    Family(Family),
    /// The address lies in this prefix, or it does not. Comes after the [`Match::Family`].
    Address {
        /// Which address.
        side: Side,
        /// The prefix.
        prefix: Prefix,
        /// Whether it lies in it.
        is: bool,
    },
    /// The transport protocol.
    Protocol(Protocol),
    /// The destination port. Comes after the [`Match::Protocol`].
    DestinationPort(u16),
    /// A TCP SYN, with or without ACK. Comes after the [`Match::Protocol`].
    Syn,
    /// The destination of the flow was translated.
    Translated,
    /// All bits of this mark are set in the packet's mark.
    Mark(u32),
    /// All bits of this mark are set in the flow's mark.
    FlowMark(u32),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The destination becomes this.
    Dnat(SocketAddr),
    /// The source becomes the address of the link that the packet leaves by.
    Masquerade,
    /// The maximum segment size becomes at most this, in bytes.
    ClampMss(u16),
    /// These bits are set in the packet's mark.
    SetMark(u32),
    /// These bits are set in the flow's mark.
    SetFlowMark(u32),
}

impl Table {
    /// The comment that says whose table it is and what it holds.
    pub fn comment(&self) -> String {
        format!("{COMMENT} {:016x}", self.digest())
    }

    /// Whether a table with this comment was made by us.
    pub fn is_ours(comment: &str) -> bool {
        comment
            .strip_prefix(COMMENT)
            .is_some_and(|rest| rest.starts_with(' '))
    }

    /// How many rules it holds.
    pub fn rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }

    /// FNV-1a, 64 bits, over the text.
    fn digest(&self) -> u64 {
        self.to_string()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.name)?;
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        writeln!(f, "\tchain {} {{", self.name)?;
        let priority = self.priority;
        writeln!(
            f,
            "\t\ttype {kind} hook {hook} priority {priority}; policy accept;"
        )?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        f.write_str("\t}\n")
    }
}

impl fmt::Display for NftRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            write!(f, "{one} ")?;
        }
        write!(f, "{}", self.action)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |is: &bool| if *is { "" } else { "!= " };
        match self {
            Self::InputLink { name, is } => write!(f, "iifname {}\"{name}\"", not(is)),
            Self::OutputLink { name, is } => write!(f, "oifname {}\"{name}\"", not(is)),
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Address { side, prefix, is } => {
                let family = family_keyword(prefix.address());
                let side = match side {
                    Side::Source => "saddr",
                    Side::Destination => "daddr",
                };
                write!(f, "{family} {side} {}{prefix}", not(is))
            }
            Self::Protocol(Protocol::Tcp) => f.write_str("meta l4proto tcp"),
            Self::Protocol(Protocol::Udp) => f.write_str("meta l4proto udp"),
            Self::DestinationPort(port) => write!(f, "th dport {port}"),
            Self::Syn => f.write_str("tcp flags & (syn | rst) == syn"),
            Self::Translated => f.write_str("ct status dnat"),
            Self::Mark(mark) => write!(f, "meta mark & {mark:#x} == {mark:#x}"),
            Self::FlowMark(mark) => write!(f, "ct mark & {mark:#x} == {mark:#x}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dnat(to) => write!(f, "dnat {} to {to}", family_keyword(to.ip())),
            Self::Masquerade => f.write_str("masquerade"),
            Self::ClampMss(size) => write!(f, "tcp option maxseg size set {size}"),
            Self::SetMark(mark) => write!(f, "meta mark set meta mark | {mark:#x}"),
            Self::SetFlowMark(mark) => write!(f, "ct mark set ct mark | {mark:#x}"),
        }
    }
}

fn family_keyword(address: IpAddr) -> &'static str {
    match Family::of(address) {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}
