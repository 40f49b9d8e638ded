use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::types::{Prefix, PublicKey};

/// What a peer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Nothing to send, no handshake under way.
    Idle,
    /// A session stands.
    Up,
    /// Handshake initiations were not answered for 10 s.
    Down,
}

/// A peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The name in the configuration, or the public key of a peer that was set over UAPI.
    pub name: String,
    /// Its identity.
    pub public_key: PublicKey,
    /// What it is doing.
    pub state: PeerState,
    /// Whether an endpoint is configured: we call it, rather than it us.
    pub dialled: bool,
    /// Where its packets go now.
    pub endpoint: Option<SocketAddr>,
    /// How often a packet is sent at least.
    pub keepalive: Option<Duration>,
    /// When the last handshake was completed.
    pub last_handshake: Option<SystemTime>,
    /// How long that handshake took from initiation to response, where we were the initiator.
    pub handshake_took: Option<Duration>,
    /// Bytes received from it, as wg(8) counts them.
    pub received: u64,
    /// Bytes sent to it, as wg(8) counts them.
    pub transmitted: u64,
    /// The inner addresses it may use.
    pub allowed_ips: Vec<Prefix>,
    /// Why the peer is down, has no endpoint or is refused, in words; `None` when nothing is wrong.
    pub trouble: Option<String>,
    /// How often its key was seen in use from two endpoints in turn within 30 s.
    pub in_turn: u64,
    /// What is known of the way through it; `None` where nothing is probed.
    pub probe: Option<ProbeStatus>,
}

/// What echo requests through a peer have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeStatus {
    /// Who is asked.
    pub address: IpAddr,
    /// When it answered last.
    pub answered: Option<SystemTime>,
    /// The longest packet that passes, in bytes, where that is less than the link could take.
    pub limit: Option<u16>,
}

/// What the kernel does for a device with many packets in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offloads {
    /// Several TCP segments are read from the TUN link as one packet (TSO).
    pub tun_tcp: bool,
    /// Several UDP datagrams are (USO, Linux 6.2).
    pub tun_udp: bool,
    /// Several datagrams are sent in one call (UDP_SEGMENT, Linux 4.18).
    pub udp_send: bool,
    /// Several datagrams are received in one call (UDP_GRO, Linux 5.0).
    pub udp_receive: bool,
    /// Runs of datagrams that were refused in one call and sent one by one.
    pub refused_runs: u64,
}

impl Offloads {
    /// Each with its name, and whether it is in use.
    pub fn named(&self) -> [(&'static str, bool); 4] {
        [
            ("tun_tcp", self.tun_tcp),
            ("tun_udp", self.tun_udp),
            ("udp_send", self.udp_send),
            ("udp_receive", self.udp_receive),
        ]
    }
}
