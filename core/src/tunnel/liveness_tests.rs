//! Two ends and the path between them in virtual time: what the timers make of every fault.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, PeerState, PeerTimers, Policy};

const SECOND: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(25);
/// A call that is repeated, with its jitter, and the way there and back.
const CALL: Duration = Duration::from_millis(7100);
const NODE: usize = 0;
const HUB: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Initiation { number: u64 },
    Response { session: u64 },
    Data { session: u64, empty: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(Message),
    /// The programs behind this end send a packet, and again after this pause.
    Sends(Duration),
}

/// One end: its timers, and the protocol as far as they see it.
struct End {
    timers: PeerTimers,
    /// When each session was made, and whether it is known to stand on both ends.
    sessions: BTreeMap<u64, (Duration, bool)>,
    current: Option<u64>,
    latest: u64,
    /// Whether data is answered by data.
    echoes: bool,
    stopped: bool,
    heard: Vec<Duration>,
    states: Vec<PeerState>,
    initiations: u64,
    /// How many initiations in a row led to no handshake, now and at most.
    calls: [u64; 2],
    keepalives: u64,
}

impl End {
    fn new(policy: Policy, now: Duration) -> Self {
        Self {
            timers: PeerTimers::new(policy, now),
            sessions: BTreeMap::new(),
            current: None,
            latest: 0,
            echoes: false,
            stopped: false,
            heard: Vec::new(),
            states: Vec::new(),
            initiations: 0,
            calls: [0; 2],
            keepalives: 0,
        }
    }
}

struct World {
    now: Duration,
    ends: [End; 2],
    events: BinaryHeap<Reverse<(Duration, u64, usize, Event)>>,
    count: u64,
    seed: u64,
    delay: Duration,
    /// In percent: what is lost, sent twice, and delayed by up to a second.
    faults: [u64; 3],
    cut: bool,
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005);
    *seed = seed.wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn dialled(keepalive: Option<Duration>) -> Policy {
    Policy {
        keepalive,
        dialled: true,
        reachable: true,
    }
}

fn called() -> Policy {
    Policy {
        reachable: true,
        ..Policy::default()
    }
}

impl World {
    fn new(node: Policy, hub: Policy, seed: u64) -> Self {
        let now = 1000 * SECOND;
        Self {
            now,
            ends: [End::new(node, now), End::new(hub, now)],
            events: BinaryHeap::new(),
            count: 0,
            seed,
            delay: Duration::from_millis(20),
            faults: [0; 3],
            cut: false,
        }
    }

    fn add(&mut self, at: Duration, end: usize, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, end, event)));
    }

    fn send(&mut self, from: usize, message: Message) {
        let [lost, twice, late] = self.faults;
        let copies = 1 + u64::from(random(&mut self.seed) % 100 < twice);
        for _ in 0..copies {
            if self.cut || random(&mut self.seed) % 100 < lost {
                continue;
            }
            let mut delay = self.delay;
            if random(&mut self.seed) % 100 < late {
                delay += Duration::from_millis(random(&mut self.seed) % 1000);
            }
            self.add(self.now + delay, 1 - from, Event::Arrives(message));
        }
    }

    fn send_data(&mut self, from: usize, empty: bool) {
        let now = self.now;
        let end = &mut self.ends[from];
        let alive = |session: &u64| now < end.sessions[session].0 + 180 * SECOND;
        match end.current.filter(alive) {
            None => end.timers.want_session(),
            Some(session) => {
                end.timers.on_sent(now, !empty);
                self.send(from, Message::Data { session, empty });
            }
        }
    }

    fn arrives(&mut self, at: usize, message: Message) {
        let now = self.now;
        self.count += 1;
        let session = self.count;
        let end = &mut self.ends[at];
        match message {
            Message::Initiation { number } if number > end.latest => {
                end.latest = number;
                end.timers.on_received(now, false);
                end.sessions.insert(session, (now, false));
                self.send(at, Message::Response { session });
            }
            Message::Response { session } if !end.sessions.contains_key(&session) => {
                end.sessions.insert(session, (now, true));
                end.current = Some(session);
                end.timers.on_handshake(now, true);
                end.calls[0] = 0;
                end.timers.on_sent(now, false);
                self.send(
                    at,
                    Message::Data {
                        session,
                        empty: true,
                    },
                );
            }
            Message::Data { session, empty } => {
                let Some((made, stands)) = end.sessions.get_mut(&session) else {
                    return;
                };
                if now >= *made + 180 * SECOND {
                    return;
                }
                end.heard.push(now);
                end.timers.on_received(now, !empty);
                if !std::mem::replace(stands, true) {
                    end.current = Some(session);
                    end.timers.on_handshake(now, false);
                }
                if end.echoes && !empty {
                    self.send_data(at, false);
                }
            }
            _ => {}
        }
    }

    fn service(&mut self, at: usize) {
        loop {
            let seed = &mut self.seed;
            let mut random = || random(seed) as u32;
            match self.ends[at].timers.poll(self.now, &mut random) {
                None => break,
                Some(Action::Initiate { .. }) => {
                    let end = &mut self.ends[at];
                    end.initiations += 1;
                    end.calls[0] += 1;
                    end.calls[1] = end.calls[1].max(end.calls[0]);
                    self.count += 1;
                    let number = self.count;
                    self.send(at, Message::Initiation { number });
                }
                Some(Action::Keepalive) => {
                    self.ends[at].keepalives += 1;
                    let session = self.ends[at].current;
                    let session = session.expect("no keepalive without a session");
                    self.send(
                        at,
                        Message::Data {
                            session,
                            empty: true,
                        },
                    );
                }
                Some(Action::GiveUp) => {}
            }
        }
        let end = &mut self.ends[at];
        let state = end.timers.state();
        if end.states.last() != Some(&state) {
            end.states.push(state);
        }
    }

    fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until something is so; returns how long it took.
    fn run_until(&mut self, limit: Duration, so: impl Fn(&Self) -> bool) -> Duration {
        let (began, end) = (self.now, self.now + limit);
        loop {
            (0..2).for_each(|at| {
                if !self.ends[at].stopped {
                    self.service(at);
                }
            });
            if so(self) {
                return self.now - began;
            }
            let running = self.ends.iter().filter(|end| !end.stopped);
            let due = running.filter_map(|end| end.timers.deadline()).min();
            let arrival = self.events.peek().map(|Reverse((at, ..))| *at);
            let next = [due, arrival].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return limit;
            };
            assert!(
                next > self.now || arrival == Some(next),
                "time stands still"
            );
            self.now = next;
            if arrival == Some(next)
                && let Some(Reverse((_, _, at, event))) = self.events.pop()
            {
                self.happens(at, event);
            }
        }
    }

    fn happens(&mut self, at: usize, event: Event) {
        match event {
            // Nobody reads it.
            Event::Arrives(_) if self.ends[at].stopped => {}
            Event::Arrives(message) => self.arrives(at, message),
            Event::Sends(pause) => {
                if !self.ends[at].stopped {
                    self.send_data(at, false);
                }
                self.add(self.now + pause, at, event);
            }
        }
    }

    /// Data from the node each so often, which the hub's side answers.
    fn converse(&mut self, pause: Duration) {
        self.ends[HUB].echoes = true;
        self.add(self.now, NODE, Event::Sends(pause));
    }

    fn restart_hub(&mut self) {
        let echoes = self.ends[HUB].echoes;
        let policy = Policy {
            reachable: false,
            ..self.ends[HUB].timers.policy()
        };
        self.ends[HUB] = End::new(policy, self.now);
        self.ends[HUB].echoes = echoes;
    }

    fn both_know_a_session(&self) -> bool {
        let current = self.ends[NODE].current;
        current.is_some_and(|session| {
            self.ends[HUB]
                .sessions
                .get(&session)
                .is_some_and(|(_, stands)| *stands)
        })
    }

    fn never_down(&self) -> bool {
        !self.ends[NODE].states.contains(&PeerState::Down)
    }
}

/// The longest time without one of these from the first on.
fn longest_gap(times: &[Duration]) -> Duration {
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().expect("more than one")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_idle_node_notices_within_two_periods_that_the_hub_was_restarted(
        seed: u64, at in 0u64..200_000, period in 3u64..60,
    ) {
        let period = Duration::from_secs(period);
        let mut world = World::new(dialled(Some(period)), called(), seed);
        world.run(SECOND + Duration::from_millis(at));
        world.restart_hub();
        let noticed = world.run_until(3 * period, World::both_know_a_session);
        prop_assert!(noticed <= (2 * period).max(5 * SECOND) + SECOND, "{noticed:?}");
        prop_assert!(world.never_down());
    }

    #[test]
    fn a_conversation_goes_on_soon_after_the_hub_was_restarted(
        seed: u64, at in 0u64..200_000, pause in 50u64..900,
    ) {
        let mut world = World::new(dialled(Some(PERIOD)), called(), seed);
        world.converse(Duration::from_millis(pause));
        world.run(6 * SECOND + Duration::from_millis(at));
        world.restart_hub();
        let noticed = world.run_until(PERIOD, World::both_know_a_session);
        // Two initiations are 5 s apart, so that a hub that has just been called waits longer.
        prop_assert!(noticed <= 6 * SECOND, "{noticed:?}");
        prop_assert!(world.never_down());
    }

    #[test]
    fn a_node_that_slept_is_back_at_once(seed: u64, slept in 1u64..4000) {
        let mut world = World::new(dialled(Some(PERIOD)), called(), seed);
        world.run(100 * SECOND);
        world.ends[NODE].stopped = true;
        world.run(Duration::from_secs(slept));
        world.ends[NODE].stopped = false;
        let heard = world.ends[HUB].heard.len();
        let back = world.run_until(PERIOD, |world| {
            world.ends[HUB].heard.len() > heard && world.both_know_a_session()
        });
        // As soon as a keepalive would have come, and at once after a session's life.
        let limit = if slept < 180 { PERIOD + SECOND } else { Duration::from_millis(100) };
        prop_assert!(back <= limit, "{back:?}");
    }

    /// Loss, datagrams sent twice and overtaken ones: while they last data passes all the time and
    /// the hub does not count as down; after them the next call is answered.
    #[test]
    fn a_lossy_path_is_no_dead_one(seed: u64, faults in [0u64..=30, 0u64..=30, 0u64..=30]) {
        let mut world = World::new(dialled(Some(PERIOD)), called(), seed);
        world.converse(Duration::from_millis(100));
        world.run(SECOND);
        world.faults = faults;
        world.run(600 * SECOND);
        prop_assert!(world.never_down());
        // Ten calls in a row are those of the last minute of a session: it ends when all are lost.
        let gap = longest_gap(&world.ends[HUB].heard);
        prop_assert!(gap <= 3 * SECOND || world.ends[NODE].calls[1] >= 10, "{gap:?}");
        world.faults = [0; 3];
        world.restart_hub();
        let back = world.run_until(PERIOD, World::both_know_a_session);
        prop_assert!(back <= CALL, "{back:?}");
    }

    #[test]
    fn two_ends_that_call_each_other_agree(seed: u64, delay in 0u64..900, apart in 0u64..900) {
        let mut world = World::new(dialled(Some(PERIOD)), dialled(Some(PERIOD)), seed);
        world.delay = Duration::from_millis(delay);
        world.ends[HUB].stopped = true;
        world.run(Duration::from_millis(apart));
        world.ends[HUB].stopped = false;
        world.converse(Duration::from_millis(500));
        world.add(world.now, HUB, Event::Sends(Duration::from_millis(700)));
        world.run(CALL);
        prop_assert_eq!(world.ends[NODE].timers.state(), PeerState::Up);
        prop_assert_eq!(world.ends[HUB].timers.state(), PeerState::Up);
        world.ends[NODE].heard.clear();
        world.run(1200 * SECOND);
        let gap = longest_gap(&world.ends[NODE].heard);
        prop_assert!(gap <= SECOND, "{gap:?}");
        for end in &world.ends {
            prop_assert!(!end.states.contains(&PeerState::Down));
            // One each two minutes, and the first.
            prop_assert!(end.initiations <= 13, "{}", end.initiations);
        }
    }
}

#[test]
fn a_hub_that_was_away_is_back_with_the_next_call() {
    for (seed, away) in [(1, 100), (2, 600), (3, 6 * 3600_u32)] {
        let mut world = World::new(dialled(Some(PERIOD)), called(), seed);
        world.run(100 * SECOND);
        world.cut = true;
        world.run(away * SECOND);
        assert_eq!(world.ends[NODE].timers.state(), PeerState::Down);
        world.cut = false;
        world.restart_hub();
        let back = world.run_until(PERIOD, World::both_know_a_session);
        assert!(back <= CALL, "{back:?} after {away} s");
    }
}

#[test]
fn a_session_in_use_is_renewed_without_a_gap() {
    let mut world = World::new(dialled(Some(PERIOD)), called(), 1);
    world.converse(Duration::from_millis(10));
    world.run(3600 * SECOND);
    let gap = longest_gap(&world.ends[NODE].heard[1..]);
    assert!(gap <= Duration::from_millis(100), "{gap:?}");
    assert_eq!(world.ends[NODE].initiations, 1 + 3600 / 121);
}

/// What docs/performance.md states.
#[test]
fn an_idle_peer_costs_a_hub_one_handshake_in_two_periods() {
    let mut world = World::new(dialled(Some(PERIOD)), called(), 1);
    world.run(2 * 3600 * SECOND);
    let node = &world.ends[NODE];
    let a_minute = |count: u64| count as f64 / 120.0;
    let (handshakes, keepalives) = (a_minute(node.initiations), a_minute(node.keepalives));
    assert!((1.2..=1.38).contains(&handshakes), "{handshakes}");
    assert!((1.2..=1.4).contains(&keepalives), "{keepalives}");
    assert_eq!(world.ends[HUB].initiations + world.ends[HUB].keepalives, 0);
}

#[test]
fn data_that_nobody_answers_soon_costs_no_handshakes() {
    let mut world = World::new(dialled(Some(PERIOD)), called(), 1);
    world.add(world.now, NODE, Event::Sends(Duration::from_millis(300)));
    world.run(100 * SECOND);
    let before = world.ends[NODE].initiations;
    assert!(before <= 5, "{before}");
    world.run(1200 * SECOND);
    assert!(world.ends[NODE].initiations - before <= 1200 / 120);
}

#[test]
fn peers_that_came_at_once_spread_out() {
    let mut calls = BTreeMap::<u64, u32>::new();
    for seed in 0..500 {
        let mut world = World::new(dialled(Some(PERIOD)), called(), seed * 7919);
        world.run(1800 * SECOND);
        world.ends[NODE].initiations = 0;
        for second in 0..50 {
            world.run(SECOND);
            let called = std::mem::take(&mut world.ends[NODE].initiations);
            *calls.entry(second).or_default() += called as u32;
        }
    }
    let most = calls.values().max().expect("many");
    // 500 peers in about 47 s: eleven a second, or all 500 in one.
    assert!(*most <= 50, "{calls:?}");
}
