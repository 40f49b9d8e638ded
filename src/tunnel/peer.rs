//! One peer: its engine, its timers and where it is.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use seedwire_core::tunnel::noise::{
    Engine, HANDSHAKE_ROOM, Initiation, OVERHEAD, Opened, Opener, RESPONSE_ROOM, Sending, Taken,
    data_index,
};
use seedwire_core::tunnel::{
    Action, EngineError, PeerState, PeerTimers, Policy, Roaming, offload::Segments, packet,
};
use seedwire_core::types::PublicKey;
use tracing::{debug, info, warn};

use super::batch::Batch;
use super::offload::Refusal;
use super::probe::Probe;
use super::shared::{Earliest, Shared, lock, random, since_1970};
use super::udp::{Manner, Place, is_of_this_host};

/// The most packets, and the most bytes of all peers, that wait for a handshake.
const MOST_STAGED: usize = 128;
const MOST_STAGED_BYTES: usize = 4 << 20;

/// So many handshakes in a row that are too old are told.
const MOST_OUTDATED: u32 = 3;

/// A peer. A packet thread takes its lock once for each run of packets, and holds it neither while
/// it seals nor while it opens them.
pub(super) struct Peer {
    pub(super) key: PublicKey,
    /// 24 random bits; the indices of its sessions lead to them.
    pub(super) index: u32,
    state: AtomicU8,
    due: Earliest,
    pub(super) received: AtomicU64,
    pub(super) transmitted: AtomicU64,
    /// Which runs of datagrams the way to it does not take in one call.
    refusal: Refusal,
    /// Opens what comes from it; for the thread that receives.
    pub(super) opener: Opener,
    pub(super) live: Mutex<Live>,
}

/// What changes as packets pass.
pub(super) struct Live {
    pub(super) name: String,
    /// Absent while this host has no private key, and once the peer is removed.
    pub(super) engine: Option<Engine>,
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
    pub(super) probe: Option<Box<Probe>>,
    staged: VecDeque<Staged>,
}

/// A packet that waits for a session, with room around it to be sealed in place.
struct Staged {
    datagram: Vec<u8>,
    /// The length of the packet in it.
    length: usize,
}

impl Staged {
    /// Room for a packet of this length, which will be padded to the other.
    fn new(length: usize, padded: usize) -> Self {
        let datagram = vec![0; padded + OVERHEAD];
        Self { datagram, length }
    }
}

/// Datagrams that came from one place in one receive.
pub(super) struct Run<'b> {
    pub(super) from: Place,
    /// All as long as the first, the last maybe shorter.
    pub(super) datagrams: &'b mut [u8],
    pub(super) segment: usize,
    /// Where the next one begins.
    pub(super) at: usize,
}

impl Run<'_> {
    /// Where the next datagram is; `None` after the last one.
    pub(super) fn next(&self) -> Option<Range<usize>> {
        let end = self.datagrams.len().min(self.at + self.segment);
        (self.at < end).then_some(self.at..end)
    }
}

/// Where inner packets lie in a buffer, and the peer that each is of.
#[derive(Default)]
pub(super) struct Opening {
    packets: Vec<(Range<usize>, u32)>,
}

impl Opening {
    /// Takes out what there is.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Range<usize>, u32)> {
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
            opener: Opener::default(),
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
                probe: None,
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
        let now = shared.now();
        if live
            .engine
            .as_ref()
            .is_some_and(|engine| engine.sending(now).is_none())
        {
            live.timers.want_session();
            self.service(shared, &mut live, now);
        }
    }

    /// Does what the timers ask for, and tells of a change of state.
    pub(super) fn service(&self, shared: &Shared, live: &mut Live, now: Duration) {
        if let Some(engine) = &mut live.engine {
            engine.expire(now);
            let mut random = || getrandom::u32().unwrap_or_default();
            while let Some(action) = live.timers.poll(now, &mut random) {
                match action {
                    Action::Initiate { silent } => self.initiate(shared, live, now, silent),
                    Action::Keepalive => self.send_sealed(shared, live, now, Staged::new(0, 0)),
                    Action::GiveUp => live.drop_staged(shared),
                }
            }
            self.probe(shared, live, now);
        }
        self.after(shared, live);
    }

    fn after(&self, shared: &Shared, live: &Live) {
        let Some(engine) = &live.engine else {
            return;
        };
        let is_up = live.timers.state() == PeerState::Up;
        let probe = live.probe.as_ref().filter(|_| is_up);
        let probe = probe.map(|probe| probe.deadline());
        let deadlines = [live.timers.deadline(), engine.deadline(), probe];
        if let Some(at) = deadlines.into_iter().flatten().min()
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
        match engine.initiate(now, since_1970(), &mut random, &mut message) {
            Ok(()) => self.send(shared, live, &message),
            Err(error) => debug!(peer = live.name, %error, "no handshake initiation"),
        }
    }

    /// Seals one packet (empty: a keepalive) and sends it; for what is not a run of packets.
    fn send_sealed(&self, shared: &Shared, live: &mut Live, now: Duration, mut packet: Staged) {
        let Some(engine) = &live.engine else {
            return;
        };
        let sending = engine.sending(now).ok_or(EngineError::NoSession);
        let sealed = sending.and_then(|it| it.seal(now, &mut packet.datagram, packet.length));
        if sealed.is_ok() {
            live.timers.on_sent(now, packet.length > 0);
            self.send(shared, live, &packet.datagram);
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

    /// Seals inner packets into the batch, which is sent each time it is full. Without a session
    /// they wait for one; false when they are lost, because there is no way to the peer.
    pub(super) fn transmit(
        self: &Arc<Self>,
        shared: &Shared,
        mut packets: Segments<'_>,
        batch: &mut Batch,
    ) -> bool {
        let now = shared.now();
        let mtu = shared.mtu.load(Ordering::Relaxed);
        let mut live = lock(&self.live);
        let place = live.place;
        let Some(place) = place.filter(|to| !is_own(shared, packets.whole(), *to)) else {
            return false;
        };
        let Some(sending) = live.sending(now) else {
            self.stage(shared, &mut live, now, packets);
            return true;
        };
        if sending.is_worn() {
            live.timers.want_session();
        }
        live.timers.on_sent(now, true);
        self.after(shared, &live);
        drop(live);
        while let Some(length) = packets.next_length() {
            let padded = packet::padded(length, mtu);
            let room = batch.room(shared, self, place, padded + OVERHEAD);
            packets.next_into(&mut room[Opened::PACKET..]);
            if sending.seal(now, room, length).is_ok() {
                batch.add(self, place, padded + OVERHEAD);
            }
        }
        true
    }

    /// Lets packets wait for a session.
    fn stage(&self, shared: &Shared, live: &mut Live, now: Duration, mut packets: Segments<'_>) {
        if live.engine.is_none() {
            return;
        }
        let mtu = shared.mtu.load(Ordering::Relaxed);
        while let Some(length) = packets.next_length() {
            let mut packet = Staged::new(length, packet::padded(length, mtu));
            packets.next_into(&mut packet.datagram[Opened::PACKET..]);
            live.stage(shared, packet);
        }
        live.timers.want_session();
        self.service(shared, live, now);
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
            let manner = match is_run && self.refusal.allows(shared.now(), segment) {
                true => Manner::AtOnce,
                false => Manner::OneByOne,
            };
            if let Some(why) = udp.send(place, payload, segment, manner)? {
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

    /// Opens in place the next datagram of the run, and those after it in the same session.
    pub(super) fn receive(&self, shared: &Shared, run: &mut Run<'_>, opening: &mut Opening) {
        let now = shared.now();
        let (mut bytes, mut confirms) = (0, false);
        let before = opening.packets.len();
        let mut receivers = self.opener.lock();
        let mut session = None;
        while let Some(at) = run.next() {
            let datagram = &mut run.datagrams[at.clone()];
            let index = data_index(datagram);
            if session.is_some() && index != session {
                break;
            }
            session = index;
            run.at = at.end;
            match receivers.open(now, datagram) {
                Ok(opened) => {
                    bytes += datagram.len() as u64;
                    confirms |= opened.confirms;
                    let packet = at.start + Opened::PACKET;
                    if opened.length > 0 {
                        opening
                            .packets
                            .push((packet..packet + opened.length, self.index));
                    }
                }
                Err(error) => shared.refused.count(error.into()),
            }
        }
        drop(receivers);
        if bytes > 0 {
            self.received.fetch_add(bytes, Ordering::Relaxed);
            self.on_opened(shared, now, run, &opening.packets[before..], confirms);
        }
    }

    /// Authentic datagrams came, with these packets, maybe the first of a session.
    fn on_opened(
        &self,
        shared: &Shared,
        now: Duration,
        run: &Run<'_>,
        packets: &[(Range<usize>, u32)],
        confirms: bool,
    ) {
        let mut live = lock(&self.live);
        let live = &mut *live;
        live.moved_to(run.from, now);
        live.timers.on_received(now, !packets.is_empty());
        if let Some(probe) = &mut live.probe {
            for (packet, _) in packets {
                probe.on_packet(&run.datagrams[packet.clone()], now);
            }
        }
        if confirms && live.engine.as_mut().is_some_and(Engine::confirm) {
            live.outdated = 0;
            live.last_handshake = Some(SystemTime::now());
            live.took = None;
            live.timers.on_handshake(now, false);
            self.flush(shared, live, now);
            self.service(shared, live, now);
        }
        self.after(shared, live);
    }

    /// Answers a handshake initiation of this peer.
    pub(super) fn respond(
        &self,
        shared: &Shared,
        from: Place,
        initiation: Initiation,
    ) -> Result<(), EngineError> {
        let now = shared.now();
        let mut live = lock(&self.live);
        let live = &mut *live;
        let engine = live.engine.as_mut().ok_or(EngineError::NoSession)?;
        let mut response = [0; RESPONSE_ROOM];
        let done = engine.respond(now, initiation, &mut random, &mut response);
        if done == Err(EngineError::Replayed) {
            live.note_outdated();
        }
        done?;
        self.received
            .fetch_add(HANDSHAKE_ROOM as u64, Ordering::Relaxed);
        live.moved_to(from, now);
        live.timers.on_received(now, false);
        self.send(shared, live, &response);
        self.after(shared, live);
        Ok(())
    }

    /// Takes a handshake response, or a cookie, that is for this peer.
    pub(super) fn take(
        &self,
        shared: &Shared,
        from: Place,
        message: &[u8],
    ) -> Result<(), EngineError> {
        let now = shared.now();
        let mut live = lock(&self.live);
        let live = &mut *live;
        let engine = live.engine.as_mut().ok_or(EngineError::NoSession)?;
        let taken = engine.take(now, message)?;
        self.received
            .fetch_add(message.len() as u64, Ordering::Relaxed);
        if taken == Taken::Session {
            live.moved_to(from, now);
            let began = live.timers.last_initiation();
            live.outdated = 0;
            live.took = began.map(|began| now.saturating_sub(began));
            live.last_handshake = Some(SystemTime::now());
            live.timers.on_handshake(now, true);
            if live.staged.is_empty() {
                // The peer uses the session only once it has seen that we do.
                self.send_sealed(shared, live, now, Staged::new(0, 0));
            }
            self.flush(shared, live, now);
            self.service(shared, live, now);
        }
        Ok(())
    }

    fn flush(&self, shared: &Shared, live: &mut Live, now: Duration) {
        while let Some(packet) = live.unstage(shared) {
            self.send_sealed(shared, live, now, packet);
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
    /// What packets are sealed with now.
    fn sending(&self, now: Duration) -> Option<Arc<Sending>> {
        self.engine.as_ref()?.sending(now).map(Arc::clone)
    }

    fn stage(&mut self, shared: &Shared, packet: Staged) {
        while self.staged.len() >= MOST_STAGED {
            self.unstage(shared);
        }
        let size = packet.datagram.len();
        let all = shared.staged.fetch_add(size, Ordering::Relaxed);
        if all + size > MOST_STAGED_BYTES {
            shared.staged.fetch_sub(size, Ordering::Relaxed);
        } else {
            self.staged.push_back(packet);
        }
    }

    fn unstage(&mut self, shared: &Shared) -> Option<Staged> {
        let packet = self.staged.pop_front()?;
        let size = packet.datagram.len();
        shared.staged.fetch_sub(size, Ordering::Relaxed);
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
        if let Some(probe) = &mut self.probe {
            probe.on_path_changed(now);
        }
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
        if let Some(probe) = &mut self.probe {
            probe.on_path_changed(now);
        }
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
