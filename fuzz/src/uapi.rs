//! The configuration protocol: what was set, printed as `get` prints it, sets the same.

use std::net::SocketAddr;

use seedwire_core::tunnel::uapi::{GetDevice, GetPeer, SetLine, SetReader, write_get};
use seedwire_core::types::{Prefix, PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// What `set` requests leave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interface {
    private_key: Option<PrivateKey>,
    listen_port: u16,
    fwmark: u32,
    peers: Vec<Peer>,
}

#[derive(Debug, PartialEq, Eq)]
struct Peer {
    public_key: PublicKey,
    preshared_key: Option<PresharedKey>,
    endpoint: Option<SocketAddr>,
    keepalive: u16,
    allowed_ips: Vec<Prefix>,
}

impl Interface {
    fn apply(&mut self, line: SetLine) {
        match line {
            SetLine::PrivateKey(key) => self.private_key = key,
            SetLine::ListenPort(port) => self.listen_port = port,
            SetLine::Fwmark(mark) => self.fwmark = mark,
            SetLine::ReplacePeers => self.peers.clear(),
            SetLine::Peer(public_key) => self.peers.push(Peer {
                public_key,
                preshared_key: None,
                endpoint: None,
                keepalive: 0,
                allowed_ips: Vec::new(),
            }),
            line => {
                let peer = self.peers.last_mut();
                peer.expect("such lines are only read behind a public_key")
                    .apply(line);
            }
        }
    }

    fn print(&self) -> Zeroizing<String> {
        let device = GetDevice {
            private_key: self.private_key.as_ref(),
            listen_port: self.listen_port,
            fwmark: self.fwmark,
        };
        let peers = self.peers.iter().map(|peer| GetPeer {
            public_key: peer.public_key,
            preshared_key: peer.preshared_key.as_ref(),
            endpoint: peer.endpoint,
            last_handshake: (u64::MAX, 999_999_999),
            transmitted: 1,
            received: 0,
            keepalive: peer.keepalive,
            allowed_ips: &peer.allowed_ips,
        });
        let mut out = Zeroizing::new(String::new());
        write_get(&mut out, &device, peers).expect("strings take everything");
        out
    }
}

impl Peer {
    fn apply(&mut self, line: SetLine) {
        match line {
            SetLine::PresharedKey(key) => self.preshared_key = key,
            SetLine::Endpoint(endpoint) => self.endpoint = Some(endpoint),
            SetLine::Keepalive(seconds) => self.keepalive = seconds,
            SetLine::ReplaceAllowedIps => self.allowed_ips.clear(),
            SetLine::AllowedIp { prefix, add: true } => self.allowed_ips.push(prefix),
            SetLine::AllowedIp { prefix, add: false } => {
                self.allowed_ips.retain(|other| *other != prefix);
            }
            _ => {}
        }
    }
}

/// Lines of a `set` request.
pub fn uapi(data: &[u8]) {
    let mut reader = SetReader::default();
    let mut interface = Interface::default();
    for line in String::from_utf8_lossy(data).lines() {
        // As in the server, an error ends the request.
        let Ok(line) = reader.line(line) else { break };
        interface.apply(line);
    }
    let printed = interface.print();
    let (mut reader, mut again) = (SetReader::default(), Interface::default());
    for line in printed.lines() {
        let (key, value) = line.split_once('=').expect("each line is KEY=VALUE");
        // What is only told and never set.
        let number = matches!(
            key,
            "last_handshake_time_sec" | "last_handshake_time_nsec" | "tx_bytes" | "rx_bytes"
        );
        if number {
            value.parse::<u64>().expect("a number");
        } else {
            again.apply(reader.line(line).expect("what is printed can be set"));
        }
    }
    assert_eq!(again, interface);
}
