//! Questions to upstreams.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Effects, Forwarder, HEDGE_COST, STREAM_LANE, TCP_PATIENCE, Timer, UpstreamId, WAKE_CHECK,
    WAKE_PATIENCE,
};
use crate::config::{DnsProtocol, Order, Server};
use crate::dns::flight::{Exchange, LastWord};
use crate::dns::group::Choice;
use crate::dns::message::ExtendedError;
use crate::dns::upstream::{Failure, Upstream};
use crate::tunnel::PathState;

impl<C: Copy + PartialEq> Forwarder<C> {
    /// Asks the next upstream of a flight, or ends it.
    pub(super) fn ask_next<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        now: Instant,
        effects: &mut E,
    ) {
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
                    self.try_others(id, upstream, now, effects);
                }
                self.ask(id, upstream, is_idle, now, effects);
            }
            Choice::PathDown => {
                self.remember(id, Failure::PathDown);
                self.finish_without_answer(id, ExtendedError::PEER_DOWN, now, effects);
            }
            Choice::Exhausted => {
                let last_word = flight.last_word.as_ref();
                let reason = last_word.map_or(ExtendedError::NO_ANSWER, LastWord::reason);
                self.finish_without_answer(id, reason, now, effects);
            }
            Choice::Empty => {
                self.finish_without_answer(id, ExtendedError::NO_UPSTREAM, now, effects);
            }
        }
    }

    pub(super) fn ask<E: Effects<Client = C>>(
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
        let patience = upstream.patience();
        let hedge_after = upstream.hedge_after();
        if is_idle {
            effects.wake(upstream.ip());
            flight.wake_until.get_or_insert(now + WAKE_PATIENCE);
        }
        let is_first = flight.asked.is_empty();
        flight.asked.push(upstream_id);
        upstream.asked(now);
        let query = Arc::clone(&flight.query);
        let server = Arc::clone(&upstream.server);
        let place = self.send(upstream_id, &server, Some(id), &query, now, effects);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.exchanges.push(place);
        }
        if is_idle {
            self.expect(place, now + WAKE_CHECK);
        } else if is_first {
            // Most are answered by then, and need no other timer.
            let timer = Timer::Hedge { flight: id };
            self.timers.push(Reverse((now + hedge_after, timer)));
        } else {
            self.expect(place, now + patience);
        }
    }

    /// Judges an exchange at `at`.
    pub(super) fn expect(&mut self, place: (u32, u16), at: Instant) {
        if let Some(exchange) = self.exchanges.get(&place) {
            let serial = exchange.serial;
            let timer = Timer::Exchange { place, serial };
            self.timers.push(Reverse((at, timer)));
        }
    }

    /// Judges an exchange when its upstream has had its time.
    pub(super) fn expect_in_time(&mut self, place: (u32, u16)) {
        let patience = self.upstreams.get(&place.0).map(Upstream::patience);
        if let (Some(patience), Some(exchange)) = (patience, self.exchanges.get(&place)) {
            self.expect(place, exchange.sent + patience);
        }
    }

    /// Asks a second upstream as well when the first is slow, while there is credit for it.
    pub(super) fn hedge<E: Effects<Client = C>>(&mut self, id: u64, now: Instant, effects: &mut E) {
        let place = match self.flights.get(&id) {
            Some(flight) if flight.asked.len() == 1 => flight.exchanges.last().copied(),
            _ => return,
        };
        let Some(place) = place else {
            return;
        };
        self.expect_in_time(place);
        let Some(flight) = self.flights.get(&id).filter(|flight| !flight.is_probe) else {
            return;
        };
        let Some(group) = self.groups.get(flight.group) else {
            return;
        };
        if self.hedge_credit < HEDGE_COST {
            return;
        }
        let choice = group.choose(&flight.asked, &mut self.upstreams, now, effects);
        let Choice::Ask { upstream, is_idle } = choice else {
            return;
        };
        let is_better = self
            .upstreams
            .get(&upstream)
            .is_some_and(|upstream| !upstream.is_suspect());
        if upstream != place.0 && is_better && !is_idle {
            self.hedge_credit -= HEDGE_COST;
            self.counts.hedged += 1;
            self.ask(id, upstream, false, now, effects);
        }
    }

    /// Whether an upstream is still to answer a flight in time.
    pub(super) fn is_waiting(&self, flight: u64) -> bool {
        let Some(flight) = self.flights.get(&flight) else {
            return false;
        };
        let mut exchanges = flight.exchanges.iter();
        exchanges.any(|place| {
            self.exchanges
                .get(place)
                .is_some_and(|exchange| !exchange.is_overdue)
        })
    }

    /// Sends a question with an ID that is free, and returns the place of the exchange.
    fn send<E: Effects<Client = C>>(
        &mut self,
        upstream: u32,
        server: &Arc<Server>,
        flight: Option<u64>,
        query: &Arc<[u8]>,
        now: Instant,
        effects: &mut E,
    ) -> (u32, u16) {
        let id = loop {
            let id = effects.random() as u16;
            if !self.exchanges.contains_key(&(upstream, id)) {
                break id;
            }
        };
        let is_stream = server.protocol != DnsProtocol::Udp;
        let lane = if is_stream { STREAM_LANE } else { self.lane };
        self.open_exchange((upstream, id), flight, lane, query, now);
        self.out.clear();
        self.out.extend_from_slice(query);
        self.out[..2].copy_from_slice(&id.to_be_bytes());
        if is_stream {
            effects.send_stream(UpstreamId(upstream), server, &self.out);
        } else {
            effects.send(UpstreamId(upstream), server, lane, &self.out);
        }
        (upstream, id)
    }

    fn open_exchange(
        &mut self,
        place: (u32, u16),
        flight: Option<u64>,
        lane: u8,
        query: &Arc<[u8]>,
        now: Instant,
    ) {
        self.next_exchange += 1;
        let exchange = Exchange {
            serial: self.next_exchange,
            flight,
            is_overdue: false,
            lane,
            sent: now,
            query: Arc::clone(query),
        };
        self.exchanges.insert(place, exchange);
    }

    /// Sends copies of a question to the upstreams that failed lately, where it is time to see
    /// whether they are back, and to those of which it has to be known how fast they are; no
    /// client waits for those.
    fn try_others<E: Effects<Client = C>>(
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
                        let path = effects.path(upstream.ip());
                        let is_slept = matches!(path, PathState::Idle | PathState::Down);
                        let is_candidate = group.order == Order::Fastest
                            && !upstream.is_suspect()
                            && upstream.is_unmeasured(now)
                            && !is_slept;
                        is_candidate || upstream.is_due(now) && path != PathState::Down
                    })
            })
            .collect();
        for member in due {
            let Some(upstream) = self.upstreams.get_mut(&member) else {
                continue;
            };
            upstream.on_trial = true;
            upstream.asked(now);
            let (server, patience) = (Arc::clone(&upstream.server), upstream.patience());
            let place = self.send(member, &server, None, &query, now, effects);
            self.expect(place, now + patience);
        }
    }

    pub(super) fn ask_over_tcp<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        upstream: u32,
        now: Instant,
        effects: &mut E,
    ) {
        let (Some(flight), Some(server)) = (
            self.flights.get_mut(&id),
            self.upstreams
                .get(&upstream)
                .map(|upstream| Arc::clone(&upstream.server)),
        ) else {
            return;
        };
        let exchange = loop {
            let id = effects.random() as u16;
            if !self.exchanges.contains_key(&(upstream, id)) {
                break id;
            }
        };
        let place = (upstream, exchange);
        flight.asked.push(upstream);
        flight.exchanges.push(place);
        let query = Arc::clone(&flight.query);
        self.open_exchange(place, Some(id), STREAM_LANE, &query, now);
        self.expect(place, now + TCP_PATIENCE);
        self.out.clear();
        self.out.extend_from_slice(&query);
        self.out[..2].copy_from_slice(&exchange.to_be_bytes());
        effects.send_stream(UpstreamId(upstream), &server, &self.out);
    }
}
