//! A peer of WireGuard in the test's own hands, on the protocol's pure code: it says what no
//! program would.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use seedwire_core::tunnel::noise::{
    Addressee, Engine, HANDSHAKE_ROOM, Identity, OVERHEAD, Opener, Taken,
};
use seedwire_core::types::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// A peer behind a socket, which it may share with others.
pub struct Caller {
    socket: UdpSocket,
    identity: Arc<Identity>,
    engine: Engine,
    began: Instant,
}

fn random() -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).ok()?;
    Some(bytes)
}

/// A new private key.
pub fn new_key() -> PrivateKey {
    PrivateKey::from_bytes(*random().expect("randomness"))
}

impl Caller {
    /// With a key of its own, for the hub with this one. The socket is connected to the hub.
    pub fn new(own: &PrivateKey, hub: PublicKey, socket: UdpSocket) -> Self {
        let limit = Some(Duration::from_millis(500));
        socket.set_read_timeout(limit).expect("a timeout");
        let identity = Identity::new(own, u32::MAX, &mut random).expect("randomness");
        let identity = Arc::new(identity);
        let engine = Engine::new(Arc::clone(&identity), hub, None, 7, Opener::default());
        Self {
            socket,
            identity,
            engine,
            began: Instant::now(),
        }
    }

    /// A new initiation.
    pub fn initiation(&mut self) -> [u8; HANDSHAKE_ROOM] {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let mut message = [0; HANDSHAKE_ROOM];
        let now = self.began.elapsed();
        let written = self.engine.initiate(now, wall, &mut random, &mut message);
        written.expect("keys that agree");
        message
    }

    /// Calls the hub, and once more with the cookie that it may ask for: true once a session
    /// stands, false when nothing came for half a second.
    pub fn call(&mut self) -> bool {
        self.send_initiation();
        let mut message = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut message) {
            match self.take(&message[..length]) {
                Some(Taken::Session) => {
                    let keepalive = self.sealed(&[]);
                    let _ = self.socket.send(&keepalive);
                    return true;
                }
                Some(Taken::Cookie) => self.send_initiation(),
                None => {}
            }
        }
        false
    }

    fn send_initiation(&mut self) {
        let initiation = self.initiation();
        // Lost where the other end is flooded, or gone; the next one may not be.
        let _ = self.socket.send(&initiation);
    }

    fn take(&mut self, message: &[u8]) -> Option<Taken> {
        let (now, from) = (self.began.elapsed(), self.socket.peer_addr().ok()?);
        let mut out = [0; HANDSHAKE_ROOM];
        let addressee = self
            .identity
            .dispatch(now, from, message, &mut out, &mut random);
        matches!(addressee, Ok(Addressee::Peer(_)))
            .then(|| self.engine.take(now, message).ok())
            .flatten()
    }

    /// Seals a packet (empty: a keepalive) in the session that stands.
    pub fn sealed(&self, packet: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; packet.len() + OVERHEAD];
        datagram[16..16 + packet.len()].copy_from_slice(packet);
        let now = self.began.elapsed();
        let session = self.engine.sending(now).expect("a session");
        let sealed = session.seal(now, &mut datagram, packet.len());
        sealed.expect("a session");
        datagram
    }

    /// What comes next, if it does within half a second.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut message = vec![0; 2048];
        let length = self.socket.recv(&mut message).ok()?;
        message.truncate(length);
        Some(message)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket")
    }
}
