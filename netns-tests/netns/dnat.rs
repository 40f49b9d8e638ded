//! Destinations that are translated into the seed.

use serde_json::json;

use crate::harness::client::{Client, serve_tcp, serve_udp, udp_seen_as};
use crate::harness::seedwire::Seedwire;
use crate::harness::world::World;
use crate::harness::{Host, link, wait_until};

/// A world with a running hub, where Loki's address in the seed is 10.240.20.5 and fd24:16::5.
fn world_with_service() -> (World, Seedwire) {
    let world = World::new();
    let hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    world.seed.add_address("inside", "10.240.20.5/20");
    world.seed.add_address("inside", "fd24:16::5/64");
    for address in ["10.240.20.5:3100", "[fd24:16::5]:3100"] {
        serve_tcp(&world.seed, address);
        serve_udp(&world.seed, address);
    }
    (world, hub)
}

fn dnat() -> serde_json::Value {
    json!([
        {"protocol": "tcp", "address": "10.96.77.7", "port": 80, "to": "10.240.20.5:3100"},
        {"protocol": "udp", "address": "10.96.77.7", "port": 80, "to": "10.240.20.5:3100"},
        {"protocol": "tcp", "address": "fd96::7", "port": 80, "to": "[fd24:16::5]:3100"},
        {"protocol": "udp", "address": "fd96::7", "port": 80, "to": "[fd24:16::5]:3100"},
    ])
}

#[track_caller]
fn reaches(host: &Host, seen_as: [&str; 2]) {
    for (address, seen_as) in ["10.96.77.7:80", "[fd96::7]:80"].into_iter().zip(seen_as) {
        let mut client = Client::connect(host, address).expect("a connection");
        assert_eq!(client.seen_as, seen_as, "TCP to {address}");
        client.exchange(200_000).expect("data comes back");
        let mut udp = None;
        wait_until("an answer over UDP", || {
            udp = udp_seen_as(host, address);
            udp.is_some()
        });
        assert_eq!(udp.as_deref(), Some(seen_as), "UDP to {address}");
    }
}

pub fn a_local_program_without_a_default_route_reaches_the_service() {
    let (world, _hub) = world_with_service();
    assert!(!world.node.run("ip route").contains("default"));
    let mut config = world.node_config();
    config["network"] = json!({"dnat": dnat()});
    let mut node = Seedwire::start_ready(&world.node, &config);
    reaches(&world.node, ["10.88.0.2", "fd88::2"]);
    assert!(
        Client::connect(&world.node, "10.96.77.7:81").is_err(),
        "another port"
    );
    node.stop();
    assert!(Client::connect(&world.node, "10.96.77.7:80").is_err());
}

pub fn a_local_program_with_a_default_route_reaches_the_service() {
    let (world, _hub) = world_with_service();
    world.node.run("ip route add default via 192.0.2.1");
    world.node.run("ip route add default via 2001:db8::1");
    let mut config = world.node_config();
    config["network"] = json!({"dnat": dnat()});
    let _node = Seedwire::start_ready(&world.node, &config);
    reaches(&world.node, ["10.88.0.2", "fd88::2"]);
}

/// A pod behind the node, which is its gateway.
pub fn pod_behind(node: &Host) -> Host {
    let pod = Host::new("pod");
    link(
        (node, "pod0", &["172.25.0.1/24", "fd25::1/64"]),
        (&pod, "eth0", &["172.25.0.2/24", "fd25::2/64"]),
    );
    pod.run("ip route add default via 172.25.0.1");
    pod.run("ip route add default via fd25::1");
    pod
}

pub fn forwarded_programs_reach_the_service() {
    let (world, _hub) = world_with_service();
    let pod = pod_behind(&world.node);
    let mut config = world.node_config();
    config["network"] = json!({"forward": true, "dnat": dnat()});
    let _node = Seedwire::start_ready(&world.node, &config);
    reaches(&pod, ["10.88.0.2", "fd88::2"]);
    reaches(&world.node, ["10.88.0.2", "fd88::2"]);
}

pub fn another_programs_dnat_stands_beside_ours() {
    let (world, _hub) = world_with_service();
    let pod = pod_behind(&world.node);
    let other = Host::new("other");
    link(
        (&world.node, "pod1", &["172.25.1.1/24"]),
        (&other, "eth0", &["172.25.1.2/24"]),
    );
    other.run("ip route add default via 172.25.1.1");
    serve_tcp(&other, "172.25.1.2:8080");
    // As kube-proxy does it: both hooks at dstnat, one service of its own, and one for the address
    // that is ours, with a reject for a service that has no endpoints.
    world.node.nft(
        "table ip kube-proxy {
           map services { type ipv4_addr . inet_proto . inet_service : verdict
             elements = { 10.96.0.10 . tcp . 80 : goto own, 10.96.77.7 . tcp . 80 : goto theirs } }
           chain own { meta l4proto tcp dnat to 172.25.1.2:8080; }
           chain theirs { meta l4proto tcp dnat to 172.25.1.2:9999; }
           chain services { ip daddr . meta l4proto . th dport vmap @services; }
           chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
           chain nat-output { type nat hook output priority -100; policy accept; jump services; }
         }",
    );
    world.node.run("ip route add 10.96.0.0/16 dev pod0");
    let mut config = world.node_config();
    config["network"] = json!({"forward": true, "dnat": dnat()});
    let _node = Seedwire::start_ready(&world.node, &config);
    reaches(&world.node, ["10.88.0.2", "fd88::2"]);
    reaches(&pod, ["10.88.0.2", "fd88::2"]);
    let client = Client::connect(&pod, "10.96.0.10:80").expect("the other program's service");
    assert_eq!(client.seen_as, "172.25.0.2");
}
