//! Two hosts and what is on the wire between them: only what the other one wrote is taken, and
//! once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seedwire_core::tunnel::noise::{
    Addressee, Engine, HANDSHAKE_ROOM, Identity, OVERHEAD, Opened, Opener, Taken, data_index,
};
use seedwire_core::types::PrivateKey;
use zeroize::Zeroizing;

/// So few that the senders soon have to prove their addresses.
const PER_ADDRESS: u32 = 3;
const RESPONSE: usize = 92;
/// The second MAC of a handshake message, which is not looked at before there is a need to.
const MAC2: usize = 16;

/// Different bytes at each call.
struct Random(u64);

impl Random {
    fn bytes(&mut self) -> Option<Zeroizing<[u8; 32]>> {
        self.0 += 1;
        let mut bytes = [0x5a; 32];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        Some(Zeroizing::new(bytes))
    }
}

struct Host {
    identity: Arc<Identity>,
    engine: Engine,
    opener: Opener,
    random: Random,
    address: SocketAddr,
}

impl Host {
    fn new(number: usize) -> Self {
        let keys = [[1; 32], [2; 32]].map(PrivateKey::from_bytes);
        let mut random = Random((number as u64) << 32);
        let identity = Identity::new(&keys[number], PER_ADDRESS, &mut || random.bytes());
        let identity = Arc::new(identity.expect("there is randomness"));
        let opener = Opener::default();
        let engine = Engine::new(
            Arc::clone(&identity),
            keys[1 - number].public_key(),
            None,
            self::number(number),
            opener.clone(),
        );
        Self {
            identity,
            engine,
            opener,
            random,
            address: ([192, 0, 2, number as u8], 51820).into(),
        }
    }
}

/// What a host calls its only peer.
fn number(host: usize) -> u32 {
    host as u32 + 7
}

/// A datagram that a host wrote.
struct Written {
    by: usize,
    datagram: Vec<u8>,
    /// What is sealed in it.
    packet: Vec<u8>,
    taken: bool,
}

struct Wire {
    hosts: [Host; 2],
    written: Vec<Written>,
    now: Duration,
}

/// Steps of four bytes each: what happens, to which datagram, where in it, and how.
pub fn datagrams(data: &[u8]) {
    let mut wire = Wire {
        hosts: [Host::new(0), Host::new(1)],
        written: Vec::new(),
        now: Duration::from_secs(1),
    };
    let mut rest = data;
    while let Some(([what, which, at, how], behind)) = rest.split_first_chunk::<4>() {
        rest = behind;
        let host = usize::from(what >> 3 & 1);
        let at = usize::from(*at);
        match what & 7 {
            0 => wire.initiate(host),
            1 => wire.seal(host, at),
            2 => wire.now += Duration::from_secs((*which).into()),
            3 => wire.hosts[host].engine.expire(wire.now),
            4 => {
                let length = at.min(rest.len());
                wire.deliver(host, &rest[..length]);
                rest = &rest[length..];
            }
            _ => {
                let Some(chosen) = wire.written.iter().rev().nth((*which).into()) else {
                    continue;
                };
                let mut datagram = chosen.datagram.clone();
                let end = datagram.len();
                match what & 7 {
                    5 => {}
                    6 => datagram[at % end] ^= how,
                    _ => datagram.resize(at, *how),
                }
                wire.deliver(host, &datagram);
            }
        }
    }
}

impl Wire {
    fn initiate(&mut self, by: usize) {
        let host = &mut self.hosts[by];
        let mut message = [0; HANDSHAKE_ROOM];
        let wall = Duration::from_secs(1_700_000_000) + self.now;
        let random = &mut || host.random.bytes();
        let done = host.engine.initiate(self.now, wall, random, &mut message);
        done.expect("the keys are good");
        self.write(by, &message, &[]);
    }

    /// An IPv4 packet of `length` bytes, or, when that is too short for one, a keepalive.
    fn seal(&mut self, by: usize, length: usize) {
        let mut packet = vec![self.written.len() as u8; length];
        if length < 20 {
            packet.clear();
        } else {
            packet[..4].copy_from_slice(&[0x45, 0, 0, length as u8]);
        }
        let Some(sending) = self.hosts[by].engine.sending(self.now) else {
            return;
        };
        let mut datagram = vec![0; packet.len().next_multiple_of(16) + OVERHEAD];
        datagram[Opened::PACKET..][..packet.len()].copy_from_slice(&packet);
        let sealed = sending.seal(self.now, &mut datagram, packet.len());
        sealed.expect("the session is usable");
        self.write(by, &datagram, &packet);
    }

    fn write(&mut self, by: usize, datagram: &[u8], packet: &[u8]) {
        self.written.push(Written {
            by,
            datagram: datagram.to_vec(),
            packet: packet.to_vec(),
            taken: false,
        });
    }

    /// The datagram was taken by a host: the other one wrote it, and it was not taken before.
    fn take(&mut self, by: usize, datagram: &[u8], authentic: usize) -> &Written {
        let is_it = |written: &&mut Written| {
            written.by != by
                && written.datagram.len() == datagram.len()
                && written.datagram[..authentic] == datagram[..authentic]
        };
        let written = self.written.iter_mut().find(is_it);
        let written = written.expect("what is taken was written by the other host");
        assert!(!written.taken, "a replay");
        written.taken = true;
        written
    }

    fn deliver(&mut self, to: usize, datagram: &[u8]) {
        if let Some(index) = data_index(datagram) {
            let peer = self.hosts[to].identity.peer(index);
            return self.open(to, peer, datagram);
        }
        let from = self.hosts[1 - to].address;
        let host = &mut self.hosts[to];
        let mut out = [0; HANDSHAKE_ROOM];
        let random = &mut || host.random.bytes();
        let addressee = host
            .identity
            .dispatch(self.now, from, datagram, &mut out, random);
        match addressee {
            Ok(Addressee::Initiation(initiation)) => {
                let peer = *initiation.peer();
                assert_eq!(peer, *self.hosts[1 - to].identity.public_key());
                let host = &mut self.hosts[to];
                let mut response = [0; RESPONSE];
                let random = &mut || host.random.bytes();
                let done = host
                    .engine
                    .respond(self.now, *initiation, random, &mut response);
                if done.is_ok() {
                    self.take(to, datagram, datagram.len() - MAC2);
                    self.write(to, &response, &[]);
                }
            }
            Ok(Addressee::Peer(_)) => match host.engine.take(self.now, datagram) {
                Ok(Taken::Session) => {
                    assert!(host.engine.sending(self.now).is_some());
                    self.take(to, datagram, datagram.len() - MAC2);
                }
                // A cookie does nothing but prove an address: it may come twice, and the index it
                // names is not sealed (the WireGuard paper, 5.4.7).
                Ok(Taken::Cookie) => {
                    let is_it = |w: &Written| w.by != to && w.datagram[8..] == datagram[8..];
                    assert!(self.written.iter().any(is_it));
                }
                Err(_) => {}
            },
            Ok(Addressee::Prove { length }) => self.write(to, &out[..length], &[]),
            Err(_) => {}
        }
    }

    /// A datagram whose index leads to this peer.
    fn open(&mut self, to: usize, peer: u32, datagram: &[u8]) {
        let mut opened = datagram.to_vec();
        let done = self.hosts[to].opener.lock().open(self.now, &mut opened);
        let Ok(Opened { length, confirms }) = done else {
            return;
        };
        assert_eq!(peer, number(to), "the index leads to the only peer");
        let written = self.take(to, datagram, datagram.len());
        assert_eq!(opened[Opened::PACKET..][..length], written.packet);
        let confirmed = confirms && self.hosts[to].engine.confirm();
        assert_eq!(
            confirmed, confirms,
            "the session that is confirmed is there"
        );
    }
}
