//! Packet sizes.

use serde_json::{Value, json};

use super::dnat::pod_behind;
use crate::harness::client::{Client, serve_tcp};
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, wait_until};

pub(super) fn mtu(host: &Host, interface: &str) -> u64 {
    let link: Value =
        serde_json::from_str(&host.run(&format!("ip -j link show dev {interface}"))).expect("JSON");
    link[0]["mtu"].as_u64().expect("a number")
}

pub fn the_mtu_comes_from_the_path() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    world.node.run("ip link set uplink mtu 1400");
    world.hub.run("ip link set uplink mtu 1400");
    let mut node = Seedwire::start_ready(&world.node, &world.node_config());
    let found = mtu(&world.node, "seed0");
    assert!(
        [1320, 1340].contains(&found),
        "1400 less the headers, not {found}"
    );
    node.stop();
    let mut config = world.node_config();
    config["tunnel"]["mtu"] = 1300.into();
    let _node = Seedwire::start_ready(&world.node, &config);
    assert_eq!(mtu(&world.node, "seed0"), 1300);
}

pub fn packets_are_padded_up_to_the_mtu_of_now() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    let node = Seedwire::start_ready(&world.node, &config);
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    config["tunnel"]["mtu"] = 1299.into();
    node.write_config(&config);
    wait_until("the MTU", || mtu(&world.node, "seed0") == 1299);
    // 1299 bytes and what WireGuard and UDP add; the next multiple of 16 would be 1312.
    world.hub.nft(
        "table inet look { chain c { type filter hook input priority 0
           udp dport 51820 udp length 1339 counter comment \"same\"
           udp dport 51820 udp length 1352 counter comment \"other\"
           }
         }",
    );
    wait_until("a packet of the MTU's length", || {
        world
            .node
            .succeeds("ping -c 1 -W 5 -M do -s 1271 10.88.0.1");
        counted(&world.hub).0 > 0
    });
}

pub fn data_passes_where_the_path_is_narrower_than_the_tunnel() {
    let world = World::new();
    let mut configs = [world.hub_config(), world.node_config()];
    for config in &mut configs {
        config["tunnel"]["mtu"] = 1420.into();
    }
    let _hub = Seedwire::start_ready(&world.hub, &configs[0]);
    let node = Seedwire::start_ready(&world.node, &configs[1]);
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.exchange(2_000_000).expect("data comes back");
    world.node.run("ip link set uplink mtu 1300");
    world.hub.run("ip link set uplink mtu 1300");
    // The kernel refuses to cut such datagrams in one send; sent one by one they are fragmented.
    client.exchange(2_000_000).expect("data comes back");
    let refused = node.metric("seedwire_tunnel_refused_runs_total");
    assert!(refused > Some(0.0), "{refused:?} runs were refused");
    let told = node.log().matches("datagrams go one by one").count();
    assert_eq!(told, 1, "{}", node.log());
}

/// Counts datagrams to the hub that routers may cut (`same`), and that they may not (`other`).
fn count_fragile(host: &Host) {
    host.nft(
        "table inet look { chain c { type filter hook input priority 0
           udp dport 51820 ip frag-off & 0x4000 == 0 counter comment \"same\"
           udp dport 51820 ip frag-off & 0x4000 != 0 counter comment \"other\"
           }
         }",
    );
}

pub fn routers_may_cut_what_is_sent_alone_and_no_run() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    count_fragile(&world.hub);
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    world.node.run("ping -c 3 -i 0.2 -W 5 -s 1372 10.240.16.10");
    let (alone, whole) = counted(&world.hub);
    assert!(alone >= 4 && whole == 0, "{alone} and {whole}");
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.exchange(2_000_000).expect("data comes back");
    let (_, whole) = counted(&world.hub);
    assert!(whole > 10, "{whole}");
}

/// Counts the SYNs, and the answers to them, that come in with this MSS.
fn count_mss(host: &Host, mss: u32) {
    host.nft(&format!(
        "table inet look {{
           chain c {{ type filter hook input priority 0; tcp flags & syn == syn jump sizes; }}
           chain sizes {{ tcp option maxseg size {mss} counter comment \"same\"; \
                          tcp option maxseg size != {mss} counter comment \"other\"; }}
         }}",
    ));
}

/// How many came in with the MSS that is counted, and how many with others.
fn counted(host: &Host) -> (u64, u64) {
    let ruleset: Value =
        serde_json::from_str(&host.run("nft -j list table inet look")).expect("JSON");
    let rules = ruleset["nftables"].as_array().expect("rules");
    let packets = |comment: &str| {
        let mut rules = rules.iter().map(|item| &item["rule"]);
        let rule = rules
            .find(|rule| rule["comment"] == comment)
            .expect("the rule");
        let expressions = rule["expr"].as_array().expect("expressions");
        expressions
            .iter()
            .find_map(|e| e["counter"]["packets"].as_u64())
            .expect("a counter")
    };
    (packets("same"), packets("other"))
}

pub fn the_mss_is_clamped_on_both_ends() {
    let world = World::new();
    let pod = pod_behind(&world.node);
    let mut hub = world.hub_config();
    hub["tunnel"]["mtu"] = 1400.into();
    let _hub = Seedwire::start_ready(&world.hub, &hub);
    let mut config = world.node_config();
    config["tunnel"]["mtu"] = 1300.into();
    config["network"] = json!({"forward": true, "masquerade": ["172.25.0.0/16"]});
    let _node = Seedwire::start_ready(&world.node, &config);
    serve_tcp(&world.seed, "10.240.16.10:3100");
    // The pod offers 1460; the node's tunnel carries 1300 less 40.
    count_mss(&world.seed, 1260);
    count_mss(&pod, 1260);
    let mut client = Client::connect(&pod, "10.240.16.10:3100").expect("a connection");
    client.exchange(500_000).expect("data comes back");
    assert_eq!(
        counted(&world.seed),
        (1, 0),
        "SYNs in the seed, with 1260 and with another MSS"
    );
    assert_eq!(
        counted(&pod),
        (1, 0),
        "answers in the pod, with 1260 and with another MSS"
    );
}
