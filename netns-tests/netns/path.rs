//! A path that becomes narrower on its way.

use super::mtu::mtu;
use crate::harness::client::{Client, serve_tcp};
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, wait_until};

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
