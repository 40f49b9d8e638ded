//! The rules of the protocol's paper, in virtual time, between two engines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::tunnel::Refusal;
use crate::types::{PresharedKey, PrivateKey, PublicKey};

/// What a first message states as its time.
const WALL: Duration = Duration::from_secs(1_700_000_000);
const PER_ADDRESS: u32 = 100;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn from() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 51820))
}

/// Bytes that no two calls in one test share.
fn randomness(seed: u8) -> impl FnMut() -> Option<Zeroizing<[u8; 32]>> {
    let mut calls = 0u32;
    move || {
        calls += 1;
        let mut bytes = [seed; 32];
        bytes[..4].copy_from_slice(&calls.to_le_bytes());
        Some(Zeroizing::new(bytes))
    }
}

/// One host with one peer.
struct End {
    number: u32,
    identity: Arc<Identity>,
    engine: Engine,
    opener: Opener,
    random: Box<dyn FnMut() -> Option<Zeroizing<[u8; 32]>> + Sync>,
}

impl End {
    fn new(seed: u8, peer: u8, preshared: Option<PresharedKey>) -> Self {
        Self::to(seed, key(peer).public_key(), preshared)
    }

    fn to(seed: u8, peer: PublicKey, preshared: Option<PresharedKey>) -> Self {
        let mut random: Box<dyn FnMut() -> _ + Sync> = Box::new(randomness(seed));
        let identity = Identity::new(&key(seed), PER_ADDRESS, &mut *random);
        let identity = Arc::new(identity.expect("there is randomness"));
        let opener = Opener::default();
        let number = u32::from(seed);
        let engine = Engine::new(
            Arc::clone(&identity),
            peer,
            preshared,
            number,
            opener.clone(),
        );
        Self {
            number,
            identity,
            engine,
            opener,
            random,
        }
    }

    fn initiate(&mut self, now: Duration) -> [u8; 148] {
        let mut message = [0; 148];
        let done = self
            .engine
            .initiate(now, WALL + now, &mut *self.random, &mut message);
        done.expect("the key is good");
        message
    }

    fn dispatch(&mut self, now: Duration, message: &[u8]) -> Result<Addressee, Refusal> {
        let mut room = [0; HANDSHAKE_ROOM];
        self.identity
            .dispatch(now, from(), message, &mut room, &mut *self.random)
    }

    fn respond(&mut self, now: Duration, message: &[u8]) -> Result<[u8; 92], EngineError> {
        let Ok(Addressee::Initiation(initiation)) = self.dispatch(now, message) else {
            return Err(EngineError::NotAuthentic);
        };
        let mut answer = [0; 92];
        self.engine
            .respond(now, *initiation, &mut *self.random, &mut answer)
            .map(|()| answer)
    }

    fn take(&mut self, now: Duration, message: &[u8]) -> Result<Taken, EngineError> {
        match self.dispatch(now, message) {
            Ok(Addressee::Peer(peer)) => {
                assert_eq!(peer, self.number);
                self.engine.take(now, message)
            }
            _ => Err(EngineError::NotAuthentic),
        }
    }

    fn seal(&self, now: Duration, packet: &[u8]) -> Result<Vec<u8>, EngineError> {
        let sending = self.engine.sending(now).ok_or(EngineError::NoSession)?;
        let padded = packet.len().next_multiple_of(16);
        let mut datagram = vec![0xee; padded + OVERHEAD];
        datagram[Opened::PACKET..][..packet.len()].copy_from_slice(packet);
        sending.seal(now, &mut datagram, packet.len())?;
        Ok(datagram)
    }

    /// The inner packet; confirms the session where it does.
    fn open(&mut self, now: Duration, datagram: &[u8]) -> Result<Vec<u8>, EngineError> {
        let mut datagram = datagram.to_vec();
        let opened = self.opener.lock().open(now, &mut datagram)?;
        if opened.confirms {
            assert!(self.engine.confirm());
        }
        Ok(datagram[Opened::PACKET..][..opened.length].to_vec())
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn ends() -> (End, End) {
    (End::new(1, 2, None), End::new(2, 1, None))
}

fn handshake(now: Duration, a: &mut End, b: &mut End) -> Result<(), EngineError> {
    let initiation = a.initiate(now);
    let response = b.respond(now, &initiation)?;
    assert_eq!(a.take(now, &response)?, Taken::Session);
    let keepalive = a.seal(now, &[])?;
    assert!(b.open(now, &keepalive)?.is_empty());
    Ok(())
}

fn packet(marker: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 9, 0, 1, 10, 9, 0, 2]);
    packet.extend([marker; 9]);
    packet
}

fn passes(now: Duration, a: &mut End, b: &mut End) {
    for marker in 0..3 {
        let sealed = a.seal(now, &packet(marker)).expect("a session");
        assert_eq!(sealed.len(), 32 + OVERHEAD);
        assert_eq!(b.open(now, &sealed), Ok(packet(marker)));
    }
}

#[test]
fn packets_pass_both_ways_with_and_without_a_preshared_key() {
    for preshared in [None, Some(PresharedKey::from_bytes([5; 32]))] {
        let mut a = End::new(1, 2, preshared.clone());
        let mut b = End::new(2, 1, preshared);
        handshake(at(1), &mut a, &mut b).expect("both are honest");
        passes(at(2), &mut a, &mut b);
        passes(at(2), &mut b, &mut a);
    }
}

#[test]
fn a_responder_waits_for_the_initiator() {
    let (mut a, mut b) = ends();
    let initiation = a.initiate(at(1));
    let response = b.respond(at(1), &initiation).expect("it is honest");
    assert!(b.engine.sending(at(1)).is_none());
    a.take(at(1), &response).expect("it is honest");
    let sealed = a.seal(at(1), &packet(1)).expect("a session");
    let mut changed = sealed.clone();
    changed[20] ^= 1;
    assert_eq!(b.open(at(1), &changed), Err(EngineError::NotAuthentic));
    assert!(b.engine.sending(at(1)).is_none());
    assert_eq!(b.open(at(1), &sealed), Ok(packet(1)));
    assert!(b.engine.sending(at(1)).is_some());
}

#[test]
fn other_keys_give_no_session() {
    let mut a = End::new(1, 2, None);
    let mut b = End::new(2, 1, Some(PresharedKey::from_bytes([5; 32])));
    let refused = handshake(at(1), &mut a, &mut b);
    assert_eq!(refused, Err(EngineError::NotAuthentic));
    assert!(a.engine.sending(at(1)).is_none());
    // A peer that b does not expect, under the right address.
    let mut other = End::new(3, 2, None);
    let message = other.initiate(at(1));
    let refused = b.respond(at(1), &message);
    assert_eq!(refused, Err(EngineError::NotAuthentic));
    // A message for somebody else.
    let mut a = End::new(1, 3, None);
    let message = a.initiate(at(1));
    let refused = b.dispatch(at(1), &message).err();
    assert_eq!(refused, Some(Refusal::WrongMac));
}

#[test]
fn datagrams_of_the_session_before_are_taken_and_of_earlier_ones_not() {
    let (mut a, mut b) = ends();
    let mut sealed = Vec::new();
    for round in 0..3 {
        handshake(at(1 + round), &mut a, &mut b).expect("both are honest");
        let late = [a.seal(at(4), &packet(9)), b.seal(at(4), &packet(9))];
        sealed.push(late.map(|sealed| sealed.expect("a session")));
    }
    for (to_b, to_a) in sealed.iter().map(|[to_b, to_a]| (to_b, to_a)).skip(1) {
        assert_eq!(b.open(at(5), to_b), Ok(packet(9)));
        assert_eq!(a.open(at(5), to_a), Ok(packet(9)));
    }
    assert_eq!(b.open(at(5), &sealed[0][0]), Err(EngineError::NoSession));
    assert_eq!(a.open(at(5), &sealed[0][1]), Err(EngineError::NoSession));
    passes(at(5), &mut a, &mut b);
    passes(at(5), &mut b, &mut a);
}

#[test]
fn what_is_under_way_when_the_sessions_change_still_arrives() {
    let (mut a, mut b) = ends();
    handshake(at(1), &mut a, &mut b).expect("both are honest");
    let initiation = a.initiate(at(121));
    let from_a = a.seal(at(121), &packet(1)).expect("a session");
    let response = b.respond(at(121), &initiation).expect("it is honest");
    let from_b = b.seal(at(121), &packet(2)).expect("the old session");
    assert_eq!(b.open(at(121), &from_a), Ok(packet(1)));
    a.take(at(121), &response).expect("it is honest");
    assert_eq!(a.open(at(121), &from_b), Ok(packet(2)));
    let after = b.seal(at(121), &packet(3)).expect("the old session");
    assert_eq!(a.open(at(121), &after), Ok(packet(3)));
    passes(at(121), &mut a, &mut b);
    passes(at(121), &mut b, &mut a);
}

#[test]
fn both_may_begin_at_once() {
    let (mut a, mut b) = ends();
    let (from_a, from_b) = (a.initiate(at(1)), b.initiate(at(1)));
    let (to_a, to_b) = (b.respond(at(1), &from_a), a.respond(at(1), &from_b));
    a.take(at(1), &to_a.expect("it is honest")).expect("too");
    b.take(at(1), &to_b.expect("it is honest")).expect("too");
    passes(at(1), &mut a, &mut b);
    passes(at(1), &mut b, &mut a);
}

#[test]
fn a_session_ends_after_three_minutes() {
    let (mut a, mut b) = ends();
    handshake(at(1), &mut a, &mut b).expect("both are honest");
    passes(at(180), &mut a, &mut b);
    let late = a.seal(at(180), &packet(1)).expect("a session");
    assert_eq!(a.seal(at(181), &[]), Err(EngineError::NoSession));
    assert_eq!(b.open(at(181), &late), Err(EngineError::NoSession));
    b.engine.expire(at(180));
    assert_eq!(b.open(at(180), &late), Ok(packet(1)));
    b.engine.expire(at(181));
    assert!(b.opener.lock().is_empty());
}

#[test]
fn replays_are_refused() {
    let (mut a, mut b) = ends();
    let initiation = a.initiate(at(1));
    let response = b.respond(at(1), &initiation).expect("it is honest");
    assert_eq!(b.respond(at(1), &initiation), Err(EngineError::Replayed));
    a.take(at(1), &response).expect("it is honest");
    assert_eq!(a.take(at(1), &response), Err(EngineError::NoSession));
    let older = a.initiate(at(2));
    let newer = a.initiate(at(3));
    let answer = b.respond(at(3), &newer).expect("it is honest");
    assert_eq!(b.respond(at(4), &older), Err(EngineError::Replayed));
    // Not even with other keys in between.
    b.engine.set_keys(Arc::clone(&b.identity), None);
    assert_eq!(b.respond(at(4), &newer), Err(EngineError::Replayed));
    a.take(at(4), &answer).expect("it is honest");
    let sealed = a.seal(at(4), &packet(1)).expect("a session");
    assert_eq!(b.open(at(4), &sealed), Err(EngineError::NoSession));
    handshake(at(5), &mut a, &mut b).expect("both are honest");
    let sealed = a.seal(at(6), &packet(1)).expect("a session");
    assert_eq!(b.open(at(6), &sealed), Ok(packet(1)));
    assert_eq!(b.open(at(6), &sealed), Err(EngineError::Replayed));
}

#[test]
fn a_clock_that_was_set_back_before_new_keys_stops_nobody() {
    let (mut a, mut b) = ends();
    handshake(at(1000), &mut a, &mut b).expect("both are honest");
    a.engine.set_keys(Arc::clone(&a.identity), None);
    b.engine.set_keys(Arc::clone(&b.identity), None);
    let initiation = a.initiate(at(5));
    assert!(b.respond(at(1001), &initiation).is_ok());
}

#[test]
fn only_the_last_initiation_is_answered() {
    let (mut a, mut b) = ends();
    let first = a.initiate(at(1));
    let response = b.respond(at(1), &first).expect("it is honest");
    let second = a.initiate(at(6));
    assert_eq!(a.take(at(6), &response), Err(EngineError::NoSession));
    let response = b.respond(at(6), &second).expect("it is honest");
    assert_eq!(a.take(at(6), &response), Ok(Taken::Session));
}

#[test]
fn a_peer_can_not_begin_more_than_fifty_handshakes_a_second() {
    let (mut a, mut b) = ends();
    let mut answered = 0;
    for milliseconds in 0..1000 {
        let now = at(1) + Duration::from_millis(milliseconds);
        let message = a.initiate(now);
        match b.respond(now, &message) {
            Ok(_) => answered += 1,
            // The gate asks for a proof after a hundred.
            Err(error) => assert!(matches!(
                error,
                EngineError::TooSoon | EngineError::NotAuthentic
            )),
        }
    }
    assert!((5..=50).contains(&answered), "{answered}");
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let (mut a, mut b) = ends();
    handshake(at(1000), &mut a, &mut b).expect("both are honest");
    let (mut message, mut random) = ([0; 148], randomness(9));
    for seconds in 2000..2005 {
        let wall = WALL - at(86400);
        let done = a
            .engine
            .initiate(at(seconds), wall, &mut random, &mut message);
        assert_eq!(done, Ok(()));
        assert!(b.respond(at(seconds), &message).is_ok());
    }
}

#[test]
fn keys_of_low_order_are_refused() {
    let mut order_of_eight = [0; 32];
    order_of_eight[0] = 1;
    for weak in [[0; 32], order_of_eight] {
        let mut end = End::to(1, PublicKey::from_bytes(weak), None);
        let mut message = [0; 148];
        let refused = end
            .engine
            .initiate(at(1), WALL, &mut *end.random, &mut message);
        assert_eq!(refused, Err(EngineError::WeakKey));
        assert_eq!(message, [0; 148]);
    }
}

#[test]
fn nothing_is_made_without_randomness() {
    let (mut a, mut b) = ends();
    let message = a.initiate(at(1));
    let refused = a.engine.initiate(at(9), WALL, &mut || None, &mut [0; 148]);
    assert_eq!(refused, Err(EngineError::NoRandomness));
    b.random = Box::new(|| None);
    let refused = b.respond(at(9), &message);
    assert_eq!(refused, Err(EngineError::NoRandomness));
    assert!(Identity::new(&key(1), 1, &mut || None).is_none());
}

#[test]
fn indices_are_of_one_session_each_and_tell_nothing() {
    let (mut a, mut b) = ends();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..200 {
        handshake(at(1 + round), &mut a, &mut b).expect("both are honest");
        let sealed = b.seal(at(1 + round), &[]).expect("a session");
        let index = data_index(&sealed).expect("a sealed packet");
        assert_eq!(a.identity.peer(index), 1);
        assert!(seen.insert(index));
    }
    let upper: std::collections::BTreeSet<_> = seen.iter().map(|index| index >> 16).collect();
    assert!(upper.len() > 190, "{}", upper.len());
}

#[test]
fn threads_seal_without_a_lock_and_never_with_one_counter() {
    let (mut a, mut b) = ends();
    handshake(at(1), &mut a, &mut b).expect("both are honest");
    let all: Vec<_> = std::thread::scope(|scope| {
        let sealing = || (0..1000).map(|_| a.seal(at(2), &[])).collect::<Vec<_>>();
        let threads = [0; 3].map(|_| scope.spawn(sealing));
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    for sealed in all {
        assert_eq!(b.open(at(2), &sealed.expect("a session")), Ok(vec![]));
    }
}

#[test]
fn a_flood_makes_only_its_own_address_prove_itself() {
    let mut b = End::new(2, 1, None);
    let mut flooder = End::new(9, 2, None);
    let message = flooder.initiate(at(1));
    let (mut passed, mut asked) = (0, 0);
    for _ in 0..100_000 {
        match b.dispatch(at(1), &message) {
            Ok(Addressee::Initiation(_)) => passed += 1,
            Ok(Addressee::Prove { length: 64 }) => asked += 1,
            Ok(_) => panic!("an initiation is taken for something else"),
            Err(refusal) => assert_eq!(refusal, Refusal::TooOften),
        }
    }
    assert_eq!((passed, asked), (PER_ADDRESS, 5));
    let elsewhere = SocketAddr::from(([192, 0, 2, 8], 51820));
    let mut peer = End::new(1, 2, None);
    let message = peer.initiate(at(1));
    let (mut room, mut random) = ([0; HANDSHAKE_ROOM], randomness(7));
    let passed = b
        .identity
        .dispatch(at(1), elsewhere, &message, &mut room, &mut random);
    assert!(matches!(passed, Ok(Addressee::Initiation(_))));
}

#[test]
fn a_flood_does_not_stop_a_thousand_peers_behind_its_address() {
    let mut b = End::new(2, 1, None);
    let flood = End::new(9, 2, None).initiate(at(1));
    let mut random = randomness(7);
    let mut room = [0; HANDSHAKE_ROOM];
    let mut peers: Vec<_> = (1..=1000)
        .map(|port| (port, End::new(1, 2, None)))
        .collect();
    // Thirty times what the address may send without a proof; each peer tries twice.
    for begin in [at(1), at(6)] {
        peers.retain_mut(|(port, peer)| {
            let now = begin + Duration::from_millis(u64::from(*port));
            for _ in 0..3 {
                let _ = b.dispatch(now, &flood);
            }
            let from = SocketAddr::from(([192, 0, 2, 7], *port));
            let message = peer.initiate(now);
            let identity = &b.identity;
            match identity.dispatch(now, from, &message, &mut room, &mut random) {
                Ok(Addressee::Initiation(_)) => false,
                Ok(Addressee::Prove { length }) => {
                    assert_eq!(peer.take(now, &room[..length]), Ok(Taken::Cookie));
                    true
                }
                _ => true,
            }
        });
        assert!(begin == at(6) || peers.len() > 900, "{}", peers.len());
    }
    assert_eq!(peers.len(), 0);
}

#[test]
fn a_cookie_is_good_at_its_address_and_port_and_for_its_time() {
    let mut b = End::new(2, 1, None);
    b.identity.set_per_address(0);
    let mut a = End::new(1, 2, None);
    let (mut room, mut random) = ([0; HANDSHAKE_ROOM], randomness(7));
    let message = a.initiate(at(100));
    let reply = b
        .identity
        .dispatch(at(100), from(), &message, &mut room, &mut random);
    assert!(matches!(reply, Ok(Addressee::Prove { length: 64 })));
    let mut changed = room;
    changed[40] ^= 1;
    let refused = a.take(at(100), &changed[..64]);
    assert_eq!(refused, Err(EngineError::NotAuthentic));
    assert_eq!(a.take(at(100), &room[..64]), Ok(Taken::Cookie));
    // The secret is another one after two minutes; the cookie of the one before is still good.
    for (seconds, is_good) in [(101, true), (219, true), (220, false)] {
        let message = a.initiate(at(seconds));
        let passed = b.respond(at(seconds), &message).is_ok();
        assert_eq!(passed, is_good, "after {seconds} s");
    }
    let message = a.initiate(at(219));
    for other in [([192, 0, 2, 7], 51821), ([192, 0, 2, 8], 51820)] {
        let other = SocketAddr::from(other);
        let judged = b
            .identity
            .dispatch(at(219), other, &message, &mut room, &mut random);
        assert!(matches!(judged, Ok(Addressee::Prove { .. })));
    }
}

#[test]
fn an_address_is_a_network_of_64_bits_in_ipv6() {
    let b = End::new(2, 1, None);
    let message = End::new(1, 2, None).initiate(at(1));
    let (mut room, mut random) = ([0; HANDSHAKE_ROOM], randomness(7));
    let mut passed = |address: [u16; 8]| {
        let from = SocketAddr::from((address, 51820));
        let judged = b
            .identity
            .dispatch(at(1), from, &message, &mut room, &mut random);
        matches!(judged, Ok(Addressee::Initiation(_)))
    };
    for host in 0..PER_ADDRESS as u16 {
        assert!(passed([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]));
    }
    assert!(!passed([0x2001, 0xdb8, 0, 0, 9, 9, 9, 9]));
    assert!(passed([0x2001, 0xdb8, 0, 1, 0, 0, 0, 0]));
}

proptest! {
    #[test]
    fn any_datagram_is_taken_or_refused(
        mut datagram in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0u8..6,
        length in prop::sample::select(vec![0usize, 31, 32, 64, 92, 148, 200]),
    ) {
        let (mut a, mut b) = ends();
        handshake(at(1), &mut a, &mut b).expect("both are honest");
        datagram.resize(length, kind);
        if length >= 4 {
            datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
        }
        prop_assert!(!matches!(b.dispatch(at(2), &datagram), Ok(Addressee::Initiation(_))));
        prop_assert!(b.engine.take(at(2), &datagram).is_err());
        prop_assert!(b.open(at(2), &datagram).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused(at_byte in 0usize..148, bits in 1u8..) {
        let (mut a, mut b) = ends();
        let mut initiation = a.initiate(at(1));
        let mut response = b.respond(at(1), &initiation).expect("it is honest");
        response[at_byte % 92] ^= bits;
        // The second MAC says nothing as long as no proof is asked for.
        if at_byte % 92 < 76 {
            prop_assert!(a.take(at(1), &response).is_err());
        }
        if at_byte < 132 {
            initiation = a.initiate(at(2));
            initiation[at_byte] ^= bits;
            prop_assert!(b.respond(at(2), &initiation).is_err());
        }
        handshake(at(3), &mut a, &mut b).expect("both are honest");
        let mut sealed = a.seal(at(3), &packet(1)).expect("a session");
        let length = sealed.len();
        sealed[at_byte % length] ^= bits;
        prop_assert!(b.open(at(3), &sealed).is_err());
    }

    #[test]
    fn packets_pass_in_any_order_and_once(order in prop::collection::vec(0usize..40, 1..80)) {
        let (mut a, mut b) = ends();
        handshake(at(1), &mut a, &mut b).expect("both are honest");
        let sealed: Vec<_> = (0..40).map(|marker| a.seal(at(2), &packet(marker))).collect();
        let mut passed = std::collections::BTreeSet::new();
        for marker in order {
            let sealed = sealed[marker].as_ref().expect("a session");
            let expected = match passed.insert(marker) {
                true => Ok(packet(marker as u8)),
                false => Err(EngineError::Replayed),
            };
            prop_assert_eq!(b.open(at(2), sealed), expected);
        }
    }
}
