//! Tunnels to the distribution's wireguard-go and between two seedwires.

use std::time::Duration;

use crate::harness::client::{Client, serve_tcp};
use crate::harness::wait::wait_within;
use crate::harness::wireguard::Program::DistributionWireguardGo;
use crate::harness::wireguard::{has_handshake, last_handshake};
use crate::harness::world::World;
use crate::harness::{Seedwire, wait_until};
use crate::scenarios::tunnel::{
    Outer, another_preshared_key_is_refused, carries_data, seedwire_calls, seedwire_is_called,
};

pub fn calls_wireguard_go_over_ipv4() {
    seedwire_calls(DistributionWireguardGo, Outer::V4);
}

pub fn calls_wireguard_go_over_ipv6() {
    seedwire_calls(DistributionWireguardGo, Outer::V6);
}

pub fn is_called_by_wireguard_go_over_ipv4() {
    seedwire_is_called(DistributionWireguardGo, Outer::V4);
}

pub fn is_called_by_wireguard_go_over_ipv6() {
    seedwire_is_called(DistributionWireguardGo, Outer::V6);
}

pub fn a_peer_with_another_preshared_key_is_refused() {
    another_preshared_key_is_refused(DistributionWireguardGo);
}

pub fn two_seedwires_carry_data() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut node = Seedwire::start_ready(&world.node, &world.node_config());
    carries_data(&world.node, &world.seed);
    node.stop();
    hub.stop();
}

pub fn datagrams_in_a_row_arrive_as_they_were() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    for (any, address) in [
        ("0.0.0.0:0", "10.240.16.10:3100"),
        ("[::]:0", "[fd24:16::10]:3100"),
    ] {
        let seed = world.seed.udp(address);
        let node = world.node.udp(any);
        node.connect(address).expect("a route");
        node.send(b"who am I").expect("a route");
        let mut buffer = [0; 2048];
        let timeout = Some(Duration::from_secs(10));
        seed.set_read_timeout(timeout).expect("a timeout");
        node.set_read_timeout(timeout).expect("a timeout");
        let (_, from) = seed.recv_from(&mut buffer).expect("a datagram");
        seed.connect(from).expect("a route");
        for (sender, receiver) in [(&node, &seed), (&seed, &node)].repeat(20) {
            // Few enough for any socket's buffer; the last is shorter, as merged ones may end.
            let datagram = |n: u8| vec![n; if n == 39 { 700 } else { 1200 }];
            (0..40).for_each(|n| {
                sender.send(&datagram(n)).expect("a route");
            });
            for n in 0..40 {
                let length = receiver.recv(&mut buffer).expect("a datagram");
                assert!(buffer[..length] == datagram(n), "datagram {n}");
            }
        }
    }
}

pub fn a_connection_outlives_a_restart_of_either_end() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut node = Seedwire::start_ready(&world.node, &world.node_config());
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.exchange(10_000).expect("data comes back");
    hub.kill_hard();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    wait_until("a ping through the tunnel", || {
        world.node.succeeds("ping -c 1 -W 1 10.88.0.1")
    });
    client
        .exchange(10_000)
        .expect("data comes back after the hub's restart");
    node.kill_hard();
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    client
        .exchange(10_000)
        .expect("data comes back after the node's restart");
}

pub fn the_hub_follows_a_node_that_moves() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    world.node.run("ip addr del 192.0.2.2/24 dev uplink");
    world.node.run("ip addr add 192.0.2.77/24 dev uplink");
    wait_until("a ping from the new address", || {
        world.node.succeeds("ping -c 1 -W 1 10.88.0.1")
    });
    assert!(
        world
            .hub
            .run("wg show hub0 endpoints")
            .contains("192.0.2.77:")
    );
    world.hub.run("ping -c 1 -W 5 10.88.0.2");
}

pub fn a_packet_from_a_wrong_inner_address_is_dropped() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    world.node.run("ip addr add 10.88.0.66/32 dev lo");
    assert!(
        !world
            .node
            .succeeds("ping -c 1 -W 1 -I 10.88.0.66 10.88.0.1")
    );
    world.hub.run("ip addr add 10.88.0.67/32 dev lo");
    world.node.run("ip route add 10.88.0.67 dev seed0");
    assert!(
        !world.node.succeeds("ping -c 1 -W 1 10.88.0.67"),
        "outside the peer's prefixes"
    );
}

pub fn an_idle_peer_without_keepalive_stays_ready() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["keepalive"] = "0s".into();
    let mut node = Seedwire::start_ready(&world.node, &config);
    world.node.run("ping -c 1 -W 10 10.88.0.1");
    assert!(has_handshake(&world.node, "seed0"));
    // Longer than unanswered initiations and a passive keepalive take to make a peer down.
    std::thread::sleep(Duration::from_secs(40));
    assert!(node.is_ready(), "{:?}", node.get("/readyz"));
    world.node.run("ping -c 1 -W 10 10.88.0.1");
    node.stop();
}

pub fn a_hub_that_was_away_for_95_s_is_back_without_traffic() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    // So that the absence is noticed at once, and 90 s of handshakes fail before the hub is back:
    // that is where WireGuard's own attempts end.
    config["tunnel"]["peers"][0]["keepalive"] = "1s".into();
    let mut node = Seedwire::start_ready(&world.node, &config);
    wait_until("a handshake", || has_handshake(&world.node, "seed0"));
    hub.kill_hard();
    let before = last_handshake(&world.node, "seed0");
    std::thread::sleep(Duration::from_secs(95));
    assert!(!node.is_ready(), "the hub's absence is noticed");
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    wait_within(Duration::from_secs(15), "a new handshake", || {
        (last_handshake(&world.node, "seed0") > before).then_some(())
    });
    node.wait_until_ready();
    assert!(has_handshake(&world.hub, "hub0"));
}
