//! What a tunnel outlives, and how soon it is back. After a fault only packets are counted that come
//! to the hub from the node by itself: one comes in each keepalive period, and an initiation that is
//! not answered is repeated after five seconds (proven in virtual time in core).

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::calls::Calls;
use crate::harness::client::{Client, serve_tcp};
use crate::harness::clock::Clock;
use crate::harness::relay::{Faults, Relay};
use crate::harness::seedwire::Start;
use crate::harness::wait::wait_within;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, link, wait_for, wait_until};

/// The node's configuration with this keepalive.
pub fn node_config(world: &World, keepalive: &str) -> Value {
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["keepalive"] = keepalive.into();
    config
}

/// Waits until the hub reaches the node, which it can't call by itself.
fn wait_until_hub_reaches(world: &World) {
    wait_until("a ping from the hub", || {
        world.hub.succeeds("ping -c 1 -W 1 10.88.0.2")
    });
}

fn handshake(daemon: &Seedwire, peer: &str) -> f64 {
    let name = format!("seedwire_peer_last_handshake_timestamp_seconds{{peer=\"{peer}\"}}");
    daemon.metric(&name).unwrap_or_default()
}

/// What comes to the hub for the tunnel is lost from now on.
fn cut(hub: &Host) {
    hub.nft(
        "table inet cut { chain c { type filter hook prerouting priority -320
           udp dport 51820 drop; }
         }",
    );
}

fn mend(hub: &Host) {
    hub.run("nft delete table inet cut");
}

pub fn a_hub_that_was_away_is_back_with_the_next_call() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut node = Seedwire::start_ready(&world.node, &node_config(&world, "1s"));
    hub.kill_hard();
    wait_until("the node to notice", || !node.is_ready());
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let calls = Calls::count(&world.hub);
    node.wait_until_ready();
    assert!(calls.initiations() <= 2, "{} calls", calls.initiations());
}

pub fn an_idle_node_notices_in_two_periods_that_the_hub_was_restarted() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let node = Seedwire::start_ready(&world.node, &node_config(&world, "8s"));
    let before = handshake(&node, "seed");
    hub.kill_hard();
    let hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let calls = Calls::count(&world.hub);
    wait_until("a handshake", || handshake(&node, "seed") > before);
    assert!(handshake(&hub, "node") > before);
    // The one that follows the handshake is a keepalive too.
    assert!(
        calls.keepalives() <= 2 + 1,
        "{} keepalives",
        calls.keepalives()
    );
    assert_eq!(calls.initiations(), 1);
    assert!(!node.log().contains("peer is down"), "{}", node.log());
}

pub fn a_flow_goes_on_soon_after_the_hub_was_restarted() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let node = Seedwire::start_ready(&world.node, &world.node_config());
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.exchange(10_000).expect("data comes back");
    hub.kill_hard();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let calls = Calls::count(&world.hub);
    // One a second; the protocol alone would lose fifteen.
    let lost = (0..15).take_while(|_| !world.node.succeeds("ping -c 1 -W 1 10.88.0.1"));
    assert!(lost.count() <= 7);
    assert_eq!(calls.keepalives(), 1, "the one after the handshake");
    client.exchange(10_000).expect("data comes back");
    assert!(!node.log().contains("peer is down"), "{}", node.log());
}

/// A node in a network of its own behind a router, and the same hub behind it.
struct Routed {
    world: World,
    router: Host,
}

impl Routed {
    fn new() -> Self {
        let world = World::new();
        let router = Host::new("router");
        link(
            (&world.node, "lan", &["192.168.7.2/24"]),
            (&router, "lan", &["192.168.7.1/24"]),
        );
        link(
            (&router, "wan", &["198.51.100.2/24"]),
            (&world.hub, "wan", &["198.51.100.1/24"]),
        );
        router.forward();
        world.node.run("ip route add default via 192.168.7.1");
        Self { world, router }
    }

    fn node_config(&self, endpoint: &str) -> Value {
        let mut config = node_config(&self.world, "1s");
        config["tunnel"]["peers"][0]["endpoint"] = endpoint.into();
        config
    }

    /// To this port or one of the 99 after it: a router takes another where the hub's packets hold
    /// the one that was in use.
    fn masquerade_to(&self, port: u16) {
        let last = port + 99;
        self.router.nft(&format!(
            "table ip nat
             delete table ip nat
             table ip nat {{ chain c {{ type nat hook postrouting priority 100
               oifname wan ip protocol udp masquerade to :{port}-{last}; }}
             }}"
        ));
    }

    fn forget_flows(&self) {
        self.router.run("conntrack -F");
    }

    fn hub_sees_port(&self, port: u16) -> bool {
        let endpoints = self.world.hub.run("wg show hub0 endpoints");
        let seen = endpoints.trim().rsplit("198.51.100.2:").next();
        let seen: Option<u16> = seen.and_then(|seen| seen.parse().ok());
        seen.is_some_and(|seen| (port..port + 100).contains(&seen))
    }
}

pub fn a_nat_that_forgets_or_changes_its_mapping_is_followed() {
    let routed = Routed::new();
    let world = &routed.world;
    routed.masquerade_to(40_000);
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let node = Seedwire::start_ready(&world.node, &routed.node_config("198.51.100.1:51820"));
    wait_until_hub_reaches(world);
    assert!(routed.hub_sees_port(40_000));
    routed.forget_flows();
    let calls = Calls::count(&world.hub);
    wait_until_hub_reaches(world);
    let beats = calls.keepalives() + calls.initiations();
    assert!(
        beats <= 3,
        "{beats} packets until the hub reached the node again"
    );
    for port in [41_000, 42_000] {
        routed.masquerade_to(port);
        routed.forget_flows();
        let calls = Calls::count(&world.hub);
        // Its own packets pass at once, and lead the answers to the new port.
        world.node.run("ping -c 1 -W 5 10.88.0.1");
        assert!(routed.hub_sees_port(port));
        world.hub.run("ping -c 1 -W 5 10.88.0.2");
        let beats = calls.keepalives() + calls.initiations();
        assert!(beats <= 3, "{beats} packets of the node");
    }
    assert!(!node.log().contains("peer is down"), "{}", node.log());
}

/// As behind a balancer that has sent a flow to a hub that is gone, and goes on with it for as long
/// as its packets come.
pub fn a_flow_that_is_held_where_the_hub_was_gets_another_port() {
    let routed = Routed::new();
    let world = &routed.world;
    let lead_to = |address: &str| {
        routed.router.nft(&format!(
            "table ip balance
             delete table ip balance
             table ip balance {{ chain c {{ type nat hook prerouting priority -100
               ip daddr 203.0.113.5 udp dport 51820 dnat to {address}; }}
             }}"
        ));
    };
    world.hub.run("ip addr add 198.51.100.11/24 dev wan");
    world
        .hub
        .run("ip route add 192.168.7.0/24 via 198.51.100.2");
    lead_to("198.51.100.11");
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let node = Seedwire::start_ready(&world.node, &routed.node_config("203.0.113.5:51820"));
    world.hub.run("ip addr del 198.51.100.11/24 dev wan");
    lead_to("198.51.100.1");
    wait_until("the node to notice", || !node.is_ready());
    wait_within(Duration::from_secs(80), "readiness", || {
        node.is_ready().then_some(())
    });
    assert!(node.log().contains("another UDP port"), "{}", node.log());
    world.node.run("ping -c 1 -W 5 10.88.0.1");
}

pub fn an_uplink_that_goes_and_comes_back_interrupts_for_a_period() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let node = Seedwire::start_ready(&world.node, &node_config(&world, "1s"));
    wait_until_hub_reaches(&world);
    world.node.run("ip link set uplink down");
    wait_until("the node to notice", || !node.is_ready());
    world.node.run("ip link set uplink up");
    let calls = Calls::count(&world.hub);
    wait_until_hub_reaches(&world);
    // The first call is answered.
    assert!(calls.initiations() <= 2, "{} calls", calls.initiations());
}

pub fn a_default_route_that_moves_to_another_uplink_is_followed() {
    let world = World::new();
    link(
        (&world.node, "uplink2", &["198.51.100.2/24"]),
        (&world.hub, "uplink2", &["198.51.100.1/24"]),
    );
    world.hub.run("ip addr add 203.0.113.1/32 dev lo");
    world.node.run("ip route add default via 192.0.2.1");
    // Each uplink takes only its own addresses, as providers do.
    world.hub.nft(
        "table inet providers { chain c { type filter hook prerouting priority -300
           iifname uplink ip saddr != 192.0.2.0/24 drop
           iifname uplink2 ip saddr != 198.51.100.0/24 drop; }
         }",
    );
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = node_config(&world, "1s");
    config["tunnel"]["peers"][0]["endpoint"] = "203.0.113.1:51820".into();
    let mut node = Seedwire::start_ready(&world.node, &config);
    wait_until_hub_reaches(&world);
    let calls = Calls::count(&world.hub);
    world.node.run("ip route replace default via 198.51.100.1");
    wait_until("the hub to see the other uplink", || {
        let endpoints = world.hub.run("wg show hub0 endpoints");
        endpoints.contains("198.51.100.2:")
    });
    wait_until_hub_reaches(&world);
    // The calls that had been answered before count too.
    assert!(calls.initiations() <= 3, "{} calls", calls.initiations());
    node.wait_until_ready();
    assert!(!node.log().contains("peer is down"), "{}", node.log());
}

pub fn a_node_that_was_stopped_is_back_with_its_next_packet() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut node = Seedwire::start_ready(&world.node, &node_config(&world, "1s"));
    wait_until_hub_reaches(&world);
    node.process().signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(12));
    let calls = Calls::count(&world.hub);
    node.process().signal(Signal::SIGCONT);
    wait_until_hub_reaches(&world);
    let beats = calls.keepalives() + calls.initiations();
    assert!(
        beats <= 4,
        "{beats} packets until the hub reached the node again"
    );
    node.wait_until_ready();
}

fn start_by(clock: &Clock, world: &World, config: &Value) -> Seedwire {
    let how = Start {
        environment: &clock.environment(),
        ..Start::default()
    };
    Seedwire::start_like(&world.node, config, &how)
}

pub fn a_clock_that_is_set_back_and_forth_stops_nothing() {
    const DAY: i64 = 86_400;
    let world = World::new();
    let clock = Clock::new(&world.node);
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let config = node_config(&world, "1s");
    let mut node = start_by(&clock, &world, &config);
    node.wait_until_ready();
    let mut before = handshake(&node, "seed");
    for days in [-1, 1, -30, 0] {
        clock.set(days * DAY);
        cut(&world.hub);
        wait_until("the node to notice", || !node.is_ready());
        mend(&world.hub);
        let calls = Calls::count(&world.hub);
        node.wait_until_ready();
        assert!(calls.initiations() <= 2, "{} calls", calls.initiations());
        let now = handshake(&node, "seed");
        let moved = (now - before).abs();
        assert!(
            moved > 0.9 * DAY as f64,
            "the node goes by another clock: {moved} s"
        );
        before = now;
    }
}

pub fn a_clock_that_was_behind_at_start_and_is_set_right_is_enough() {
    let world = World::new();
    let clock = Clock::new(&world.node);
    let hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let config = node_config(&world, "1s");
    let mut node = start_by(&clock, &world, &config);
    node.wait_until_ready();
    node.stop();
    clock.set(-3600);
    let mut node = start_by(&clock, &world, &config);
    wait_until("the hub to tell", || {
        hub.status().to_string().contains("clock")
    });
    assert!(
        hub.log().contains("the peer's clock was set back"),
        "{}",
        hub.log()
    );
    assert!(!node.is_ready());
    clock.set(0);
    node.wait_until_ready();
    wait_until("the hub to be content", || {
        !hub.status().to_string().contains("clock")
    });
}

pub fn a_path_that_loses_repeats_and_reorders_is_no_dead_one() {
    let world = World::new();
    // With this seed the first call is lost.
    let relay = Relay::start(&world.node, "127.0.0.1:51820", "192.0.2.1:51820", 6);
    relay.set(Faults {
        lost: 30,
        twice: 10,
        late: 30,
        delay: Duration::from_millis(2),
    });
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = node_config(&world, "1s");
    config["tunnel"]["peers"][0]["endpoint"] = "127.0.0.1:51820".into();
    let mut node = Seedwire::start(&world.node, &config);
    wait_until("a handshake", || handshake(&node, "seed") > 0.0);
    assert!(relay.initiations()[0] > 1);
    let before = node.log().matches("peer is down").count();
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = wait_for("a connection", || {
        Client::connect(&world.node, "10.240.16.10:3100").ok()
    });
    let ping = world.node.try_run("ping -i 0.1 -c 400 -W 1 10.88.0.1");
    let ping = String::from_utf8_lossy(&ping.stdout).into_owned();
    let received = ping
        .split(", ")
        .find_map(|part| part.strip_suffix(" received"));
    let received = received.and_then(|n| n.parse::<u32>().ok());
    // 0.7 * 0.7 of 400 are 196.
    assert!(received.is_some_and(|n| n >= 130), "{ping}");
    let after = node.log().matches("peer is down").count();
    assert_eq!(after, before, "{}", node.log());
    relay.set(Faults::default());
    let calls = Calls::count(&world.hub);
    client
        .exchange(100_000)
        .expect("the same connection carries on");
    node.wait_until_ready();
    assert!(calls.initiations() <= 2, "{} calls", calls.initiations());
}

pub fn two_ends_that_call_each_other_at_once_agree() {
    let world = World::new();
    // Slow enough that the calls cross.
    let to_hub = Relay::start(&world.node, "127.0.0.1:1001", "192.0.2.1:51820", 1);
    let to_node = Relay::start(&world.hub, "127.0.0.1:1001", "192.0.2.2:51820", 2);
    for relay in [&to_hub, &to_node] {
        relay.set(Faults {
            delay: Duration::from_millis(400),
            ..Faults::default()
        });
    }
    let mut configs = [world.hub_config(), node_config(&world, "4s")];
    configs[0]["tunnel"]["peers"][0]["keepalive"] = "4s".into();
    configs[1]["tunnel"]["listenPort"] = 51820.into();
    for config in &mut configs {
        config["tunnel"]["peers"][0]["endpoint"] = "127.0.0.1:1001".into();
    }
    let hub = Seedwire::start(&world.hub, &configs[0]);
    let node = Seedwire::start(&world.node, &configs[1]);
    wait_until("both to be up", || {
        handshake(&hub, "node") > 0.0 && handshake(&node, "seed") > 0.0
    });
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    let before = to_hub.initiations()[0] + to_node.initiations()[0];
    for _ in 0..20 {
        world.node.run("ping -c 1 -W 5 10.88.0.1");
        world.hub.run("ping -c 1 -W 5 10.88.0.2");
    }
    let calls = to_hub.initiations()[0] + to_node.initiations()[0] - before;
    assert!(calls <= 4, "{calls} calls of two ends that hear each other");
    for daemon in [&hub, &node] {
        assert!(!daemon.log().contains("peer is down"), "{}", daemon.log());
    }
}
