//! The forwarder's decisions: a question comes in and is answered, joined to one that is under
//! way, or sent to an upstream; an answer or a timeout comes in and clients are answered or the
//! next upstream is asked. All input and output is done by an implementation of [`Effects`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Cache as Bounds;
use crate::tunnel::PathState;
use crate::types::DnsName;

use super::answer::{Answer, Unusable};
use super::cache::Cache;
use super::counts::Counts;
use super::flight::{Exchange, Flight, LastWord, Waiter};
use super::group::{Choice, Groups, Settings};
use super::message::{self, Asked, ExtendedError};
use super::status::{CacheStatus, ForwarderStatus};
use super::upstream::{Failure, Upstream};
use super::wire::{self, AD, CD, HEADER, Query, RD, Rcode, Rejection, u16_at};

/// How many sockets an upstream is asked from, each with a port of its own.
pub const LANES: u8 = 4;
/// The lane of an exchange over TCP.
const TCP_LANE: u8 = u8::MAX;
/// Questions under way at most; further ones fail at once.
const MAX_FLIGHTS: usize = 4096;
/// Clients that wait for one question at most.
const MAX_WAITERS: usize = 256;
/// The longest time a client waits.
const DEADLINE: Duration = Duration::from_millis(4500);
/// How long an answer over TCP is waited for.
const TCP_PATIENCE: Duration = Duration::from_secs(2);
/// How long an idle tunnel has to come up.
const WAKE_PATIENCE: Duration = Duration::from_secs(1);

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
    UpstreamUp(SocketAddr),
    /// An upstream does not answer any more.
    UpstreamDown(SocketAddr, Failure),
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
    fn send(&mut self, upstream: UpstreamId, address: SocketAddr, lane: u8, message: &[u8]);
    /// Sends a question over TCP; its ID tells it from others to the same upstream.
    fn send_tcp(&mut self, upstream: UpstreamId, address: SocketAddr, message: &[u8]);
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
    Attempt { flight: u64, attempt: usize },
    Trial { upstream: u32, id: u16 },
}

/// A DNS forwarder without input and output, for clients of type `C`.
pub struct Forwarder<C> {
    groups: Groups,
    upstreams: HashMap<u32, Upstream>,
    cache: Cache,
    flights: HashMap<u64, Flight<C>>,
    joinable: HashMap<Arc<[u8]>, u64>,
    exchanges: HashMap<(u32, u16), Exchange>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    next_flight: u64,
    counts: Counts,
    key: Vec<u8>,
    out: Vec<u8>,
}

impl<C: Copy + PartialEq> Forwarder<C> {
    /// A forwarder without zones and upstreams, which refuses every name.
    pub fn new(cache: Bounds) -> Self {
        Self {
            groups: Groups::default(),
            upstreams: HashMap::new(),
            cache: Cache::new(cache),
            flights: HashMap::new(),
            joinable: HashMap::new(),
            exchanges: HashMap::new(),
            timers: BinaryHeap::new(),
            next_flight: 0,
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
                    || flight.asked.last().is_some_and(|last| gone.contains(last))
            })
            .map(|(id, _)| *id)
            .collect();
        for flight in orphans {
            self.ask_next(flight, now, effects);
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

    /// A packet came from a client.
    pub fn query<E: Effects<Client = C>>(
        &mut self,
        packet: &[u8],
        client: C,
        transport: Transport,
        now: Instant,
        effects: &mut E,
    ) {
        let query = match wire::parse_query(packet) {
            Ok(query) => query,
            Err(Rejection::Silence) => {
                self.counts.ignored += 1;
                return;
            }
            Err(Rejection::Answer(rcode)) => {
                self.counts.query(transport);
                let asked = Asked::of_rejected(packet, rcode);
                message::write_error(&mut self.out, asked, rcode, None);
                self.counts.response(rcode);
                return effects.reply(client, &self.out);
            }
        };
        self.counts.query(transport);
        write_key(&mut self.key, &query);
        if let Some((answer, age)) = self.cache.get(&self.key, now) {
            self.counts.hits += 1;
            self.counts.response(answer.rcode);
            let limit = limit(transport, query.edns.map(|edns| edns.udp_size));
            self.counts.truncated += u64::from(answer.len() > limit);
            answer.write(&mut self.out, query.id, query.name, age, limit);
            return effects.reply(client, &self.out);
        }
        self.counts.misses += 1;
        let waiter = Waiter::new(client, &query, transport);
        if let Some(flight) = self.joinable.get(self.key.as_slice()).copied() {
            return self.join(flight, waiter, effects);
        }
        self.start(&query, waiter, now, effects);
    }

    fn join<E: Effects<Client = C>>(&mut self, id: u64, waiter: Waiter<C>, effects: &mut E) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let is_again = |other: &Waiter<C>| other.client == waiter.client && other.id == waiter.id;
        if waiter.transport == Transport::Udp && flight.waiters.iter().any(is_again) {
            return;
        }
        if flight.waiters.len() >= MAX_WAITERS {
            let query = Arc::clone(&flight.query);
            return self.fail(
                &waiter,
                &query,
                Rcode::SERVFAIL,
                ExtendedError::BUSY,
                effects,
            );
        }
        self.counts.coalesced += 1;
        flight.waiters.push(waiter);
    }

    fn start<E: Effects<Client = C>>(
        &mut self,
        query: &Query<'_>,
        waiter: Waiter<C>,
        now: Instant,
        effects: &mut E,
    ) {
        let upstream_query: Arc<[u8]> = message::upstream_query(query).into();
        let Some(group) = self.groups.find(key_name(&self.key)) else {
            let reason = ExtendedError::NOT_OURS;
            return self.fail(&waiter, &upstream_query, Rcode::REFUSED, reason, effects);
        };
        if self.flights.len() >= MAX_FLIGHTS {
            let reason = ExtendedError::BUSY;
            return self.fail(&waiter, &upstream_query, Rcode::SERVFAIL, reason, effects);
        }
        let key: Arc<[u8]> = self.key.as_slice().into();
        let flight = Flight::new(group.id, upstream_query, Some(waiter), now + DEADLINE);
        let id = self.launch(flight, Some(key));
        self.ask_next(id, now, effects);
    }

    fn launch(&mut self, mut flight: Flight<C>, key: Option<Arc<[u8]>>) -> u64 {
        let id = self.next_flight;
        self.next_flight += 1;
        if let Some(key) = &key {
            self.joinable.insert(Arc::clone(key), id);
        }
        flight.key = key;
        self.flights.insert(id, flight);
        id
    }

    /// Asks the next upstream of a flight, or ends it.
    fn ask_next<E: Effects<Client = C>>(&mut self, id: u64, now: Instant, effects: &mut E) {
        let Some(flight) = self.flights.get(&id) else {
            return;
        };
        let Some(group) = self.groups.get(flight.group) else {
            return self.finish_without_answer(id, ExtendedError::NO_UPSTREAM, now, effects);
        };
        let choice = if now >= flight.deadline {
            Choice::Exhausted
        } else {
            group.choose(&flight.asked, &mut self.upstreams, now, effects)
        };
        match choice {
            Choice::Ask { upstream, is_idle } => {
                if flight.asked.is_empty() {
                    self.try_suspects(id, upstream, now, effects);
                }
                self.ask(id, upstream, is_idle, now, effects);
            }
            Choice::PathDown => {
                self.remember(id, Failure::PathDown);
                self.finish_without_answer(id, ExtendedError::PEER_DOWN, now, effects);
            }
            Choice::Exhausted => {
                self.finish_without_answer(id, ExtendedError::NO_ANSWER, now, effects);
            }
            Choice::Empty => {
                self.finish_without_answer(id, ExtendedError::NO_UPSTREAM, now, effects);
            }
        }
    }

    fn ask<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        upstream_id: u32,
        is_idle: bool,
        now: Instant,
        effects: &mut E,
    ) {
        let (Some(flight), Some(upstream)) = (
            self.flights.get_mut(&id),
            self.upstreams.get_mut(&upstream_id),
        ) else {
            return;
        };
        let mut patience = upstream.patience();
        if is_idle {
            effects.wake(upstream.address.ip());
            flight.wake_until.get_or_insert(now + WAKE_PATIENCE);
            // Sent again half-way, in case the tunnel dropped what came before the handshake.
            patience = WAKE_PATIENCE / 2;
        }
        flight.asked.push(upstream_id);
        upstream.asked(now);
        let query = Arc::clone(&flight.query);
        let attempt = flight.asked.len();
        let address = upstream.address;
        let exchange = self.send(upstream_id, address, Some(id), &query, now, effects);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.exchanges.push((upstream_id, exchange));
        }
        let timer = Timer::Attempt {
            flight: id,
            attempt,
        };
        self.timers.push(Reverse((now + patience, timer)));
    }

    /// Sends a question with an ID that is free, and returns that.
    fn send<E: Effects<Client = C>>(
        &mut self,
        upstream: u32,
        address: SocketAddr,
        flight: Option<u64>,
        query: &Arc<[u8]>,
        now: Instant,
        effects: &mut E,
    ) -> u16 {
        let (id, lane) = loop {
            let random = effects.random();
            let id = random as u16;
            if !self.exchanges.contains_key(&(upstream, id)) {
                break (id, (random >> 16) as u8 % LANES);
            }
        };
        self.exchanges.insert(
            (upstream, id),
            Exchange {
                flight,
                lane,
                sent: now,
                query: Arc::clone(query),
            },
        );
        self.out.clear();
        self.out.extend_from_slice(query);
        self.out[..2].copy_from_slice(&id.to_be_bytes());
        effects.send(UpstreamId(upstream), address, lane, &self.out);
        id
    }

    /// Sends copies of a question to the upstreams that failed lately, where it is time to see
    /// whether they are back; no client waits for those.
    fn try_suspects<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        chosen: u32,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.flights.get(&id) else {
            return;
        };
        let Some(group) = self.groups.get(flight.group) else {
            return;
        };
        if group.members.len() < 2 {
            return;
        }
        let query = Arc::clone(&flight.query);
        let due: Vec<u32> = group
            .members
            .iter()
            .copied()
            .filter(|member| {
                *member != chosen
                    && self.upstreams.get(member).is_some_and(|upstream| {
                        upstream.is_due(now)
                            && effects.path(upstream.address.ip()) != PathState::Down
                    })
            })
            .collect();
        for member in due {
            let Some(upstream) = self.upstreams.get_mut(&member) else {
                continue;
            };
            upstream.on_trial = true;
            upstream.asked(now);
            let (address, patience) = (upstream.address, upstream.patience());
            let exchange = self.send(member, address, None, &query, now, effects);
            let timer = Timer::Trial {
                upstream: member,
                id: exchange,
            };
            self.timers.push(Reverse((now + patience, timer)));
        }
    }

    /// A datagram came from an upstream, on socket `lane`.
    pub fn datagram<E: Effects<Client = C>>(
        &mut self,
        upstream: UpstreamId,
        lane: u8,
        message: &[u8],
        now: Instant,
        effects: &mut E,
    ) {
        self.answer(upstream.0, lane, message, now, effects);
    }

    /// An answer came from an upstream over TCP.
    pub fn tcp_answer<E: Effects<Client = C>>(
        &mut self,
        upstream: UpstreamId,
        message: &[u8],
        now: Instant,
        effects: &mut E,
    ) {
        self.answer(upstream.0, TCP_LANE, message, now, effects);
    }

    fn answer<E: Effects<Client = C>>(
        &mut self,
        upstream_id: u32,
        lane: u8,
        message: &[u8],
        now: Instant,
        effects: &mut E,
    ) {
        let Some(id) = u16_at(message, 0) else {
            return;
        };
        let place = (upstream_id, id);
        let Some(exchange) = self.exchanges.get(&place).filter(|e| e.lane == lane) else {
            return;
        };
        let parsed = Answer::parse(message, &exchange.query);
        if matches!(parsed, Err(Unusable::Foreign)) {
            return;
        }
        let (Some(exchange), Some(upstream)) = (
            self.exchanges.remove(&place),
            self.upstreams.get_mut(&upstream_id),
        ) else {
            return;
        };
        let latency = now.saturating_duration_since(exchange.sent);
        if exchange.flight.is_none() {
            upstream.on_trial = false;
        }
        if upstream.answered((lane != TCP_LANE).then_some(latency)) {
            effects.changed(Change::UpstreamUp(upstream.address));
        }
        let failure = match &parsed {
            Ok(answer) if matches!(answer.rcode, Rcode::SERVFAIL | Rcode::REFUSED) => {
                Some(Failure::Unhelpful(answer.rcode))
            }
            Err(Unusable::Bare(rcode)) => Some(Failure::Unhelpful(*rcode)),
            Err(Unusable::Malformed) => Some(Failure::Malformed),
            Err(Unusable::Truncated) if lane == TCP_LANE => Some(Failure::Malformed),
            _ => None,
        };
        if let Some(failure) = &failure {
            upstream.failed(failure.clone(), exchange.sent, now);
        } else {
            upstream.helped();
        }
        let Some(flight) = exchange.flight else {
            return;
        };
        match (parsed, failure) {
            (Ok(answer), None) => self.finish(flight, &answer, now, effects),
            (Err(_), None) => self.ask_over_tcp(flight, upstream_id, now, effects),
            (parsed, Some(failure)) => {
                self.remember(flight, failure);
                if let (Some(flight), Ok(answer)) = (self.flights.get_mut(&flight), parsed) {
                    flight.last_word = Some(LastWord::Answer(answer));
                }
                self.ask_next(flight, now, effects);
            }
        }
    }

    fn ask_over_tcp<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        upstream: u32,
        now: Instant,
        effects: &mut E,
    ) {
        let (Some(flight), Some(address)) = (
            self.flights.get_mut(&id),
            self.upstreams
                .get(&upstream)
                .map(|upstream| upstream.address),
        ) else {
            return;
        };
        let exchange = loop {
            let id = effects.random() as u16;
            if !self.exchanges.contains_key(&(upstream, id)) {
                break id;
            }
        };
        flight.asked.push(upstream);
        flight.exchanges.push((upstream, exchange));
        let query = Arc::clone(&flight.query);
        let timer = Timer::Attempt {
            flight: id,
            attempt: flight.asked.len(),
        };
        self.timers.push(Reverse((now + TCP_PATIENCE, timer)));
        self.out.clear();
        self.out.extend_from_slice(&query);
        self.out[..2].copy_from_slice(&exchange.to_be_bytes());
        self.exchanges.insert(
            (upstream, exchange),
            Exchange {
                flight: Some(id),
                lane: TCP_LANE,
                sent: now,
                query,
            },
        );
        effects.send_tcp(UpstreamId(upstream), address, &self.out);
    }

    /// The socket `lane` of an upstream reported an error: nothing that was asked there will be
    /// answered.
    pub fn unreachable<E: Effects<Client = C>>(
        &mut self,
        upstream: UpstreamId,
        lane: u8,
        why: &Arc<str>,
        now: Instant,
        effects: &mut E,
    ) {
        let lost: Vec<u16> = self
            .exchanges
            .iter()
            .filter(|((of, _), exchange)| *of == upstream.0 && exchange.lane == lane)
            .map(|((_, id), _)| *id)
            .collect();
        for id in lost {
            self.lost(
                (upstream.0, id),
                &Failure::Unreachable(Arc::clone(why)),
                now,
                effects,
            );
        }
    }

    /// A question over TCP failed: the connection could not be made or ended early.
    pub fn tcp_failed<E: Effects<Client = C>>(
        &mut self,
        upstream: UpstreamId,
        id: u16,
        why: &Arc<str>,
        now: Instant,
        effects: &mut E,
    ) {
        self.lost(
            (upstream.0, id),
            &Failure::Unreachable(Arc::clone(why)),
            now,
            effects,
        );
    }

    fn lost<E: Effects<Client = C>>(
        &mut self,
        place: (u32, u16),
        failure: &Failure,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(exchange) = self.exchanges.remove(&place) else {
            return;
        };
        self.blame(place.0, failure.clone(), exchange.sent, now, effects);
        match exchange.flight {
            None => {
                if let Some(upstream) = self.upstreams.get_mut(&place.0) {
                    upstream.on_trial = false;
                }
            }
            Some(id) => {
                self.remember(id, failure.clone());
                let is_current = self
                    .flights
                    .get(&id)
                    .is_some_and(|flight| flight.exchanges.last() == Some(&place));
                if is_current {
                    self.ask_next(id, now, effects);
                }
            }
        }
    }

    fn blame<E: Effects<Client = C>>(
        &mut self,
        upstream: u32,
        failure: Failure,
        sent: Instant,
        now: Instant,
        effects: &mut E,
    ) {
        if let Some(upstream) = self.upstreams.get_mut(&upstream)
            && upstream.failed(failure.clone(), sent, now)
        {
            effects.changed(Change::UpstreamDown(upstream.address, failure));
        }
    }

    fn remember(&mut self, flight: u64, failure: Failure) {
        if let Some(flight) = self.flights.get_mut(&flight) {
            let has_answer = matches!(flight.last_word, Some(LastWord::Answer(_)));
            if !has_answer {
                flight.last_word = Some(LastWord::Failure(failure));
            }
        }
    }

    /// Does what is due.
    pub fn tick<E: Effects<Client = C>>(&mut self, now: Instant, effects: &mut E) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Attempt { flight, attempt } => {
                    self.attempt_timed_out(flight, attempt, now, effects);
                }
                Timer::Trial { upstream, id } => {
                    // The exchange may be another by now that has the same ID by chance.
                    let is_trial = self
                        .exchanges
                        .get(&(upstream, id))
                        .is_some_and(|exchange| exchange.flight.is_none());
                    if is_trial {
                        self.lost((upstream, id), &Failure::Timeout, now, effects);
                    }
                }
            }
        }
        self.probe(now, effects);
    }

    fn attempt_timed_out<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        attempt: usize,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        if flight.asked.len() != attempt {
            return;
        }
        let Some((upstream, exchange)) = flight.exchanges.last().copied() else {
            return;
        };
        if flight.wake_until.is_some_and(|until| now < until)
            && self
                .upstreams
                .get(&upstream)
                .is_some_and(|u| effects.path(u.address.ip()) != PathState::Down)
        {
            // The handshake may have taken the time: the upstream is asked once more, and what is
            // left of the wait decides.
            flight.asked.pop();
            return self.ask(id, upstream, true, now, effects);
        }
        let sent = self
            .exchanges
            .get(&(upstream, exchange))
            .map_or(now, |e| e.sent);
        self.blame(upstream, Failure::Timeout, sent, now, effects);
        self.remember(id, Failure::Timeout);
        self.ask_next(id, now, effects);
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

    fn finish<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        answer: &Answer,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.end(id) else {
            return;
        };
        if let Some(key) = &flight.key {
            self.cache.put(key, answer, now);
        }
        if let Some(group) = self.groups.get_mut(flight.group) {
            group.answered(flight.is_probe, now, effects);
        }
        self.pass_on(&flight, answer, effects);
    }

    /// Sends an upstream's answer to all who wait.
    fn pass_on<E: Effects<Client = C>>(
        &mut self,
        flight: &Flight<C>,
        answer: &Answer,
        effects: &mut E,
    ) {
        for waiter in &flight.waiters {
            let limit = limit(waiter.transport, waiter.udp_size);
            self.counts.truncated += u64::from(answer.len() > limit);
            self.counts.response(answer.rcode);
            answer.write(&mut self.out, waiter.id, waiter.name(), 0, limit);
            effects.reply(waiter.client, &self.out);
        }
    }

    fn finish_without_answer<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        reason: ExtendedError,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.end(id) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(flight.group) {
            let asked = flight
                .asked
                .last()
                .and_then(|last| self.upstreams.get(last));
            let address = asked.map(|upstream| upstream.address);
            group.failed(
                flight.is_probe,
                address,
                flight.last_word.as_ref(),
                now,
                effects,
            );
        }
        let rcode = match &flight.last_word {
            Some(LastWord::Answer(answer)) => return self.pass_on(&flight, answer, effects),
            Some(LastWord::Failure(Failure::Unhelpful(rcode))) => *rcode,
            _ => Rcode::SERVFAIL,
        };
        for waiter in &flight.waiters {
            self.fail(waiter, &flight.query, rcode, reason, effects);
        }
    }

    /// Takes a flight off the lists.
    fn end(&mut self, id: u64) -> Option<Flight<C>> {
        let flight = self.flights.remove(&id)?;
        for place in &flight.exchanges {
            self.exchanges.remove(place);
        }
        if let Some(key) = &flight.key {
            self.joinable.remove(key);
        }
        Some(flight)
    }

    fn fail<E: Effects<Client = C>>(
        &mut self,
        waiter: &Waiter<C>,
        query: &[u8],
        rcode: Rcode,
        reason: ExtendedError,
        effects: &mut E,
    ) {
        let name = waiter.name();
        let mut question = query[HEADER..HEADER + name.len() + 4].to_vec();
        question[..name.len()].copy_from_slice(name);
        let asked = Asked {
            id: waiter.id,
            flags: waiter.flags,
            question: &question,
            edns: waiter.udp_size.map(|_| waiter.dnssec_ok),
        };
        message::write_error(&mut self.out, asked, rcode, Some(reason));
        self.counts.response(rcode);
        effects.reply(waiter.client, &self.out);
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

/// The most bytes of an answer to a client.
fn limit(transport: Transport, udp_size: Option<u16>) -> usize {
    match transport {
        Transport::Udp => message::udp_limit(udp_size),
        Transport::Tcp | Transport::Own => usize::from(u16::MAX),
    }
}

/// Where the name stands in a key.
const KEY_NAME: usize = 5;

/// All that an answer depends on: flags, whether there is EDNS and DNSSEC OK, the type, the name in
/// lower case, and the options that are passed on.
fn write_key(key: &mut Vec<u8>, query: &Query<'_>) {
    key.clear();
    let edns = query
        .edns
        .map_or(0, |edns| 1 | u8::from(edns.dnssec_ok) << 1);
    let flags = (query.flags & (RD | AD | CD)).to_be_bytes();
    key.extend_from_slice(&[flags[0], flags[1], edns]);
    key.extend_from_slice(&query.rtype.to_be_bytes());
    key.extend(query.name.iter().map(u8::to_ascii_lowercase));
    if let Some(edns) = query.edns {
        message::extend_end_to_end(key, edns.options);
    }
}

/// The name in a key.
fn key_name(key: &[u8]) -> &[u8] {
    let end = wire::plain_name_end(key, KEY_NAME).unwrap_or(key.len());
    key.get(KEY_NAME..end).unwrap_or_default()
}
