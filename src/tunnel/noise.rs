//! The protocol engine: boringtun's `noise` behind [`Engine`].
//!
//! What boringtun does by itself and the seam does not want is worked round here. It reads
//! CLOCK_BOOTTIME and the system's randomness by itself, so `now` only decides how often it is
//! made to look at its clock. Its own timers are run for what they expire and never for what they
//! would send: [`PeerTimers`](seedwire_core::tunnel::PeerTimers) decides that, and its
//! ConnectionExpired, after which it would stay silent for ever, means nothing here. Its queue for
//! packets without a session is never used, and its limit on handshakes is switched off in favour
//! of the one in front of all peers. Known and left: a replay window of 1024 packets; session
//! numbers count up below 24 random bits; a changed key starts from nothing, so the time of the
//! last handshake is forgotten.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use seedwire_core::tunnel::{Engine, EngineError, HANDSHAKE_ROOM, Opened, Refusal};
use seedwire_core::types::{PresharedKey, PrivateKey, PublicKey};

/// How often boringtun is made to look at its clock.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Handshakes a second, from everybody together, that are taken without a cookie.
const WITHOUT_COOKIE: u64 = 500;

/// This host's side of every handshake.
pub(super) struct Identity {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    front: RateLimiter,
    unlimited: Arc<RateLimiter>,
}

/// Who a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressee {
    /// The peer with this index.
    Index(u32),
    /// The peer with this key.
    Key(PublicKey),
    /// Nobody yet: the first `length` bytes of the buffer ask the sender to prove its address.
    Prove(usize),
}

impl Identity {
    pub(super) fn new(private: &PrivateKey) -> Self {
        Self::limited(private, WITHOUT_COOKIE)
    }

    /// As [`Identity::new`], with another number of handshakes a second without a cookie.
    fn limited(private: &PrivateKey, without_cookie: u64) -> Self {
        let secret = x25519::StaticSecret::from(*private.as_bytes());
        let public = x25519::PublicKey::from(&secret);
        Self {
            front: RateLimiter::new(&public, without_cookie),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            public,
        }
    }

    /// Who a handshake message is for.
    pub(super) fn dispatch(
        &self,
        from: IpAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Addressee, Refusal> {
        self.front.reset_count();
        let message = match self.front.verify_packet(Some(from), datagram, out) {
            Ok(message) => message,
            Err(TunnResult::WriteToNetwork(cookie)) => return Ok(Addressee::Prove(cookie.len())),
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => return Err(Refusal::WrongMac),
            Err(_) => return Err(Refusal::Malformed),
        };
        let index = match message {
            Packet::HandshakeInit(message) => {
                let half = parse_handshake_anon(&self.secret, &self.public, &message);
                let half = half.map_err(|_| Refusal::NotAuthentic)?;
                let key = PublicKey::from_bytes(half.peer_static_public);
                return Ok(Addressee::Key(key));
            }
            Packet::HandshakeResponse(message) => message.receiver_idx,
            Packet::PacketCookieReply(message) => message.receiver_idx,
            Packet::PacketData(message) => message.receiver_idx,
        };
        Ok(Addressee::Index(index >> 8))
    }
}

/// The index of the peer that a data message is for.
pub(super) fn data_index(datagram: &[u8]) -> Option<u32> {
    match datagram {
        [4, 0, 0, 0, a, b, c, d, _, ..] if datagram.len() >= 32 => {
            Some(u32::from_le_bytes([*a, *b, *c, *d]) >> 8)
        }
        _ => None,
    }
}

/// One peer's handshakes and sessions.
pub(super) struct Noise {
    tunn: Tunn,
    looked: Duration,
    session: bool,
    /// The session that we have answered for and that the peer has not used yet.
    unconfirmed: Option<u32>,
    spare: [u8; HANDSHAKE_ROOM],
}

impl Noise {
    /// `index`: 24 bits that no other peer has.
    pub(super) fn new(
        identity: &Identity,
        peer: &PublicKey,
        preshared: Option<&PresharedKey>,
        index: u32,
    ) -> Self {
        let tunn = Tunn::new(
            identity.secret.clone(),
            x25519::PublicKey::from(*peer.as_bytes()),
            preshared.map(|key| *key.as_bytes()),
            None,
            index,
            Some(Arc::clone(&identity.unlimited)),
        );
        Self {
            tunn,
            looked: Duration::ZERO,
            session: false,
            unconfirmed: None,
            spare: [0; HANDSHAKE_ROOM],
        }
    }

    fn look_at_clock(&mut self, now: Duration) {
        if now.saturating_sub(self.looked) >= LOOK_AGAIN {
            self.looked = now;
            let _ = self.tunn.update_timers(&mut self.spare);
            self.note_session();
        }
    }

    fn note_session(&mut self) {
        self.session = self.tunn.time_since_last_handshake().is_some();
    }
}

impl Engine for Noise {
    fn initiate(&mut self, now: Duration, out: &mut [u8]) -> Result<usize, EngineError> {
        self.look_at_clock(now);
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(message) => Ok(message.len()),
            _ => Err(EngineError::NoSession),
        }
    }

    fn seal(&mut self, now: Duration, packet: &[u8], out: &mut [u8]) -> Result<usize, EngineError> {
        self.look_at_clock(now);
        if !self.session {
            return Err(EngineError::NoSession);
        }
        match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(datagram) => Ok(datagram.len()),
            _ => Err(EngineError::NoSession),
        }
    }

    fn open(
        &mut self,
        now: Duration,
        from: IpAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Opened, EngineError> {
        self.look_at_clock(now);
        let length = match self.tunn.decapsulate(Some(from), datagram, out) {
            TunnResult::WriteToNetwork(answer) => answer.len(),
            TunnResult::WriteToTunnelV4(packet, _) => packet.len(),
            TunnResult::WriteToTunnelV6(packet, _) => packet.len(),
            TunnResult::Done => 0,
            TunnResult::Err(error) => return Err(reason(&error)),
        };
        match datagram.first() {
            Some(1) => {
                self.unconfirmed = out
                    .get(4..8)
                    .and_then(|index| index.try_into().ok())
                    .map(u32::from_le_bytes);
                Ok(Opened::Initiation { length })
            }
            Some(2) => {
                self.note_session();
                Ok(Opened::Response { length })
            }
            Some(3) => Ok(Opened::Cookie),
            _ => {
                let used = datagram
                    .get(4..8)
                    .and_then(|index| index.try_into().ok())
                    .map(u32::from_le_bytes);
                let completes = self.unconfirmed.is_some() && used == self.unconfirmed;
                if completes {
                    self.unconfirmed = None;
                    self.note_session();
                }
                Ok(Opened::Packet { length, completes })
            }
        }
    }

    fn has_session(&self) -> bool {
        self.session
    }
}

fn reason(error: &WireGuardError) -> EngineError {
    match error {
        WireGuardError::NoCurrentSession | WireGuardError::ConnectionExpired => {
            EngineError::NoSession
        }
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp => EngineError::Replayed,
        _ => EngineError::NotAuthentic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Two ends, and the identity of each.
    fn ends(ours: Option<PresharedKey>, theirs: Option<PresharedKey>) -> (Noise, Noise, Identity) {
        let keys = [[1; 32], [2; 32]].map(PrivateKey::from_bytes);
        let public = [&keys[0], &keys[1]].map(PrivateKey::public_key);
        let a = Identity::new(&keys[0]);
        let b = Identity::new(&keys[1]);
        let first = Noise::new(&a, &public[1], ours.as_ref(), 7);
        let second = Noise::new(&b, &public[0], theirs.as_ref(), 9);
        (first, second, b)
    }

    fn packet() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend([10, 9, 0, 1, 10, 9, 0, 2]);
        packet.extend([1; 8]);
        packet
    }

    fn handshake(a: &mut Noise, b: &mut Noise) -> Result<Opened, EngineError> {
        let now = Duration::from_secs(1);
        let mut room = [0; 256];
        let mut answer = [0; 256];
        let length = a.initiate(now, &mut room)?;
        let Opened::Initiation { length } = b.open(now, FROM, &room[..length], &mut answer)? else {
            panic!("an initiation is taken for something else");
        };
        let Opened::Response { length } = a.open(now, FROM, &answer[..length], &mut room)? else {
            panic!("a response is taken for something else");
        };
        assert!(a.has_session() && !b.has_session());
        b.open(now, FROM, &room[..length], &mut answer)
    }

    #[test]
    fn two_ends_agree_and_packets_pass_both_ways() {
        for psk in [None, Some(PresharedKey::from_bytes([5; 32]))] {
            let (mut a, mut b, _) = ends(psk.clone(), psk);
            let confirmed = handshake(&mut a, &mut b).expect("both are honest");
            assert_eq!(
                confirmed,
                Opened::Packet {
                    length: 0,
                    completes: true
                }
            );
            assert!(b.has_session());
            for _ in 0..3 {
                let now = Duration::from_secs(2);
                let (mut sealed, mut opened) = ([0; 256], [0; 256]);
                // What was padded is cut again.
                let padded = [packet(), vec![0; 4]].concat();
                let length = b.seal(now, &padded, &mut sealed).expect("a session");
                assert_eq!(length, padded.len() + seedwire_core::tunnel::OVERHEAD);
                assert_eq!(data_index(&sealed[..length]), Some(7));
                let done = a.open(now, FROM, &sealed[..length], &mut opened);
                let length = packet().len();
                assert_eq!(
                    done,
                    Ok(Opened::Packet {
                        length,
                        completes: false
                    })
                );
                assert_eq!(opened[..length], packet());
            }
        }
    }

    #[test]
    fn another_preshared_key_gives_no_session() {
        let (mut a, mut b, _) = ends(None, Some(PresharedKey::from_bytes([5; 32])));
        assert_eq!(handshake(&mut a, &mut b), Err(EngineError::NotAuthentic));
        assert!(!a.has_session());
        let sealed = a.seal(Duration::from_secs(3), &packet(), &mut [0; 256]);
        assert_eq!(sealed, Err(EngineError::NoSession));
    }

    #[test]
    fn a_replay_and_a_changed_bit_are_refused() {
        let (mut a, mut b, _) = ends(None, None);
        handshake(&mut a, &mut b).expect("both are honest");
        let now = Duration::from_secs(2);
        let (mut sealed, mut opened) = ([0; 256], [0; 256]);
        let length = a.seal(now, &packet(), &mut sealed).expect("a session");
        let mut changed = sealed;
        changed[20] ^= 1;
        let refused = b.open(now, FROM, &changed[..length], &mut opened);
        assert_eq!(refused, Err(EngineError::NotAuthentic));
        assert!(b.open(now, FROM, &sealed[..length], &mut opened).is_ok());
        let refused = b.open(now, FROM, &sealed[..length], &mut opened);
        assert_eq!(refused, Err(EngineError::Replayed));
    }

    #[test]
    fn messages_find_their_peer_and_a_flood_must_prove_its_address() {
        let (mut a, ..) = ends(None, None);
        // So few that a slow machine reaches them within boringtun's second.
        let identity = Identity::limited(&PrivateKey::from_bytes([2; 32]), 5);
        let (mut message, mut out) = ([0; 256], [0; 256]);
        let length = a
            .initiate(Duration::from_secs(1), &mut message)
            .expect("always");
        let key = PrivateKey::from_bytes([1; 32]).public_key();
        let first = identity.dispatch(FROM, &message[..length], &mut out);
        assert_eq!(first, Ok(Addressee::Key(key)));
        let proof = (0..100)
            .map(|_| identity.dispatch(FROM, &message[..length], &mut out))
            .any(|addressee| matches!(addressee, Ok(Addressee::Prove(64))));
        assert!(proof);
        message[length - 20] ^= 1;
        let refused = identity.dispatch(FROM, &message[..length], &mut out);
        assert_eq!(refused, Err(Refusal::WrongMac));
        let refused = identity.dispatch(FROM, &[], &mut out);
        assert_eq!(refused, Err(Refusal::Malformed));
    }
}
