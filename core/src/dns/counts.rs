use std::collections::BTreeMap;

use super::forwarder::Transport;
use super::status::Counters;
use super::wire::Rcode;

/// Counters that cost nothing to raise.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) ignored: u64,
    pub(super) coalesced: u64,
    pub(super) hedged: u64,
    pub(super) truncated: u64,
    pub(super) stale: u64,
    pub(super) refreshed: u64,
    pub(super) distrusted: u64,
    queries: [u64; 3],
    /// By response code; those above 16 together at the end.
    responses: [u64; 18],
}

impl Counts {
    pub(super) fn query(&mut self, transport: Transport) {
        self.queries[transport as usize] += 1;
    }

    pub(super) fn response(&mut self, rcode: Rcode) {
        self.responses[usize::from(rcode.0).min(17)] += 1;
    }

    pub(super) fn status(&self) -> Counters {
        let [udp_queries, tcp_queries, own_queries] = self.queries;
        let mut responses = BTreeMap::new();
        for (code, count) in (0..).zip(self.responses).filter(|(_, count)| *count > 0) {
            *responses.entry(Rcode(code).name()).or_default() += count;
        }
        Counters {
            udp_queries,
            tcp_queries,
            own_queries,
            ignored: self.ignored,
            coalesced: self.coalesced,
            hedged: self.hedged,
            truncated: self.truncated,
            stale: self.stale,
            refreshed: self.refreshed,
            distrusted: self.distrusted,
            responses,
        }
    }
}
