use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::DnsName;

/// The text is not `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HOST:PORT, such as hub.example.com:51820, 192.0.2.1:51820 or [2001:db8::1]:51820")]
pub struct InvalidEndpoint;

/// A host by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address as written.
    Address(IpAddr),
    /// A name that is to be resolved.
    Name(DnsName),
}

/// Where something is reached: a host and a port from 1 to 65535.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl Endpoint {
    /// The socket address, when the host is given by address.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let endpoint = if let Ok(address) = text.parse::<SocketAddr>() {
            Self {
                host: Host::Address(address.ip()),
                port: address.port(),
            }
        } else {
            let (name, port) = text.rsplit_once(':').ok_or(InvalidEndpoint)?;
            // The parser of numbers would take a sign too.
            if !port.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidEndpoint);
            }
            let name: DnsName = name.parse().map_err(|_| InvalidEndpoint)?;
            // A host of digits and dots alone is a mistyped address, never a name.
            let numeric = name
                .as_str()
                .bytes()
                .all(|b| b.is_ascii_digit() || b == b'.');
            if name.is_root() || numeric {
                return Err(InvalidEndpoint);
            }
            Self {
                host: Host::Name(name),
                port: port.parse().map_err(|_| InvalidEndpoint)?,
            }
        };
        if endpoint.port == 0 {
            return Err(InvalidEndpoint);
        }
        Ok(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
