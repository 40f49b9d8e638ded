//! The configuration of a device, as it stands: changed under one lock, then published to the
//! packet threads as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seedwire_core::config;
use seedwire_core::tunnel::noise::{Engine, Identity};
use seedwire_core::tunnel::{AllowedIps, Policy, Prefixes};
use seedwire_core::types::{Endpoint, Prefix, PresharedKey, PrivateKey, PublicKey};

use super::error::TunnelError;
use super::peer::Peer;
use super::shared::{Shared, Table, lock, random};
use super::udp::Udp;

/// So many changes by others are told one by one.
const MOST_TOLD: usize = 100;

/// The configuration of a device.
#[derive(Default)]
pub(super) struct State {
    pub(super) private_key: Option<PrivateKey>,
    /// How many handshakes a second one address may ask for without a proof.
    handshakes_per_address: u32,
    identity: Option<Arc<Identity>>,
    public_key: Option<PublicKey>,
    /// The port asked for; 0: any.
    listen_port: u16,
    pub(super) fwmark: u32,
    pub(super) entries: BTreeMap<PublicKey, Entry>,
    /// Those that have endpoints.
    dialled: BTreeSet<PublicKey>,
    /// Shared with the table that was published last, until it changes.
    allowed: Arc<AllowedIps<u32>>,
    /// What was changed by others than [`Device::set`](super::Device::set) since its last call.
    foreign_changes: BTreeSet<String>,
}

/// A peer, as it was configured.
pub(super) struct Entry {
    pub(super) peer: Arc<Peer>,
    pub(super) preshared_key: Option<PresharedKey>,
    /// Where it is to be reached, best first; empty for a peer that calls us or was set by wg(8).
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) keepalive: Option<Duration>,
    /// Whether wg(8) gave it an endpoint; with a keepalive it is then dialled all the same.
    pub(super) addressed: bool,
    pub(super) allowed_ips: Prefixes,
    /// Whether the path through it is probed.
    pub(super) probed: bool,
}

impl State {
    /// Nothing is configured yet.
    pub(super) fn new() -> Self {
        Self {
            handshakes_per_address: config::HANDSHAKES_PER_ADDRESS,
            ..Self::default()
        }
    }

    /// Makes what stands known to the packet threads.
    pub(super) fn publish(&self, shared: &Shared) {
        let peers = self.entries.values().map(|entry| Arc::clone(&entry.peer));
        let table = Table {
            identity: self.identity.clone(),
            allowed: Arc::clone(&self.allowed),
            by_index: peers.clone().map(|peer| (peer.index, peer)).collect(),
            by_key: peers.map(|peer| (peer.key, peer)).collect(),
        };
        shared.table.store(Arc::new(table));
        let now = shared.now();
        for entry in self.entries.values() {
            entry.peer.service(shared, &mut lock(&entry.peer.live), now);
        }
        shared.tick();
    }

    /// Remembers what others than [`Device::set`](super::Device::set) change, in words.
    pub(super) fn note_foreign_change(&mut self, what: impl FnOnce() -> String) {
        if self.foreign_changes.len() < MOST_TOLD {
            self.foreign_changes.insert(what());
        }
    }

    /// What others changed since the last call; as much of it as is told.
    pub(super) fn take_foreign_changes(&mut self) -> Vec<String> {
        let mut told: Vec<_> = std::mem::take(&mut self.foreign_changes)
            .into_iter()
            .collect();
        if told.len() >= MOST_TOLD {
            told.push("more".to_owned());
        }
        told
    }

    /// Whether a peer with this key would be ourselves.
    pub(super) fn is_own_key(&self, key: &PublicKey) -> bool {
        self.public_key.as_ref() == Some(key)
    }

    pub(super) fn set_private_key(
        &mut self,
        shared: &Shared,
        key: Option<PrivateKey>,
    ) -> Result<(), TunnelError> {
        if self.private_key == key {
            return Ok(());
        }
        let limit = self.handshakes_per_address;
        let identity = |key| Identity::new(key, limit, &mut random).ok_or(TunnelError::Random);
        let identity = key.as_ref().map(identity).transpose()?;
        self.public_key = key.as_ref().map(PrivateKey::public_key);
        self.identity = identity.map(Arc::new);
        self.private_key = key;
        if let Some(own) = self.public_key {
            self.remove_peer(shared, &own);
        }
        for entry in self.entries.values() {
            entry.renew_engine(shared, self.private_key.as_ref(), self.identity.as_ref());
        }
        Ok(())
    }

    pub(super) fn set_handshakes_per_address(&mut self, limit: u32) {
        self.handshakes_per_address = limit;
        if let Some(identity) = &self.identity {
            identity.set_per_address(limit);
        }
    }

    /// Binds the sockets where the port or the mark is another one, or none is bound yet.
    pub(super) fn bind(
        &mut self,
        shared: &Shared,
        port: u16,
        fwmark: u32,
    ) -> Result<(), TunnelError> {
        let bound = shared.udp.load();
        if bound.is_some() && port == self.listen_port && fwmark == self.fwmark {
            return Ok(());
        }
        if let Some(udp) = bound.as_ref().filter(|_| port == self.listen_port) {
            let marked = udp.set_mark(fwmark);
            marked.map_err(|source| TunnelError::Mark { fwmark, source })?;
        } else {
            rebind(shared, port, fwmark)?;
        }
        self.listen_port = port;
        self.fwmark = fwmark;
        Ok(())
    }

    /// Takes another port where any will do, and returns it.
    pub(super) fn change_port(&self, shared: &Shared) -> Result<Option<u16>, TunnelError> {
        if self.listen_port != 0 || shared.udp.load().is_none() {
            return Ok(None);
        }
        rebind(shared, 0, self.fwmark).map(Some)
    }

    pub(super) fn listen_port(&self) -> u16 {
        self.listen_port
    }

    /// Adds a peer without anything, or finds the one that is there.
    pub(super) fn add_peer(&mut self, shared: &Shared, key: PublicKey, name: &str) -> &mut Entry {
        let (own, identity) = (self.private_key.as_ref(), self.identity.as_ref());
        self.entries.entry(key).or_insert_with(|| {
            let table = shared.table.load();
            let index = loop {
                // Twice the same within one transaction is as unlikely as a guess.
                let index = getrandom::u32().unwrap_or_default() >> 8;
                if index != 0 && !table.by_index.contains_key(&index) {
                    break index;
                }
            };
            let entry = Entry {
                peer: Arc::new(Peer::new(name.to_owned(), key, index, shared.now())),
                preshared_key: None,
                endpoints: Vec::new(),
                keepalive: None,
                addressed: false,
                allowed_ips: Prefixes::default(),
                probed: false,
            };
            entry.renew_engine(shared, own, identity);
            entry
        })
    }

    pub(super) fn remove_peer(&mut self, shared: &Shared, key: &PublicKey) {
        self.dialled.remove(key);
        if let Some(entry) = self.entries.remove(key) {
            let allowed = Arc::make_mut(&mut self.allowed);
            for prefix in entry.allowed_ips.iter() {
                allowed.remove(prefix);
            }
            let mut live = lock(&entry.peer.live);
            live.engine = None;
            live.drop_staged(shared);
        }
    }

    /// The peers that have endpoints.
    pub(super) fn dialled(&self) -> impl Iterator<Item = (&PublicKey, &Entry)> {
        let entries = self.dialled.iter();
        entries.filter_map(|key| self.entries.get_key_value(key))
    }

    /// Has to be told after the endpoints of a peer were set.
    pub(super) fn note_dialled(&mut self, key: PublicKey) {
        let entry = self.entries.get(&key);
        if entry.is_some_and(|entry| !entry.endpoints.is_empty()) {
            self.dialled.insert(key);
        } else {
            self.dialled.remove(&key);
        }
    }

    pub(super) fn set_preshared_key(
        &mut self,
        shared: &Shared,
        key: &PublicKey,
        psk: Option<PresharedKey>,
    ) {
        let (own, identity) = (self.private_key.as_ref(), self.identity.as_ref());
        if let Some(entry) = self.entries.get_mut(key)
            && entry.preshared_key != psk
        {
            entry.preshared_key = psk;
            entry.renew_engine(shared, own, identity);
        }
    }

    /// Gives the prefix to the peer, whoever had it.
    pub(super) fn give(&mut self, key: &PublicKey, prefix: Prefix) {
        let Some(index) = self.entries.get(key).map(|entry| entry.peer.index) else {
            return;
        };
        let before = Arc::make_mut(&mut self.allowed).insert(prefix, index);
        if before.is_some_and(|before| before != index) {
            let mut others = self.entries.values_mut();
            if let Some(other) = others.find(|entry| Some(entry.peer.index) == before) {
                other.allowed_ips.remove(&prefix);
            }
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.allowed_ips.insert(prefix);
        }
    }

    /// Takes the prefix from the peer, where it has it.
    pub(super) fn take(&mut self, key: &PublicKey, prefix: Prefix) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.allowed_ips.remove(&prefix)
        {
            Arc::make_mut(&mut self.allowed).remove(prefix);
        }
    }

    pub(super) fn take_all(&mut self, key: &PublicKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            let allowed = Arc::make_mut(&mut self.allowed);
            for prefix in std::mem::take(&mut entry.allowed_ips).iter() {
                allowed.remove(prefix);
            }
        }
    }
}

/// Binds new sockets; the old ones stay where they can't be had.
fn rebind(shared: &Shared, port: u16, fwmark: u32) -> Result<u16, TunnelError> {
    let udp = Udp::bind(port, fwmark, shared.offload);
    let udp = udp.map_err(|source| TunnelError::Bind { port, source })?;
    let bound = udp.port();
    shared.udp.store(Some(Arc::new(udp)));
    let _ = shared.rebound.write(1);
    Ok(bound)
}

impl Entry {
    /// A key that nothing can be agreed on with gets no engine: nothing is sent there.
    fn renew_engine(
        &self,
        shared: &Shared,
        own: Option<&PrivateKey>,
        identity: Option<&Arc<Identity>>,
    ) {
        let mut live = lock(&self.peer.live);
        let peer = &self.peer;
        let preshared = self.preshared_key.clone();
        let agrees = own.is_some_and(|own| own.agrees_with(&peer.key));
        match (&mut live.engine, identity.filter(|_| agrees).cloned()) {
            (Some(engine), Some(identity)) => engine.set_keys(identity, preshared),
            (engine, identity) => {
                let opener = peer.opener.clone();
                *engine = identity
                    .map(|identity| Engine::new(identity, peer.key, preshared, peer.index, opener));
            }
        }
        live.timers.on_keys_changed();
        if live.engine.is_none() {
            live.drop_staged(shared);
        }
    }

    /// Takes over the keepalive and who calls whom.
    pub(super) fn set_policy(&mut self, shared: &Shared, keepalive: Option<Duration>) {
        self.keepalive = keepalive;
        let mut live = lock(&self.peer.live);
        let policy = Policy {
            keepalive,
            dialled: !self.endpoints.is_empty() || (self.addressed && keepalive.is_some()),
            reachable: live.place.is_some(),
        };
        live.timers.set_policy(policy, shared.now());
    }

    /// Sends to this address from now on, and tries it at once.
    pub(super) fn set_endpoint(&self, shared: &Shared, address: SocketAddr) {
        let mut live = lock(&self.peer.live);
        if live.place.is_none_or(|place| place.address != address) {
            let now = shared.now();
            live.place_at(address, now);
            live.timers.redial(now);
        }
    }
}
