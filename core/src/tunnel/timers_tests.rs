use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(25);

/// A peer across a link that takes no time, with a far end that answers or does not.
struct World {
    timers: PeerTimers,
    now: Duration,
    answers: bool,
    initiations: Vec<Duration>,
    keepalives: Vec<Duration>,
    given_up: u32,
}

impl World {
    fn new(policy: Policy) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            timers: PeerTimers::new(policy, now),
            now,
            answers: true,
            initiations: Vec::new(),
            keepalives: Vec::new(),
            given_up: 0,
        }
    }

    fn step(&mut self) {
        let mut seed = self.now.subsec_nanos() ^ self.now.as_secs() as u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed
        };
        for _ in 0..10 {
            match self.timers.poll(self.now, &mut random) {
                None => return,
                Some(Action::Initiate { .. }) => {
                    self.initiations.push(self.now);
                    if self.answers {
                        self.timers.on_handshake(self.now, true);
                        self.timers.on_sent(self.now, false);
                    }
                }
                Some(Action::Keepalive) => self.keepalives.push(self.now),
                Some(Action::GiveUp) => self.given_up += 1,
            }
        }
        panic!("the timers never come to rest");
    }

    /// Lets time pass from deadline to deadline.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.step();
        while let Some(deadline) = self.timers.deadline().filter(|at| *at <= end) {
            assert!(deadline > self.now, "a deadline that does not move on");
            self.now = deadline;
            self.step();
        }
        self.now = end;
    }

    fn state(&self) -> PeerState {
        self.timers.state()
    }
}

fn dialled() -> Policy {
    Policy {
        keepalive: Some(PERIOD),
        dialled: true,
        reachable: true,
    }
}

#[test]
fn a_dialled_peer_comes_up_at_once_and_stays_up_for_hours() {
    let mut world = World::new(dialled());
    world.run(Duration::ZERO);
    assert_eq!(world.state(), PeerState::Up);
    for _ in 0..6 * 360 {
        world.run(10 * SECOND);
        assert_eq!(world.state(), PeerState::Up);
    }
    // Nothing authentic but handshake responses ever comes, so silence is looked into.
    let handshakes = world.initiations.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(handshakes.clone().all(|pause| pause >= REKEY_TIMEOUT));
    assert!(handshakes.clone().all(|pause| pause <= 2 * PERIOD));
}

#[test]
fn a_packet_goes_out_once_a_period_at_least() {
    let mut world = World::new(dialled());
    world.run(3600 * SECOND);
    let mut sent = [world.keepalives, world.initiations].concat();
    sent.sort();
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] <= PERIOD));
}

#[test]
fn a_hub_that_was_away_is_found_again_within_15_s() {
    for away in [95, 100, 600, 3600, 6 * 3600] {
        let mut world = World::new(dialled());
        world.run(60 * SECOND);
        world.answers = false;
        world.run(Duration::from_secs(away));
        assert_eq!(world.state(), PeerState::Down, "away {away} s");
        world.answers = true;
        world.run(15 * SECOND);
        assert_eq!(world.state(), PeerState::Up, "away {away} s");
    }
}

/// The longest time without an initiation from the first one on.
fn longest_gap(world: &World) -> Duration {
    let ends = world.initiations.iter().skip(1).chain([&world.now]);
    let gaps = world.initiations.iter().zip(ends);
    gaps.map(|(begins, ends)| *ends - *begins)
        .max()
        .expect("it was tried")
}

#[test]
fn a_peer_that_does_not_answer_is_called_twice_in_any_15_s_for_hours() {
    let learned = Policy {
        dialled: false,
        ..dialled()
    };
    let without_keepalive = Policy {
        keepalive: None,
        ..dialled()
    };
    for policy in [dialled(), learned, without_keepalive] {
        let mut world = World::new(policy);
        world.answers = false;
        world.timers.want_session();
        for _ in 0..24 * 60 {
            // Data that waits, and an end that never moves, change nothing.
            world.timers.want_session();
            let now = world.now;
            world.timers.set_policy(policy, now);
            world.run(60 * SECOND);
        }
        let gap = longest_gap(&world);
        assert!(2 * gap < 15 * SECOND, "{policy:?}: {gap:?}");
        assert_eq!(world.given_up, 0);
    }
}

#[test]
fn a_new_address_is_waited_for_as_long_as_the_first() {
    let mut world = World::new(dialled());
    world.answers = false;
    world.run(9 * SECOND);
    world.timers.redial(world.now);
    let before = world.initiations.len();
    world.run(9 * SECOND);
    assert_eq!((world.state(), world.timers.rounds()), (PeerState::Idle, 0));
    assert!(world.initiations.len() > before + 1);
    world.run(2 * SECOND);
    assert_eq!((world.state(), world.timers.rounds()), (PeerState::Down, 1));
}

#[test]
fn silence_is_looked_into_after_two_periods_and_is_down_after_three() {
    let mut world = World::new(dialled());
    world.run(SECOND);
    let began = world.initiations[0];
    world.answers = false;
    world.run(2 * PERIOD - PERIOD / SPREAD - 2 * SECOND);
    assert_eq!(world.initiations.len(), 1);
    world.run(PERIOD / SPREAD + 2 * SECOND);
    let looked = world.initiations[1] - began;
    assert!((2 * PERIOD - PERIOD / SPREAD..=2 * PERIOD).contains(&looked));
    assert_eq!(world.state(), PeerState::Up);
    world.run(PERIOD);
    assert_eq!(world.state(), PeerState::Down);
    assert_eq!(world.timers.rounds(), 1);
}

#[test]
fn each_round_without_an_answer_asks_for_another_address() {
    let mut world = World::new(dialled());
    world.answers = false;
    world.run(10 * SECOND);
    assert_eq!((world.state(), world.timers.rounds()), (PeerState::Down, 1));
    world.run(60 * SECOND);
    assert!(world.timers.rounds() >= 5);
    let before = world.initiations.len();
    world.answers = true;
    world.timers.redial(world.now);
    world.run(Duration::ZERO);
    assert_eq!(world.initiations.len(), before + 1);
    assert_eq!(world.state(), PeerState::Up);
}

#[test]
fn a_dialled_peer_without_keepalive_is_idle_until_something_is_sent() {
    let policy = Policy {
        keepalive: None,
        ..dialled()
    };
    let mut world = World::new(policy);
    world.run(3600 * SECOND);
    assert_eq!(
        (world.state(), world.initiations.len()),
        (PeerState::Idle, 0)
    );
    world.timers.want_session();
    world.run(SECOND);
    assert_eq!(world.state(), PeerState::Up);
    world.run(3600 * SECOND);
    assert_eq!(
        (world.state(), world.initiations.len()),
        (PeerState::Idle, 1)
    );
    // Begun and unanswered, it is tried for ever.
    world.answers = false;
    world.timers.want_session();
    world.run(3600 * SECOND);
    assert_eq!((world.state(), world.given_up), (PeerState::Down, 0));
    world.answers = true;
    world.run(15 * SECOND);
    assert_eq!(world.state(), PeerState::Up);
}

#[test]
fn a_peer_that_calls_us_is_given_up_after_90_s() {
    let policy = Policy {
        reachable: true,
        ..Policy::default()
    };
    let mut world = World::new(policy);
    world.answers = false;
    world.timers.want_session();
    world.run(11 * SECOND);
    assert_eq!(world.state(), PeerState::Down);
    world.run(3600 * SECOND);
    assert_eq!((world.state(), world.given_up), (PeerState::Idle, 1));
    let last = *world.initiations.last().expect("some were sent");
    assert!(last - world.initiations[0] <= ATTEMPT_FOR);
}

#[test]
fn a_peer_without_an_address_is_left_alone() {
    let mut world = World::new(Policy::default());
    world.timers.want_session();
    world.run(3600 * SECOND);
    assert!(world.initiations.is_empty());
}

#[test]
fn data_without_an_answer_starts_a_handshake_after_15_s() {
    let policy = Policy {
        keepalive: None,
        ..dialled()
    };
    let mut world = World::new(policy);
    world.timers.want_session();
    world.run(6 * SECOND);
    let sent = world.now;
    world.timers.on_sent(sent, true);
    world.run(20 * SECOND);
    assert_eq!(world.initiations[1], sent + 15 * SECOND);
}

#[test]
fn received_data_is_answered_within_10_s() {
    let mut world = World::new(Policy {
        reachable: true,
        ..Policy::default()
    });
    world.timers.on_handshake(world.now, false);
    world.timers.on_received(world.now, true);
    let received = world.now;
    world.run(60 * SECOND);
    assert_eq!(world.keepalives, [received + 10 * SECOND]);
}

#[test]
fn the_initiator_renews_a_used_session_after_two_minutes() {
    let policy = Policy {
        reachable: true,
        ..Policy::default()
    };
    let mut world = World::new(policy);
    world.timers.want_session();
    world.run(Duration::ZERO);
    for _ in 0..600 {
        world.run(SECOND);
        let now = world.now;
        world.timers.on_sent(now, true);
        world.timers.on_received(now, true);
        assert_eq!(world.state(), PeerState::Up);
    }
    assert_eq!(world.initiations.len(), 1 + 600 / 121);
}

proptest! {
    /// Whatever happens, the timers come to rest, deadlines move on, and a dialled peer is up soon after the far end answers again.
    #[test]
    fn never_dead(
        events in prop::collection::vec((0u8..6, 0u64..200_000), 0..80),
        keepalive in prop::option::of(1u64..60),
    ) {
        let policy = Policy { keepalive: keepalive.map(Duration::from_secs), ..dialled() };
        let mut world = World::new(policy);
        for (event, pause) in events {
            let now = world.now;
            match event {
                0 => world.answers = !world.answers,
                1 => world.timers.on_sent(now, true),
                2 if world.state() == PeerState::Up => world.timers.on_received(now, true),
                3 => world.timers.want_session(),
                4 => world.timers.on_keys_changed(),
                _ => {}
            }
            world.run(Duration::from_millis(pause));
        }
        world.answers = true;
        world.timers.want_session();
        world.run(15 * SECOND);
        prop_assert_eq!(world.state(), PeerState::Up);
    }
}
