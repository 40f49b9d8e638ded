//! Packet sizes.

use serde_json::{Value, json};

use super::dnat::pod_behind;
use crate::harness::client::{Client, serve_tcp};
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, wait_until};

fn mtu(host: &Host, interface: &str) -> u64 {
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

/// The MSS in the SYN and in the answer to it, as they arrive at a host.
fn mss_at(host: &Host, run: impl FnOnce()) -> Vec<u32> {
    let capture = host.spawn("tcpdump -Z root -n -l -v -i inside tcp[tcpflags]&tcp-syn!=0");
    capture.wait_for_output("listening on");
    run();
    let mss = || {
        let output = capture.output();
        let values = output.split("mss ").skip(1);
        let value = |rest: &str| rest.split([',', ']']).next()?.parse().ok();
        values.filter_map(value).collect::<Vec<u32>>()
    };
    wait_until("SYN and SYN-ACK in the capture", || mss().len() >= 2);
    mss()
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
    let mss = mss_at(&world.seed, || {
        let mut client = Client::connect(&pod, "10.240.16.10:3100").expect("a connection");
        client.exchange(500_000).expect("data comes back");
    });
    // The pod offers 1460; the node's tunnel carries 1300 less 40.
    assert_eq!(mss[0], 1260, "in the SYN: {mss:?}");
    let received = pod.spawn("tcpdump -Z root -n -l -v -i eth0 tcp[tcpflags]&tcp-syn!=0");
    received.wait_for_output("listening on");
    Client::connect(&pod, "10.240.16.10:3100").expect("a connection");
    wait_until("the clamped SYN-ACK", || {
        received.output().contains("mss 1260")
    });
}
