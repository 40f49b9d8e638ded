//! The configuration as meant: every value valid, every reference resolved, every default filled
//! in.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use super::server::{DnsProtocol, Server, TlsServer};
use crate::types::{
    DnsName, Endpoint, InterfaceAddress, InterfaceName, Prefix, PresharedKey, PrivateKey, PublicKey,
};

/// A whole configuration. Which sections are present decides the role of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The WireGuard interface and its peers.
    pub tunnel: Option<Tunnel>,
    /// What is written into the network state beside the interface; only with a tunnel.
    pub network: Network,
    /// Local TCP ports that lead into the seed.
    pub ports: Vec<PortRelay>,
    /// The DNS forwarder.
    pub dns: Option<Dns>,
    /// How the instance is watched.
    pub control: Control,
    /// What is logged.
    pub log: Log,
}

/// The WireGuard interface and its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The name of the interface.
    pub interface: InterfaceName,
    /// Who carries the packets.
    pub backend: Backend,
    /// The identity of this instance.
    pub private_key: PrivateKey,
    /// The addresses on the interface.
    pub addresses: Vec<InterfaceAddress>,
    /// The UDP port that is listened on; `None`: chosen by the kernel.
    pub listen_port: Option<u16>,
    /// The most that the MTU of the interface is, in bytes, 1280 to 65535 (576 without IPv6);
    /// `None`: what the paths to the endpoints take.
    pub mtu: Option<u16>,
    /// The mark on the tunnel's own UDP packets; `None`: only where a rule needs one, then
    /// [`DEFAULT_FWMARK`].
    pub fwmark: Option<u32>,
    /// How many handshakes a second one IPv4 address, or one /64 of IPv6, may ask for before its
    /// senders have to prove their addresses; only in userspace.
    pub handshakes_per_address: u32,
    /// Who resolves endpoint names; empty: the general upstreams, else the system's.
    pub resolvers: Vec<SocketAddr>,
    /// The peers, with names and keys that differ.
    pub peers: Vec<Peer>,
}

/// The mark on the tunnel's own UDP packets where a policy rule needs one.
pub const DEFAULT_FWMARK: u32 = 0x1000;

/// How many handshakes a second one address may ask for without a proof: all peers behind a
/// Service or a NAT share one, and may all come back at once.
pub const HANDSHAKES_PER_ADDRESS: u32 = 2000;

/// Who carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The best that can be used here.
    Auto,
    /// The kernel's WireGuard.
    Kernel,
    /// Our own data path on a TUN device.
    Userspace,
}

/// The other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What logs, metrics and status call it.
    pub name: String,
    /// Its identity.
    pub public_key: PublicKey,
    /// A secret beside the key pairs.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is reached, best first; empty: it calls us.
    pub endpoints: Vec<Endpoint>,
    /// How often a packet is sent at least; `None`: no keepalive.
    pub keepalive: Option<Duration>,
    /// The inner addresses it may use, and that are sent to it.
    pub allowed_ips: Vec<Prefix>,
    /// One of these that answers ICMP echo, of a family that the interface has an address of.
    pub probe: Option<IpAddr>,
}

/// What is written into the network state beside the interface.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Network {
    /// The routes into the tunnel.
    pub routes: Routes,
    /// Whether packets are forwarded between the tunnel and other interfaces.
    pub forward: bool,
    /// Forwarded packets from these sources take the address of the interface they leave by.
    pub masquerade: Vec<Prefix>,
    /// Translations of destinations.
    pub dnat: Vec<Dnat>,
}

/// The routes into the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Routes {
    /// One for each allowed prefix of a peer.
    #[default]
    Auto,
    /// These alone.
    List(Vec<Route>),
}

/// A route into the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub to: Prefix,
    /// The routing table; `None`: the main table, 254.
    pub table: Option<u32>,
    /// The metric; `None`: the kernel's default.
    pub metric: Option<u32>,
}

/// A translation of a destination: what goes to `address` and `port` goes to `to` instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnat {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The destination as dialled; never a loopback address.
    pub address: IpAddr,
    /// The port as dialled, 1 to 65535.
    pub port: u16,
    /// The destination in its place, of the same family.
    pub to: SocketAddr,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
}

/// A local TCP port that leads into the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRelay {
    /// Where clients connect; an unspecified address means every address of that family.
    pub listen: SocketAddr,
    /// Where they are led; a name is resolved through the zones of [`Dns`].
    pub to: Endpoint,
}

/// The DNS forwarder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Where questions are taken, over UDP and TCP; empty: only for this program's own needs.
    pub listen: Vec<SocketAddr>,
    /// Who answers for names outside the zones; `None`: those are refused.
    pub upstreams: Option<Vec<Upstream>>,
    /// Zones with upstreams of their own, with names that differ.
    pub zones: Vec<Zone>,
    /// Which upstream of a list is asked first.
    pub order: Order,
    /// What lies in a zone's name with one of these behind it does not exist.
    pub search_domains: Vec<DnsName>,
    /// The bounds of the cache.
    pub cache: Cache,
}

/// Which upstream of a list is asked first, among those that do not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that answers soonest.
    Fastest,
    /// The first of the list.
    Listed,
}

/// Who answers questions that are passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// This server.
    Server(Server),
    /// The servers of /etc/resolv.conf, less our own listen addresses.
    System,
}

/// A DNS zone with upstreams of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The name; it holds for all names below it that no longer zone holds.
    pub zone: DnsName,
    /// Who answers; at least one.
    pub upstreams: Vec<Server>,
    /// The name that is asked for readiness; `None`: the SOA of the zone.
    pub probe: Option<DnsName>,
    /// How long answers for its names are kept.
    pub lifetimes: Lifetimes,
}

/// The bounds of the DNS cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The most answers that are kept; 0 keeps none.
    pub max_entries: u32,
    /// The most memory they take, in bytes.
    pub max_bytes: u64,
    /// How long answers are kept for names outside the zones.
    pub lifetimes: Lifetimes,
}

/// How long answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The longest time an answer is kept.
    pub max_ttl: Duration,
    /// The longest time a negative answer is kept (RFC 2308).
    pub max_negative_ttl: Duration,
    /// How long after its end an answer is given while no upstream answers (RFC 8767); 0: never.
    pub stale: Duration,
    /// The TTL of such an answer, in seconds, 1 or more.
    pub stale_ttl: u32,
    /// How long after its end a positive answer is given in place of an NXDOMAIN; 0: never.
    pub stale_on_nxdomain: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 4 << 20,
            lifetimes: Lifetimes::default(),
        }
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            max_ttl: Duration::from_secs(3600),
            max_negative_ttl: Duration::from_secs(30),
            stale: Duration::from_secs(3600),
            stale_ttl: 30,
            stale_on_nxdomain: Duration::ZERO,
        }
    }
}

/// How the instance is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where health and metrics are served over HTTP; `None`: nowhere. An unspecified address in
    /// the form `:PORT` is `[::]:PORT`, which takes IPv4 too.
    pub http: Option<SocketAddr>,
    /// The Unix socket of status; `None` only without a tunnel and when not written.
    pub socket: Option<PathBuf>,
    /// When `/startupz` turns 200 at the latest; `None`: only once ready.
    pub startup_wait: Option<Duration>,
}

/// The Unix socket of status where the configuration names none.
pub fn default_socket(interface: &InterfaceName) -> PathBuf {
    PathBuf::from(format!("/run/seedwire/{interface}.sock"))
}

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// The importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed that needs a hand.
    Error,
    /// Something is not as it should be.
    Warn,
    /// A change of state.
    Info,
    /// For finding faults.
    Debug,
    /// For finding faults in seedwire itself.
    Trace,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
