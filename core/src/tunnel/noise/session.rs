//! A session: the keys that one handshake gave, a half for each direction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::crypto::{Key, TAG};
use super::messages::{DATA, TYPE, bytes, data, data_index};
use super::replay::Window;
use super::{EngineError, OVERHEAD};
use crate::tunnel::packet;

/// A session takes and gives packets for this long (Reject-After-Time).
pub(super) const REJECT_AFTER: Duration = Duration::from_secs(180);
/// A session takes and gives no packet with this counter or a greater one
/// (Reject-After-Messages).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// After so many packets there should be a new session (Rekey-After-Messages).
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;

/// The half of a session that seals. Threads share it without a lock: what they share of it is the
/// counter.
pub struct Sending {
    key: Key,
    /// What the peer calls the session.
    index: u32,
    began: Duration,
    counter: AtomicU64,
}

impl Sending {
    pub(super) fn new(key: Key, index: u32, began: Duration) -> Self {
        Self {
            key,
            index,
            began,
            counter: AtomicU64::new(0),
        }
    }

    /// When it ends.
    pub(super) fn ends(&self) -> Duration {
        self.began + REJECT_AFTER
    }

    /// Whether packets can be sealed now.
    pub fn is_usable(&self, now: Duration) -> bool {
        now < self.ends() && self.counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// Whether so many packets were sealed that there should be a new session.
    pub fn is_worn(&self) -> bool {
        self.counter.load(Ordering::Relaxed) >= REKEY_AFTER_MESSAGES
    }

    /// Seals in place: `datagram` has 16 bytes of room, the packet of this length (0: a
    /// keepalive), its padding, and 16 bytes of room.
    ///
    /// # Panics
    /// When `datagram` is not [`OVERHEAD`] bytes longer than the packet at least.
    pub fn seal(
        &self,
        now: Duration,
        datagram: &mut [u8],
        length: usize,
    ) -> Result<(), EngineError> {
        // Looked at before counting, so that no number of tries makes the counter start over.
        if !self.is_usable(now) {
            return Err(EngineError::NoSession);
        }
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(EngineError::NoSession);
        }
        let (header, rest) = datagram.split_at_mut(data::HEADER);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG);
        header[TYPE].copy_from_slice(&DATA);
        header[data::RECEIVER].copy_from_slice(&self.index.to_le_bytes());
        header[data::COUNTER].copy_from_slice(&counter.to_le_bytes());
        text[length..].fill(0);
        tag.copy_from_slice(&self.key.seal(counter, &[], text));
        Ok(())
    }
}

/// The half of a session that opens.
pub(super) struct Receiving {
    key: Key,
    /// What we call the session.
    index: u32,
    began: Duration,
    window: Window,
}

impl Receiving {
    pub(super) fn new(key: Key, index: u32, began: Duration) -> Self {
        Self {
            key,
            index,
            began,
            window: Window::default(),
        }
    }

    fn is_usable(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) < REJECT_AFTER
    }

    /// Opens in place; returns the length of the packet.
    fn open(&mut self, now: Duration, datagram: &mut [u8]) -> Result<usize, EngineError> {
        let counter = u64::from_le_bytes(bytes(datagram, data::COUNTER));
        if !self.is_usable(now) || counter >= REJECT_AFTER_MESSAGES {
            return Err(EngineError::NoSession);
        }
        let sealed = &mut datagram[data::HEADER..];
        let opened = self.key.open(counter, &[], sealed);
        let opened = opened.ok_or(EngineError::NotAuthentic)?;
        if !self.window.note(counter) {
            return Err(EngineError::Replayed);
        }
        Ok(packet::stated_length(opened))
    }
}

/// What was in an authentic datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The length of the inner packet, which begins at [`Opened::PACKET`] of the datagram; 0: a
    /// keepalive, or no IP packet.
    pub length: usize,
    /// Whether it is the first in a session that the peer asked for:
    /// [`Engine::confirm`](super::Engine::confirm).
    pub confirms: bool,
}

impl Opened {
    /// Where the inner packet begins in the datagram.
    pub const PACKET: usize = data::HEADER;
}

/// The sessions with a peer that datagrams may still come in.
#[derive(Default)]
pub struct Receivers {
    /// That the peer asked for and has not used yet.
    next: Option<Box<Receiving>>,
    current: Option<Box<Receiving>>,
    previous: Option<Box<Receiving>>,
}

impl Receivers {
    /// Opens a datagram for this peer in place.
    pub fn open(&mut self, now: Duration, datagram: &mut [u8]) -> Result<Opened, EngineError> {
        let index = data_index(datagram).ok_or(EngineError::NotAuthentic)?;
        let is_it = |session: &&mut Box<Receiving>| session.index == index;
        let old = [&mut self.current, &mut self.previous];
        if let Some(session) = old.into_iter().flatten().find(is_it) {
            let length = session.open(now, datagram)?;
            return Ok(Opened {
                length,
                confirms: false,
            });
        }
        let next = self.next.as_mut().filter(|session| session.index == index);
        let length = next.ok_or(EngineError::NoSession)?.open(now, datagram)?;
        self.previous = self.current.take();
        self.current = self.next.take();
        Ok(Opened {
            length,
            confirms: true,
        })
    }

    /// A session that we asked for.
    pub(super) fn add_asked(&mut self, session: Receiving) {
        // One that the peer asked for meanwhile may be in use already.
        self.previous = self.next.take().or(self.current.take());
        self.current = Some(Box::new(session));
    }

    /// A session that the peer asked for.
    pub(super) fn add_answered(&mut self, session: Receiving) {
        self.previous = None;
        self.next = Some(Box::new(session));
    }

    pub(super) fn has(&self, index: u32) -> bool {
        let all = [&self.next, &self.current, &self.previous];
        all.into_iter()
            .flatten()
            .any(|session| session.index == index)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_none() && self.current.is_none() && self.previous.is_none()
    }

    /// Forgets those that no longer take anything.
    pub(super) fn expire(&mut self, now: Duration) {
        for slot in [&mut self.next, &mut self.current, &mut self.previous] {
            slot.take_if(|session| !session.is_usable(now));
        }
    }
}

/// Room that is enough for [`Sending::seal`] with no padding.
const _: () = assert!(OVERHEAD == data::HEADER + TAG);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_end_before_they_start_over() {
        let mut datagram = [0; OVERHEAD];
        let now = Duration::from_secs(1);
        let sending = Sending::new(Key::new(&[1; 32]), 7, now);
        sending
            .counter
            .store(REJECT_AFTER_MESSAGES - 1, Ordering::Relaxed);
        assert!(sending.is_worn());
        assert_eq!(sending.seal(now, &mut datagram, 0), Ok(()));
        for _ in 0..10_000 {
            let refused = sending.seal(now, &mut datagram, 0);
            assert_eq!(refused, Err(EngineError::NoSession));
        }
        let mut receiving = Receiving::new(Key::new(&[1; 32]), 7, now);
        assert_eq!(receiving.open(now, &mut datagram), Ok(0));
        // The same key, with a counter that no peer may use.
        let tag = sending.key.seal(REJECT_AFTER_MESSAGES, &[], &mut []);
        datagram[8..16].copy_from_slice(&REJECT_AFTER_MESSAGES.to_le_bytes());
        datagram[16..].copy_from_slice(&tag);
        let refused = receiving.open(now, &mut datagram);
        assert_eq!(refused, Err(EngineError::NoSession));
    }
}
