//! What the threads of a device share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use nix::sys::eventfd::EventFd;
use seedwire_core::tunnel::noise::Identity;
use seedwire_core::tunnel::{AllowedIps, PathState, Paths, PeerState, Refusal};
use seedwire_core::types::{InterfaceName, PublicKey};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::clock::Clock;
use super::error::Failure;
use super::offload::Offload;
use super::peer::Peer;
use super::state::State;
use super::udp::Udp;

/// A thread that panics is fatal for the device, so what it leaves behind a lock is never relied
/// on for long.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 32 random bytes for the protocol.
pub(super) fn random() -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut bytes[..]).ok().map(|()| bytes)
}

/// The time that handshakes state: since the first second of 1970.
pub(super) fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

/// A device, as its threads and handles see it.
pub(super) struct Shared {
    pub(super) name: InterfaceName,
    /// What packets are padded up to at most.
    pub(super) mtu: AtomicUsize,
    /// The most that the link's MTU may be as far as is known without probes.
    pub(super) most: AtomicU16,
    pub(super) udp: ArcSwapOption<Udp>,
    pub(super) table: ArcSwap<Table>,
    pub(super) state: Mutex<State>,
    pub(super) schedule: Schedule,
    /// Wakes the UDP thread: the sockets are others now.
    pub(super) rebound: EventFd,
    /// Readable once the device stops.
    pub(super) stop: EventFd,
    pub(super) stopping: AtomicBool,
    pub(super) changes: watch::Sender<u64>,
    pub(super) failure: Mutex<Option<Failure>>,
    /// Bytes of packets that wait for a handshake, of all peers.
    pub(super) staged: AtomicUsize,
    pub(super) offload: Offload,
    /// Whether the TUN link gives runs of TCP and of UDP as one packet.
    pub(super) tun_offloads: (bool, bool),
    /// Runs of datagrams that were refused and sent one by one.
    pub(super) refused_runs: AtomicU64,
    pub(super) refused: Refused,
    pub(super) clock: Clock,
}

/// Who is who, for the packet threads: replaced whole, never changed.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) identity: Option<Arc<Identity>>,
    /// The index of the peer that a prefix belongs to.
    pub(super) allowed: Arc<AllowedIps<u32>>,
    pub(super) by_index: HashMap<u32, Arc<Peer>>,
    pub(super) by_key: HashMap<PublicKey, Arc<Peer>>,
}

impl Table {
    pub(super) fn peer_of(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_index.get(&self.allowed.lookup(address)?)
    }
}

impl Shared {
    /// The time that peers are told: since the device was made.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Tells those who watch that something changed.
    pub(super) fn tick(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Ends the device; the first reason stays.
    pub(super) fn fail(&self, failure: Failure) {
        if !self.is_stopping() {
            lock(&self.failure).get_or_insert(failure);
            self.tick();
        }
    }

    pub(super) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // The counter is never read, so it stays readable for every thread.
        let _ = self.stop.write(1);
        self.schedule.wake();
        self.tick();
    }
}

impl Paths for Shared {
    fn state(&self, to: IpAddr) -> PathState {
        match self.table.load().peer_of(to).map(|peer| peer.state()) {
            None => PathState::Direct,
            Some(PeerState::Idle) => PathState::Idle,
            Some(PeerState::Up) => PathState::Up,
            Some(PeerState::Down) => PathState::Down,
        }
    }

    fn wake(&self, to: IpAddr) {
        if let Some(peer) = self.table.load().peer_of(to) {
            peer.wake(self);
        }
    }
}

/// How many datagrams were dropped, by reason.
#[derive(Default)]
pub(super) struct Refused([AtomicU64; Refusal::ALL.len()]);

impl Refused {
    pub(super) fn count(&self, refusal: Refusal) {
        self.0[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all(&self) -> Vec<(Refusal, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Refusal::ALL.into_iter().zip(counts).collect()
    }
}

/// When which peer is to be looked at next.
#[derive(Default)]
pub(super) struct Schedule {
    due: Mutex<BinaryHeap<Reverse<(Duration, u32)>>>,
    earlier: Condvar,
}

impl Schedule {
    pub(super) fn add(&self, at: Duration, peer: u32) {
        let mut due = lock(&self.due);
        let first = due.peek().is_none_or(|Reverse((first, _))| at < *first);
        due.push(Reverse((at, peer)));
        if first {
            self.earlier.notify_one();
        }
    }

    fn wake(&self) {
        let _held = lock(&self.due);
        self.earlier.notify_one();
    }
}

/// The thread that looks at each peer when its time has come.
pub(super) fn run_timers(shared: &Shared) {
    while !shared.is_stopping() {
        let mut due = lock(&shared.schedule.due);
        let now = shared.now();
        match due.peek() {
            Some(Reverse((at, _))) if *at <= now => {
                let index = due.pop().map(|Reverse((_, index))| index);
                drop(due);
                let table = shared.table.load();
                if let Some(peer) = index.and_then(|index| table.by_index.get(&index)) {
                    peer.on_due(shared);
                }
            }
            first => {
                let most = Duration::from_secs(3600);
                let wait = first.map_or(most, |Reverse((at, _))| (*at - now).min(most));
                if !shared.is_stopping() {
                    drop(shared.schedule.earlier.wait_timeout(due, wait));
                }
            }
        }
    }
}

/// A [`Duration`] that several threads lower and one resets.
pub(super) struct Earliest(AtomicU64);

impl Earliest {
    pub(super) fn never() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    pub(super) fn reset(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    /// True when `at` is earlier than what was there.
    pub(super) fn lower(&self, at: Duration) -> bool {
        let at = at.as_nanos() as u64;
        self.0.fetch_min(at, Ordering::AcqRel) > at
    }
}
