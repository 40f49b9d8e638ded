//! The forwarder's decisions: a question comes in and is answered, joined to one that is under
//! way, or sent to an upstream; an answer or a timeout comes in and clients are answered or the
//! next upstream is asked. All input and output is done by an implementation of [`Effects`].

mod answers;
mod asking;
mod clients;
mod stale;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clients::key_name;

use crate::config::{Cache as Bounds, Server};
use crate::dns::cache::Cache;
use crate::dns::counts::Counts;
use crate::dns::failures::Failures;
use crate::dns::flight::{Exchange, Flight};
use crate::dns::group::{Groups, Settings};
use crate::dns::ids::IdMap;
use crate::dns::status::{CacheStatus, ForwarderStatus};
use crate::dns::upstream::{Failure, Upstream};
use crate::tunnel::PathState;
use crate::types::DnsName;

/// How many sockets an upstream is asked from, each with a port of its own.
pub const LANES: u8 = 4;
/// The lane of an exchange over a connection.
const STREAM_LANE: u8 = u8::MAX;
/// Questions under way at most; further ones fail at once.
const MAX_FLIGHTS: usize = 4096;
/// Clients that wait for one question at most.
const MAX_WAITERS: usize = 256;
/// The longest time a client waits.
const DEADLINE: Duration = Duration::from_millis(4500);
/// How long an answer is waited for that was too long for UDP.
const TCP_PATIENCE: Duration = Duration::from_secs(2);
/// What a hedge costs of the credit, of which each question adds 1: one in ten may have a hedge.
const HEDGE_COST: u32 = 10;
/// The most credit: so many questions in a burst may each have one.
const HEDGE_CREDIT: u32 = 32 * HEDGE_COST;
/// How long an idle tunnel has to come up.
const WAKE_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked at whether it did.
const WAKE_CHECK: Duration = Duration::from_millis(50);

/// An upstream, for as long as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub(super) u32);

/// By which way a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP: the answer may have to be cut short.
    Udp,
    /// TCP.
    Tcp,
    /// From this program itself.
    Own,
}

/// A change of state that an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An upstream answers again.
    UpstreamUp(UpstreamId, Arc<Server>),
    /// An upstream does not answer any more.
    UpstreamDown(UpstreamId, Arc<Server>, Failure),
    /// A zone answers.
    ZoneReady(DnsName),
    /// A zone does not answer, for this reason.
    ZoneNotReady(DnsName, String),
}

/// The input and output of a [`Forwarder`].
pub trait Effects {
    /// Where an answer goes.
    type Client: Copy + PartialEq;

    /// Sends an answer to a client.
    fn reply(&mut self, client: Self::Client, message: &[u8]);
    /// Sends a question over UDP from socket `lane` (below [`LANES`]) of this upstream.
    fn send(&mut self, upstream: UpstreamId, server: &Server, lane: u8, message: &[u8]);
    /// Sends a question over a connection: TLS where the server is asked that way, else TCP. Its ID
    /// tells it from others to the same upstream.
    fn send_stream(&mut self, upstream: UpstreamId, server: &Arc<Server>, message: &[u8]);
    /// Random bits that nobody can foresee.
    fn random(&mut self) -> u32;
    /// The state of the path to an address.
    fn path(&self, to: IpAddr) -> PathState;
    /// Starts a handshake with the peer that an address lies behind.
    fn wake(&self, to: IpAddr);
    /// Something changed that an operator wants to know of.
    fn changed(&mut self, change: Change);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The first upstream of a flight has not answered yet: others may be asked as well.
    Hedge { flight: u64 },
    /// Who waits for this flight may be given a stale answer.
    Stale { flight: u64 },
    /// An exchange should be answered by now.
    Exchange { place: (u32, u16), serial: u64 },
}

/// A DNS forwarder without input and output, for clients of type `C`.
pub struct Forwarder<C> {
    groups: Groups,
    upstreams: IdMap<u32, Upstream>,
    cache: Cache,
    failures: Failures,
    flights: IdMap<u64, Flight<C>>,
    joinable: HashMap<Arc<[u8]>, u64>,
    exchanges: IdMap<(u32, u16), Exchange>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    next_flight: u64,
    next_exchange: u64,
    /// Allows so many hedges, in units of [`HEDGE_COST`].
    hedge_credit: u32,
    /// The socket that questions leave by until the next [`Forwarder::tick`]: those of one round
    /// together, so that they leave in one call.
    lane: u8,
    counts: Counts,
    key: Vec<u8>,
    out: Vec<u8>,
}

impl<C: Copy + PartialEq> Forwarder<C> {
    /// A forwarder without zones and upstreams, which refuses every name.
    pub fn new(cache: Bounds) -> Self {
        Self {
            groups: Groups::default(),
            upstreams: IdMap::default(),
            cache: Cache::new(cache),
            failures: Failures::default(),
            flights: IdMap::default(),
            joinable: HashMap::new(),
            exchanges: IdMap::default(),
            timers: BinaryHeap::new(),
            next_flight: 0,
            next_exchange: 0,
            hedge_credit: HEDGE_CREDIT,
            lane: 0,
            counts: Counts::default(),
            key: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes other settings. What is known of upstreams that stay is kept, and so are the answers
    /// for names whose upstreams are unchanged. Returns the upstreams that are gone.
    pub fn configure<E: Effects<Client = C>>(
        &mut self,
        settings: &Settings,
        now: Instant,
        effects: &mut E,
    ) -> Vec<UpstreamId> {
        let groups = self.groups.renewed(settings, &mut self.upstreams, now);
        let old = std::mem::replace(&mut self.groups, groups);
        self.cache.reconfigure(settings.cache.clone(), |key| {
            let name = key_name(key);
            match (old.find(name), self.groups.find(name)) {
                (Some(old), Some(new)) => old.id == new.id && old.members == new.members,
                _ => false,
            }
        });
        self.failures.clear();
        let stays = |id: &u32| self.groups.iter().any(|group| group.members.contains(id));
        let gone: Vec<u32> = self
            .upstreams
            .keys()
            .copied()
            .filter(|id| !stays(id))
            .collect();
        self.upstreams.retain(|id, _| !gone.contains(id));
        self.exchanges
            .retain(|(upstream, _), _| !gone.contains(upstream));
        let orphans: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, flight)| {
                self.groups.get(flight.group).is_none()
                    || flight.asked.iter().any(|asked| gone.contains(asked))
            })
            .map(|(id, _)| *id)
            .collect();
        for flight in orphans {
            if !self.is_waiting(flight) {
                self.ask_next(flight, now, effects);
            }
        }
        gone.into_iter().map(UpstreamId).collect()
    }

    /// Whether any client waits.
    pub fn is_busy(&self) -> bool {
        self.flights
            .values()
            .any(|flight| !flight.waiters.is_empty())
    }

    /// When [`Forwarder::tick`] is to be called at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        timer.into_iter().chain(self.groups.next_probe()).min()
    }

    /// Does what is due. Called once in each round of input.
    pub fn tick<E: Effects<Client = C>>(&mut self, now: Instant, effects: &mut E) {
        self.lane = (effects.random() % u32::from(LANES)) as u8;
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Hedge { flight } => self.hedge(flight, now, effects),
                Timer::Stale { flight } => self.wait_no_more(flight, now, effects),
                Timer::Exchange { place, serial } => {
                    self.exchange_timed_out(place, serial, now, effects);
                }
            }
        }
        self.probe(now, effects);
    }

    /// Asks the zones for which it is time whether they answer.
    fn probe<E: Effects<Client = C>>(&mut self, now: Instant, effects: &mut E) {
        for (group, query) in self.groups.due_probes(&self.upstreams, now, effects) {
            let mut flight = Flight::new(group, query, None, now + DEADLINE);
            flight.is_probe = true;
            let id = self.launch(flight, None);
            self.ask_next(id, now, effects);
        }
    }

    /// The state at `now`; `listen` is as the caller knows it.
    pub fn status(&self, listen: Vec<SocketAddr>) -> ForwarderStatus {
        ForwarderStatus {
            listen,
            zones: self.groups.zone_status(&self.upstreams),
            upstreams: self.groups.general_status(&self.upstreams),
            cache: CacheStatus {
                entries: self.cache.len(),
                bytes: self.cache.bytes(),
                hits: self.counts.hits,
                misses: self.counts.misses,
                evictions: self.cache.evictions(),
            },
            counters: self.counts.status(),
        }
    }
}
