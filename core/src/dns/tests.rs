use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::answer::Answer;
use super::cache::Cache;
use super::*;
use crate::config::{Cache as Bounds, Lifetimes, Order, Server};
use crate::tunnel::PathState;

mod failover;
mod stale;

/// An instant to count from.
#[allow(clippy::disallowed_methods)] // There is no other way to have one.
fn some_time() -> Instant {
    Instant::now()
}

fn bounds(max_entries: u32, max_bytes: u64) -> Bounds {
    Bounds {
        max_entries,
        max_bytes,
        lifetimes: LIFETIMES,
    }
}

const LIFETIMES: Lifetimes = Lifetimes {
    max_ttl: Duration::from_secs(3600),
    max_negative_ttl: Duration::from_secs(30),
    stale: Duration::ZERO,
    stale_ttl: 30,
    stale_on_nxdomain: Duration::ZERO,
};

/// What a forwarder did, in memory.
#[derive(Default)]
struct World {
    replies: Vec<(u32, Vec<u8>)>,
    sent: Vec<(UpstreamId, SocketAddr, Option<u8>, Vec<u8>)>,
    changes: Vec<Change>,
    paths: HashMap<IpAddr, PathState>,
    seed: u32,
}

impl Effects for World {
    type Client = u32;

    fn reply(&mut self, client: u32, message: &[u8]) {
        self.replies.push((client, message.to_vec()));
    }

    fn send(&mut self, upstream: UpstreamId, server: &Server, lane: u8, message: &[u8]) {
        self.sent
            .push((upstream, server.address, Some(lane), message.to_vec()));
    }

    fn send_stream(&mut self, upstream: UpstreamId, server: &Arc<Server>, message: &[u8]) {
        self.sent
            .push((upstream, server.address, None, message.to_vec()));
    }

    fn random(&mut self) -> u32 {
        self.seed = self
            .seed
            .wrapping_mul(747_796_405)
            .wrapping_add(2_891_336_453);
        self.seed ^ (self.seed >> 16)
    }

    fn path(&self, to: IpAddr) -> PathState {
        self.paths.get(&to).copied().unwrap_or(PathState::Direct)
    }

    fn wake(&self, _: IpAddr) {}

    fn changed(&mut self, change: Change) {
        self.changes.push(change);
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 53))
}

fn forwarder(upstreams: &[u8], now: Instant, world: &mut World) -> Forwarder<u32> {
    let bounds = bounds(100, 1 << 20);
    let mut forwarder = Forwarder::new(bounds.clone());
    forwarder.configure(&settings(upstreams, bounds), now, world);
    forwarder
}

fn settings(upstreams: &[u8], cache: Bounds) -> Settings {
    Settings {
        zones: Vec::new(),
        upstreams: Some(
            upstreams
                .iter()
                .map(|last| Server::plain(address(*last)))
                .collect(),
        ),
        order: Order::Listed,
        search_domains: Vec::new(),
        cache,
    }
}

fn question(id: u16, name: &str) -> Vec<u8> {
    address_question(id, &name.parse().unwrap(), AddressKind::V4)
}

/// The answer to a question of ours: one address with this TTL.
fn answer(question: &[u8], ttl: u32, rcode: u8) -> Vec<u8> {
    let end = wire::plain_name_end(question, 12).unwrap() + 4;
    let mut message = question[..end].to_vec();
    message[2] |= 0x80;
    message[3] = 0x80 | rcode;
    message[7] = 1;
    message[11] = 0;
    message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    message.extend_from_slice(&ttl.to_be_bytes());
    message.extend_from_slice(&[0, 4, 10, 1, 2, 3]);
    message
}

/// To whom the questions went, in order.
fn asked(world: &World) -> Vec<SocketAddr> {
    world.sent.iter().map(|(_, to, ..)| *to).collect()
}

/// Advances the clock from timeout to timeout until nobody waits; returns the time it took.
fn run_out(forwarder: &mut Forwarder<u32>, start: Instant, world: &mut World) -> Duration {
    let mut now = start;
    while forwarder.is_busy() {
        now = forwarder
            .next_timeout()
            .expect("who waits has a timer")
            .max(now);
        forwarder.tick(now, world);
    }
    now - start
}

#[test]
fn a_question_without_answer_fails_in_time_and_asks_each_upstream_at_most_twice() {
    let now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2], now, &mut world);
    forwarder.query(
        &question(7, "x.example"),
        1,
        Transport::Udp,
        now,
        &mut world,
    );
    let took = run_out(&mut forwarder, now, &mut world);
    assert!(took <= Duration::from_secs(5), "{took:?}");
    assert_eq!(world.replies[0].1[3] & 15, 2);
    for last in [1, 2] {
        let sent = world.sent.iter().filter(|(_, to, ..)| *to == address(last));
        assert!((1..=2).contains(&sent.count()));
    }
}

/// An upstream may send an OPT record though it got none, with the upper bits of a code in it.
#[test]
fn a_code_that_needs_edns_is_a_failure_to_a_client_without() {
    const BADVERS: [u8; 11] = [0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0];
    let now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1], now, &mut world);
    let mut question = question(7, "x.example");
    question.truncate(wire::plain_name_end(&question, 12).unwrap() + 4);
    question[11] = 0;
    forwarder.query(&question, 1, Transport::Udp, now, &mut world);
    let (upstream, _, lane, sent) = world.sent[0].clone();
    let mut message = answer(&sent, 60, 0);
    message[11] = 1;
    message.extend_from_slice(&BADVERS);
    forwarder.datagram(upstream, lane.unwrap(), &message, now, &mut world);
    run_out(&mut forwarder, now, &mut world);
    let reply = &world.replies[0].1;
    assert_eq!(reply[3] & 15, 2, "not success");
    assert_eq!(reply[10..12], [0, 0], "no OPT record");
}

#[test]
fn an_outage_makes_no_storm_and_ends_with_the_first_answer() {
    let mut now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1], now, &mut world);
    // A minute of ten questions a second, all different, to a server that is dead.
    for number in 0..600_u16 {
        let name = format!("x{number}.example");
        forwarder.query(
            &question(number, &name),
            number.into(),
            Transport::Udp,
            now,
            &mut world,
        );
        let next = now + Duration::from_millis(100);
        while let Some(at) = forwarder.next_timeout().filter(|at| *at <= next) {
            forwarder.tick(at, &mut world);
        }
        now = next;
    }
    let in_outage = world.sent.len();
    assert!(
        in_outage < 80,
        "{in_outage} questions went to a dead server"
    );
    let down = |change: &&Change| matches!(change, Change::UpstreamDown(..));
    assert_eq!(world.changes.iter().filter(down).count(), 1);
    // The server is back: one question goes through within the longest rest.
    now += Duration::from_secs(6);
    run_out(&mut forwarder, now, &mut world);
    forwarder.query(
        &question(1, "back.example"),
        999,
        Transport::Udp,
        now,
        &mut world,
    );
    let (upstream, _, lane, sent) = world.sent.last().cloned().unwrap();
    forwarder.datagram(
        upstream,
        lane.unwrap(),
        &answer(&sent, 60, 0),
        now,
        &mut world,
    );
    assert_eq!(world.replies.last().unwrap().0, 999);
    let last = world.changes.last();
    assert!(
        matches!(last, Some(Change::UpstreamUp(_, server)) if server.address == address(1)),
        "{last:?}"
    );
}

#[test]
fn ttls_age_to_the_second_and_expire() {
    let start = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1], start, &mut world);
    forwarder.query(
        &question(1, "x.example"),
        1,
        Transport::Udp,
        start,
        &mut world,
    );
    let (upstream, _, lane, sent) = world.sent[0].clone();
    forwarder.datagram(
        upstream,
        lane.unwrap(),
        &answer(&sent, 10, 0),
        start,
        &mut world,
    );
    for (after, left) in [(0, 10), (999, 10), (1000, 9), (9999, 1)] {
        let now = start + Duration::from_millis(after);
        forwarder.query(
            &question(2, "x.example"),
            2,
            Transport::Udp,
            now,
            &mut world,
        );
        let reply = &world.replies.last().unwrap().1;
        let ttl_at = wire::plain_name_end(reply, 12).unwrap() + 4 + 6;
        assert_eq!(wire::u32_at(reply, ttl_at), Some(left), "after {after} ms");
    }
    let now = start + Duration::from_secs(10);
    forwarder.query(
        &question(3, "x.example"),
        3,
        Transport::Udp,
        now,
        &mut world,
    );
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn an_answer_counts_only_on_the_socket_that_asked() {
    let now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2], now, &mut world);
    forwarder.query(
        &question(1, "x.example"),
        1,
        Transport::Udp,
        now,
        &mut world,
    );
    let (upstream, _, lane, sent) = world.sent[0].clone();
    let lane = lane.unwrap();
    let good = answer(&sent, 60, 0);
    let mut other_id = good.clone();
    other_id[1] ^= 1;
    assert!(!forwarder.datagram(upstream, (lane + 1) % LANES, &good, now, &mut world));
    assert!(!forwarder.datagram(upstream, lane, &other_id, now, &mut world));
    assert!(!forwarder.datagram(upstream, lane, &sent, now, &mut world));
    forwarder.stream_answer(upstream, &good, now, &mut world);
    assert!(world.replies.is_empty());
    assert!(forwarder.datagram(upstream, lane, &good, now, &mut world));
    assert_eq!(world.replies.len(), 1);
}

#[test]
fn a_servfail_takes_nothing_from_the_cache() {
    let now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1], now, &mut world);
    forwarder.query(
        &question(1, "x.example"),
        1,
        Transport::Udp,
        now,
        &mut world,
    );
    forwarder.query(
        &question(2, "y.example"),
        2,
        Transport::Udp,
        now,
        &mut world,
    );
    for (upstream, _, lane, sent) in world.sent.clone() {
        let rcode = if sent[13] == b'x' { 0 } else { 2 };
        forwarder.datagram(
            upstream,
            lane.unwrap(),
            &answer(&sent, 60, rcode),
            now,
            &mut world,
        );
    }
    assert_eq!(forwarder.status(Vec::new()).cache.entries, 1);
}

fn query_bytes() -> impl Strategy<Value = Vec<u8>> {
    let mutated =
        (vec((0_usize..80, any::<u8>()), 0..4), 0_usize..80).prop_map(|(changes, cut)| {
            let mut message = question(0x1234, "abc.De-f.example");
            for (at, byte) in changes {
                if let Some(place) = message.get_mut(at) {
                    *place = byte;
                }
            }
            message.truncate(message.len().max(cut).saturating_sub(cut % 3));
            message
        });
    prop_oneof![vec(any::<u8>(), 0..300), mutated]
}

#[derive(Clone, Debug)]
enum Event {
    Query(Vec<u8>),
    Name(u8, u16),
    Reply {
        which: usize,
        rcode: u8,
        ttl: u32,
        cut: usize,
        changes: Vec<(usize, u8)>,
    },
    Wait(u16),
    Error(usize),
    Path(u8, u8),
    Configure(Vec<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => query_bytes().prop_map(Event::Query),
        4 => (0_u8..6, any::<u16>()).prop_map(|(name, id)| Event::Name(name, id)),
        4 => (0_usize..8, 0_u8..7, 0_u32..100, 0_usize..4, vec((0_usize..80, any::<u8>()), 0..3))
            .prop_map(|(which, rcode, ttl, cut, changes)| Event::Reply { which, rcode, ttl, cut, changes }),
        2 => (0_u16..3000).prop_map(Event::Wait),
        1 => (0_usize..8).prop_map(Event::Error),
        1 => (1_u8..4, 0_u8..4).prop_map(|(to, state)| Event::Path(to, state)),
        1 => vec(1_u8..4, 0..4).prop_map(Event::Configure),
    ]
}

proptest! {
    #[test]
    fn no_bytes_of_a_client_do_harm(bytes in query_bytes()) {
        let now = some_time();
        let mut world = World::default();
        let mut forwarder = forwarder(&[1], now, &mut world);
        forwarder.query(&bytes, 1, Transport::Udp, now, &mut world);
        for (_, reply) in &world.replies {
            prop_assert_eq!(&reply[..2], &bytes[..2]);
            prop_assert!(reply[2] & 0x80 != 0);
            // Whatever is said about a packet is no longer than it and our OPT record.
            prop_assert!(reply.len() <= bytes.len().max(12) + 11);
        }
        prop_assert!(world.replies.len() + world.sent.len() <= 1);
    }

    #[test]
    fn no_bytes_of_an_upstream_do_harm(
        changes in vec((0_usize..90, any::<u8>()), 0..6),
        tail in vec(any::<u8>(), 0..60),
        id in any::<u16>(),
    ) {
        let query = question(0, "abc.example");
        let mut message = answer(&query, 60, 0);
        message.extend(tail);
        for (at, byte) in changes {
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok(answer) = Answer::parse(&message, &query) {
            let mut out = Vec::new();
            for limit in [512, 65535] {
                answer.write(&mut out, id, b"\x03ABC\x07eXample\0", 17, limit);
                prop_assert!(out.len() <= limit);
                prop_assert_eq!(wire::u16_at(&out, 0), Some(id));
                prop_assert_eq!(&out[12..25], b"\x03ABC\x07eXample\0");
            }
        }
        let _ = read_addresses(&message, 0, &"abc.example".parse().unwrap(), AddressKind::V4);
    }

    /// Whatever happens, each client is answered at most once, with its own ID and letters, and
    /// nobody waits for ever.
    #[test]
    fn every_question_is_answered_once(events in vec(event(), 1..60)) {
        let mut now = some_time();
        let mut world = World::default();
        let mut forwarder = forwarder(&[1, 2], now, &mut world);
        let mut asked = HashMap::new();
        for (client, event) in (0_u32..).zip(events) {
            match event {
                Event::Query(bytes) => forwarder.query(&bytes, client, Transport::Tcp, now, &mut world),
                Event::Name(name, id) => {
                    let mut bytes = question(id, &format!("n{}.example", name / 2));
                    if name % 2 == 0 {
                        bytes[13] = b'N';
                    }
                    asked.insert(client, bytes.clone());
                    forwarder.query(&bytes, client, Transport::Udp, now, &mut world);
                }
                Event::Reply { which, rcode, ttl, cut, changes } => {
                    let back = world.sent.len().checked_sub(which + 1);
                    if let Some((upstream, _, lane, sent)) = back.map(|at| world.sent[at].clone()) {
                        let mut message = answer(&sent, ttl, rcode);
                        for (at, byte) in changes {
                            if let Some(place) = message.get_mut(at) {
                                *place = byte;
                            }
                        }
                        message.truncate(message.len() - cut);
                        match lane {
                            Some(lane) => {
                                forwarder.datagram(upstream, lane, &message, now, &mut world);
                            }
                            None => forwarder.stream_answer(upstream, &message, now, &mut world),
                        }
                    }
                }
                Event::Wait(millis) => now += Duration::from_millis(millis.into()),
                Event::Error(which) => {
                    if let Some((upstream, _, lane, sent)) = world.sent.get(which).cloned() {
                        let why: Arc<str> = "broken".into();
                        match lane {
                            Some(lane) => forwarder.unreachable(upstream, lane, &why, now, &mut world),
                            None => {
                                let id = wire::u16_at(&sent, 0).unwrap();
                                forwarder.stream_failed(upstream, id, &why, now, &mut world);
                            }
                        }
                    }
                }
                Event::Path(to, state) => {
                    let states = [PathState::Direct, PathState::Idle, PathState::Up, PathState::Down];
                    world.paths.insert(address(to).ip(), states[usize::from(state)]);
                }
                Event::Configure(upstreams) => {
                    let settings = settings(&upstreams, bounds(100, 1 << 20));
                    forwarder.configure(&settings, now, &mut world);
                }
            }
            if forwarder.next_timeout().is_some_and(|at| at <= now) {
                forwarder.tick(now, &mut world);
            }
        }
        let took = run_out(&mut forwarder, now, &mut world);
        prop_assert!(took <= Duration::from_secs(7), "{:?}", took);
        for (client, question) in asked {
            let replies: Vec<_> = world.replies.iter().filter(|(to, _)| *to == client).collect();
            prop_assert_eq!(replies.len(), 1);
            let reply = &replies[0].1;
            prop_assert_eq!(&reply[..2], &question[..2]);
            let end = wire::plain_name_end(&question, 12).unwrap() + 4;
            prop_assert_eq!(&reply[12..end], &question[12..end]);
            prop_assert_eq!(reply[2] & 1, 1, "recursion desired is repeated");
        }
    }

    /// Against a model that knows no bounds: what the cache gives was put there and still holds,
    /// and it never goes beyond its bounds.
    #[test]
    fn the_cache_gives_what_was_put(
        steps in vec((0_u8..12, 0_u32..20, 0_u64..4, any::<bool>()), 1..120),
        max_entries in 1_u32..8,
        max_bytes in 200_u64..2000,
    ) {
        let mut now = some_time();
        let mut cache = Cache::new(bounds(max_entries, max_bytes));
        let mut model: HashMap<u8, (Instant, u32)> = HashMap::new();
        for (name, ttl, wait, is_put) in steps {
            now += Duration::from_secs(wait);
            let query = question(0, &format!("n{name}.example"));
            let key: Arc<[u8]> = Arc::from([name]);
            if is_put {
                let answer = Answer::parse(&answer(&query, ttl, 0), &query).unwrap();
                cache.put(&key, answer, &LIFETIMES, now);
                // What may not be kept takes the older one away.
                model.insert(name, (now, ttl));
            } else if let Some(hit) = cache.get(&key, now) {
                let (put, ttl) = model[&name];
                let expected = (now - put).as_secs();
                prop_assert_eq!(u64::from(hit.age), expected);
                prop_assert!(expected < u64::from(ttl));
                prop_assert_eq!(hit.answer.lifetime, ttl);
            }
            prop_assert!(cache.len() <= max_entries as usize);
            prop_assert!(cache.bytes() as u64 <= max_bytes);
        }
    }

    /// Without pressure the cache forgets nothing.
    #[test]
    fn the_cache_keeps_what_has_room(names in vec(any::<u8>(), 1..80)) {
        let now = some_time();
        let mut cache = Cache::new(bounds(256, 1 << 20));
        for name in &names {
            let query = question(0, &format!("n{name}.example"));
            let answer = Answer::parse(&answer(&query, 9, 0), &query).unwrap();
            cache.put(&Arc::from([*name]), answer, &LIFETIMES, now);
        }
        for name in &names {
            let later = now + Duration::from_millis(8999);
            prop_assert!(cache.get(&[*name], later).is_some());
        }
        prop_assert!(cache.get(&[names[0]], now + Duration::from_secs(9)).is_none());
    }
}
