//! Sealed datagrams on their way out: those for one place go together.

use std::sync::Arc;

use super::peer::Peer;
use super::shared::Shared;
use super::udp::{LONGEST, MOST_SEGMENTS, Place};

/// Datagrams for one peer, side by side: all as long as the first, the last maybe shorter.
pub(super) struct Batch {
    datagrams: Box<[u8]>,
    length: usize,
    segment: usize,
    count: usize,
    to: Option<(Arc<Peer>, Place)>,
}

impl Batch {
    /// Room for one send, and for one datagram of this length behind it.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            datagrams: vec![0; LONGEST + longest].into_boxed_slice(),
            length: 0,
            segment: 0,
            count: 0,
            to: None,
        }
    }

    /// The room for a datagram of this length to there. What there is is sent first where it can't
    /// go together.
    pub(super) fn room(
        &mut self,
        shared: &Shared,
        peer: &Arc<Peer>,
        place: Place,
        length: usize,
    ) -> &mut [u8] {
        let fits = match &self.to {
            None => true,
            Some((to, at)) => {
                let closed = self.length < self.count * self.segment;
                Arc::ptr_eq(to, peer)
                    && *at == place
                    && !closed
                    && length <= self.segment
                    && self.count < MOST_SEGMENTS
                    && self.length + length <= LONGEST
            }
        };
        if !fits {
            self.send(shared);
        }
        &mut self.datagrams[self.length..self.length + length]
    }

    /// The first `length` bytes of that room are a datagram.
    pub(super) fn add(&mut self, peer: &Arc<Peer>, place: Place, length: usize) {
        if self.to.is_none() {
            self.to = Some((Arc::clone(peer), place));
            self.segment = length;
        }
        self.length += length;
        self.count += 1;
    }

    /// Sends what there is.
    pub(super) fn send(&mut self, shared: &Shared) {
        if let Some((peer, place)) = self.to.take() {
            peer.send_run(shared, place, &self.datagrams[..self.length], self.segment);
            (self.length, self.count) = (0, 0);
        }
    }
}
