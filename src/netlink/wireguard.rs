//! The kernel's WireGuard over generic netlink (linux/wireguard.h).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use seedwire_core::types::{Prefix, PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroize;

use super::Error;
use super::attributes::{address_of, attribute, attributes, u8_of, u32_of};
use super::socket::Socket;

/// The length of `struct genlmsghdr`.
const HEADER_LENGTH: usize = 4;
const CTRL_ATTR_FAMILY_ID: u16 = 1;

const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_PRESHARED_KEY: u16 = 2;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

/// How much goes into one message: a list of peers is an attribute, whose length has 16 bits. An
/// allowed prefix takes 40 bytes at most, a peer without any less than 160.
const MOST_PER_MESSAGE: usize = 1000;
const PEER_WEIGHT: usize = 4;

/// The kernel's WireGuard links.
#[derive(Debug)]
pub struct Wireguard {
    socket: Socket,
    family: u16,
}

/// A WireGuard link as it is.
#[derive(Clone, Debug, Default)]
pub struct DeviceState {
    /// The identity; `None`: not set.
    pub private_key: Option<PrivateKey>,
    /// The UDP port.
    pub listen_port: u16,
    /// The mark on the packets it sends; 0: none.
    pub fwmark: u32,
    /// The peers, each once.
    pub peers: Vec<PeerRecord>,
}

/// A peer of a WireGuard link as it is.
#[derive(Clone, Debug)]
pub struct PeerRecord {
    /// Its identity.
    pub public_key: PublicKey,
    /// The secret beside the key pairs.
    pub preshared_key: Option<PresharedKey>,
    /// Where its packets go.
    pub endpoint: Option<SocketAddr>,
    /// How often a packet is sent at least.
    pub keepalive: Option<Duration>,
    /// When the last handshake was completed, since 1970.
    pub last_handshake: Option<Duration>,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub transmitted: u64,
    /// The inner addresses it may use.
    pub allowed_ips: Vec<Prefix>,
}

/// A change of a WireGuard link; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct DeviceChange {
    /// The identity.
    pub private_key: Option<PrivateKey>,
    /// The UDP port; 0: any.
    pub listen_port: Option<u16>,
    /// The mark; 0: none.
    pub fwmark: Option<u32>,
    /// What happens to peers, in order.
    pub peers: Vec<PeerChange>,
}

/// A change of a peer, which is made where it is missing; what is `None` stays.
#[derive(Clone, Debug)]
pub struct PeerChange {
    /// Which peer.
    pub public_key: PublicKey,
    /// Takes it away; all else is then of no effect.
    pub remove: bool,
    /// The secret beside the key pairs; `Some(None)`: none any more.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Where its packets go.
    pub endpoint: Option<SocketAddr>,
    /// How often a packet is sent at least, in seconds; 0: never. From 0 to something else, one is
    /// sent at once.
    pub keepalive: Option<u16>,
    /// Takes all allowed prefixes away before those that follow are added.
    pub replace_allowed_ips: bool,
    /// Prefixes that it gets, whoever had them.
    pub allowed_ips: Vec<Prefix>,
}

impl PeerChange {
    /// A change of nothing.
    pub fn of(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            preshared_key: None,
            endpoint: None,
            keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }

    /// Whether it makes no difference for a peer that is there.
    pub fn is_nothing(&self) -> bool {
        !self.remove
            && self.preshared_key.is_none()
            && self.endpoint.is_none()
            && self.keepalive.is_none()
            && !self.replace_allowed_ips
            && self.allowed_ips.is_empty()
    }
}

impl Wireguard {
    /// Opens a socket in the network namespace of this thread. `None` when this kernel has no
    /// WireGuard; where it is a module, the kernel tries to load it.
    pub fn open() -> Result<Option<Self>, Error> {
        let what = "look up WireGuard in the kernel";
        let mut socket = Socket::open(NETLINK_GENERIC)?;
        let request = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName("wireguard".to_owned())],
        });
        let reply = match socket.get(what, request) {
            Ok(reply) => reply,
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let family = reply.body.get(HEADER_LENGTH..);
        let family = family.and_then(|body| u16_of(attribute(body, CTRL_ATTR_FAMILY_ID)?));
        let family = family.ok_or_else(|| Error::Malformed {
            what: what.to_owned(),
        })?;
        Ok(Some(Self { socket, family }))
    }

    /// The link of this index, whole.
    pub fn device(&mut self, link: u32) -> Result<DeviceState, Error> {
        let what = format!("read WireGuard link {link}");
        let message = self.message(WireguardCmd::GetDevice, link);
        let replies = self.socket.dump(&what, message)?;
        let mut state = DeviceState::default();
        for reply in &replies {
            let body = reply.body.get(HEADER_LENGTH..).unwrap_or_default();
            let read = read_device(&mut state, body);
            read.ok_or_else(|| Error::Malformed { what: what.clone() })?;
        }
        Ok(state)
    }

    /// Changes a link. What does not fit one message goes in several, in order.
    pub fn change_device(&mut self, link: u32, change: DeviceChange) -> Result<(), Error> {
        let what = format!("configure WireGuard link {link}");
        let mut first = Vec::new();
        let key = change.private_key.as_ref();
        first.extend(key.map(|key| WireguardAttribute::PrivateKey(*key.as_bytes())));
        first.extend(change.listen_port.map(WireguardAttribute::ListenPort));
        first.extend(change.fwmark.map(WireguardAttribute::Fwmark));
        if !first.is_empty() {
            self.send_change(&what, link, first)?;
        }
        let mut peers = Vec::new();
        let mut weight = 0;
        for part in change.peers.into_iter().flat_map(parts) {
            let more = PEER_WEIGHT + part.allowed_ips.len();
            if weight + more > MOST_PER_MESSAGE && !peers.is_empty() {
                let full = WireguardAttribute::Peers(std::mem::take(&mut peers));
                self.send_change(&what, link, vec![full])?;
                weight = 0;
            }
            peers.push(peer(&part));
            weight += more;
        }
        if peers.is_empty() {
            return Ok(());
        }
        self.send_change(&what, link, vec![WireguardAttribute::Peers(peers)])
    }

    fn send_change(
        &mut self,
        what: &str,
        link: u32,
        attributes: Vec<WireguardAttribute>,
    ) -> Result<(), Error> {
        let mut message = self.message(WireguardCmd::SetDevice, link);
        message.payload.attributes.extend(attributes);
        self.socket.request(what, 0, Wiped(message))
    }

    fn message(&self, cmd: WireguardCmd, link: u32) -> GenlMessage<WireguardMessage> {
        let mut message = GenlMessage::from_payload(WireguardMessage {
            cmd,
            attributes: vec![WireguardAttribute::IfIndex(link)],
        });
        message.set_resolved_family_id(self.family);
        message
    }
}

/// A message whose keys are wiped from memory when it is dropped, and are never shown.
struct Wiped(GenlMessage<WireguardMessage>);

impl netlink_packet_core::NetlinkSerializable for Wiped {
    fn message_type(&self) -> u16 {
        self.0.message_type()
    }

    fn buffer_len(&self) -> usize {
        netlink_packet_core::NetlinkSerializable::buffer_len(&self.0)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.0.serialize(buffer);
    }
}

impl std::fmt::Debug for Wiped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wiped(..)")
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        for attribute in &mut self.0.payload.attributes {
            match attribute {
                WireguardAttribute::PrivateKey(key) => key.zeroize(),
                WireguardAttribute::Peers(peers) => {
                    for attribute in peers.iter_mut().flat_map(|peer| &mut peer.0) {
                        if let WireguardPeerAttribute::PresharedKey(key) = attribute {
                            key.zeroize();
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// A change in parts that fit a message each.
fn parts(mut change: PeerChange) -> Vec<PeerChange> {
    let most = MOST_PER_MESSAGE - PEER_WEIGHT;
    let prefixes = std::mem::take(&mut change.allowed_ips);
    let mut chunks = prefixes.chunks(most);
    change.allowed_ips = chunks.next().unwrap_or_default().to_vec();
    let key = change.public_key;
    let rest = chunks.map(|chunk| PeerChange {
        allowed_ips: chunk.to_vec(),
        ..PeerChange::of(key)
    });
    std::iter::once(change).chain(rest).collect()
}

fn peer(change: &PeerChange) -> WireguardPeer {
    let mut attributes = vec![WireguardPeerAttribute::PublicKey(
        *change.public_key.as_bytes(),
    )];
    if change.remove {
        let flags = WireguardPeerFlags::RemoveMe;
        attributes.push(WireguardPeerAttribute::Flags(flags));
        return WireguardPeer(attributes);
    }
    if change.replace_allowed_ips {
        let flags = WireguardPeerFlags::ReplaceAllowedIps;
        attributes.push(WireguardPeerAttribute::Flags(flags));
    }
    if let Some(key) = &change.preshared_key {
        // All zeros: none.
        let bytes = key.as_ref().map_or([0; 32], |key| *key.as_bytes());
        attributes.push(WireguardPeerAttribute::PresharedKey(bytes));
    }
    attributes.extend(change.endpoint.map(WireguardPeerAttribute::Endpoint));
    let keepalive = change.keepalive;
    attributes.extend(keepalive.map(WireguardPeerAttribute::PersistentKeepalive));
    if !change.allowed_ips.is_empty() {
        let prefixes = change.allowed_ips.iter().map(allowed_ip).collect();
        attributes.push(WireguardPeerAttribute::AllowedIps(prefixes));
    }
    WireguardPeer(attributes)
}

fn allowed_ip(prefix: &Prefix) -> WireguardAllowedIp {
    let family = if prefix.is_ipv4() {
        WireguardAddressFamily::Ipv4
    } else {
        WireguardAddressFamily::Ipv6
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(prefix.address()),
        WireguardAllowedIpAttr::Cidr(prefix.length()),
    ])
}

/// Adds what one message of a listing says; `None` when it is malformed.
fn read_device(state: &mut DeviceState, body: &[u8]) -> Option<()> {
    for (kind, value) in attributes(body) {
        match kind {
            WGDEVICE_A_PRIVATE_KEY => {
                let key: [u8; 32] = value.try_into().ok()?;
                state.private_key = Some(PrivateKey::from_bytes(key));
            }
            WGDEVICE_A_LISTEN_PORT => state.listen_port = u16_of(value)?,
            WGDEVICE_A_FWMARK => state.fwmark = u32_of(value)?,
            WGDEVICE_A_PEERS => {
                for (_, value) in attributes(value) {
                    read_peer(&mut state.peers, value)?;
                }
            }
            _ => {}
        }
    }
    Some(())
}

/// A peer whose prefixes did not fit one message goes on in the next, by its key alone.
fn read_peer(peers: &mut Vec<PeerRecord>, body: &[u8]) -> Option<()> {
    let key: [u8; 32] = attribute(body, WGPEER_A_PUBLIC_KEY)?.try_into().ok()?;
    let public_key = PublicKey::from_bytes(key);
    if peers
        .last()
        .is_none_or(|last| last.public_key != public_key)
    {
        peers.push(PeerRecord {
            public_key,
            preshared_key: None,
            endpoint: None,
            keepalive: None,
            last_handshake: None,
            received: 0,
            transmitted: 0,
            allowed_ips: Vec::new(),
        });
    }
    let peer = peers.last_mut()?;
    for (kind, value) in attributes(body) {
        match kind {
            WGPEER_A_PRESHARED_KEY => {
                let key: [u8; 32] = value.try_into().ok()?;
                peer.preshared_key = (key != [0; 32]).then(|| PresharedKey::from_bytes(key));
            }
            WGPEER_A_ENDPOINT => peer.endpoint = socket_address(value),
            WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => {
                let seconds = u16_of(value)?;
                peer.keepalive = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            }
            WGPEER_A_LAST_HANDSHAKE_TIME => {
                // `struct __kernel_timespec`; all zeros: never.
                let (seconds, nanoseconds) = (u64_of(value)?, u64_of(value.get(8..)?)?);
                let at = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
                peer.last_handshake = (!at.is_zero()).then_some(at);
            }
            WGPEER_A_RX_BYTES => peer.received = u64_of(value)?,
            WGPEER_A_TX_BYTES => peer.transmitted = u64_of(value)?,
            WGPEER_A_ALLOWEDIPS => {
                for (_, value) in attributes(value) {
                    peer.allowed_ips.push(read_allowed_ip(value)?);
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn read_allowed_ip(body: &[u8]) -> Option<Prefix> {
    let address = address_of(attribute(body, WGALLOWEDIP_A_IPADDR)?)?;
    Prefix::of(address, u8_of(attribute(body, WGALLOWEDIP_A_CIDR_MASK)?)?)
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(value.get(2..4)?.try_into().ok()?);
    let address = match i32::from(u16_of(value)?) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(value.get(4..8)?).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(value.get(8..24)?).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn u16_of(value: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?))
}

fn u64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?))
}
