//! Questions in, answers out.

use std::sync::Arc;
use std::time::Instant;

use super::{DEADLINE, Effects, Forwarder, HEDGE_CREDIT, MAX_FLIGHTS, MAX_WAITERS, Transport};
use crate::dns::answer::Answer;
use crate::dns::cache::Hit;
use crate::dns::flight::{Flight, LastWord, Waiter};
use crate::dns::message::{self, Asked, ExtendedError};
use crate::dns::upstream::Failure;
use crate::dns::wire::{self, AD, CD, HEADER, Query, RD, Rcode, Rejection};

impl<C: Copy + PartialEq> Forwarder<C> {
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
        if let Some(hit) = self.cache.get(&self.key, now) {
            let Hit {
                answer,
                age,
                is_due,
            } = hit;
            self.counts.hits += 1;
            self.counts.response(answer.rcode);
            let limit = limit(transport, query.edns.map(|edns| edns.udp_size));
            self.counts.truncated += u64::from(answer.len() > limit);
            answer.write(&mut self.out, query.id, query.name, age, limit);
            effects.reply(client, &self.out);
            if is_due {
                self.refresh(&query, now, effects);
            }
            return;
        }
        self.counts.misses += 1;
        if let Some(flight) = self.joinable.get(self.key.as_slice()).copied() {
            let waiter = Waiter::new(client, &query, transport, query.name.into(), 0);
            return self.join(flight, waiter, now, effects);
        }
        message::write_upstream_query(&mut self.out, &query);
        let upstream_query: Arc<[u8]> = self.out.as_slice().into();
        let text = Arc::clone(&upstream_query);
        let waiter = Waiter::new(client, &query, transport, text, HEADER);
        self.start(upstream_query, waiter, now, effects);
    }

    fn join<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        waiter: Waiter<C>,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        if flight.is_late {
            let group = flight.group;
            let reason = ExtendedError::NO_ANSWER;
            if self.reply_stale(&waiter, group, reason, now, effects) {
                return;
            }
        }
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
        upstream_query: Arc<[u8]>,
        waiter: Waiter<C>,
        now: Instant,
        effects: &mut E,
    ) {
        let name = key_name(&self.key);
        if self.groups.is_searched(name) {
            let reason = ExtendedError::SEARCHED;
            return self.fail(&waiter, &upstream_query, Rcode::NXDOMAIN, reason, effects);
        }
        let Some(group) = self.groups.find(name) else {
            let reason = ExtendedError::NOT_OURS;
            return self.fail(&waiter, &upstream_query, Rcode::REFUSED, reason, effects);
        };
        let group = group.id;
        if let Some(verdict) = self.failures.held(&self.key, now) {
            if self.reply_stale(&waiter, group, verdict.reason, now, effects) {
                return;
            }
            if !verdict.is_distrusted {
                let reason = ExtendedError::FAILED_LATELY;
                return self.fail(&waiter, &upstream_query, verdict.rcode, reason, effects);
            }
        }
        if self.flights.len() >= MAX_FLIGHTS {
            let reason = ExtendedError::BUSY;
            if !self.reply_stale(&waiter, group, reason, now, effects) {
                self.fail(&waiter, &upstream_query, Rcode::SERVFAIL, reason, effects);
            }
            return;
        }
        let key: Arc<[u8]> = self.key.as_slice().into();
        let flight = Flight::new(group, upstream_query, Some(waiter), now + DEADLINE);
        self.hedge_credit = (self.hedge_credit + 1).min(HEDGE_CREDIT);
        let id = self.launch(flight, Some(key));
        self.ask_next(id, now, effects);
        self.limit_wait(id, now);
    }

    pub(super) fn launch(&mut self, mut flight: Flight<C>, key: Option<Arc<[u8]>>) -> u64 {
        let id = self.next_flight;
        self.next_flight += 1;
        if let Some(key) = &key {
            self.joinable.insert(Arc::clone(key), id);
        }
        flight.key = key;
        self.flights.insert(id, flight);
        id
    }

    pub(super) fn finish<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        answer: Answer,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.end(id) else {
            return;
        };
        let Some(group) = self.groups.get_mut(flight.group) else {
            return self.pass_on(&flight, &answer, None, effects);
        };
        let lifetimes = group.lifetimes;
        if group.answered(flight.is_probe, now, effects) {
            self.failures.clear();
        }
        if self.distrust(&flight, &answer, &lifetimes, now, effects) {
            return;
        }
        self.pass_on(&flight, &answer, None, effects);
        if let Some(key) = &flight.key {
            self.failures.forget(key);
            self.cache.put(key, answer, &lifetimes, now);
        }
    }

    /// Sends an upstream's answer to all who wait, with the reason if it is an error.
    fn pass_on<E: Effects<Client = C>>(
        &mut self,
        flight: &Flight<C>,
        answer: &Answer,
        reason: Option<ExtendedError>,
        effects: &mut E,
    ) {
        for waiter in flight.waiters.iter() {
            let limit = limit(waiter.transport, waiter.udp_size);
            self.counts.truncated += u64::from(answer.len() > limit);
            self.counts.response(answer.rcode);
            answer.write(&mut self.out, waiter.id, waiter.name(), 0, limit);
            if let Some(reason) = reason {
                answer.explain(&mut self.out, reason, limit);
            }
            effects.reply(waiter.client, &self.out);
        }
    }

    pub(super) fn finish_without_answer<E: Effects<Client = C>>(
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
            let server = asked.map(|upstream| &*upstream.server);
            group.failed(
                flight.is_probe,
                server,
                flight.last_word.as_ref(),
                now,
                effects,
            );
        }
        let (rcode, answer) = match &flight.last_word {
            Some(LastWord::Answer(answer)) => (answer.rcode, Some(answer)),
            Some(LastWord::Failure(Failure::Unhelpful(rcode))) => (*rcode, None),
            _ => (Rcode::SERVFAIL, None),
        };
        if self.settle_stale(&flight, rcode, reason, now, effects) {
            return;
        }
        if let Some(answer) = answer {
            return self.pass_on(&flight, answer, Some(reason), effects);
        }
        for waiter in flight.waiters.iter() {
            self.fail(waiter, &flight.query, rcode, reason, effects);
        }
    }

    /// Takes a flight off the lists.
    fn end(&mut self, id: u64) -> Option<Flight<C>> {
        let flight = self.flights.remove(&id)?;
        for place in flight.exchanges.iter() {
            match self.exchanges.get_mut(place) {
                Some(exchange) if !exchange.is_overdue => {
                    // Nobody waits for it any more, but whether it comes says how its upstream is.
                    exchange.flight = None;
                    self.expect_in_time(*place);
                }
                _ => drop(self.exchanges.remove(place)),
            }
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
}

/// The most bytes of an answer to a client.
pub(super) fn limit(transport: Transport, udp_size: Option<u16>) -> usize {
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
pub(super) fn key_name(key: &[u8]) -> &[u8] {
    let end = wire::plain_name_end(key, KEY_NAME).unwrap_or(key.len());
    key.get(KEY_NAME..end).unwrap_or_default()
}
