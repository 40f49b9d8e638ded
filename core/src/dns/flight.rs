//! Questions under way.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::answer::Answer;
use super::few::Few;
use super::forwarder::Transport;
use super::message::ExtendedError;
use super::upstream::Failure;
use super::wire::Query;

/// A question that was sent upstream and is not answered.
pub(super) struct Exchange {
    /// Tells it from an earlier one with the same ID.
    pub(super) serial: u64,
    /// Who waits for it; `None`: nobody, it only shows whether the upstream answers.
    pub(super) flight: Option<u64>,
    /// Its time is over; a late answer still counts.
    pub(super) is_overdue: bool,
    pub(super) lane: u8,
    pub(super) sent: Instant,
    pub(super) query: Arc<[u8]>,
}

/// A client that waits, with what makes its answer differ from the others'.
pub(super) struct Waiter<C> {
    pub(super) client: C,
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) transport: Transport,
    /// `None` without EDNS.
    pub(super) udp_size: Option<u16>,
    pub(super) dnssec_ok: bool,
    /// Holds the name as it wrote it.
    text: Arc<[u8]>,
    name: Range<usize>,
}

impl<C> Waiter<C> {
    /// Who asked `query`; its name is what `text` holds from `name_at` on.
    pub(super) fn new(
        client: C,
        query: &Query<'_>,
        transport: Transport,
        text: Arc<[u8]>,
        name_at: usize,
    ) -> Self {
        Self {
            client,
            id: query.id,
            flags: query.flags,
            transport,
            udp_size: query.edns.map(|edns| edns.udp_size),
            dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
            text,
            name: name_at..name_at + query.name.len(),
        }
    }

    /// The name as the client wrote it.
    pub(super) fn name(&self) -> &[u8] {
        &self.text[self.name.clone()]
    }
}

/// The last that was heard of a question which no upstream answered well.
pub(super) enum LastWord {
    /// SERVFAIL or REFUSED, to be passed on when nothing better comes.
    Answer(Answer),
    /// Not even that.
    Failure(Failure),
}

impl LastWord {
    /// What a client is told about it.
    pub(super) fn reason(&self) -> ExtendedError {
        match self {
            Self::Answer(_) | Self::Failure(Failure::Unhelpful(_)) => ExtendedError::UNHELPFUL,
            Self::Failure(Failure::Timeout) => ExtendedError::NO_ANSWER,
            Self::Failure(Failure::Unreachable(_)) => ExtendedError::UNREACHABLE,
            Self::Failure(Failure::Malformed) => ExtendedError::MALFORMED,
            Self::Failure(Failure::PathDown) => ExtendedError::PEER_DOWN,
        }
    }

    /// Whether an upstream did answer, but not well.
    pub(super) fn is_spoken(&self) -> bool {
        !matches!(
            self,
            Self::Failure(Failure::Timeout | Failure::Unreachable(_) | Failure::PathDown)
        )
    }
}

/// A question with all who wait for its answer.
pub(super) struct Flight<C> {
    pub(super) group: u32,
    /// What is sent, with ID 0.
    pub(super) query: Arc<[u8]>,
    /// What it is joined and cached by; `None` for a probe.
    pub(super) key: Option<Arc<[u8]>>,
    pub(super) is_probe: bool,
    /// Who waits long enough was given a stale answer; so is who comes later.
    pub(super) is_late: bool,
    pub(super) waiters: Few<Waiter<C>>,
    /// The upstreams in the order in which they were asked.
    pub(super) asked: Few<u32>,
    /// What was sent for it, by upstream and ID.
    pub(super) exchanges: Few<(u32, u16)>,
    pub(super) deadline: Instant,
    /// Until when an idle tunnel may come up.
    pub(super) wake_until: Option<Instant>,
    pub(super) last_word: Option<LastWord>,
}

impl<C> Flight<C> {
    pub(super) fn new(
        group: u32,
        query: Arc<[u8]>,
        waiter: Option<Waiter<C>>,
        deadline: Instant,
    ) -> Self {
        let mut waiters = Few::default();
        waiter.into_iter().for_each(|waiter| waiters.push(waiter));
        Self {
            group,
            query,
            key: None,
            is_probe: false,
            is_late: false,
            waiters,
            asked: Few::default(),
            exchanges: Few::default(),
            deadline,
            wake_until: None,
            last_word: None,
        }
    }
}
