//! Questions to upstreams.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Effects, Forwarder, TCP_LANE, TCP_PATIENCE, Timer, UpstreamId, WAKE_CHECK, WAKE_PATIENCE,
};
use crate::dns::flight::Exchange;
use crate::dns::group::Choice;
use crate::dns::message::ExtendedError;
use crate::dns::upstream::Failure;
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
        let mut patience = upstream.patience();
        if is_idle {
            effects.wake(upstream.address.ip());
            flight.wake_until.get_or_insert(now + WAKE_PATIENCE);
            patience = WAKE_CHECK;
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
        let id = loop {
            let id = effects.random() as u16;
            if !self.exchanges.contains_key(&(upstream, id)) {
                break id;
            }
        };
        let lane = self.lane;
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

    pub(super) fn ask_over_tcp<E: Effects<Client = C>>(
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
}
