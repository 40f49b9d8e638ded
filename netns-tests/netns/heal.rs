//! What others change comes back, and what they insist on is told.

use serde_json::{Value, json};

use crate::harness::world::World;
use crate::harness::{Host, Seedwire, link, wait_until};

/// What the daemon of `seed0` wrote into a host, as text.
fn ours(host: &Host) -> String {
    let listings = [
        "ip -o link show dev seed0",
        "ip -o addr show dev seed0",
        "ip -4 route show table all dev seed0",
        "ip -6 route show table all dev seed0",
        "ip -4 rule",
        "ip -6 rule",
        "nft list table inet seedwire-seed0",
    ];
    let sysctls = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    let listings = listings.map(|line| String::from_utf8(host.try_run(line).stdout));
    let listings = listings.map(|text| text.expect("programs print UTF-8"));
    listings.concat() + &sysctls.map(|name| host.read_sysctl(name)).concat()
}

fn repairs(daemon: &Seedwire, kind: &str) -> f64 {
    let name = format!("seedwire_netstate_repairs_total{{kind=\"{kind}\"}}");
    daemon.metric(&name).expect("a metric")
}

fn all_repairs(daemon: &Seedwire) -> f64 {
    let kinds = ["sysctl", "link", "address", "route", "rule", "nft"];
    kinds.iter().map(|kind| repairs(daemon, kind)).sum()
}

/// Does something to the daemon's state, waits until all is as it was, and asserts that it was
/// counted and named.
#[track_caller]
fn heals(host: &Host, daemon: &Seedwire, kind: &str, named: &str, damage: &[&str]) {
    let before = ours(host);
    let (count, log) = (repairs(daemon, kind), daemon.log().len());
    for line in damage {
        host.run(line);
    }
    wait_until(&format!("{damage:?} to be put back"), || {
        repairs(daemon, kind) > count && ours(host) == before
    });
    let log = daemon.log().split_off(log);
    let told = |line: &str| line.contains("put back") && line.contains(named);
    assert!(log.lines().any(told), "{damage:?} is told: {log}");
}

/// A configuration with every kind of state but rules.
fn config(world: &World) -> Value {
    let mut config = world.node_config();
    config["network"] = json!({
        "forward": true,
        "dnat": [{"protocol": "tcp", "address": "10.96.77.7", "port": 80, "to": "10.240.20.5:3100"}],
    });
    config
}

pub fn what_others_delete_or_change_comes_back() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let daemon = Seedwire::start_ready(host, &config(&world));
    assert_eq!(all_repairs(&daemon), 0.0, "the start is no repair");
    let heals = |kind, named, damage: &[&str]| heals(host, &daemon, kind, named, damage);
    heals("route", "10.240.16.0/20", &["ip route flush dev seed0"]);
    heals("route", "fd24:16::/64", &["ip -6 route del fd24:16::/64"]);
    heals("address", "10.88.0.2/32", &["ip addr flush dev seed0"]);
    heals("link", "seed0 up", &["ip link set seed0 down"]);
    heals(
        "route",
        "10.88.0.1/32",
        &["ip link set seed0 down", "ip link set seed0 up"],
    );
    heals("link", "MTU", &["ip link set seed0 mtu 1300"]);
    heals("nft", "seedwire-seed0", &["nft flush ruleset"]);
    heals(
        "nft",
        "seedwire-seed0",
        &["nft flush table inet seedwire-seed0"],
    );
    heals(
        "nft",
        "seedwire-seed0",
        &["nft delete chain inet seedwire-seed0 dnat-output"],
    );
    host.sysctl("net/ipv6/conf/all/forwarding", "0");
    wait_until("IPv6 forwarding", || {
        host.read_sysctl("net/ipv6/conf/all/forwarding") == "1"
    });
    host.sysctl("net/ipv4/ip_forward", "0");
    wait_until("IPv4 forwarding", || {
        host.read_sysctl("net/ipv4/ip_forward") == "1"
    });
    wait_until("its count", || repairs(&daemon, "sysctl") >= 2.0);
    host.run("ping -c 1 -W 5 10.240.16.10");
    host.run("ping -c 1 -W 5 fd24:16::10");
}

pub fn a_nft_rule_that_was_edited_in_place_is_noticed() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let daemon = Seedwire::start_ready(host, &config(&world));
    let listing = host.run("nft -a list chain inet seedwire-seed0 dnat-output");
    let rule = listing.lines().find(|line| line.contains("10.96.77.7"));
    let handle = rule
        .and_then(|rule| rule.rsplit(' ').next())
        .expect("a handle");
    let replace = format!(
        "nft replace rule inet seedwire-seed0 dnat-output handle {handle} \
         ip daddr 10.96.77.7 tcp dport 80 dnat ip to 10.240.66.6:3100"
    );
    heals(host, &daemon, "nft", "seedwire-seed0", &[&replace]);
    host.nft("add chain inet seedwire-seed0 mangle-prerouting { policy drop; }");
    wait_until("the policy to be put back", || {
        !ours(host).contains("policy drop") && repairs(&daemon, "nft") >= 2.0
    });
}

pub fn a_reload_is_no_repair() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = config(&world);
    let daemon = Seedwire::start_ready(host, &config);
    config["network"]["dnat"] = json!([]);
    config["tunnel"]["peers"][0]["allowedIPs"] = json!(["10.88.0.1/32", "10.99.0.0/16"]);
    daemon.write_config(&config);
    wait_until("the reload", || {
        daemon.metric("seedwire_config_reloads_total{result=\"applied\"}") == Some(1.0)
    });
    // What is put back comes after the news of the reload's own changes.
    heals(
        host,
        &daemon,
        "route",
        "10.99.0.0/16",
        &["ip route del 10.99.0.0/16"],
    );
    assert_eq!(all_repairs(&daemon), 1.0, "{}", daemon.log());
}

pub fn rules_and_a_private_table_come_back_and_follow_the_uplink() {
    let world = World::new();
    let (host, hub) = (&world.node, &world.hub);
    let defaults = || {
        host.run("ip route add default via 192.0.2.1");
        host.run("ip route add default via 2001:db8::1");
    };
    defaults();
    let _hub = Seedwire::start_ready(hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["allowedIPs"] = json!(["0.0.0.0/0", "::/0"]);
    let daemon = Seedwire::start_ready(host, &config);
    let rules = host.run("ip rule");
    let rule = rules
        .lines()
        .find(|line| line.contains("fwmark"))
        .expect("a rule");
    let priority = rule.split(':').next().expect("a priority").to_owned();
    let table = rule
        .split("lookup ")
        .nth(1)
        .and_then(|t| t.split(' ').next());
    let table = table.expect("a table").to_owned();
    let heals = |kind, named: &str, damage: &[&str]| heals(host, &daemon, kind, named, damage);
    heals(
        "rule",
        &priority,
        &[&format!("ip rule del priority {priority}")],
    );
    heals(
        "rule",
        &priority,
        &[&format!("ip -6 rule del priority {priority}")],
    );
    heals(
        "route",
        "0.0.0.0/0",
        &[&format!("ip route flush table {table}")],
    );
    host.run("ping -c 1 -W 5 10.240.16.10");

    // The uplink goes and comes back under another index, with a smaller MTU.
    let before = ours(host);
    host.run("ip link del uplink");
    link(
        (host, "uplink", &["192.0.2.2/24", "2001:db8::2/64"]),
        (hub, "uplink", &["192.0.2.1/24", "2001:db8::1/64"]),
    );
    defaults();
    wait_until("packets by the new uplink", || {
        host.succeeds("ping -c 1 -W 1 10.240.16.10")
    });
    assert_eq!(
        ours(host),
        before,
        "an uplink that was away changes nothing"
    );
    hub.run("ip link set uplink mtu 1400");
    host.run("ip link set uplink mtu 1400");
    wait_until("the tunnel's MTU", || {
        host.run("ip link show dev seed0").contains("mtu 1320")
    });
    host.run("ping -c 1 -W 5 fd24:16::10");
}

pub fn a_fight_over_one_object_ends_in_a_report() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let daemon = Seedwire::start_ready(host, &config(&world));
    let before = ours(host);
    let failed = || daemon.metric("seedwire_netstate_failed_objects{kind=\"route\"}");
    wait_until("the daemon to give way", || {
        host.try_run("ip route del 10.240.16.0/20 dev seed0");
        failed() == Some(1.0)
    });
    assert!(daemon.log().contains("another program keeps taking back"));
    assert!(!daemon.is_ready());
    let status = daemon.status().to_string();
    assert!(
        status.contains("another program keeps taking back"),
        "{status}"
    );
    let fought = repairs(&daemon, "route");
    assert!(
        !host
            .run("ip route show dev seed0")
            .contains("10.240.16.0/20"),
        "it rests"
    );
    // Meanwhile everything else is put back.
    host.run("nft flush ruleset");
    wait_until("the table", || {
        ours(host).contains("10.96.77.7:80") || repairs(&daemon, "nft") == 1.0
    });
    assert_eq!(repairs(&daemon, "route"), fought, "no loop");
    // The other one has given up.
    wait_until("the route", || ours(host) == before);
    wait_until("peace", || daemon.is_ready());
    assert_eq!(repairs(&daemon, "route"), fought + 1.0);
}

pub fn a_route_that_somebody_put_in_its_place_is_told_and_left() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let daemon = Seedwire::start_ready(host, &config(&world));
    let before = ours(host);
    host.run("ip route replace 10.240.16.0/20 via 192.0.2.1");
    wait_until("the conflict to be told", || !daemon.is_ready());
    let told = daemon.get("/readyz").expect("an answer").body;
    assert!(
        told.contains("10.240.16.0/20") && told.contains("uplink"),
        "{told}"
    );
    host.run("ip addr del 10.88.0.2/32 dev seed0");
    wait_until("the rest to be put back", || {
        ours(host).contains("10.88.0.2")
    });
    assert!(
        host.run("ip route")
            .contains("10.240.16.0/20 via 192.0.2.1")
    );
    host.run("ip route del 10.240.16.0/20");
    wait_until("the route to be put back", || ours(host) == before);
    wait_until("the daemon to be ready", || daemon.is_ready());
}
