//! The same protocol as boringtun's: each of the two as initiator and as responder.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use zeroize::Zeroizing;

use super::*;
use crate::types::{PresharedKey, PrivateKey, PublicKey};

const WALL: Duration = Duration::from_secs(1_700_000_000);
const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Ours {
    identity: Arc<Identity>,
    engine: Engine,
    opener: Opener,
}

/// Ours, boringtun's, and how many handshakes each of them takes without a cookie.
fn ends(preshared: Option<[u8; 32]>, ours: u32, theirs: u64) -> (Ours, Tunn) {
    let private = PrivateKey::from_bytes([1; 32]);
    let secret = x25519::StaticSecret::from([2; 32]);
    let public = x25519::PublicKey::from(&secret);
    let identity = Arc::new(Identity::new(&private, ours, &mut random()).expect("randomness"));
    let opener = Opener::default();
    let engine = Engine::new(
        Arc::clone(&identity),
        PublicKey::from_bytes(public.to_bytes()),
        preshared.map(PresharedKey::from_bytes),
        7,
        opener.clone(),
    );
    let limiter = Arc::new(RateLimiter::new(&public, theirs));
    let peer = x25519::PublicKey::from(*identity.public_key().as_bytes());
    let tunn = Tunn::new(secret, peer, preshared, None, 9, Some(limiter));
    let ours = Ours {
        identity,
        engine,
        opener,
    };
    (ours, tunn)
}

fn random() -> impl FnMut() -> Option<Zeroizing<[u8; 32]>> {
    let mut calls = 0;
    move || {
        calls += 1;
        Some(Zeroizing::new([calls; 32]))
    }
}

fn packet() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 9, 0, 1, 10, 9, 0, 2]);
    packet.extend([1; 9]);
    packet
}

impl Ours {
    fn dispatch(&self, message: &[u8], room: &mut [u8]) -> Option<Addressee> {
        let from = SocketAddr::from((FROM, 9));
        let now = Duration::from_secs(1);
        let judged = self
            .identity
            .dispatch(now, from, message, room, &mut random());
        judged.ok()
    }

    fn initiate(&mut self, now: Duration) -> [u8; 148] {
        let mut message = [0; 148];
        let done = self
            .engine
            .initiate(now, WALL + now, &mut random(), &mut message);
        done.expect("the key is good");
        message
    }

    fn seal(&self, now: Duration, packet: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; packet.len().next_multiple_of(16) + OVERHEAD];
        datagram[Opened::PACKET..][..packet.len()].copy_from_slice(packet);
        let sending = self.engine.sending(now).expect("a session");
        let sealed = sending.seal(now, &mut datagram, packet.len());
        sealed.expect("a session");
        datagram
    }

    fn open(&mut self, now: Duration, mut datagram: Vec<u8>) -> Vec<u8> {
        let opened = self.opener.lock().open(now, &mut datagram);
        let opened = opened.expect("it is authentic");
        if opened.confirms {
            self.engine.confirm();
        }
        datagram[Opened::PACKET..][..opened.length].to_vec()
    }
}

fn sent(result: TunnResult<'_>) -> Vec<u8> {
    match result {
        TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
        other => panic!("{other:?} in place of a datagram"),
    }
}

/// We begin.
fn ours_begins(now: Duration, ours: &mut Ours, theirs: &mut Tunn) {
    let mut room = [0; 256];
    let initiation = ours.initiate(now);
    let response = sent(theirs.decapsulate(Some(FROM), &initiation, &mut room));
    let addressee = ours.dispatch(&response, &mut [0; 256]);
    assert!(matches!(addressee, Some(Addressee::Peer(7))));
    assert_eq!(ours.engine.take(now, &response), Ok(Taken::Session));
}

/// boringtun begins.
fn theirs_begins(now: Duration, ours: &mut Ours, theirs: &mut Tunn) {
    let mut room = [0; 256];
    let initiation = sent(theirs.format_handshake_initiation(&mut room, true));
    let addressee = ours.dispatch(&initiation, &mut [0; 256]);
    let Some(Addressee::Initiation(initiation)) = addressee else {
        panic!("no initiation");
    };
    let mut response = [0; 92];
    let done = ours
        .engine
        .respond(now, *initiation, &mut random(), &mut response);
    assert_eq!(done, Ok(()));
    let keepalive = sent(theirs.decapsulate(Some(FROM), &response, &mut room));
    assert!(ours.open(now, keepalive).is_empty());
}

fn passes(now: Duration, ours: &mut Ours, theirs: &mut Tunn) {
    for _ in 0..3 {
        let mut room = [0; 256];
        let sealed = ours.seal(now, &packet());
        match theirs.decapsulate(Some(FROM), &sealed, &mut room) {
            TunnResult::WriteToTunnelV4(opened, _) => assert_eq!(opened, packet()),
            other => panic!("{other:?} in place of a packet"),
        }
        let sealed = sent(theirs.encapsulate(&packet(), &mut room));
        assert_eq!(ours.open(now, sealed), packet());
    }
}

#[test]
fn each_begins_and_begins_anew() {
    let now = Duration::from_secs(1);
    for preshared in [None, Some([5; 32])] {
        let (mut ours, mut theirs) = ends(preshared, 100, 100);
        for round in 0..3 {
            let now = now + Duration::from_secs(round);
            ours_begins(now, &mut ours, &mut theirs);
            passes(now, &mut ours, &mut theirs);
        }
        let (mut ours, mut theirs) = ends(preshared, 100, 100);
        for round in 0..3 {
            // boringtun states its time exactly, and we take no two within 20 ms.
            let now = now + Duration::from_secs(round);
            theirs_begins(now, &mut ours, &mut theirs);
            passes(now, &mut ours, &mut theirs);
        }
    }
}

#[test]
fn a_cookie_of_theirs_is_used() {
    let (mut ours, mut theirs) = ends(None, 100, 0);
    let now = Duration::from_secs(1);
    let mut room = [0; 256];
    let initiation = ours.initiate(now);
    let reply = sent(theirs.decapsulate(Some(FROM), &initiation, &mut room));
    let addressee = ours.dispatch(&reply, &mut [0; 256]);
    assert!(matches!(addressee, Some(Addressee::Peer(7))));
    assert_eq!(ours.engine.take(now, &reply), Ok(Taken::Cookie));
    ours_begins(now + Duration::from_secs(5), &mut ours, &mut theirs);
    passes(now + Duration::from_secs(5), &mut ours, &mut theirs);
}

#[test]
fn a_cookie_of_ours_is_used() {
    let (mut ours, mut theirs) = ends(None, 0, 100);
    let now = Duration::from_secs(1);
    let (mut room, mut reply) = ([0; 256], [0; 256]);
    let initiation = sent(theirs.format_handshake_initiation(&mut room, true));
    let Some(Addressee::Prove { length }) = ours.dispatch(&initiation, &mut reply) else {
        panic!("no cookie");
    };
    let taken = theirs.decapsulate(Some(FROM), &reply[..length], &mut room);
    assert!(matches!(taken, TunnResult::Done));
    theirs_begins(now, &mut ours, &mut theirs);
    passes(now, &mut ours, &mut theirs);
}
