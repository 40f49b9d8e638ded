use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::types::DnsName;

/// The forwarder at one moment.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// Where questions are taken.
    pub listen: Vec<SocketAddr>,
    /// The zones with upstreams of their own.
    pub zones: Vec<ZoneStatus>,
    /// Who answers for names outside the zones; `None`: those are refused.
    pub upstreams: Option<Vec<UpstreamStatus>>,
    /// The cache.
    pub cache: CacheStatus,
    /// What was counted since the start.
    pub counters: Counters,
}

/// A zone at one moment.
#[derive(Clone, Debug)]
pub struct ZoneStatus {
    /// Its name.
    pub zone: DnsName,
    /// Why it is not known to answer; `None`: it answers.
    pub not_ready: Option<String>,
    /// Its upstreams in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
}

/// An upstream at one moment.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
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
    /// The smoothed time to an answer.
    pub latency: Option<Duration>,
}

/// The cache at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CacheStatus {
    /// Answers kept.
    pub entries: usize,
    /// The memory they take, in bytes.
    pub bytes: usize,
    /// Questions that were answered from it.
    pub hits: u64,
    /// Questions that were not.
    pub misses: u64,
    /// Answers that made room for others.
    pub evictions: u64,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    /// Questions from clients over UDP.
    pub udp_queries: u64,
    /// Questions from clients over TCP.
    pub tcp_queries: u64,
    /// Questions of this program itself.
    pub own_queries: u64,
    /// Packets that were not answered, being no questions.
    pub ignored: u64,
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
    /// Answers by response code.
    pub responses: BTreeMap<&'static str, u64>,
}
