//! A whole configuration, as the configuration file gives it, and what became of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use seedwire_core::config;
use seedwire_core::tunnel::{PeerState, PeerStatus};
use seedwire_core::types::{PrivateKey, PublicKey};

use super::error::TunnelError;
use super::shared::{Shared, lock};
use super::state::{Entry, State};

/// The whole configuration of a device.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The identity.
    pub private_key: PrivateKey,
    /// The UDP port; `None`: chosen by the kernel, and kept from then on.
    pub listen_port: Option<u16>,
    /// The mark on the tunnel's own packets; 0: none.
    pub fwmark: u32,
    /// How many handshakes a second one address may ask for without a proof; only in userspace.
    pub handshakes_per_address: u32,
    /// The addresses of this host on the interface, from which probes are sent.
    pub addresses: Vec<IpAddr>,
    /// The peers.
    pub peers: Vec<config::Peer>,
}

/// See [`DeviceHandle::set`](super::DeviceHandle::set).
pub(super) fn apply(shared: &Shared, settings: &Settings) -> Result<Vec<String>, TunnelError> {
    let mut state = lock(&shared.state);
    state.bind(shared, settings.listen_port.unwrap_or(0), settings.fwmark)?;
    state.set_handshakes_per_address(settings.handshakes_per_address);
    state.set_private_key(shared, Some(settings.private_key.clone()))?;
    let wanted: BTreeSet<PublicKey> = settings.peers.iter().map(|peer| peer.public_key).collect();
    let gone: Vec<_> = state
        .entries
        .keys()
        .filter(|key| !wanted.contains(key))
        .copied()
        .collect();
    for key in gone {
        state.remove_peer(shared, &key);
    }
    for peer in &settings.peers {
        apply_peer(shared, &mut state, peer, &settings.addresses);
    }
    // After all were given theirs, so that a prefix that moved is taken from nobody.
    for peer in &settings.peers {
        let wanted: BTreeSet<_> = peer.allowed_ips.iter().copied().collect();
        let held = state.entries.get(&peer.public_key);
        let held = held
            .map(|entry| entry.allowed_ips.clone())
            .unwrap_or_default();
        for prefix in held.iter().filter(|prefix| !wanted.contains(prefix)) {
            state.take(&peer.public_key, prefix);
        }
    }
    state.publish(shared);
    Ok(state.take_foreign_changes())
}

fn apply_peer(shared: &Shared, state: &mut State, peer: &config::Peer, own: &[IpAddr]) {
    let key = peer.public_key;
    let entry = state.add_peer(shared, key, &peer.name);
    let probed = peer.probe.and_then(|to| {
        let from = own.iter().find(|own| own.is_ipv4() == to.is_ipv4());
        from.map(|from| (*from, to))
    });
    entry.probed = probed.is_some();
    let mut live = lock(&entry.peer.live);
    live.name.clone_from(&peer.name);
    live.set_probe(probed, shared.now());
    drop(live);
    entry.endpoints.clone_from(&peer.endpoints);
    entry.set_policy(shared, peer.keepalive);
    // Where there is an address already, the dialer decides whether it stays.
    let placed = lock(&entry.peer.live).place.is_some();
    if !placed
        && let Some(first) = peer
            .endpoints
            .first()
            .and_then(|first| first.socket_address())
    {
        entry.set_endpoint(shared, first);
    }
    state.set_preshared_key(shared, &key, peer.preshared_key.clone());
    state.note_dialled(key);
    for prefix in &peer.allowed_ips {
        state.give(&key, *prefix);
    }
}

/// See [`DeviceHandle::peers`](super::DeviceHandle::peers).
pub(super) fn peers(shared: &Shared) -> Vec<PeerStatus> {
    let state = lock(&shared.state);
    state
        .entries
        .values()
        .map(|entry| status(shared, entry))
        .collect()
}

/// See [`DeviceHandle::dialled_peers`](super::DeviceHandle::dialled_peers).
pub(super) fn dialled_peers(shared: &Shared) -> Vec<PeerStatus> {
    let state = lock(&shared.state);
    let dialled = state.dialled();
    dialled.map(|(_, entry)| status(shared, entry)).collect()
}

fn status(shared: &Shared, entry: &Entry) -> PeerStatus {
    let peer = &entry.peer;
    let live = lock(&peer.live);
    let state = peer.state();
    let endpoint = live.place.map(|place| place.address);
    let dialled = !entry.endpoints.is_empty();
    let in_turn = live.in_turn_now(shared.now());
    PeerStatus {
        name: live.name.clone(),
        public_key: peer.key,
        state,
        dialled,
        endpoint,
        keepalive: entry.keepalive,
        last_handshake: live.last_handshake,
        handshake_took: live.took,
        received: peer.received.load(Ordering::Relaxed),
        transmitted: peer.transmitted.load(Ordering::Relaxed),
        allowed_ips: entry.allowed_ips.iter().collect(),
        trouble: trouble(state, dialled, endpoint, in_turn).or_else(|| live.outdated_trouble()),
        in_turn: live.in_turn,
        probe: live.probe.as_ref().map(|probe| probe.status()),
    }
}

/// What is wrong with a peer, in words.
pub(super) fn trouble(
    state: PeerState,
    dialled: bool,
    endpoint: Option<SocketAddr>,
    in_turn: Option<(SocketAddr, SocketAddr)>,
) -> Option<String> {
    match (in_turn, endpoint) {
        (Some((one, other)), _) => Some(format!("one key is used from {one} and {other} in turn")),
        (None, None) if dialled => Some("no endpoint could be resolved yet".to_owned()),
        (None, Some(to)) if state == PeerState::Down => {
            Some(format!("handshakes to {to} are not answered"))
        }
        _ => None,
    }
}
