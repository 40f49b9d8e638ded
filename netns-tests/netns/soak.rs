//! What takes longer than a test may: `make soak`.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::liveness::node_config;
use crate::harness::calls::Calls;
use crate::harness::client::serve_tcp;
use crate::harness::world::World;
use crate::harness::{Seedwire, wait_until};

pub fn a_hub_that_was_away_for_100_s_is_back_with_the_next_call() {
    hub_away(Duration::from_secs(100));
}

pub fn a_hub_that_was_away_for_10_minutes_is_back_with_the_next_call() {
    hub_away(Duration::from_secs(600));
}

fn hub_away(time: Duration) {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut node = Seedwire::start_ready(&world.node, &node_config(&world, "25s"));
    hub.kill_hard();
    std::thread::sleep(time);
    assert!(!node.is_ready(), "the hub's absence is noticed");
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let calls = Calls::count(&world.hub);
    node.wait_until_ready();
    // Each comes at most 7 s after the one before it: a third of a keepalive period.
    assert!(calls.initiations() <= 2, "{} calls", calls.initiations());
}

pub fn a_node_that_was_stopped_for_5_minutes_is_back_with_its_next_packet() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut node = Seedwire::start_ready(&world.node, &node_config(&world, "25s"));
    node.process().signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(300));
    let calls = Calls::count(&world.hub);
    node.process().signal(Signal::SIGCONT);
    wait_until("a ping from the hub", || {
        world.hub.succeeds("ping -c 1 -W 1 10.88.0.2")
    });
    let beats = calls.keepalives() + calls.initiations();
    assert!(
        beats <= 3,
        "{beats} packets until the hub reached the node again"
    );
    node.wait_until_ready();
}

/// Per minute: as docs/performance.md has it.
pub fn an_idle_peer_costs_the_hub_what_is_documented() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &node_config(&world, "25s"));
    let calls = Calls::count(&world.hub);
    std::thread::sleep(Duration::from_secs(600));
    let (initiations, keepalives) = (calls.initiations(), calls.keepalives());
    println!("in 10 minutes: {initiations} initiations, {keepalives} keepalives");
    assert!((11..=15).contains(&initiations), "{initiations}");
    // One in each period, and one after each handshake.
    assert!((20..=29).contains(&keepalives), "{keepalives}");
}

pub fn a_session_under_full_load_is_renewed_without_a_gap() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    let calls = Calls::count(&world.hub);
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut stream = world
        .node
        .connect("10.240.16.10:3100")
        .expect("a connection");
    let mut writer = stream.try_clone().expect("a copy of a file descriptor");
    std::thread::spawn(move || while writer.write_all(&[7; 1 << 16]).is_ok() {});
    let mut buffer = vec![0; 1 << 16];
    let (began, mut last, mut longest, mut bytes) =
        (Instant::now(), Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < Duration::from_secs(280) {
        bytes += stream.read(&mut buffer).expect("the connection stands");
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    println!("{bytes} bytes back, longest stall {longest:?}");
    assert!(calls.initiations() >= 2, "{} calls", calls.initiations());
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
