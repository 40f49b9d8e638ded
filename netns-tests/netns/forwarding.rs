//! Packets of others that pass through the node or the hub.

use serde_json::json;

use super::dnat::pod_behind;
use crate::harness::client::{Client, serve_tcp};
use crate::harness::state::assert_unchanged;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, State};

#[track_caller]
fn seen_as(host: &Host, address: &str) -> String {
    let mut client = Client::connect(host, address).expect("a connection");
    client.exchange(200_000).expect("data comes back");
    client.seen_as
}

pub fn pods_take_the_address_of_the_tunnel_and_no_other() {
    let world = World::new();
    let pod = pod_behind(&world.node);
    world.hub.run("ip route add 172.25.0.0/24 via 192.0.2.2");
    world.hub.run("ip route add fd25::/64 via 2001:db8::2");
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["network"] = json!({"forward": true, "masquerade": ["172.25.0.0/16", "fd25::/64"]});
    let _node = Seedwire::start_ready(&world.node, &config);
    for address in ["10.240.16.10:3100", "[fd24:16::10]:3100"] {
        serve_tcp(&world.seed, address);
    }
    for address in ["192.0.2.1:3100", "[2001:db8::1]:3100"] {
        serve_tcp(&world.hub, address);
    }
    assert_eq!(seen_as(&pod, "10.240.16.10:3100"), "10.88.0.2");
    assert_eq!(seen_as(&pod, "[fd24:16::10]:3100"), "fd88::2");
    assert_eq!(
        seen_as(&pod, "192.0.2.1:3100"),
        "172.25.0.2",
        "not through the tunnel"
    );
    assert_eq!(
        seen_as(&pod, "[2001:db8::1]:3100"),
        "fd25::2",
        "not through the tunnel"
    );
}

pub fn a_hub_masquerades_where_the_seed_has_no_return_route() {
    let world = World::without_return_route();
    let mut config = world.hub_config();
    config["network"] = json!({"forward": true, "masquerade": ["10.88.0.0/24", "fd88::/64"]});
    let _hub = Seedwire::start_ready(&world.hub, &config);
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    for address in ["10.240.16.10:3100", "[fd24:16::10]:3100"] {
        serve_tcp(&world.seed, address);
    }
    assert_eq!(seen_as(&world.node, "10.240.16.10:3100"), "10.240.16.1");
    assert_eq!(seen_as(&world.node, "[fd24:16::10]:3100"), "fd24:16::1");
}

pub fn a_hub_leaves_addresses_where_the_seed_has_a_return_route() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    for address in ["10.240.16.10:3100", "[fd24:16::10]:3100"] {
        serve_tcp(&world.seed, address);
    }
    assert_eq!(seen_as(&world.node, "10.240.16.10:3100"), "10.88.0.2");
    assert_eq!(seen_as(&world.node, "[fd24:16::10]:3100"), "fd88::2");
    // Nothing is left over for a seed that has none.
    world.seed.run("ip route del 10.88.0.0/24 via 10.240.16.1");
    assert!(Client::connect(&world.node, "10.240.16.10:3100").is_err());
}

pub fn forwarding_stays_on_for_others() {
    let world = World::new();
    assert_eq!(world.node.read_sysctl("net/ipv4/ip_forward"), "0");
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    let mut node = Seedwire::start_ready(&world.node, &config);
    assert_eq!(
        world.node.read_sysctl("net/ipv4/ip_forward"),
        "0",
        "not asked for"
    );
    world.node.sysctl("net/ipv4/ip_forward", "1");
    world.node.sysctl("net/ipv6/conf/all/forwarding", "1");
    node.stop();
    let both = || {
        ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(|n| world.node.read_sysctl(n))
    };
    assert_eq!(both(), ["1", "1"], "turned on by somebody else");
    world.node.sysctl("net/ipv4/ip_forward", "0");
    world.node.sysctl("net/ipv6/conf/all/forwarding", "0");
    config["network"] = json!({"forward": true});
    let mut node = Seedwire::start_ready(&world.node, &config);
    assert_eq!(both(), ["1", "1"]);
    node.stop();
    assert_eq!(both(), ["1", "1"], "others may rely on it by now");
}

pub fn routes_of_a_list_are_written_alone() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["network"] = json!({"routes": [
        {"to": "10.88.0.1/32"},
        {"to": "10.240.16.0/24", "table": 100, "metric": 50},
        {"to": "fd24:16::/64", "metric": 70},
    ]});
    let before = State::of(&world.node);
    let mut node = Seedwire::start_ready(&world.node, &config);
    let main = world.node.run("ip route show dev seed0");
    assert_eq!(main.lines().count(), 1, "{main}");
    assert!(main.starts_with("10.88.0.1 "), "{main}");
    let table = world.node.run("ip route show table 100");
    assert!(
        table.starts_with("10.240.16.0/24 dev seed0 ") && table.contains("metric 50"),
        "{table}"
    );
    let six = world.node.run("ip -6 route show fd24:16::/64");
    assert!(
        six.contains("dev seed0") && six.contains("metric 70"),
        "{six}"
    );
    world.node.run("ip rule add to 10.240.16.0/24 lookup 100");
    world.node.run("ping -c 1 -W 5 10.240.16.10");
    world.node.run("ip rule del to 10.240.16.0/24 lookup 100");
    node.stop();
    assert_unchanged("after the end", &before, &State::of(&world.node));
}
