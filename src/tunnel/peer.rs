//! One peer: its engine, its timers and where it is.

use std::collections::VecDeque;
use std::io;
use std::iter::Peekable;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use seedwire_core::tunnel::{
    Action, Engine, EngineError, HANDSHAKE_ROOM, OVERHEAD, Opened, PeerState, PeerTimers, Policy,
    Roaming, offload::Segments, packet,
};
use seedwire_core::types::PublicKey;
use tracing::{debug, info, warn};

use super::batch::Batch;
use super::noise::{Noise, data_index};
use super::offload::Refusal;
use super::shared::{Earliest, Shared, lock};
use super::udp::{Place, is_of_this_host};

/// The most packets, and the most bytes of all peers, that wait for a handshake.
const MOST_STAGED: usize = 128;
const MOST_STAGED_BYTES: usize = 4 << 20;

/// So many handshakes in a row that are too old are told.
const MOST_OUTDATED: u32 = 3;

/// A peer. The packet threads hold its lock for one run of packets at a time.
pub(super) struct Peer {
    pub(super) key: PublicKey,
    /// 24 random bits; its sessions carry them above a session number.
    pub(super) index: u32,
    state: AtomicU8,
    due: Earliest,
    pub(super) received: AtomicU64,
    pub(super) transmitted: AtomicU64,
    /// Which runs of datagrams the way to it does not take in one call.
    refusal: Refusal,
    pub(super) live: Mutex<Live>,
}

/// What changes as packets pass.
pub(super) struct Live {
    pub(super) name: String,
    /// Absent while this host has no private key, and once the peer is removed.
    pub(super) engine: Option<Noise>,
    pub(super) timers: PeerTimers,
    pub(super) place: Option<Place>,
    pub(super) last_handshake: Option<SystemTime>,
    pub(super) took: Option<Duration>,
    /// Since the peer moved first.
    roaming: Option<Box<Roaming>>,
    /// How often the key was seen in use from two endpoints in turn.
    pub(super) in_turn: u64,
    /// How many handshakes of the peer were older than its last one, since that.
    outdated: u32,
    staged: VecDeque<Vec<u8>>,
}

/// The most datagrams that are opened before the other direction gets its turn.
const MOST_OPENED: usize = 64;

/// How far a run of packets was sealed.
enum Sealed {
    All,
    /// There was no more room.
    Part,
    /// Nothing was: there is no address to send to, or none that the tunnel itself is not the way
    /// to.
    NoPlace,
}

/// Where inner packets lie in a buffer.
#[derive(Default)]
pub(super) struct Opening {
    packets: Vec<Range<usize>>,
}

impl Opening {
    /// Takes out what there is.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Range<usize>> {
        self.packets.drain(..)
    }
}

impl Peer {
    pub(super) fn new(name: String, key: PublicKey, index: u32, now: Duration) -> Self {
        Self {
            key,
            index,
            state: AtomicU8::new(PeerState::Idle as u8),
            due: Earliest::never(),
            received: AtomicU64::new(0),
            transmitted: AtomicU64::new(0),
            refusal: Refusal::none(),
            live: Mutex::new(Live {
                name,
                engine: None,
                timers: PeerTimers::new(Policy::default(), now),
                place: None,
                last_handshake: None,
                took: None,
                roaming: None,
                in_turn: 0,
                outdated: 0,
                staged: VecDeque::new(),
            }),
        }
    }

    pub(super) fn state(&self) -> PeerState {
        match self.state.load(Ordering::Relaxed) {
            state if state == PeerState::Up as u8 => PeerState::Up,
            state if state == PeerState::Down as u8 => PeerState::Down,
            _ => PeerState::Idle,
        }
    }

    /// The time that was asked for has come.
    pub(super) fn on_due(&self, shared: &Shared) {
        self.due.reset();
        self.service(shared, &mut lock(&self.live), shared.now());
    }

    /// Starts a handshake unless a session stands.
    pub(super) fn wake(&self, shared: &Shared) {
        let mut live = lock(&self.live);
        if live
            .engine
            .as_ref()
            .is_some_and(|engine| !engine.has_session())
        {
            live.timers.want_session();
            self.service(shared, &mut live, shared.now());
        }
    }

    /// Does what the timers ask for, and tells of a change of state.
    pub(super) fn service(&self, shared: &Shared, live: &mut Live, now: Duration) {
        if live.engine.is_some() {
            let mut random = || getrandom::u32().unwrap_or_default();
            while let Some(action) = live.timers.poll(now, &mut random) {
                match action {
                    Action::Initiate { silent } => self.initiate(shared, live, now, silent),
                    Action::Keepalive => self.seal_and_send(shared, live, now, &[]),
                    Action::GiveUp => live.drop_staged(shared),
                }
            }
        }
        self.after(shared, live);
    }

    fn after(&self, shared: &Shared, live: &Live) {
        if live.engine.is_none() {
            return;
        }
        if let Some(at) = live.timers.deadline()
            && self.due.lower(at)
        {
            shared.schedule.add(at, self.index);
        }
        let state = live.timers.state();
        let before = self.state();
        if state != before {
            self.state.store(state as u8, Ordering::Relaxed);
            self.tell(live, state);
            shared.tick();
        }
    }

    fn tell(&self, live: &Live, state: PeerState) {
        let endpoint = live.place.map(|place| place.address.to_string());
        let endpoint = endpoint.unwrap_or_else(|| "none".to_owned());
        let peer = live.name.as_str();
        match state {
            PeerState::Up => {
                let took = live.took.map_or(0, |took| took.as_millis() as u64);
                info!(peer, %endpoint, handshake_ms = took, "peer is up");
            }
            PeerState::Down => {
                warn!(peer, %endpoint, "peer is down: handshakes are not answered");
            }
            PeerState::Idle => info!(peer, "peer is idle"),
        }
    }

    fn initiate(&self, shared: &Shared, live: &mut Live, now: Duration, silent: bool) {
        let mut message = [0; HANDSHAKE_ROOM];
        if silent {
            // The way may have changed; the kernel chooses the source anew.
            live.forget_source();
        }
        let Some(engine) = &mut live.engine else {
            return;
        };
        match engine.initiate(now, &mut message) {
            Ok(length) => self.send(shared, live, &message[..length]),
            Err(error) => debug!(peer = live.name, %error, "no handshake initiation"),
        }
    }

    /// Seals one packet (empty: a keepalive) and sends it; for what is not a run of packets.
    fn seal_and_send(&self, shared: &Shared, live: &mut Live, now: Duration, packet: &[u8]) {
        let mut datagram = vec![0; packet.len() + OVERHEAD];
        let Some(engine) = &mut live.engine else {
            return;
        };
        if let Ok(length) = engine.seal(now, packet, &mut datagram) {
            live.timers.on_sent(now, !packet.is_empty());
            self.send(shared, live, &datagram[..length]);
        } else {
            live.timers.want_session();
        }
    }

    /// Sends one datagram while the peer is held.
    fn send(&self, shared: &Shared, live: &mut Live, datagram: &[u8]) {
        let Some(place) = live.place else {
            return;
        };
        let mut sent = self.send_to(shared, &place, datagram, datagram.len());
        if sent.is_err() && place.source.is_some() {
            // The source address may be gone.
            live.forget_source();
            sent = self.send_to(shared, &place.anywhere(), datagram, datagram.len());
        }
        if let Err(error) = sent {
            debug!(peer = live.name, %error, "datagram not sent");
        }
    }

    /// Seals inner packets into the batch, and sends it each time it is full. Each is cut into
    /// `inner` first. Without a session they wait for one; false when they are lost, because
    /// there is no way to the peer.
    pub(super) fn transmit(
        self: &Arc<Self>,
        shared: &Shared,
        mut packets: Segments<'_>,
        inner: &mut [u8],
        batch: &mut Batch,
    ) -> bool {
        loop {
            match self.seal_run(shared, &mut packets, inner, batch) {
                // The lock is not held while it is sent: the other direction goes on.
                Sealed::Part => batch.send(shared),
                Sealed::All => return true,
                Sealed::NoPlace => return false,
            }
        }
    }

    /// Seals as many packets as the batch takes.
    fn seal_run(
        self: &Arc<Self>,
        shared: &Shared,
        packets: &mut Segments<'_>,
        inner: &mut [u8],
        batch: &mut Batch,
    ) -> Sealed {
        let now = shared.now();
        let mtu = shared.mtu.load(Ordering::Relaxed);
        let mut live = lock(&self.live);
        let live = &mut *live;
        let Some(place) = live
            .place
            .filter(|to| !is_own(shared, packets.whole(), *to))
        else {
            return Sealed::NoPlace;
        };
        let (mut done, mut sealed_any, mut staged) = (Sealed::All, false, false);
        while let Some(length) = packets.next_length() {
            let Some(engine) = live.engine.as_mut() else {
                return Sealed::All;
            };
            let padded = packet::padded(length, mtu);
            let room = match engine.has_session() {
                false => None,
                true => match batch.room(self, place, padded + OVERHEAD) {
                    None => {
                        done = Sealed::Part;
                        break;
                    }
                    room => room,
                },
            };
            packets.next_into(inner);
            inner[length..padded].fill(0);
            let packet = &inner[..padded];
            let sealed = room.and_then(|room| engine.seal(now, packet, room).ok());
            if let Some(length) = sealed {
                batch.add(self, place, length);
                sealed_any = true;
            } else {
                live.stage(shared, packet);
                staged = true;
            }
        }
        if staged {
            live.timers.want_session();
            self.service(shared, live, now);
        }
        if sealed_any {
            live.timers.on_sent(now, true);
            self.after(shared, live);
        }
        done
    }

    /// Sends sealed datagrams of `segment` bytes each, the last maybe shorter.
    pub(super) fn send_run(&self, shared: &Shared, to: Place, datagrams: &[u8], segment: usize) {
        if let Err(error) = self.send_to(shared, &to, datagrams, segment) {
            debug!(%error, "datagrams not sent");
            if to.source.is_some() {
                lock(&self.live).forget_source();
                let _ = self.send_to(shared, &to.anywhere(), datagrams, segment);
            }
        }
    }

    fn send_to(
        &self,
        shared: &Shared,
        place: &Place,
        payload: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        if let Some(udp) = shared.udp.load().as_ref() {
            let is_run = payload.len() > segment;
            let at_once = is_run && self.refusal.allows(shared.now(), segment);
            if let Some(why) = udp.send(place, payload, segment, at_once)? {
                shared.refused_runs.fetch_add(1, Ordering::Relaxed);
                if self.refusal.note(shared.now(), segment) {
                    let to = place.address;
                    info!(%to, segment, cause = %why, "datagrams go one by one for a while");
                }
            }
            self.transmitted
                .fetch_add(payload.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes datagrams from one place, the first and those after it that are for this peer, and
    /// opens them side by side into `out`, which has room for them all and for a handshake.
    pub(super) fn receive<'d>(
        &self,
        shared: &Shared,
        from: Place,
        first: &'d [u8],
        more: &mut Peekable<impl Iterator<Item = &'d [u8]>>,
        out: &mut [u8],
        opening: &mut Opening,
    ) {
        let now = shared.now();
        let mut live = lock(&self.live);
        let live = &mut *live;
        let mut next = Some(first);
        let (mut at, mut count) = (0, 0);
        while let Some(datagram) = next {
            let length = self.take(shared, live, now, from, datagram, &mut out[at..]);
            if length > 0 {
                opening.packets.push(at..at + length);
                at += length;
            }
            count += 1;
            let ours =
                |datagram: &&[u8]| count < MOST_OPENED && data_index(datagram) == Some(self.index);
            next = more.next_if(ours);
        }
        self.after(shared, live);
    }

    /// Takes an authentic-looking datagram; returns the length of the inner packet in `out`.
    fn take(
        &self,
        shared: &Shared,
        live: &mut Live,
        now: Duration,
        from: Place,
        datagram: &[u8],
        out: &mut [u8],
    ) -> usize {
        let Some(engine) = &mut live.engine else {
            return 0;
        };
        let opened = match engine.open(now, from.address.ip(), datagram, out) {
            Ok(opened) => opened,
            Err(error) => {
                shared.refused.count(error.into());
                debug!(peer = live.name, %error, "datagram dropped");
                if error == EngineError::Replayed && datagram.starts_with(&[1]) {
                    live.note_outdated();
                }
                return 0;
            }
        };
        self.received
            .fetch_add(datagram.len() as u64, Ordering::Relaxed);
        if opened != Opened::Cookie {
            live.moved_to(from, now);
        }
        match opened {
            Opened::Packet { length, completes } => {
                live.timers.on_received(now, length > 0);
                if completes {
                    live.outdated = 0;
                    live.last_handshake = Some(SystemTime::now());
                    live.took = None;
                    live.timers.on_handshake(now, false);
                    self.flush(shared, live, now);
                    self.service(shared, live, now);
                }
                length
            }
            Opened::Initiation { length } => {
                live.timers.on_received(now, false);
                self.send(shared, live, &out[..length]);
                0
            }
            Opened::Response { length } => {
                let began = live.timers.last_initiation();
                live.outdated = 0;
                live.took = began.map(|began| now.saturating_sub(began));
                live.last_handshake = Some(SystemTime::now());
                live.timers.on_handshake(now, true);
                live.timers.on_sent(now, false);
                self.send(shared, live, &out[..length]);
                self.flush(shared, live, now);
                self.service(shared, live, now);
                0
            }
            Opened::Cookie => 0,
        }
    }

    fn flush(&self, shared: &Shared, live: &mut Live, now: Duration) {
        while let Some(packet) = live.unstage(shared) {
            self.seal_and_send(shared, live, now, &packet);
        }
    }
}

/// Whether a packet is a datagram that we have sent to this place: the route to it leads into the
/// tunnel. Sealed again it would come back for ever, each time longer.
fn is_own(shared: &Shared, packet: &[u8], to: Place) -> bool {
    packet::udp(packet)
        .filter(|(_, at)| *at == to.address)
        .zip(shared.udp.load().as_ref())
        // What others send from the same port is forwarded.
        .is_some_and(|((from, _), udp)| from.port() == udp.port() && is_of_this_host(from.ip()))
}

impl Live {
    fn stage(&mut self, shared: &Shared, packet: &[u8]) {
        while self.staged.len() >= MOST_STAGED {
            self.unstage(shared);
        }
        let all = shared.staged.fetch_add(packet.len(), Ordering::Relaxed);
        if all + packet.len() > MOST_STAGED_BYTES {
            shared.staged.fetch_sub(packet.len(), Ordering::Relaxed);
        } else {
            self.staged.push_back(packet.to_vec());
        }
    }

    fn unstage(&mut self, shared: &Shared) -> Option<Vec<u8>> {
        let packet = self.staged.pop_front()?;
        shared.staged.fetch_sub(packet.len(), Ordering::Relaxed);
        Some(packet)
    }

    pub(super) fn drop_staged(&mut self, shared: &Shared) {
        while self.unstage(shared).is_some() {}
    }

    /// A handshake came that is older than the last one.
    fn note_outdated(&mut self) {
        self.outdated = self.outdated.saturating_add(1);
        if let Some(trouble) = self
            .outdated_trouble()
            .filter(|_| self.outdated == MOST_OUTDATED)
        {
            warn!(peer = self.name.as_str(), "{trouble}");
        }
    }

    /// What that means; the network may repeat a few.
    pub(super) fn outdated_trouble(&self) -> Option<String> {
        (self.outdated >= MOST_OUTDATED).then(|| {
            "handshakes are older than the last one: the peer's clock was set back, \
             or somebody repeats them"
                .to_owned()
        })
    }

    fn forget_source(&mut self) {
        self.place = self.place.map(|place| place.anywhere());
    }

    /// The two endpoints that the key was lately used from in turn.
    pub(super) fn in_turn_now(&self, now: Duration) -> Option<(SocketAddr, SocketAddr)> {
        self.roaming.as_ref()?.in_turn(now)
    }

    /// Something authentic came from there.
    fn moved_to(&mut self, to: Place, now: Duration) {
        let from = self.place.replace(to).map(|place| place.address);
        if from.is_none() {
            self.note_reachable(now);
        }
        let Some(from) = from.filter(|from| *from != to.address) else {
            return;
        };
        let (peer, endpoint) = (self.name.as_str(), to.address);
        let roaming = self.roaming.get_or_insert_default();
        if roaming.on_move(from, to.address, now) {
            self.in_turn += 1;
            warn!(peer, %endpoint, other = %from, "one key is used from two endpoints in turn");
        } else {
            info!(peer, %endpoint, before = %from, "endpoint changed");
        }
    }

    /// Sends to this address from now on.
    pub(super) fn place_at(&mut self, address: SocketAddr, now: Duration) {
        self.place = Some(Place {
            address,
            source: None,
        });
        self.note_reachable(now);
    }

    fn note_reachable(&mut self, now: Duration) {
        let policy = Policy {
            reachable: self.place.is_some(),
            ..self.timers.policy()
        };
        self.timers.set_policy(policy, now);
    }
}
