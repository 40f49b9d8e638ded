//! What is routed into the tunnel never leaves by another way, whatever becomes of the tunnel.

use std::io::ErrorKind;

use seedwire_core::netstate::Instance;
use serde_json::{Value, json};

use crate::harness::state::assert_unchanged;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, State, wait_until};

/// Gives the node default routes to the hub, which counts what comes to these there outside of the
/// tunnel.
fn count_leaks(world: &World, v4: &str, v6: &str) {
    world.node.run("ip route add default via 192.0.2.1");
    world.node.run("ip route add default via 2001:db8::1");
    world.hub.nft(&format!(
        "table inet leaks {{
           counter leaks {{}}
           chain c {{
             type filter hook prerouting priority -310
             iifname uplink ip daddr {v4} counter name leaks
             iifname uplink ip6 daddr {v6} counter name leaks
           }}
         }}"
    ));
}

/// How many packets were counted since this was last asked.
fn leaks(world: &World) -> u64 {
    let listed = world.hub.run("nft -j reset counter inet leaks leaks");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let mut items = listed["nftables"].as_array().into_iter().flatten();
    let count = items.find_map(|item| item["counter"]["packets"].as_u64());
    count.expect("a counter")
}

/// Sends to these in every way that programs do.
fn send(host: &Host, v4: &str, v6: &str) {
    for to in [v4, v6] {
        host.try_run(&format!("ping -c 2 -i 0.2 -W 1 {to}"));
    }
}

/// Asserts that programs are told at once that nobody is there.
#[track_caller]
fn refused(host: &Host, v4: &str, v6: &str) {
    for to in [format!("{v4}:3100"), format!("[{v6}]:3100")] {
        let error = host.connect(&to).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{to}: {error}");
    }
    send(host, v4, v6);
}

pub fn nothing_leaves_by_the_default_route_while_the_tunnel_is_gone() {
    const TO: (&str, &str) = ("10.240.16.10", "fd24:16::10");
    let world = World::new();
    let host = &world.node;
    count_leaks(&world, "10.240.16.0/20", "fd24:16::/64");
    send(host, TO.0, TO.1);
    assert_eq!(leaks(&world), 4, "without a tunnel they leave");
    let before = State::of(host);

    // Before the peer is there.
    let mut node = Seedwire::start(host, &world.node_config());
    wait_until("the routes", || {
        host.run("ip -6 route").contains("fd24:16::/64 dev seed0")
    });
    send(host, TO.0, TO.1);
    // With the link down, which is put back soon.
    host.run("ip link set seed0 down");
    send(host, TO.0, TO.1);
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    wait_until("the tunnel", || {
        host.succeeds("ping -c 1 -W 1 10.240.16.10")
    });

    // Under a flow, through the end of the process and long after.
    let flow = format!("ping -i 0.01 -c 300 {}", TO.0);
    let mut flow = host.spawn(&flow);
    flow.wait_for_output("64 bytes from");
    node.kill_hard();
    refused(host, TO.0, TO.1);
    flow.wait();
    assert!(!host.succeeds("ip link show seed0"));
    let mut node = Seedwire::start_ready(host, &world.node_config());
    host.run("ping -c 1 -W 5 10.240.16.10");
    host.run("ping -c 1 -W 5 fd24:16::10");
    assert_eq!(leaks(&world), 0, "outside of the tunnel");
    node.kill_hard();
    assert!(node.command("down").status.success());
    assert_unchanged("after down", &before, &State::of(host));
    send(host, TO.0, TO.1);
    assert_eq!(leaks(&world), 4, "after down they leave again");
    let mut node = Seedwire::start_ready(host, &world.node_config());
    node.stop();
    assert_unchanged("after the end", &before, &State::of(host));
}

pub fn a_tunnel_for_everything_leaves_nothing_to_the_default_route() {
    const TO: (&str, &str) = ("203.0.113.9", "2001:db8:9::9");
    let world = World::new();
    let host = &world.node;
    count_leaks(&world, "203.0.113.0/24", "2001:db8:9::/64");
    send(host, TO.0, TO.1);
    assert_eq!(leaks(&world), 4, "without a tunnel they leave");
    let before = State::of(host);
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["allowedIPs"] = json!(["0.0.0.0/0", "::/0"]);
    let mut node = Seedwire::start_ready(host, &config);
    send(host, TO.0, TO.1);
    node.kill_hard();
    refused(host, TO.0, TO.1);
    // What the main table knows better is not the tunnel's.
    host.run("ping -c 1 -W 5 192.0.2.1");
    let mut node = Seedwire::start_ready(host, &config);
    host.run("ping -c 1 -W 5 10.240.16.10");
    node.kill_hard();
    assert_eq!(leaks(&world), 0, "outside of the tunnel");
    assert!(node.command("down").status.success());
    assert_unchanged("after down", &before, &State::of(host));
}

pub fn a_guard_comes_back_and_goes_with_its_prefix() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    host.run("ip route add unreachable 10.77.0.0/16 metric 50");
    host.run("ip -6 route add unreachable fd77::/64 metric 50");
    let mut config = world.node_config();
    let node = Seedwire::start_ready(host, &config);
    let metric = Instance::new("seed0".parse().expect("a name")).metric();
    let has = |to: &str| {
        let family = if to.contains(':') { "-6" } else { "-4" };
        let listed = host.run(&format!("ip {family} route show {to} metric {metric}"));
        listed.starts_with("unreachable")
    };
    for to in ["10.240.16.0/20", "fd24:16::/64"] {
        assert!(has(to), "{to}");
        host.run(&format!("ip route del unreachable {to} metric {metric}"));
        wait_until(&format!("the guard of {to}"), || has(to));
        let told = format!("unreachable {to}");
        wait_until("a line in the log", || node.log().contains(&told));
    }
    let repaired = || node.metric("seedwire_netstate_repairs_total{kind=\"route\"}");
    assert_eq!(repaired(), Some(2.0), "{}", node.log());
    config["tunnel"]["peers"][0]["allowedIPs"] = json!(["10.88.0.1/32", "10.99.0.0/16"]);
    node.write_config(&config);
    wait_until("the reload", || has("10.99.0.0/16"));
    wait_until("the others to go", || {
        !has("10.240.16.0/20") && !has("fd24:16::/64")
    });
    assert!(!host.run("ip route").contains("10.240.16.0/20"));
    let others = host.run("ip -4 route show type unreachable metric 50")
        + &host.run("ip -6 route show type unreachable metric 50");
    assert_eq!(others.lines().count(), 2, "{others}");
}
