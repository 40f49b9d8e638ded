//! Where the hub is, when that changes.

use serde_json::json;

use crate::harness::dns::{ask, dnsmasq};
use crate::harness::world::World;
use crate::harness::{Seedwire, wait_until};

pub fn a_name_is_followed_to_its_new_address() {
    let world = World::new();
    world.hub.run("ip addr add 192.0.2.53/24 dev uplink");
    world.hub.run("ip addr add 192.0.2.10/24 dev uplink");
    let hosts = world.hub.folder("dns").join("hosts");
    std::fs::write(&hosts, "192.0.2.10 hub.example.test\n").expect("a file in memory");
    let option = format!("--addn-hosts={}", hosts.display());
    let names = dnsmasq(&world.hub, "192.0.2.53", &[&option, "--local-ttl=1"]);
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["resolvers"] = json!(["192.0.2.53:53"]);
    config["tunnel"]["peers"][0]["endpoint"] = "hub.example.test:51820".into();
    config["tunnel"]["peers"][0]["keepalive"] = "1s".into();
    let mut node = Seedwire::start_ready(&world.node, &config);
    let endpoint = || world.node.run("wg show seed0 endpoints");
    assert!(endpoint().contains("192.0.2.10:51820"), "{}", endpoint());
    // The hub moves: it is no more where it was.
    world.hub.run("ip addr add 192.0.2.11/24 dev uplink");
    world.hub.run("ip addr del 192.0.2.10/24 dev uplink");
    std::fs::write(&hosts, "192.0.2.11 hub.example.test\n").expect("a file in memory");
    names.process.signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("dnsmasq to know", || {
        ask(&world.hub, "@192.0.2.53 hub.example.test").data == ["192.0.2.11"]
    });
    wait_until("the new address", || {
        endpoint().contains("192.0.2.11:51820")
    });
    wait_until("a ping through the tunnel", || {
        world.node.succeeds("ping -c 1 -W 1 10.88.0.1")
    });
    node.wait_until_ready();
}

pub fn a_name_that_cannot_be_resolved_yet_is_tried_again() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["resolvers"] = json!(["192.0.2.1:53"]);
    config["tunnel"]["peers"][0]["endpoint"] = "hub.example.test:51820".into();
    let mut node = Seedwire::start(&world.node, &config);
    wait_until("a reason", || {
        node.get("/readyz").is_some_and(|ready| ready.status == 503)
    });
    let _names = dnsmasq(
        &world.hub,
        "192.0.2.1",
        &["--host-record=hub.example.test,2001:db8::1"],
    );
    node.wait_until_ready();
    assert!(
        world
            .node
            .run("wg show seed0 endpoints")
            .contains("[2001:db8::1]:51820")
    );
}

pub fn the_next_endpoint_of_a_list_is_taken() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    // At the first nobody is, at the second nobody listens.
    config["tunnel"]["peers"][0]["endpoint"] =
        json!(["192.0.2.200:51820", "192.0.2.1:9", "[2001:db8::1]:51820"]);
    let mut node = Seedwire::start(&world.node, &config);
    crate::harness::wait::wait_within(std::time::Duration::from_secs(80), "readiness", || {
        node.is_ready().then_some(())
    });
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    assert!(
        world
            .node
            .run("wg show seed0 endpoints")
            .contains("[2001:db8::1]:51820")
    );
    node.stop();
}
