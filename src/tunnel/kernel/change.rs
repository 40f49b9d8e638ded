//! What has to be changed in the kernel so that it has a whole configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seedwire_core::config;
use seedwire_core::types::{Prefix, PublicKey};

use super::super::settings::Settings;
use crate::netlink::{DeviceChange, DeviceState, PeerChange, PeerRecord};

/// The keepalive as the kernel has it; 0: none.
pub(super) fn seconds(keepalive: Option<Duration>) -> u16 {
    let seconds = keepalive.map_or(0, |keepalive| keepalive.as_secs());
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

/// The change that leads from what is there to these settings. What is as it should be is left out,
/// so that its sessions and endpoints stay.
pub(super) fn change(
    wanted: &Settings,
    before: Option<&Settings>,
    there: &DeviceState,
) -> DeviceChange {
    let records = by_key(there);
    let keys: BTreeSet<_> = wanted.peers.iter().map(|peer| peer.public_key).collect();
    let gone = records.keys().filter(|key| !keys.contains(key));
    let remove = gone.map(|key| PeerChange {
        remove: true,
        ..PeerChange::of(*key)
    });
    let changes = wanted.peers.iter().filter_map(|peer| {
        let record = records.get(&peer.public_key).copied();
        let change = peer_change(peer, record);
        (record.is_none() || !change.is_nothing()).then_some(change)
    });
    // A port that the kernel chose is kept for as long as none is configured.
    let given_up = before.is_some_and(|before| before.listen_port.is_some());
    let listen_port = match wanted.listen_port {
        Some(port) => (port != there.listen_port).then_some(port),
        None => given_up.then_some(0),
    };
    let private_key = wanted.private_key.clone();
    DeviceChange {
        private_key: (there.private_key.as_ref() != Some(&private_key)).then_some(private_key),
        listen_port,
        fwmark: (there.fwmark != wanted.fwmark).then_some(wanted.fwmark),
        peers: remove.chain(changes).collect(),
    }
}

fn by_key(there: &DeviceState) -> BTreeMap<PublicKey, &PeerRecord> {
    let peers = there.peers.iter();
    peers.map(|record| (record.public_key, record)).collect()
}

fn peer_change(peer: &config::Peer, record: Option<&PeerRecord>) -> PeerChange {
    let mut change = PeerChange::of(peer.public_key);
    let preshared_key = record.and_then(|record| record.preshared_key.as_ref());
    if preshared_key != peer.preshared_key.as_ref() {
        change.preshared_key = Some(peer.preshared_key.clone());
    }
    let keepalive = record.and_then(|record| record.keepalive);
    if seconds(keepalive) != seconds(peer.keepalive) {
        change.keepalive = Some(seconds(peer.keepalive));
    }
    // Where there is an address already, the dialer decides whether it stays.
    if record.is_none_or(|record| record.endpoint.is_none()) {
        let first = peer.endpoints.first();
        change.endpoint = first.and_then(|first| first.socket_address());
    }
    let wanted: BTreeSet<Prefix> = peer.allowed_ips.iter().copied().collect();
    let has = record.map(|record| record.allowed_ips.as_slice());
    let has: BTreeSet<Prefix> = has.unwrap_or_default().iter().copied().collect();
    // Single prefixes can only be taken away since Linux 6.16.
    change.replace_allowed_ips = !has.is_subset(&wanted);
    change.allowed_ips = if change.replace_allowed_ips {
        wanted.into_iter().collect()
    } else {
        wanted.difference(&has).copied().collect()
    };
    change
}

/// What others changed since these settings were set, in words.
pub(super) fn foreign(before: &Settings, there: &DeviceState) -> Vec<String> {
    let mut words = Vec::new();
    let change = change(before, None, there);
    if change.private_key.is_some() {
        words.push("the private key".to_owned());
    }
    if change.listen_port.is_some() {
        words.push("the listen port".to_owned());
    }
    if change.fwmark.is_some() {
        words.push("the fwmark".to_owned());
    }
    let peers = change.peers.iter();
    words.extend(peers.map(|peer| format!("peer {}", peer.public_key)));
    words
}

#[cfg(test)]
mod tests {
    use seedwire_core::types::PrivateKey;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    fn peer(key: u8, allowed_ips: &[&str]) -> config::Peer {
        config::Peer {
            name: format!("peer-{key}"),
            public_key: PublicKey::from_bytes([key; 32]),
            preshared_key: None,
            endpoints: vec!["192.0.2.1:51820".parse().expect("an endpoint")],
            keepalive: Some(Duration::from_secs(25)),
            allowed_ips: allowed_ips.iter().map(|text| prefix(text)).collect(),
            probe: None,
        }
    }

    fn settings(peers: Vec<config::Peer>) -> Settings {
        Settings {
            private_key: PrivateKey::from_bytes([9; 32]),
            listen_port: None,
            fwmark: 0,
            handshakes_per_address: 2000,
            addresses: Vec::new(),
            peers,
        }
    }

    /// The kernel, as it is after these settings were set.
    fn kernel(settings: &Settings) -> DeviceState {
        let peers = settings.peers.iter().map(|peer| PeerRecord {
            public_key: peer.public_key,
            preshared_key: peer.preshared_key.clone(),
            endpoint: Some("198.51.100.1:1".parse().expect("an address")),
            keepalive: peer.keepalive,
            last_handshake: None,
            received: 0,
            transmitted: 0,
            allowed_ips: peer.allowed_ips.clone(),
        });
        DeviceState {
            private_key: Some(settings.private_key.clone()),
            listen_port: 40_000,
            fwmark: settings.fwmark,
            peers: peers.collect(),
        }
    }

    #[test]
    fn what_is_there_is_not_touched() {
        let settings = settings(vec![peer(1, &["10.0.0.0/8"]), peer(2, &["fd00::/64"])]);
        let there = kernel(&settings);
        let change = change(&settings, Some(&settings), &there);
        assert!(change.peers.is_empty(), "{change:?}");
        assert!(change.private_key.is_none() && change.listen_port.is_none());
        assert!(foreign(&settings, &there).is_empty());
    }

    #[test]
    fn peers_go_first_and_a_prefix_moves() {
        let there = kernel(&settings(vec![
            peer(1, &["10.0.0.0/8", "10.1.0.0/16"]),
            peer(2, &["10.2.0.0/16"]),
            peer(3, &[]),
        ]));
        let wanted = settings(vec![
            peer(1, &["10.0.0.0/8"]),
            peer(2, &["10.2.0.0/16", "10.1.0.0/16"]),
        ]);
        let change = change(&wanted, None, &there);
        let [gone, one, two] = change.peers.as_slice() else {
            panic!("{change:?}");
        };
        assert!(gone.remove && gone.public_key == PublicKey::from_bytes([3; 32]));
        assert!(one.replace_allowed_ips);
        assert_eq!(one.allowed_ips, [prefix("10.0.0.0/8")]);
        assert!(!two.replace_allowed_ips);
        assert_eq!(two.allowed_ips, [prefix("10.1.0.0/16")]);
        assert!(two.endpoint.is_none() && two.keepalive.is_none());
        assert_eq!(foreign(&wanted, &there).len(), 3);
    }
}
