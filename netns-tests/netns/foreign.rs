//! What others put into the network state stays as it is, to the byte.

use serde_json::{Value, json};

use super::lifecycle::failed_run;
use crate::harness::state::assert_unchanged;
use crate::harness::wireguard::{Device, Keys, Program::DistributionWireguardGo};
use crate::harness::world::{World, key_file};
use crate::harness::{Host, Seedwire, State, wait_until};

/// A configuration that writes every kind of state there is.
fn all_kinds(world: &World) -> Value {
    let mut config = world.node_config();
    config["network"] = json!({
        "forward": true,
        "masquerade": ["172.25.0.0/16", "fd25::/64"],
        "dnat": [
            {"protocol": "tcp", "address": "10.96.77.7", "port": 80, "to": "10.240.20.5:3100"},
            {"protocol": "udp", "address": "fd96::7", "port": 80, "to": "[fd24:16::5]:3100"},
        ],
    });
    config["dns"] = json!({
        "listen": ["169.254.20.11:53"],
        "zones": [{"zone": "logging.svc.cluster.local", "upstreams": ["10.240.16.10:53"]}],
    });
    config
}

/// Everything that others may have put on a host, and a WireGuard interface of theirs.
pub fn foreign_state(host: &Host) -> Device {
    host.forward();
    for line in [
        "ip addr add 169.254.20.10/32 dev lo",
        "ip addr add fd20::10/128 dev lo",
        "ip addr add 192.0.2.3/24 dev uplink",
        "ip route add 10.50.0.0/16 via 192.0.2.1",
        "ip route add 10.51.0.0/16 via 192.0.2.1 table 51820",
        "ip route add blackhole 10.52.0.0/16 proto 99",
        "ip route add 10.240.0.0/12 via 192.0.2.1 metric 50",
        "ip -6 route add fd50::/64 via 2001:db8::1 proto bird",
        "ip rule add fwmark 0x1000 lookup 51820 priority 100",
        "ip rule add from 10.50.0.0/16 lookup 77 priority 32000",
        "ip -6 rule add to fd50::/64 lookup 77",
        "ip link add name br0 type bridge",
        "ip link set br0 up alias seed0-of-somebody",
    ] {
        host.run(line);
    }
    host.nft(
        "table inet seedwire { comment \"not ours\"; chain c { type filter hook forward priority 0; counter; accept; }; }
         table ip nat {
           chain PREROUTING { type nat hook prerouting priority dstnat; ip daddr 10.96.0.10 tcp dport 53 dnat to 192.0.2.1:53; }
           chain POSTROUTING { type nat hook postrouting priority srcnat; ip saddr 10.60.0.0/16 masquerade; }
         }
         table ip6 seedwire-seed1 { set s { type ipv6_addr; elements = { fd99::1 }; }; }",
    );
    let device = Device::start(host, DistributionWireguardGo, "wg9");
    device.configure(&Keys::generate(host), 51999, &["10.77.0.1/24"], &[]);
    device
}

/// The state once addresses and routes that the kernel makes by itself are there.
pub fn settled(host: &Host) -> State {
    let mut last = State::of(host);
    wait_until("the state to settle", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = State::of(host);
        let same = now == last;
        last = now;
        same
    });
    last
}

pub fn foreign_state_outlives_start_reload_stop_kill_and_down() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _names = crate::harness::dns::unbound(&world.seed, "10.240.16.10", &[]);
    let host = &world.node;
    let _device = foreign_state(host);
    let before = settled(host);
    let config = all_kinds(&world);
    let unchanged = |when: &str| {
        let now = State::of(host)
            .without("seed0")
            .without_address("169.254.20.11");
        assert_unchanged(when, &before, &now);
    };

    let mut node = Seedwire::start_ready(host, &config);
    unchanged("after the start");
    assert!(before != State::of(host), "the daemon changes something");
    let mut other = config.clone();
    other["tunnel"]["peers"][0]["allowedIPs"] =
        json!(["10.88.0.1/32", "10.240.16.0/20", "10.99.0.0/16"]);
    other["network"]["dnat"] = json!([]);
    node.write_config(&other);
    wait_until("the reload", || {
        host.run("ip route").contains("10.99.0.0/16")
    });
    unchanged("after a reload");
    node.stop();
    assert_unchanged("after SIGTERM", &before, &State::of(host));

    let mut node = Seedwire::start_ready(host, &config);
    node.kill_hard();
    unchanged("after SIGKILL");
    let down = node.command("down");
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    assert_unchanged("after down", &before, &State::of(host));
    assert!(
        node.command("down").status.success(),
        "there is nothing to do"
    );

    let mut node = Seedwire::start_ready(host, &config);
    node.kill_hard();
    let mut node = Seedwire::start_ready(host, &other);
    unchanged("after a start over what was left");
    assert!(
        !host.run("nft list ruleset").contains("10.96.77.7"),
        "the killed one's DNAT is gone"
    );
    node.stop();
    assert_unchanged("after all", &before, &State::of(host));
}

/// A second daemon's configuration for the same node: interface `seed1`, another network.
fn second(world: &World) -> Value {
    let own = Keys::generate(&world.node);
    let hub = Keys::generate(&world.node);
    json!({
        "tunnel": {
            "interface": "seed1",
            "backend": "userspace",
            "privateKeyFile": key_file(&world.node, "second.key", &own.private),
            "addresses": ["10.89.0.2/32", "fd89::2/128"],
            "peers": [{
                "name": "elsewhere",
                "publicKey": hub.public,
                "endpoint": "192.0.2.1:51821",
                "allowedIPs": ["10.89.0.1/32", "10.100.0.0/16", "fd89::/64"],
            }],
        },
        "network": {
            "masquerade": ["172.25.0.0/16"],
            "dnat": [{"protocol": "tcp", "address": "10.96.78.7", "port": 80, "to": "10.100.0.5:3100"}],
        },
        "control": {"http": "127.0.0.1:9587"},
    })
}

pub fn two_daemons_on_one_host_leave_each_other_alone() {
    let world = World::new();
    let host = &world.node;
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut other = Seedwire::start(host, &second(&world));
    wait_until("the other daemon's routes", || {
        host.run("ip -6 route").contains("fd89::/64")
    });
    wait_until("the other daemon's health", || {
        other.get("/livez").is_some_and(|r| r.status == 200)
    });
    let before = settled(host);
    let mut node = Seedwire::start_ready(host, &world.node_config());
    assert_unchanged(
        "beside the other",
        &before.clone().without("seed0"),
        &State::of(host).without("seed0"),
    );
    node.stop();
    assert_unchanged("after its end", &before, &State::of(host));
    let mut node = Seedwire::start_ready(host, &world.node_config());
    node.kill_hard();
    assert!(node.command("down").status.success());
    assert_unchanged("after down", &before, &State::of(host));
    let mut node = Seedwire::start_ready(host, &world.node_config());
    let beside = State::of(host).without("seed1");
    other.kill_hard();
    assert!(other.command("down").status.success());
    assert_unchanged(
        "after the other's down",
        &beside,
        &State::of(host).without("seed1"),
    );
    assert!(!host.run("ip route").contains("10.100.0.0/16"));
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    node.stop();
}

pub fn a_route_of_somebody_else_is_a_conflict() {
    let world = World::new();
    let host = &world.node;
    host.run("ip route add 10.240.16.0/20 via 192.0.2.1");
    let before = State::of(host);
    let error = failed_run(host, &world.node_config(), 1);
    assert!(
        error.contains("10.240.16.0/20") && error.contains("uplink"),
        "{error}"
    );
    assert_unchanged("after a conflict", &before, &State::of(host));
}

pub fn an_interface_of_somebody_else_is_a_conflict() {
    let world = World::new();
    let host = &world.node;
    host.run("ip link add name seed0 type bridge");
    let before = State::of(host);
    let error = failed_run(host, &world.node_config(), 1);
    assert!(error.contains("seed0"), "{error}");
    assert_unchanged("after a conflict", &before, &State::of(host));
    let file = host.folder("seedwire-seed0").join("config.yaml");
    host.try_run(&format!(
        "{} down -c {}",
        crate::harness::sandbox::seedwire(),
        file.display()
    ));
    assert_unchanged("after down", &before, &State::of(host));
}

pub fn a_tunnel_for_everything_uses_a_table_of_its_own() {
    let world = World::new();
    let host = &world.node;
    host.run("ip route add default via 192.0.2.1");
    host.run("ip route add default via 2001:db8::1");
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let before = settled(host);
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["allowedIPs"] = json!(["0.0.0.0/0", "::/0"]);
    let mut node = Seedwire::start_ready(host, &config);
    assert!(
        host.run("ip route").contains("default via 192.0.2.1"),
        "the main table stays"
    );
    host.run("ping -c 1 -W 5 10.240.16.10");
    host.run("ping -c 1 -W 5 fd24:16::10");
    let path = host.run("ip route get 203.0.113.9");
    assert!(path.contains("dev seed0"), "{path}");
    let path = host.run("ip route get 192.0.2.1");
    assert!(path.contains("dev uplink"), "{path}");
    node.stop();
    assert_unchanged("after the end", &before, &State::of(host));
    let mut node = Seedwire::start_ready(host, &config);
    node.kill_hard();
    assert!(node.command("down").status.success());
    assert_unchanged("after down", &before, &State::of(host));
}
