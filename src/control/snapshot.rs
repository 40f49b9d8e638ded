//! What an instance is and does at one moment, as plain data.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use seedwire_core::dns::{CacheStatus, ForwarderStatus, UpstreamStatus, ZoneStatus};
use seedwire_core::tunnel::{Offloads, PeerState, PeerStatus};
use serde::{Serialize, Serializer};

/// Who can say what the instance is and does.
pub trait Source: Send + Sync {
    /// The state now. It is asked for at requests: no waiting, no input or output that can block.
    fn snapshot(&self) -> Snapshot;

    /// The [reasons](Snapshot::reasons) of the state now. They are asked for once a second, so a
    /// source with many peers tells them without looking at each.
    fn reasons(&self) -> Vec<Reason> {
        self.snapshot().reasons()
    }
}

/// A moment, in JSON as whole seconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    /// The seconds since 1970; 0 before it.
    pub fn seconds(self) -> u64 {
        self.0
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.seconds())
    }
}

/// What an instance is and does at one moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The process.
    pub instance: Instance,
    /// Where the configuration came from and how its last reading went.
    pub config: ConfigState,
    /// The tunnel; `None`: the configuration has none.
    pub tunnel: Option<Tunnel>,
    /// What is written into the network state, in the words of `check --plan`.
    pub network: Vec<Step>,
    /// How often objects were put back after others had changed them, by kind.
    pub repairs: BTreeMap<String, u64>,
    /// The DNS forwarder; `None`: the configuration has none.
    pub dns: Option<Dns>,
    /// The local TCP ports.
    pub ports: Vec<Port>,
    /// What keeps the instance from being ready beside what the other parts tell.
    #[serde(skip)]
    pub conditions: Vec<Reason>,
    /// The last thing that failed, even if it works again.
    pub last_error: Option<LastError>,
}

/// The process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The version of seedwire.
    pub version: String,
    /// The interface of the tunnel.
    pub interface: Option<String>,
    /// The process ID, as this process sees itself.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
}

/// Where the configuration came from and how its last reading went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigState {
    /// The file.
    pub file: PathBuf,
    /// When the configuration in force was applied.
    pub applied: Timestamp,
    /// Why the last reading or applying failed; `None`: it did not.
    pub error: Option<String>,
    /// Reloads that were applied since the start.
    pub reloads: u64,
    /// Reloads that failed since the start.
    pub failures: u64,
    /// What works and should be looked at.
    pub warnings: Vec<String>,
    /// Files of secrets that others can read.
    pub readable_secrets: u64,
}

/// The tunnel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// Who carries the packets.
    pub backend: String,
    /// Why that one was taken.
    pub backend_reason: String,
    /// The MTU of the interface in bytes.
    pub mtu: u16,
    /// Where that MTU comes from.
    pub mtu_reason: String,
    /// The UDP port that is listened on.
    pub listen_port: u16,
    /// Which offloads are in use; `None` where the kernel carries the packets.
    pub offloads: Option<Offloads>,
    /// Datagrams that were dropped since the start, by reason, as in `replayed`; none where the
    /// kernel carries the packets.
    pub refused: BTreeMap<String, u64>,
    /// The peers, in the order of the configuration.
    pub peers: Vec<Peer>,
}

/// A peer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The name in the configuration, or the public key.
    pub name: String,
    /// Its identity in base64.
    pub public_key: String,
    /// What it is doing.
    pub state: PeerState,
    /// Whether we call it, rather than it us.
    pub dialled: bool,
    /// Where its packets go now.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between two packets at the most.
    pub keepalive: Option<u64>,
    /// When the last handshake was completed.
    pub last_handshake: Option<Timestamp>,
    /// How long it took, in seconds, where we were the initiator.
    pub handshake_seconds: Option<f64>,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub transmitted: u64,
    /// The inner addresses it may use.
    #[serde(rename = "allowedIPs")]
    pub allowed_ips: Vec<String>,
    /// What is wrong with it, in words.
    pub trouble: Option<String>,
    /// What probes have shown of the way through it.
    pub probe: Option<Probe>,
}

/// What echo requests through a peer have shown.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Who is asked.
    pub address: IpAddr,
    /// When it answered last.
    pub answered: Option<Timestamp>,
    /// The longest packet that passes, where that is less than the link could take.
    pub limit: Option<u16>,
}

impl From<&PeerStatus> for Peer {
    fn from(peer: &PeerStatus) -> Self {
        Self {
            name: peer.name.clone(),
            public_key: peer.public_key.to_string(),
            state: peer.state,
            dialled: peer.dialled,
            endpoint: peer.endpoint,
            keepalive: peer.keepalive.map(|every| every.as_secs()),
            last_handshake: peer.last_handshake.map(Timestamp),
            handshake_seconds: peer.handshake_took.map(|took| took.as_secs_f64()),
            received: peer.received,
            transmitted: peer.transmitted,
            allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
            trouble: peer.trouble.clone(),
            probe: peer.probe.map(|probe| Probe {
                address: probe.address,
                answered: probe.answered.map(Timestamp),
                limit: probe.limit,
            }),
        }
    }
}

/// One thing that is written into the network state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which kind of object: `sysctl`, `link`, `address`, `route`, `rule`, `nft`.
    pub kind: String,
    /// The object, in the words of `check --plan`.
    pub text: String,
    /// Why it is not as desired; `None`: it is.
    pub error: Option<String>,
}

/// The DNS forwarder.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Where questions are taken.
    pub listen: Vec<SocketAddr>,
    /// The zones with upstreams of their own.
    pub zones: Vec<Zone>,
    /// Who answers for names outside the zones; `None`: those are refused.
    pub upstreams: Option<Vec<Upstream>>,
    /// The cache.
    pub cache: Cache,
    /// Questions from clients by transport: `udp`, `tcp`, and `own` for this program's own.
    pub queries: BTreeMap<String, u64>,
    /// Answers by response code, as in `NOERROR`.
    pub responses: BTreeMap<String, u64>,
    /// Questions that joined one under way.
    pub coalesced: u64,
    /// Questions that a second upstream was asked because the first was slow.
    pub hedged: u64,
    /// Answers that were cut short over UDP.
    pub truncated: u64,
    /// Answers that had ended and were given because no upstream answered, or in place of an
    /// NXDOMAIN.
    pub stale: u64,
    /// Popular answers that were asked for again before their end.
    pub refreshed: u64,
    /// NXDOMAINs of upstreams that were not believed.
    pub distrusted: u64,
    /// Packets that were not answered, being no questions.
    pub ignored: u64,
}

/// A DNS zone with upstreams of its own.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    /// Its name.
    pub zone: String,
    /// Why it is not known to answer; `None`: it answers.
    pub not_ready: Option<String>,
    /// Who answers.
    pub upstreams: Vec<Upstream>,
}

/// Who answers questions that are passed on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Its address, as in the configuration.
    pub address: String,
    /// Whether it answers, as far as is known.
    pub up: bool,
    /// Its last failure in words.
    pub last_error: Option<String>,
    /// Questions sent to it.
    pub queries: u64,
    /// Questions that it did not answer, or answered with SERVFAIL or REFUSED.
    pub failures: u64,
    /// The smoothed time to an answer, in seconds.
    pub latency_seconds: Option<f64>,
}

impl From<&ForwarderStatus> for Dns {
    fn from(status: &ForwarderStatus) -> Self {
        let ForwarderStatus {
            listen,
            zones,
            upstreams,
            cache,
            counters,
        } = status;
        let queries = [
            ("udp", counters.udp_queries),
            ("tcp", counters.tcp_queries),
            ("own", counters.own_queries),
        ];
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        Self {
            listen: listen.clone(),
            zones: zones.iter().map(Zone::from).collect(),
            upstreams: upstreams
                .as_ref()
                .map(|list| list.iter().map(Upstream::from).collect()),
            cache: Cache::from(cache),
            queries: queries.into_iter().map(named).collect(),
            responses: counters
                .responses
                .iter()
                .map(|(c, n)| named((c, *n)))
                .collect(),
            coalesced: counters.coalesced,
            hedged: counters.hedged,
            truncated: counters.truncated,
            stale: counters.stale,
            refreshed: counters.refreshed,
            distrusted: counters.distrusted,
            ignored: counters.ignored,
        }
    }
}

impl From<&ZoneStatus> for Zone {
    fn from(status: &ZoneStatus) -> Self {
        Self {
            zone: status.zone.to_string(),
            not_ready: status.not_ready.clone(),
            upstreams: status.upstreams.iter().map(Upstream::from).collect(),
        }
    }
}

impl From<&UpstreamStatus> for Upstream {
    fn from(status: &UpstreamStatus) -> Self {
        Self {
            address: status.address.clone(),
            up: status.up,
            last_error: status.last_error.clone(),
            queries: status.queries,
            failures: status.failures,
            latency_seconds: status.latency.map(|latency| latency.as_secs_f64()),
        }
    }
}

impl From<&CacheStatus> for Cache {
    fn from(status: &CacheStatus) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self {
            entries: count(status.entries),
            bytes: count(status.bytes),
            hits: status.hits,
            misses: status.misses,
            evictions: status.evictions,
        }
    }
}

/// The DNS cache.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Answers kept.
    pub entries: u64,
    /// The memory they take, in bytes.
    pub bytes: u64,
    /// Questions that were answered from it.
    pub hits: u64,
    /// Questions that were not.
    pub misses: u64,
    /// Answers that made room for others.
    pub evictions: u64,
}

/// A local TCP port that leads into the seed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Where connections are taken.
    pub listen: SocketAddr,
    /// Where they are led, as written.
    pub to: String,
    /// Connections open now.
    pub open: u64,
    /// Connections that were taken.
    pub accepted: u64,
    /// Connections that were closed at once, because the other end could not be reached.
    pub failed: u64,
    /// Bytes that went into the seed.
    pub transmitted: u64,
    /// Bytes that came out of it.
    pub received: u64,
    /// Why the last connection that failed did so.
    pub last_error: Option<String>,
}

/// The last thing that failed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What, as the chain of causes on one line.
    pub text: String,
}

/// What kind of thing keeps the instance from being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ReasonKind {
    /// It is starting.
    Starting,
    /// It is stopping.
    Stopping,
    /// A socket is not bound.
    Sockets,
    /// The network state is not as desired.
    Network,
    /// A peer with an endpoint is down.
    Peer,
    /// A DNS zone is not known to answer.
    Zone,
}

impl ReasonKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Starting,
        Self::Stopping,
        Self::Sockets,
        Self::Network,
        Self::Peer,
        Self::Zone,
    ];

    /// The word in `/readyz`, in status and in the label of `seedwire_ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Sockets => "sockets",
            Self::Network => "network",
            Self::Peer => "peer",
            Self::Zone => "zone",
        }
    }
}

/// One thing that keeps the instance from being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// Its kind.
    pub kind: ReasonKind,
    /// What, in one line.
    pub text: String,
}

impl Reason {
    /// A reason of this kind.
    pub fn new(kind: ReasonKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl Snapshot {
    /// What keeps the instance from being ready; empty: it is.
    ///
    /// A peer without an endpoint never does, nor do the general DNS upstreams.
    pub fn reasons(&self) -> Vec<Reason> {
        let peers = self.tunnel.iter().flat_map(|tunnel| &tunnel.peers);
        let dns = self.dns.as_ref();
        Self::reasons_of(self.conditions.clone(), &self.network, peers, dns)
    }

    /// The reasons of a state that consists of these. Peers that call us may be left out.
    pub fn reasons_of<'a>(
        conditions: Vec<Reason>,
        network: &[Step],
        peers: impl IntoIterator<Item = &'a Peer>,
        dns: Option<&Dns>,
    ) -> Vec<Reason> {
        let mut reasons = conditions;
        for step in network {
            if let Some(error) = &step.error {
                let text = format!("{}: {error}", step.text);
                reasons.push(Reason::new(ReasonKind::Network, text));
            }
        }
        for peer in peers {
            if let Some(why) = peer.why_not_ready() {
                reasons.push(Reason::new(ReasonKind::Peer, why));
            }
        }
        for zone in dns.into_iter().flat_map(|dns| &dns.zones) {
            if let Some(why) = &zone.not_ready {
                let text = format!("{}: {why}", zone.zone);
                reasons.push(Reason::new(ReasonKind::Zone, text));
            }
        }
        reasons
    }
}

impl Peer {
    /// Why it keeps the instance from being ready; a peer that calls us never does.
    fn why_not_ready(&self) -> Option<String> {
        let name = &self.name;
        let what = match self.state {
            _ if !self.dialled => return None,
            PeerState::Down => format!("peer {name} is down"),
            // With keepalive it is called from the start, so it is not idle before it answers.
            PeerState::Idle if self.keepalive.is_some() && self.last_handshake.is_none() => {
                format!("peer {name} has not answered yet")
            }
            PeerState::Idle | PeerState::Up => return None,
        };
        Some(match &self.trouble {
            Some(trouble) => format!("{what}: {trouble}"),
            None => what,
        })
    }
}

/// What `seedwire status --json` prints: one object a line for each instance.
///
/// Keys are camelCase; new ones may come, those that are there stay. Times are whole seconds since
/// 1970-01-01 00:00 UTC, other durations are seconds, sizes are bytes, and a key whose value is
/// not known is null. At the top: `ready`, `notReady` (a list of `kind` and `text`), `instance`,
/// `config`, `tunnel` with `peers`, `network`, `dns` with `zones`, `ports`, `lastError`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// Whether the instance does its work.
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<Reason>,
    /// Everything else.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

impl From<Snapshot> for StatusReport {
    fn from(snapshot: Snapshot) -> Self {
        let not_ready = snapshot.reasons();
        Self {
            ready: not_ready.is_empty(),
            not_ready,
            snapshot,
        }
    }
}
