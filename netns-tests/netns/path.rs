//! A path that becomes narrower on its way.

use std::time::Duration;

use crate::harness::client::{Client, serve_tcp};
use crate::harness::wait::wait_within;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, wait_until};

use super::mtu::mtu;

const V4: &str = "198.51.100.1:51820";
const V6: &str = "[2001:db8:1::1]:51820";

/// The far link of the router takes this much now.
fn narrow(world: &World, router: &Host, mtu: u32) {
    router.run(&format!("ip link set far mtu {mtu}"));
    world.hub.run(&format!("ip link set uplink mtu {mtu}"));
}

/// A router that says so is heard without a probe: by runs of datagrams, which it may not cut.
fn a_router_that_tells_is_followed(endpoint: &str) {
    let (world, router) = World::across_router();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["endpoint"] = endpoint.into();
    let _node = Seedwire::start_ready(&world.node, &config);
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.exchange(1_000_000).expect("data comes back");
    assert_eq!(mtu(&world.node, "seed0"), 1420);
    for (path, inner) in [(1400, 1320), (1370, 1290)] {
        narrow(&world, &router, path);
        wait_until(&format!("the MTU {inner}"), || {
            client.exchange(500_000).expect("data comes back");
            mtu(&world.node, "seed0") == inner
        });
    }
}

pub fn a_router_that_tells_is_followed_over_ipv4() {
    a_router_that_tells_is_followed(V4);
}

pub fn a_router_that_tells_is_followed_over_ipv6() {
    a_router_that_tells_is_followed(V6);
}

/// A router that drops what is too long without a word is noticed by probes, and a connection that
/// was there before goes on.
fn a_silent_router_is_noticed(endpoint: &str, inner: u64) {
    let (world, router) = World::across_router();
    let [mut hub, mut node] = [world.hub_config(), world.node_config()];
    hub["tunnel"]["peers"][0]["probe"] = "10.88.0.2".into();
    node["tunnel"]["peers"][0]["probe"] = "fd88::1".into();
    node["tunnel"]["peers"][0]["endpoint"] = endpoint.into();
    let hub = Seedwire::start_ready(&world.hub, &hub);
    let node = Seedwire::start_ready(&world.node, &node);
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.be_patient(Duration::from_secs(90));
    client.exchange(1_000_000).expect("data comes back");
    for (daemon, peer) in [(&node, "seed"), (&hub, "node")] {
        let metric = format!("seedwire_peer_probe_answer_timestamp_seconds{{peer=\"{peer}\"}}");
        wait_until("an answer to a probe", || {
            daemon.metric(&metric) > Some(0.0)
        });
    }
    assert_eq!(mtu(&world.node, "seed0"), 1420);
    router.nft(
        "table inet silent { chain c { type filter hook output priority 0
           icmp type destination-unreachable drop
           icmpv6 type packet-too-big drop
           }
         }",
    );
    router.run("ip link set far mtu 1400");
    client.exchange(1_000_000).expect("data comes back");
    // A probe goes out each 15 s, at either end by its own clock, and three have to be lost.
    let limit = Duration::from_secs(60);
    wait_within(limit, "the MTU to follow on both ends", || {
        let both = mtu(&world.node, "seed0") == inner && mtu(&world.hub, "hub0") == inner;
        both.then_some(())
    });
    client.exchange(1_000_000).expect("data comes back");
    assert_eq!(node.metric("seedwire_tunnel_mtu_bytes"), Some(inner as f64));
    let status = node.status();
    let tunnel = &status["tunnel"];
    assert_eq!(tunnel["mtuReason"], "longer packets to seed are lost");
    assert_eq!(tunnel["peers"][0]["probe"]["limit"], inner);
    assert!(node.log().contains("longer packets to seed are lost"));
}

pub fn a_silent_router_is_noticed_over_ipv4() {
    a_silent_router_is_noticed(V4, 1328);
}

pub fn a_silent_router_is_noticed_over_ipv6() {
    a_silent_router_is_noticed(V6, 1312);
}
