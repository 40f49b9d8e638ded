use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use x25519_dalek::StaticSecret;

use super::crypto::{Secret, agree};
use super::handshake::{Beginning, Initiation, Keys, Pending};
use super::identity::Identity;
use super::macs::{MacKeys, Signer};
use super::messages::{self, COOKIE, TYPE, number};
use super::session::{REJECT_AFTER, Receivers, Receiving, Sending};
use super::tai64n::Tai64n;
use super::{EngineError, Random};
use crate::types::{PresharedKey, PublicKey};

/// A peer makes this host compute a handshake at most so often (the 20 ms of the kernel and of
/// wireguard-go).
const BETWEEN_INITIATIONS: Duration = Duration::from_millis(20);

/// The protocol between this host and one peer: handshakes, and the sessions that come of them.
/// When something is sent is decided by [`PeerTimers`](crate::tunnel::PeerTimers).
///
/// `now` is the time since an instant of the caller's choosing, the same for every call.
pub struct Engine {
    identity: Arc<Identity>,
    peer: PublicKey,
    preshared: Option<PresharedKey>,
    /// The number of the peer that its indices lead to.
    number: u32,
    /// Counts its sessions.
    session: u8,
    /// What both static keys agree on, once it was needed.
    static_static: Option<Secret>,
    pending: Option<Box<Asked>>,
    signer: Signer,
    /// The latest initiation of the peer, by its clock and by ours.
    taken: Option<(Tai64n, Duration)>,
    /// What our last initiation said.
    stamped: Tai64n,
    current: Option<Arc<Sending>>,
    next: Option<Arc<Sending>>,
    receivers: Opener,
}

/// A session that we have asked for.
struct Asked {
    pending: Pending,
    index: u32,
    at: Duration,
}

/// The half of a peer's sessions that opens datagrams, for the one thread that does so.
#[derive(Clone, Default)]
pub struct Opener(Arc<Mutex<Receivers>>);

impl Opener {
    /// Takes it, for one run of datagrams. The [`Engine`] must not be used meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, Receivers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a response or a cookie brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A session; the peer is to be sent something in it, so that it knows.
    Session,
    /// A cookie for the next message.
    Cookie,
}

impl Engine {
    /// `number`: 24 bits that no other peer has. What comes from the peer is opened by `receivers`.
    pub fn new(
        identity: Arc<Identity>,
        peer: PublicKey,
        preshared: Option<PresharedKey>,
        number: u32,
        receivers: Opener,
    ) -> Self {
        Self {
            identity,
            peer,
            preshared,
            number,
            session: 0,
            static_static: None,
            pending: None,
            signer: Signer::default(),
            taken: None,
            stamped: Tai64n::default(),
            current: None,
            next: None,
            receivers,
        }
    }

    /// Takes other keys: what was agreed on with the old ones ends. When the peer's last
    /// initiation was written is kept, so that none is taken twice.
    pub fn set_keys(&mut self, identity: Arc<Identity>, preshared: Option<PresharedKey>) {
        self.end();
        self.identity = identity;
        self.preshared = preshared;
        self.static_static = None;
        self.signer = Signer::default();
    }

    /// Ends all sessions and forgets their keys.
    fn end(&mut self) {
        (self.pending, self.current, self.next) = (None, None, None);
        *self.receivers.lock() = Receivers::default();
    }

    /// When [`Engine::expire`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let sessions = [&self.current, &self.next].into_iter().flatten();
        let sessions = sessions.map(|session| session.ends());
        let pending = self.pending.iter().map(|asked| asked.at + REJECT_AFTER);
        sessions.chain(pending).min()
    }

    /// Forgets sessions that have lasted their time.
    pub fn expire(&mut self, now: Duration) {
        for slot in [&mut self.current, &mut self.next] {
            slot.take_if(|session| now >= session.ends());
        }
        let old = |asked: &mut Box<Asked>| now >= asked.at + REJECT_AFTER;
        self.pending.take_if(old);
        self.receivers.lock().expire(now);
    }

    /// What packets are sealed with now; `None` without a session.
    pub fn sending(&self, now: Duration) -> Option<&Arc<Sending>> {
        self.current
            .as_ref()
            .filter(|session| session.is_usable(now))
    }

    /// Writes a handshake initiation, whose answer is the only one that is taken from now on.
    /// `wall`: the time since the first second of 1970.
    pub fn initiate(
        &mut self,
        now: Duration,
        wall: Duration,
        random: Random<'_>,
        out: &mut [u8; messages::initiation::LENGTH],
    ) -> Result<(), EngineError> {
        self.pending = None;
        let static_static = self.static_static()?;
        let ephemeral = random().ok_or(EngineError::NoRandomness)?;
        let index = self.new_index();
        // Later than the last one even when the clock was set back.
        let stamp = Tai64n::at(wall).max(self.stamped.next());
        let beginning = Beginning {
            identity: &self.identity,
            peer: &self.peer,
            static_static: &static_static,
            ephemeral: StaticSecret::from(*ephemeral),
            stamp,
            index,
        };
        let pending = beginning.write(out).ok_or(EngineError::WeakKey)?;
        self.stamped = stamp;
        self.signer.sign(now, &MacKeys::of(&self.peer), out);
        self.pending = Some(Box::new(Asked {
            pending,
            index,
            at: now,
        }));
        Ok(())
    }

    /// Takes an initiation of this peer and writes the response. The session it begins is used
    /// once the peer has: [`Engine::confirm`].
    pub fn respond(
        &mut self,
        now: Duration,
        mut initiation: Initiation,
        random: Random<'_>,
        out: &mut [u8; messages::response::LENGTH],
    ) -> Result<(), EngineError> {
        let static_static = self.static_static()?;
        let stamp = initiation.stamp(&static_static);
        let stamp = stamp.ok_or(EngineError::NotAuthentic)?;
        if let Some((latest, at)) = self.taken {
            if stamp <= latest {
                return Err(EngineError::Replayed);
            }
            if now.saturating_sub(at) < BETWEEN_INITIATIONS {
                return Err(EngineError::TooSoon);
            }
        }
        self.taken = Some((stamp, now));
        let ephemeral = random().ok_or(EngineError::NoRandomness)?;
        let ephemeral = StaticSecret::from(*ephemeral);
        let index = self.new_index();
        let remote = initiation.index();
        let keys = initiation.answer(&ephemeral, self.preshared.as_ref(), index, out);
        let keys = keys.ok_or(EngineError::WeakKey)?;
        self.signer.sign(now, &MacKeys::of(&self.peer), out);
        let (sending, receiving) = halves(keys, remote, index, now);
        self.next = Some(sending);
        self.receivers.lock().add_answered(receiving);
        Ok(())
    }

    /// The session that the peer asked for last was used by it. False where there is none.
    pub fn confirm(&mut self) -> bool {
        let confirmed = self.next.take();
        let is_new = confirmed.is_some();
        self.current = confirmed.or(self.current.take());
        is_new
    }

    /// Takes a response or a cookie that [`Identity::dispatch`] let through.
    pub fn take(&mut self, now: Duration, message: &[u8]) -> Result<Taken, EngineError> {
        if let Ok(reply) = message.try_into() {
            return self.take_cookie(now, reply);
        }
        let message = message.try_into().map_err(|_| EngineError::NotAuthentic)?;
        self.take_response(now, message)
    }

    fn take_cookie(
        &mut self,
        now: Duration,
        reply: &[u8; messages::cookie::LENGTH],
    ) -> Result<Taken, EngineError> {
        let keys = MacKeys::of(&self.peer);
        let taken = reply[TYPE] == COOKIE && self.signer.take_cookie(now, &keys, reply);
        taken
            .then_some(Taken::Cookie)
            .ok_or(EngineError::NotAuthentic)
    }

    fn take_response(
        &mut self,
        now: Duration,
        message: &[u8; messages::response::LENGTH],
    ) -> Result<Taken, EngineError> {
        let asked = self.pending.as_ref().ok_or(EngineError::NoSession)?;
        if asked.index != number(message, messages::response::RECEIVER) {
            return Err(EngineError::NoSession);
        }
        let preshared = self.preshared.as_ref();
        let keys = asked.pending.read(&self.identity, preshared, message);
        let keys = keys.ok_or(EngineError::NotAuthentic)?;
        let remote = number(message, messages::SENDER);
        let (sending, receiving) = halves(keys, remote, asked.index, now);
        // Taken once: the same response again finds nothing.
        self.pending = None;
        self.next = None;
        self.current = Some(sending);
        self.receivers.lock().add_asked(receiving);
        Ok(Taken::Session)
    }

    fn static_static(&mut self) -> Result<Secret, EngineError> {
        if self.static_static.is_none() {
            self.static_static = agree(self.identity.secret(), self.peer.as_bytes());
        }
        self.static_static.clone().ok_or(EngineError::WeakKey)
    }

    /// An index that none of this peer's sessions has.
    fn new_index(&mut self) -> u32 {
        let receivers = self.receivers.lock();
        let pending = self.pending.as_ref().map(|asked| asked.index);
        loop {
            self.session = self.session.wrapping_add(1);
            let index = self.identity.indices.of(self.number, self.session);
            if pending != Some(index) && !receivers.has(index) {
                return index;
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // What opens for it is shared, and must not outlive it.
        self.end();
    }
}

fn halves(keys: Keys, remote: u32, own: u32, now: Duration) -> (Arc<Sending>, Receiving) {
    (
        Arc::new(Sending::new(keys.sending, remote, now)),
        Receiving::new(keys.receiving, own, now),
    )
}
