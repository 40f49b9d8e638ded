//! The kernel carries the packets: a link of its WireGuard, configured over netlink. One thread
//! reads the peers' counters, from which [`PeerWatch`] tells who is up.

mod change;
mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use seedwire_core::netstate::LINK_ALIAS;
use seedwire_core::tunnel::{
    AllowedIps, Offloads, PathState, Paths, PeerState, PeerStatus, PeerWatch, Policy, Refusal,
    Roaming, Sample,
};
use seedwire_core::types::{Endpoint, InterfaceName, Prefix, PublicKey};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::clock::Clock;
use super::error::{Failure, TunnelError};
use super::settings::{self, Settings};
use super::shared::lock;
use super::{Backend, Dialled, tell_port};
use crate::netlink::{
    DeviceChange, Error, LinkChange, NewLink, PeerChange, PeerRecord, Rtnl, Wireguard,
};

/// How often the counters are read; more often while a peer that is called has no session yet.
const PERIOD: Duration = Duration::from_secs(1);
const SHORT_PERIOD: Duration = Duration::from_millis(100);
/// The part of one CPU that reading them may take, as one in so many: it matters with thousands of
/// peers.
const SHARE: u32 = 50;

/// A link of the kernel's WireGuard.
pub(super) struct Kernel {
    name: InterfaceName,
    link: u32,
    state: Mutex<State>,
    table: ArcSwap<Table>,
    /// Peers that are to be woken, by key.
    asked: Mutex<BTreeSet<PublicKey>>,
    hurry: Condvar,
    stopping: AtomicBool,
    changes: watch::Sender<u64>,
    failure: Mutex<Option<Failure>>,
    clock: Clock,
}

struct State {
    wireguard: Wireguard,
    rtnl: Rtnl,
    /// What was set last.
    settings: Option<Settings>,
    listen_port: u16,
    entries: BTreeMap<PublicKey, Entry>,
}

struct Entry {
    name: String,
    endpoints: Vec<Endpoint>,
    keepalive: Option<Duration>,
    allowed_ips: Vec<Prefix>,
    watch: PeerWatch,
    state: Arc<AtomicU8>,
    seen: Sample,
    endpoint: Option<SocketAddr>,
    roaming: Roaming,
    in_turn: u64,
}

/// Who is who, for those who send through the tunnel.
#[derive(Default)]
struct Table {
    allowed: AllowedIps<u32>,
    peers: Vec<(PublicKey, Arc<AtomicU8>)>,
}

impl Table {
    fn peer_of(&self, address: IpAddr) -> Option<&(PublicKey, Arc<AtomicU8>)> {
        self.peers.get(self.allowed.lookup(address)? as usize)
    }
}

impl Kernel {
    /// Makes the link. It outlives this process, so that it gets our alias at once.
    pub(super) fn create(name: &InterfaceName, mtu: u16) -> Result<Self, TunnelError> {
        let failed = |error| TunnelError::Kernel(Box::new(error));
        let wireguard = Wireguard::open().map_err(failed)?;
        let wireguard = wireguard.ok_or(TunnelError::NoKernel)?;
        let mut rtnl = Rtnl::open().map_err(failed)?;
        let new = NewLink::Wireguard {
            name: name.as_str(),
        };
        rtnl.create_link(new).map_err(failed)?;
        let mut prepare = || -> Result<u32, Error> {
            let missing = || Error::Malformed {
                what: format!("look up link {name}"),
            };
            let link = rtnl.link(name.as_str())?.ok_or_else(missing)?.index;
            rtnl.change_link(link, LinkChange::Alias(LINK_ALIAS))?;
            rtnl.change_link(link, LinkChange::Mtu(mtu.into()))?;
            Ok(link)
        };
        let link = match prepare() {
            Ok(link) => link,
            Err(error) => {
                if let Ok(Some(link)) = rtnl.link(name.as_str()) {
                    let _ = rtnl.delete_link(link.index);
                }
                return Err(failed(error));
            }
        };
        Ok(Self {
            name: name.clone(),
            link,
            state: Mutex::new(State {
                wireguard,
                rtnl,
                settings: None,
                listen_port: 0,
                entries: BTreeMap::new(),
            }),
            table: ArcSwap::default(),
            asked: Mutex::default(),
            hurry: Condvar::new(),
            stopping: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            failure: Mutex::new(None),
            clock: Clock::start(),
        })
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn tick(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Ends the device; the first reason stays.
    pub(super) fn fail(&self, failure: Failure) {
        if !self.is_stopped() {
            lock(&self.failure).get_or_insert(failure);
            self.tick();
        }
    }

    /// Reads the counters again and again until the device stops.
    pub(super) fn run(&self) {
        let mut pause = Duration::ZERO;
        loop {
            let asked = lock(&self.asked);
            if self.is_stopped() {
                return;
            }
            let quiet = |asked: &mut BTreeSet<PublicKey>| asked.is_empty() && !self.is_stopped();
            let waited = self.hurry.wait_timeout_while(asked, pause, quiet);
            let (mut asked, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            let woken = std::mem::take(&mut *asked);
            drop(asked);
            let began = Instant::now();
            let looked = self.look(woken);
            let cost = began.elapsed() * SHARE;
            match looked {
                Ok(hurried) => pause = cost.max(if hurried { SHORT_PERIOD } else { PERIOD }),
                Err(error) if error.errno() == Some(libc::ENODEV) => {
                    self.fail(Failure::InterfaceDeleted(self.name.clone()));
                    return;
                }
                Err(error) => {
                    debug!(%error, "the peers' counters were not read");
                    pause = PERIOD;
                }
            }
        }
    }

    /// Reads the counters, once; true when it is to be done again soon.
    fn look(&self, woken: BTreeSet<PublicKey>) -> Result<bool, Error> {
        let mut state = lock(&self.state);
        let now = self.now();
        for key in woken {
            let asleep = |entry: &&mut Entry| entry.watch.state() == PeerState::Idle;
            if let Some(entry) = state.entries.get_mut(&key).filter(asleep) {
                entry.watch.on_dialled(now);
                state.call(self.link, &key, None)?;
            }
        }
        let device = state.wireguard.device(self.link)?;
        state.listen_port = device.listen_port;
        let mut changed = false;
        let mut probes = Vec::new();
        for record in &device.peers {
            if let Some(entry) = state.entries.get_mut(&record.public_key) {
                let (differs, probe) = entry.observe(record, now);
                changed |= differs;
                if probe {
                    probes.push(record.public_key);
                }
            }
        }
        let table = self.table.load();
        for key in probes {
            let entry = &state.entries[&key];
            let is_its = |to| table.peer_of(to).is_some_and(|(owner, _)| *owner == key);
            probe::send(&self.name, &entry.name, &entry.allowed_ips, is_its);
        }
        let hurried = state
            .entries
            .values()
            .any(|entry| !entry.endpoints.is_empty() && entry.watch.state() == PeerState::Idle);
        drop(state);
        if changed {
            self.tick();
        }
        Ok(hurried)
    }
}

impl State {
    /// Makes the kernel begin a handshake where no session stands: a keepalive that is switched on
    /// is sent at once.
    fn call(
        &mut self,
        link: u32,
        key: &PublicKey,
        endpoint: Option<SocketAddr>,
    ) -> Result<(), Error> {
        let keepalive = self.entries.get(key).and_then(|entry| entry.keepalive);
        let with = |keepalive| PeerChange {
            endpoint,
            keepalive: Some(keepalive),
            ..PeerChange::of(*key)
        };
        let mut peers = vec![with(0), with(change::seconds(keepalive).max(1))];
        if keepalive.is_none() {
            peers.push(with(0));
        }
        let change = DeviceChange {
            peers,
            ..DeviceChange::default()
        };
        self.wireguard.change_device(link, change)
    }
}

impl Entry {
    fn new(now: Duration) -> Self {
        Self {
            name: String::new(),
            endpoints: Vec::new(),
            keepalive: None,
            allowed_ips: Vec::new(),
            watch: PeerWatch::new(Policy::default(), now),
            state: Arc::new(AtomicU8::new(PeerState::Idle as u8)),
            seen: Sample::default(),
            endpoint: None,
            roaming: Roaming::default(),
            in_turn: 0,
        }
    }

    fn set_policy(&mut self, now: Duration) {
        let policy = Policy {
            keepalive: self.keepalive,
            dialled: !self.endpoints.is_empty(),
            reachable: self.endpoint.is_some(),
        };
        if policy != self.watch.policy() {
            self.watch.set_policy(policy, now);
        }
    }

    /// Takes in what the kernel says; whether state or endpoint changed, and whether the peer is to
    /// be probed.
    fn observe(&mut self, record: &PeerRecord, now: Duration) -> (bool, bool) {
        let before = self.watch.state();
        let moved = self.moved_to(record.endpoint, now);
        self.set_policy(now);
        self.seen = Sample {
            last_handshake: record.last_handshake,
            received: record.received,
            transmitted: record.transmitted,
        };
        let probe = self.watch.observe(now, self.seen);
        let state = self.watch.state();
        self.state.store(state as u8, Ordering::Relaxed);
        if state != before {
            let peer = self.name.as_str();
            match (state, self.endpoint) {
                (PeerState::Up, Some(endpoint)) => info!(peer, %endpoint, "peer is up"),
                (PeerState::Down, Some(endpoint)) => warn!(peer, %endpoint, "peer is down"),
                (state, _) => info!(peer, ?state, "peer changed its state"),
            }
        }
        (moved || state != before, probe)
    }

    fn moved_to(&mut self, to: Option<SocketAddr>, now: Duration) -> bool {
        let from = std::mem::replace(&mut self.endpoint, to);
        let (Some(from), Some(to)) = (from, to) else {
            return from != to;
        };
        if from == to {
            return false;
        }
        let peer = self.name.as_str();
        if self.roaming.on_move(from, to, now) {
            self.in_turn += 1;
            warn!(peer, endpoint = %to, other = %from, "one key is used from two endpoints in turn");
        } else {
            info!(peer, endpoint = %to, before = %from, "endpoint changed");
        }
        true
    }

    fn status(&self, key: PublicKey, now: Duration) -> PeerStatus {
        let state = self.watch.state();
        let dialled = !self.endpoints.is_empty();
        let in_turn = self.roaming.in_turn(now);
        let at = |since| SystemTime::UNIX_EPOCH + since;
        PeerStatus {
            name: self.name.clone(),
            public_key: key,
            state,
            dialled,
            endpoint: self.endpoint,
            keepalive: self.keepalive,
            last_handshake: self.seen.last_handshake.map(at),
            handshake_took: None,
            received: self.seen.received,
            transmitted: self.seen.transmitted,
            allowed_ips: self.allowed_ips.clone(),
            trouble: settings::trouble(state, dialled, self.endpoint, in_turn),
            in_turn: self.in_turn,
            probe: None,
        }
    }
}

impl Paths for Kernel {
    fn state(&self, to: IpAddr) -> PathState {
        let table = self.table.load();
        match table
            .peer_of(to)
            .map(|(_, state)| state.load(Ordering::Relaxed))
        {
            None => PathState::Direct,
            Some(state) if state == PeerState::Up as u8 => PathState::Up,
            Some(state) if state == PeerState::Down as u8 => PathState::Down,
            Some(_) => PathState::Idle,
        }
    }

    fn wake(&self, to: IpAddr) {
        if let Some((key, state)) = self.table.load().peer_of(to)
            && state.load(Ordering::Relaxed) == PeerState::Idle as u8
        {
            lock(&self.asked).insert(*key);
            self.hurry.notify_one();
        }
    }
}

impl Backend for Kernel {
    fn set(&self, settings: &Settings) -> Result<Vec<String>, TunnelError> {
        let failed = |error| TunnelError::Kernel(Box::new(error));
        let mut state = lock(&self.state);
        let now = self.now();
        let there = state.wireguard.device(self.link).map_err(failed)?;
        let before = state.settings.as_ref();
        let foreign = before.map(|before| change::foreign(before, &there));
        let change = change::change(settings, before, &there);
        state
            .wireguard
            .change_device(self.link, change)
            .map_err(failed)?;
        let is_wanted = |key: &PublicKey| settings.peers.iter().any(|p| p.public_key == *key);
        state.entries.retain(|key, _| is_wanted(key));
        for peer in &settings.peers {
            let entry = state.entries.entry(peer.public_key);
            let entry = entry.or_insert_with(|| Entry::new(now));
            entry.name.clone_from(&peer.name);
            entry.endpoints.clone_from(&peer.endpoints);
            entry.allowed_ips.clone_from(&peer.allowed_ips);
            entry.allowed_ips.sort_unstable();
            entry.keepalive = peer.keepalive;
            if peer.probe.is_some() {
                let peer = &peer.name;
                warn!(peer, "probe is for the userspace backend: nothing is asked");
            }
        }
        state.settings = Some(settings.clone());
        let mut table = Table::default();
        for (index, (key, entry)) in (0..).zip(&state.entries) {
            table.peers.push((*key, Arc::clone(&entry.state)));
            for prefix in &entry.allowed_ips {
                table.allowed.insert(*prefix, index);
            }
        }
        self.table.store(Arc::new(table));
        drop(state);
        self.look(BTreeSet::new()).map_err(failed)?;
        self.tick();
        Ok(foreign.unwrap_or_default())
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let state = lock(&self.state);
        let now = self.now();
        let entries = state.entries.iter();
        entries
            .map(|(key, entry)| entry.status(*key, now))
            .collect()
    }

    fn listen_port(&self) -> Option<u16> {
        Some(lock(&self.state).listen_port).filter(|port| *port != 0)
    }

    fn offloads(&self) -> Option<Offloads> {
        None
    }

    fn refused(&self) -> Vec<(Refusal, u64)> {
        Vec::new()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    fn is_stopped(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn dialled(&self) -> Vec<Dialled> {
        let state = lock(&self.state);
        let dialled = state.entries.iter();
        let dialled = dialled.filter(|(_, entry)| !entry.endpoints.is_empty());
        dialled
            .map(|(key, entry)| (*key, entry.endpoints.clone(), entry.watch.rounds()))
            .collect()
    }

    fn dial(&self, key: &PublicKey, address: SocketAddr) {
        let mut state = lock(&self.state);
        let now = self.now();
        let Some(entry) = state.entries.get_mut(key) else {
            return;
        };
        entry.watch.on_dialled(now);
        if let Err(error) = state.call(self.link, key, Some(address)) {
            debug!(%error, "the peer was not dialled");
        }
    }

    fn change_port(&self) {
        let mut state = lock(&self.state);
        if state
            .settings
            .as_ref()
            .is_none_or(|s| s.listen_port.is_some())
        {
            return;
        }
        let change = DeviceChange {
            listen_port: Some(0),
            ..DeviceChange::default()
        };
        let changed = state.wireguard.change_device(self.link, change);
        match changed.and_then(|()| state.wireguard.device(self.link)) {
            Ok(device) => {
                state.listen_port = device.listen_port;
                tell_port(device.listen_port);
            }
            Err(error) => warn!(%error, "the UDP port was not changed"),
        }
    }

    fn allow_mtu(&self, _: u16) {}

    fn narrowest(&self) -> Option<(u16, String)> {
        None
    }

    fn begin_stop(&self) {
        let _asked = lock(&self.asked);
        self.stopping.store(true, Ordering::Relaxed);
        self.hurry.notify_one();
        self.tick();
    }

    fn finish_stop(&self) {
        match lock(&self.state).rtnl.delete_link(self.link) {
            Err(error) if error.errno() != Some(libc::ENODEV) => {
                warn!(%error, "the interface was not removed");
            }
            _ => {}
        }
    }
}
