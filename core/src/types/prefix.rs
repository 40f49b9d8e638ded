use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

/// The text is neither an address nor `ADDRESS/LENGTH`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a prefix such as 10.240.16.0/20 or fd88::/64")]
pub struct InvalidPrefix;

/// A network: an address whose host bits are zero, and a length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// An address that an interface carries, with the length of its network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    address: IpAddr,
    length: u8,
}

fn parse(text: &str) -> Result<IpNetwork, InvalidPrefix> {
    // IpNetwork also takes a dotted netmask; a prefix here is written one way only.
    match text.split_once('/') {
        Some((_, length)) if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) => {
            Err(InvalidPrefix)
        }
        _ => text.parse().map_err(|_| InvalidPrefix),
    }
}

impl Prefix {
    /// The network that `address` lies in at this length; `None` when the length is above 32 for
    /// IPv4 or 128 for IPv6.
    pub fn of(address: IpAddr, length: u8) -> Option<Self> {
        let network = IpNetwork::new(address, length).ok()?;
        Some(Self {
            address: network.network(),
            length,
        })
    }

    /// The prefix that holds this address alone.
    pub fn host(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that count: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether the address lies in this network; never so for the other family.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::of(address, self.length).is_some_and(|p| p == *self)
    }

    /// Whether every address of `other` lies in this network.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Whether it is the whole of IPv4 or of IPv6.
    pub fn is_default(&self) -> bool {
        self.length == 0
    }

    /// Whether it holds IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl InterfaceAddress {
    /// An address and the length of its network; `None` when the length is above 32 for IPv4 or
    /// 128 for IPv6.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let network = IpNetwork::new(address, length).ok()?;
        Some(Self {
            address: network.ip(),
            length: network.prefix(),
        })
    }

    /// The address itself.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the network: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The network that the address lies in.
    pub fn prefix(&self) -> Prefix {
        Prefix::of(self.address, self.length).unwrap_or_else(|| Prefix::host(self.address))
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = parse(text)?;
        Ok(Self {
            address: network.network(),
            length: network.prefix(),
        })
    }
}

impl FromStr for InterfaceAddress {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = parse(text)?;
        Ok(Self {
            address: network.ip(),
            length: network.prefix(),
        })
    }
}

macro_rules! written_as_prefix {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.address, self.length)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

written_as_prefix!(Prefix);
written_as_prefix!(InterfaceAddress);
