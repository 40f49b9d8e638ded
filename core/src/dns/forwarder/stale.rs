//! Answers beyond their end, and answers that are asked for again before it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clients::{key_name, limit};
use super::{DEADLINE, Effects, Forwarder, MAX_FLIGHTS, Timer};
use crate::config::Lifetimes;
use crate::dns::answer::Answer;
use crate::dns::failures::Verdict;
use crate::dns::few::Few;
use crate::dns::flight::{Flight, LastWord, Waiter};
use crate::dns::group::Choice;
use crate::dns::message::{self, ExtendedError};
use crate::dns::upstream::Upstream;
use crate::dns::wire::{Query, Rcode};

/// How long a client waits before it is given a stale answer, if there is one: as long as an
/// upstream of which nothing is known has to answer. Longer than a good one takes; less than the
/// 1.8 s of RFC 8767, 5, which not every resolver library waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same while the upstream that is asked is known to fail.
const LITTLE_PATIENCE: Duration = Duration::from_millis(200);

impl<C: Copy + PartialEq> Forwarder<C> {
    /// Sets a time at which who waits for a flight is given a stale answer, if there is one.
    pub(super) fn limit_wait(&mut self, id: u64, now: Instant) {
        let Some(flight) = self.flights.get(&id) else {
            return;
        };
        let Some((key, group)) = flight.key.as_ref().zip(self.groups.get(flight.group)) else {
            return;
        };
        if self.cache.stale(key, group.lifetimes.stale, now).is_none() {
            return;
        }
        let asked = flight.asked.last();
        let asked = asked.and_then(|asked| self.upstreams.get(asked));
        let patience = if asked.is_some_and(Upstream::is_suspect) {
            LITTLE_PATIENCE
        } else {
            PATIENCE
        };
        let timer = Timer::Stale { flight: id };
        self.timers.push(Reverse((now + patience, timer)));
    }

    /// Who waits for a flight has waited long enough; the flight goes on.
    pub(super) fn wait_no_more<E: Effects<Client = C>>(
        &mut self,
        id: u64,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let Some(key) = &flight.key else {
            return;
        };
        flight.is_late = true;
        self.key.clear();
        self.key.extend_from_slice(key);
        let group = flight.group;
        let mut left = std::mem::take(&mut flight.waiters);
        left.retain(|waiter| {
            !self.reply_stale(waiter, group, ExtendedError::NO_ANSWER, now, effects)
        });
        // The cache may have made room for others meanwhile: who got nothing waits on.
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.waiters = left;
        }
    }

    /// Answers a question, whose key is in `self.key`, with what is known from before, if anything
    /// is.
    pub(super) fn reply_stale<E: Effects<Client = C>>(
        &mut self,
        waiter: &Waiter<C>,
        group: u32,
        reason: ExtendedError,
        now: Instant,
        effects: &mut E,
    ) -> bool {
        let Some(lifetimes) = self.groups.get(group).map(|group| group.lifetimes) else {
            return false;
        };
        let is_distrusted = self
            .failures
            .held(&self.key, now)
            .is_some_and(|verdict| verdict.is_distrusted);
        let afterlife = if is_distrusted {
            lifetimes.stale_on_nxdomain
        } else {
            lifetimes.stale
        };
        let Some(answer) = self.cache.stale(&self.key, afterlife, now) else {
            return false;
        };
        let limit = limit(waiter.transport, waiter.udp_size);
        let ttl = lifetimes.stale_ttl;
        let name = waiter.name();
        answer.write_stale(&mut self.out, waiter.id, name, ttl, limit);
        let reason = reason.stale(answer.rcode == Rcode::NXDOMAIN);
        answer.explain(&mut self.out, reason, limit);
        self.counts.stale += 1;
        self.counts.truncated += u64::from(answer.len() > limit);
        self.counts.response(answer.rcode);
        effects.reply(waiter.client, &self.out);
        true
    }

    /// Ends a flight that no upstream answered with a stale answer, if there is one, and remembers
    /// that it failed.
    pub(super) fn settle_stale<E: Effects<Client = C>>(
        &mut self,
        flight: &Flight<C>,
        rcode: Rcode,
        reason: ExtendedError,
        now: Instant,
        effects: &mut E,
    ) -> bool {
        let Some((key, group)) = flight.key.as_ref().zip(self.groups.get(flight.group)) else {
            return false;
        };
        let afterlife = group.lifetimes.stale;
        let has_stale = self.cache.stale(key, afterlife, now).is_some();
        let is_spoken = flight.last_word.as_ref().is_some_and(LastWord::is_spoken);
        // Of an upstream that is silent others know already, and a tunnel may come up any moment.
        if !flight.asked.is_empty() && (is_spoken || has_stale) {
            let verdict = Verdict {
                rcode,
                reason,
                is_distrusted: false,
            };
            self.failures.failed(key, verdict, has_stale, now);
        }
        if has_stale {
            self.give_stale(flight, key, reason, now, effects);
        }
        has_stale
    }

    fn give_stale<E: Effects<Client = C>>(
        &mut self,
        flight: &Flight<C>,
        key: &Arc<[u8]>,
        reason: ExtendedError,
        now: Instant,
        effects: &mut E,
    ) {
        self.key.clear();
        self.key.extend_from_slice(key);
        for waiter in flight.waiters.iter() {
            self.reply_stale(waiter, flight.group, reason, now, effects);
        }
    }

    /// Whether a flight's answer is an NXDOMAIN for a name that had records a short while ago, and
    /// such is not believed; who waits has been given those records then.
    pub(super) fn distrust<E: Effects<Client = C>>(
        &mut self,
        flight: &Flight<C>,
        answer: &Answer,
        lifetimes: &Lifetimes,
        now: Instant,
        effects: &mut E,
    ) -> bool {
        let Some(key) = flight
            .key
            .as_ref()
            .filter(|_| answer.rcode == Rcode::NXDOMAIN)
        else {
            return false;
        };
        let known = self.cache.stale(key, lifetimes.stale_on_nxdomain, now);
        if known.is_none_or(|known| known.is_negative) {
            return false;
        }
        self.counts.distrusted += 1;
        let reason = ExtendedError::DISTRUSTED;
        let verdict = Verdict {
            rcode: answer.rcode,
            reason,
            is_distrusted: true,
        };
        self.failures.failed(key, verdict, true, now);
        self.give_stale(flight, key, reason, now, effects);
        true
    }

    /// Asks again for a popular answer that is near its end, where that costs nobody anything: the
    /// upstream is well and no tunnel has to be woken.
    pub(super) fn refresh<E: Effects<Client = C>>(
        &mut self,
        query: &Query<'_>,
        now: Instant,
        effects: &mut E,
    ) {
        let Some(group) = self.groups.find(key_name(&self.key)) else {
            return;
        };
        let is_under_way = self.joinable.contains_key(self.key.as_slice());
        let has_failed = self.failures.held(&self.key, now).is_some();
        if is_under_way || has_failed || self.flights.len() >= MAX_FLIGHTS / 2 {
            return;
        }
        let choice = group.choose(&Few::default(), &mut self.upstreams, now, effects);
        let Choice::Ask { upstream, is_idle } = choice else {
            return;
        };
        let upstream = self.upstreams.get(&upstream);
        if is_idle || upstream.is_none_or(Upstream::is_suspect) {
            return;
        }
        self.counts.refreshed += 1;
        message::write_upstream_query(&mut self.out, query);
        let upstream_query: Arc<[u8]> = self.out.as_slice().into();
        let key: Arc<[u8]> = self.key.as_slice().into();
        let flight = Flight::new(group.id, upstream_query, None, now + DEADLINE);
        let id = self.launch(flight, Some(key));
        self.ask_next(id, now, effects);
    }
}
