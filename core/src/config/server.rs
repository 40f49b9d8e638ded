//! DNS servers that questions are passed on to: as meant, and as written in each form.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::leaf::Period;
use super::model::Upstream;
use super::read::{At, Leaf, Place, Reader, Written, sections};
use super::secret::Certificates;
use super::yaml::{Node, Value};
use crate::types::{DnsName, InterfaceName};

/// How long a connection or a socket is used unless written otherwise.
const MAX_AGE: Duration = Duration::from_secs(60);
const DNS_PORT: u16 = 53;
/// RFC 7858, 3.1.
const DNS_OVER_TLS_PORT: u16 = 853;

/// A DNS server that questions are passed on to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its address; without the scope of a link-local one.
    pub address: SocketAddr,
    /// The interface that a link-local address is on.
    pub interface: Option<InterfaceName>,
    /// How it is asked.
    pub protocol: DnsProtocol,
    /// How long a connection to it, or a UDP socket, is used at most; 1 s or more.
    pub max_age: Duration,
}

/// How a DNS server is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DnsProtocol {
    /// UDP, and TCP for what is too long for it.
    Udp,
    /// TCP alone (RFC 7766).
    Tcp,
    /// TLS (RFC 7858).
    Tls(TlsServer),
}

/// How a DNS server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsServer {
    /// The name that its certificate must be for; `None`: its address.
    pub name: Option<DnsName>,
    /// The authorities that may have signed it, in PEM; `None`: those of the system.
    pub ca: Option<Arc<[u8]>>,
}

impl Server {
    /// A server that is asked over UDP.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            interface: None,
            protocol: DnsProtocol::Udp,
            max_age: MAX_AGE,
        }
    }
}

impl fmt::Display for Server {
    /// As in the configuration, with its port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match &self.protocol {
            DnsProtocol::Udp => "",
            DnsProtocol::Tcp => "tcp://",
            DnsProtocol::Tls(_) => "tls://",
        };
        let port = self.address.port();
        match &self.interface {
            Some(interface) => write!(f, "{scheme}[{}%{interface}]:{port}", self.address.ip())?,
            None => write!(f, "{scheme}{}", self.address)?,
        }
        match &self.protocol {
            DnsProtocol::Tls(TlsServer {
                name: Some(name), ..
            }) => write!(f, "#{name}"),
            _ => Ok(()),
        }
    }
}

/// The protocol of a server as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Udp,
    Tcp,
    Tls,
}

/// A server in one piece of text.
pub(super) struct ServerText {
    ip: IpAddr,
    port: Option<u16>,
    interface: Option<InterfaceName>,
    scheme: Option<Scheme>,
    name: Option<DnsName>,
}

sections! {
    /// A DNS server that questions are passed on to.
    ServerKeys {
        /// Its address as in the short form: IP, IP:PORT, tcp://IP:PORT or tls://IP:PORT#NAME,
        /// with %INTERFACE behind a link-local IP.
        "address" address: ServerText, required "the address of the server";
        /// How it is asked. Default: as in `address`, else udp, which takes TCP for long answers.
        "protocol" protocol: Scheme;
        /// The file with the certificates, in PEM, of those who may have signed the server's; for
        /// tls. Default: the system's.
        "ca" ca: Certificates;
        /// How long a connection or a socket to it is used at most. Default: 1m.
        "maxAge" max_age: Period;
    }
}

const EXPECTED: &str = "an address with or without a port, such as 10.240.16.10, [fd10::a]:53, \
     tcp://10.240.16.10 or tls://10.240.16.10:853#dns.example";
const NOT_A_NAME: &str = "the address of a server, for nobody can be asked for that of its name; \
     tls://IP:PORT#NAME checks the name";

impl Leaf for ServerText {
    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("tcp", rest)) => (Some(Scheme::Tcp), rest),
            Some(("tls", rest)) => (Some(Scheme::Tls), rest),
            Some(_) => return Err(EXPECTED.to_owned()),
        };
        let (rest, name) = match rest.split_once('#') {
            None => (rest, None),
            Some((rest, name)) => {
                let name: DnsName = name.parse().map_err(|_| EXPECTED.to_owned())?;
                (rest, Some(name))
            }
        };
        let (host, port) = host_and_port(rest).ok_or(EXPECTED)?;
        let (address, interface) = match host.split_once('%') {
            None => (host, None),
            Some((address, interface)) => {
                let interface = interface.parse::<InterfaceName>();
                (address, Some(interface.map_err(|error| error.to_string())?))
            }
        };
        let ip: IpAddr = address.parse().map_err(|_| {
            let is_name = address.parse::<DnsName>().is_ok_and(|name| !name.is_root());
            let is_number = address.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            if is_name && !is_number {
                NOT_A_NAME
            } else {
                EXPECTED
            }
        })?;
        let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if is_link_local != interface.is_some() {
            let expected = "the interface behind a link-local address and no other, such as \
                            fe80::1%eth0";
            return Err(expected.to_owned());
        }
        Ok(Self {
            ip,
            port,
            interface,
            scheme,
            name,
        })
    }
}

/// Splits a port off, where there is one.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let port = text.parse::<u16>().ok()?;
        (is_number && port > 0).then_some(port)
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']')?;
        return match behind {
            "" => None,
            _ => Some((host, Some(port(behind.strip_prefix(':')?)?))),
        };
    }
    match text.split_once(':') {
        Some((host, behind)) if !behind.contains(':') => Some((host, Some(port(behind)?))),
        _ => Some((text, None)),
    }
}

impl Written for Server {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let keys = match &node.value {
            Value::Mapping(_) => ServerKeys::read(node, place, reader)?,
            _ => {
                let text = ServerText::read(node, place, reader)?;
                return server(text, None, None, MAX_AGE, place, reader);
            }
        };
        let address = keys.address?;
        let scheme = keys.protocol.as_ref().map(|at| at.value);
        if let (Some(written), Some(inside)) = (&keys.protocol, address.value.scheme)
            && written.value != inside
        {
            reader.reject(
                &written.place,
                "the protocol that stands in address, or none there",
            );
            return None;
        }
        if let Some(ca) = &keys.ca
            && scheme.or(address.value.scheme) != Some(Scheme::Tls)
        {
            reader.reject(&ca.place, "protocol tls beside it");
            return None;
        }
        let max_age = keys.max_age.as_ref().map_or(MAX_AGE, |at| at.value.0);
        if let Some(at) = keys
            .max_age
            .as_ref()
            .filter(|_| max_age < Duration::from_secs(1))
        {
            reader.reject(&at.place, "1s or more");
            return None;
        }
        let ca = keys.ca.map(|at| at.value.0);
        server(address.value, scheme, ca, max_age, &address.place, reader)
    }
}

fn server(
    text: ServerText,
    scheme: Option<Scheme>,
    ca: Option<Arc<[u8]>>,
    max_age: Duration,
    place: &Place,
    reader: &mut Reader<'_>,
) -> Option<Server> {
    let scheme = scheme.or(text.scheme).unwrap_or(Scheme::Udp);
    if scheme != Scheme::Tls && text.name.is_some() {
        reader.reject(place, "no name behind #, which is for tls alone");
        return None;
    }
    let (protocol, port) = match scheme {
        Scheme::Udp => (DnsProtocol::Udp, DNS_PORT),
        Scheme::Tcp => (DnsProtocol::Tcp, DNS_PORT),
        Scheme::Tls => {
            let name = text.name;
            (DnsProtocol::Tls(TlsServer { name, ca }), DNS_OVER_TLS_PORT)
        }
    };
    Some(Server {
        address: SocketAddr::new(text.ip, text.port.unwrap_or(port)),
        interface: text.interface,
        protocol,
        max_age,
    })
}

impl Written for Upstream {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(raw) if *reader.expand(raw, place)? == "system" => Some(Self::System),
            _ => Server::read(node, place, reader).map(Self::Server),
        }
    }
}
