//! Answers of upstreams, and their absence.

use std::sync::Arc;
use std::time::Instant;

use super::{Change, Effects, Forwarder, STREAM_LANE, UpstreamId, WAKE_CHECK};
use crate::dns::answer::{Answer, Unusable};
use crate::dns::flight::LastWord;
use crate::dns::upstream::Failure;
use crate::dns::wire::{Rcode, u16_at};
use crate::tunnel::PathState;

impl<C: Copy + PartialEq> Forwarder<C> {
    /// A datagram came from an upstream, on socket `lane`. Returns whether it was waited for.
    pub fn datagram<E: Effects<Client = C>>(
        &mut self,
        upstream: UpstreamId,
        lane: u8,
        message: &[u8],
        now: Instant,
        effects: &mut E,
    ) -> bool {
        self.answer(upstream.0, lane, message, now, effects)
    }

    /// An answer came from an upstream over a connection.
    pub fn stream_answer<E: Effects<Client = C>>(
        &mut self,
        upstream: UpstreamId,
        message: &[u8],
        now: Instant,
        effects: &mut E,
    ) {
        self.answer(upstream.0, STREAM_LANE, message, now, effects);
    }

    fn answer<E: Effects<Client = C>>(
        &mut self,
        upstream_id: u32,
        lane: u8,
        message: &[u8],
        now: Instant,
        effects: &mut E,
    ) -> bool {
        let Some(id) = u16_at(message, 0) else {
            return false;
        };
        let place = (upstream_id, id);
        let Some(exchange) = self.exchanges.get(&place).filter(|e| e.lane == lane) else {
            return false;
        };
        let parsed = Answer::parse(message, &exchange.query);
        if matches!(parsed, Err(Unusable::Foreign)) {
            return false;
        }
        let (Some(exchange), Some(upstream)) = (
            self.exchanges.remove(&place),
            self.upstreams.get_mut(&upstream_id),
        ) else {
            return false;
        };
        let latency = now.saturating_duration_since(exchange.sent);
        if exchange.flight.is_none() {
            upstream.on_trial = false;
        }
        let is_usual = (lane == STREAM_LANE) == upstream.is_stream();
        if upstream.answered(is_usual.then_some(latency), now) {
            let server = Arc::clone(&upstream.server);
            effects.changed(Change::UpstreamUp(UpstreamId(upstream_id), server));
            self.failures.clear();
        }
        let failure = match &parsed {
            Ok(answer) if matches!(answer.rcode, Rcode::SERVFAIL | Rcode::REFUSED) => {
                Some(Failure::Unhelpful(answer.rcode))
            }
            Err(Unusable::Bare(rcode)) => Some(Failure::Unhelpful(*rcode)),
            Err(Unusable::Malformed) => Some(Failure::Malformed),
            Err(Unusable::Truncated) if lane == STREAM_LANE => Some(Failure::Malformed),
            _ => None,
        };
        if let Some(failure) = &failure {
            upstream.failed(failure.clone(), exchange.sent, now);
        } else {
            upstream.helped();
        }
        let Some(flight) = exchange.flight else {
            return true;
        };
        match (parsed, failure) {
            (Ok(answer), None) => self.finish(flight, answer, now, effects),
            (Err(_), None) => self.ask_over_tcp(flight, upstream_id, now, effects),
            (parsed, Some(failure)) => {
                self.remember(flight, failure);
                if let (Some(flight), Ok(answer)) = (self.flights.get_mut(&flight), parsed) {
                    flight.last_word = Some(LastWord::Answer(answer));
                }
                self.ask_another(flight, now, effects);
            }
        }
        true
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

    /// A question over a connection failed: it could not be made or ended early.
    pub fn stream_failed<E: Effects<Client = C>>(
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

    pub(super) fn lost<E: Effects<Client = C>>(
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
                self.ask_another(id, now, effects);
            }
        }
    }

    /// Asks the next upstream of a flight, unless one is still waited for.
    fn ask_another<E: Effects<Client = C>>(&mut self, id: u64, now: Instant, effects: &mut E) {
        if !self.is_waiting(id) {
            self.ask_next(id, now, effects);
        }
    }

    pub(super) fn blame<E: Effects<Client = C>>(
        &mut self,
        upstream_id: u32,
        failure: Failure,
        sent: Instant,
        now: Instant,
        effects: &mut E,
    ) {
        if let Some(upstream) = self.upstreams.get_mut(&upstream_id)
            && upstream.failed(failure.clone(), sent, now)
        {
            let server = Arc::clone(&upstream.server);
            effects.changed(Change::UpstreamDown(
                UpstreamId(upstream_id),
                server,
                failure,
            ));
        }
    }

    pub(super) fn remember(&mut self, flight: u64, failure: Failure) {
        if let Some(flight) = self.flights.get_mut(&flight) {
            let has_answer = matches!(flight.last_word, Some(LastWord::Answer(_)));
            if !has_answer {
                flight.last_word = Some(LastWord::Failure(failure));
            }
        }
    }

    pub(super) fn exchange_timed_out<E: Effects<Client = C>>(
        &mut self,
        place: (u32, u16),
        serial: u64,
        now: Instant,
        effects: &mut E,
    ) {
        let upstream = place.0;
        let Some(exchange) = self.exchanges.get_mut(&place) else {
            return;
        };
        if exchange.serial != serial || exchange.is_overdue {
            return;
        }
        let sent = exchange.sent;
        let Some(id) = exchange.flight else {
            return self.lost(place, &Failure::Timeout, now, effects);
        };
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let upstream_of = self.upstreams.get(&upstream);
        let path = upstream_of.map(|upstream| effects.path(upstream.ip()));
        match (flight.wake_until, path) {
            (Some(until), Some(PathState::Idle)) if now < until => {
                return self.expect(place, now + WAKE_CHECK);
            }
            (Some(_), Some(PathState::Up | PathState::Direct)) => {
                // It stands now, and may have dropped what came before.
                exchange.is_overdue = true;
                flight.wake_until = None;
                flight.asked.retain(|asked| *asked != upstream);
                return self.ask(id, upstream, false, now, effects);
            }
            _ => {}
        }
        exchange.is_overdue = true;
        self.blame(upstream, Failure::Timeout, sent, now, effects);
        self.remember(id, Failure::Timeout);
        self.ask_another(id, now, effects);
    }
}
