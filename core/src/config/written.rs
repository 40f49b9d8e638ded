//! The configuration as written: each section with its keys.

use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use super::leaf::{
    DnsAddress, HttpListen, Mark, PeerName, Period, Size, SocketPath, StartupWait, Whole,
};
use super::model::{Backend, LogFormat, LogLevel, Order, Protocol, Upstream};
use super::read::{At, OneOrMore, Place, Reader, Written, sections};
use super::secret::{AddressList, FromEnvironment, FromFile};
use super::server::Server;
use super::yaml::{Node, Value};
use crate::types::{
    DnsName, Endpoint, InterfaceAddress, InterfaceName, Prefix, PresharedKey, PrivateKey, PublicKey,
};

/// A list whose items know where they stand.
pub(super) type List<T> = Vec<At<T>>;
/// A UDP or TCP port.
pub(super) type Port = Whole<1, 65535>;

sections! {
    /// The configuration of seedwire. The sections that are present decide what the instance
    /// does. Every string may hold `${NAME}`, which stands for that environment variable.
    Root {
        /// Whether a secret's file that others can read is an error; else it is a warning.
        "strictSecrets" strict_secrets: bool;
        /// The WireGuard interface and its peers.
        "tunnel" tunnel: Tunnel;
        /// What is written into the network state beside the interface; only with a tunnel.
        "network" network: Network;
        /// Local TCP ports that lead into the seed.
        "ports" ports: List<PortRelay>;
        /// The DNS forwarder.
        "dns" dns: Dns;
        /// How the instance is watched.
        "control" control: Control;
        /// What is logged, to standard error.
        "log" log: Log;
    }

    /// The WireGuard interface and its peers.
    Tunnel {
        /// The name of the interface.
        "interface" interface: InterfaceName, required "the name of the interface";
        /// Who carries the packets; `auto` takes the best that can be used here.
        "backend" backend: Backend;
        /// A reference `${NAME}` to the environment variable that holds the private key.
        "privateKey" private_key: FromEnvironment<PrivateKey>;
        /// The file that holds the private key in base64, as `seedwire genkey` prints it.
        "privateKeyFile" private_key_file: FromFile<PrivateKey>;
        /// The addresses on the interface.
        "addresses" addresses: List<InterfaceAddress>;
        /// The file that holds the addresses, with white space or commas between them.
        "addressesFile" addresses_file: AddressList;
        /// The UDP port that is listened on. Default: chosen by the kernel.
        "listenPort" listen_port: Port;
        /// The most that the MTU of the interface is, in bytes, at least 1280 where there is
        /// IPv6; a path to an endpoint that takes less makes it less. Default: from the path.
        "mtu" mtu: Whole<576, 65535>;
        /// The mark on the tunnel's own packets. Default: 0x1000 where a rule needs one.
        "fwmark" fwmark: Mark;
        /// How many handshakes a second one address (of IPv6 one /64) may ask for before its
        /// senders have to prove theirs; only in userspace. Default: 2000.
        "handshakesPerAddress" handshakes_per_address: Whole<1, 1_000_000>;
        /// Who resolves endpoint names. Default: `dns.upstreams`, else the system's servers.
        "resolvers" resolvers: List<DnsAddress>;
        /// The other ends of the tunnel.
        "peers" peers: List<Peer>;
    }

    /// The other end of a tunnel.
    Peer {
        /// What logs, metrics and status call it.
        "name" name: PeerName, required "the name of the peer";
        /// Its public key in base64.
        "publicKey" public_key: PublicKey, required "the public key of the peer";
        /// A reference `${NAME}` to the environment variable that holds the preshared key.
        "presharedKey" preshared_key: FromEnvironment<PresharedKey>;
        /// The file that holds the preshared key in base64, as `seedwire genpsk` prints it.
        "presharedKeyFile" preshared_key_file: FromFile<PresharedKey>;
        /// Where it is reached: HOST:PORT, or a list in order of preference. Default: it calls us.
        "endpoint" endpoint: OneOrMore<Endpoint>;
        /// How often a packet is sent at least, in whole seconds; 0s for never. Default: 25s for
        /// a peer with an endpoint, else never.
        "keepalive" keepalive: Period;
        /// The inner addresses it may use, and that are sent to it.
        "allowedIPs" allowed_ips: List<Prefix>, required "the prefixes that lead to the peer";
        /// An address behind the peer that answers ICMP echo: it is asked now and then, and how
        /// long packets may be on the way there is found so. Default: nothing is asked.
        "probe" probe: IpAddr;
    }

    /// What is written into the network state beside the interface.
    Network {
        /// `auto` for one route for each prefix in allowedIPs, or a list. Default: auto.
        "routes" routes: Routes;
        /// Whether packets are forwarded between the tunnel and other interfaces. Default: false.
        "forward" forward: bool;
        /// Forwarded packets from these sources take the address of the interface by which they
        /// leave.
        "masquerade" masquerade: List<Prefix>;
        /// Translations of destinations.
        "dnat" dnat: List<Dnat>;
    }

    /// A route into the tunnel.
    Route {
        /// The destination.
        "to" to: Prefix, required "the destination of the route";
        /// The routing table. Default: 254, the main table.
        "table" table: Whole<1, 0xffff_ffff>;
        /// The metric, below those of the routes that answer while the tunnel is gone. Default:
        /// the kernel's.
        "metric" metric: Whole<0, 0x5eec_ffff>;
    }

    /// A translation of a destination.
    Dnat {
        /// The transport protocol.
        "protocol" protocol: Protocol, required "tcp or udp";
        /// The destination as it is dialled here; no loopback address.
        "address" address: IpAddr, required "the address that is dialled";
        /// The port as it is dialled here.
        "port" port: Port, required "the port that is dialled";
        /// The destination in its place, of the same family.
        "to" to: SocketAddr, required "the destination in its place";
    }

    /// A local TCP port that leads into the seed.
    PortRelay {
        /// Where clients connect.
        "listen" listen: SocketAddr, required "the address and port that clients connect to";
        /// Where they are led; a name is resolved through `dns.zones`.
        "to" to: Endpoint, required "the host and port they are led to";
    }

    /// The DNS forwarder.
    Dns {
        /// Where questions are taken, over UDP and TCP; port 53 unless another is written.
        /// Default: only for this program's own needs.
        "listen" listen: List<DnsAddress>;
        /// Who answers for names outside the zones: IP, IP:PORT, tcp://IP:PORT, tls://IP:PORT#NAME,
        /// or {address, protocol, ca, maxAge}; `system` stands for the servers of
        /// /etc/resolv.conf. Default: such names are refused.
        "upstreams" upstreams: List<Upstream>;
        /// Zones with upstreams of their own; the longest that holds a name wins.
        "zones" zones: List<Zone>;
        /// Which upstream of a list is asked first: the one that answers `fastest`, or the first
        /// that is `listed`; one that fails comes last either way. Default: fastest.
        "order" order: Order;
        /// The search domains of clients: what lies in a zone's name with one of these behind it
        /// is answered NXDOMAIN here.
        "searchDomains" search_domains: List<DnsName>;
        /// The bounds of the cache.
        "cache" cache: Cache;
    }

    /// A DNS zone with upstreams of its own.
    Zone {
        /// The name of the zone.
        "zone" zone: DnsName, required "the name of the zone";
        /// Who answers, in the forms of `dns.upstreams`.
        "upstreams" upstreams: List<Server>, required "who answers for the zone";
        /// The name that is asked for readiness. Default: the SOA of the zone.
        "probe" probe: DnsName;
        /// How long answers for names of the zone are kept. Default: as `dns.cache` says.
        "cache" cache: ZoneCache;
    }

    /// The bounds of the DNS cache.
    Cache {
        /// The most answers that are kept. Default: 10000.
        "maxEntries" max_entries: Whole<0, 0xffff_ffff>;
        /// The most memory they take. Default: 4MiB.
        "maxBytes" max_bytes: Size;
        /// The longest time an answer is kept. Default: 1h.
        "maxTTL" max_ttl: Period;
        /// The longest time a negative answer is kept. Default: 30s.
        "maxNegativeTTL" max_negative_ttl: Period;
        /// How long after its end an answer is still given while no upstream answers; 0s for
        /// never. Default: 1h.
        "stale" stale: Period;
        /// The TTL of such an answer, in whole seconds. Default: 30s.
        "staleTTL" stale_ttl: Period;
        /// How long after its end an answer with records is still given in place of an upstream's
        /// NXDOMAIN. Default: 0s, never.
        "staleOnNXDOMAIN" stale_on_nxdomain: Period;
    }

    /// How long answers for names of a zone are kept, where it differs from `dns.cache`; the
    /// bounds in entries and bytes are those of the whole cache.
    ZoneCache {
        /// The longest time an answer is kept.
        "maxTTL" max_ttl: Period;
        /// The longest time a negative answer is kept.
        "maxNegativeTTL" max_negative_ttl: Period;
        /// How long after its end an answer is still given while no upstream answers; 0s for
        /// never.
        "stale" stale: Period;
        /// The TTL of such an answer, in whole seconds.
        "staleTTL" stale_ttl: Period;
        /// How long after its end an answer with records is still given in place of an upstream's
        /// NXDOMAIN; 0s for never.
        "staleOnNXDOMAIN" stale_on_nxdomain: Period;
    }

    /// How the instance is watched.
    Control {
        /// Where health and metrics are served over HTTP; `:PORT` for every address, `off` for
        /// nowhere. Default: 127.0.0.1:9586.
        "http" http: HttpListen;
        /// The Unix socket of status. Default: /run/seedwire/INTERFACE.sock.
        "socket" socket: SocketPath;
        /// When /startupz turns 200 at the latest; `never` waits until the instance is ready.
        /// Default: 60s.
        "startupWait" startup_wait: StartupWait;
    }

    /// What is logged, to standard error.
    Log {
        /// The least important level that is written. Default: info.
        "level" level: LogLevel;
        /// The form of a line. Default: text.
        "format" format: LogFormat;
    }
}

/// The routes as written.
pub(super) enum Routes {
    /// One for each allowed prefix.
    Auto,
    /// These alone.
    These(List<Route>),
}

impl Written for Routes {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Sequence(_) => return Vec::read(node, place, reader).map(Self::These),
            Value::Scalar(raw) => reader.expand(raw, place)?,
            _ => Zeroizing::default(),
        };
        if *text == "auto" {
            Some(Self::Auto)
        } else {
            reader.reject(place, "auto, or a list of {to, table, metric}");
            None
        }
    }
}
