//! A hub that many nodes call.

use serde_json::json;

use crate::harness::client::{Client, serve_tcp};
use crate::harness::wireguard::Keys;
use crate::harness::world::{World, key_file};
use crate::harness::{Host, Seedwire, link, wait_until};

pub fn many_nodes_call_one_hub() {
    let world = World::new();
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let nodes: Vec<(Host, Keys)> = (0..6)
        .map(|n| {
            let node = Host::new(&format!("node{n}"));
            link(
                (&node, "uplink", &[&format!("198.51.{n}.2/24")]),
                (
                    &world.hub,
                    &format!("uplink{n}"),
                    &[&format!("198.51.{n}.1/24")],
                ),
            );
            let keys = Keys::generate(&node);
            (node, keys)
        })
        .collect();
    let mut hub = world.hub_config();
    hub["tunnel"]["peers"] = (0..)
        .zip(&nodes)
        .map(|(n, (_, keys))| {
            json!({"name": format!("node{n}"), "publicKey": keys.public,
                   "allowedIPs": [format!("10.88.0.{}/32", 10 + n)]})
        })
        .collect();
    let hub = Seedwire::start_ready(&world.hub, &hub);
    let mut daemons = Vec::new();
    for (n, (node, keys)) in (0..).zip(&nodes) {
        let mut config = world.node_config();
        config["tunnel"]["privateKeyFile"] = key_file(node, "own.key", &keys.private).into();
        config["tunnel"]["addresses"] = json!([format!("10.88.0.{}/32", 10 + n)]);
        config["tunnel"]["peers"][0]["endpoint"] = format!("198.51.{n}.1:51820").into();
        daemons.push(Seedwire::start_ready(node, &config));
    }
    std::thread::scope(|scope| {
        for (n, (node, _)) in (0..).zip(&nodes) {
            scope.spawn(move || {
                let mut client = Client::connect(node, "10.240.16.10:3100").expect("a connection");
                assert_eq!(client.seen_as, format!("10.88.0.{}", 10 + n));
                client.exchange(1_000_000).expect("data comes back");
            });
        }
    });
    // Each is known by its key: an address of another does not pass.
    let (first, _) = &nodes[0];
    first.run("ip addr add 10.88.0.11/32 dev lo");
    assert!(!first.succeeds("ping -c 1 -W 1 -I 10.88.0.11 10.240.16.10"));
    let metrics = hub.get("/metrics").expect("metrics").body;
    for n in 0..6 {
        let name = format!("seedwire_peer_receive_bytes_total{{peer=\"node{n}\"}}");
        assert!(
            hub.metric(&name).is_some_and(|bytes| bytes > 1e6),
            "{name} in {metrics}"
        );
    }
}

pub fn one_key_in_two_places_is_told() {
    let world = World::new();
    let twin = Host::new("twin");
    link(
        (&twin, "uplink", &["198.51.100.2/24"]),
        (&world.hub, "uplink2", &["198.51.100.1/24"]),
    );
    let hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["keepalive"] = "1s".into();
    let _node = Seedwire::start_ready(&world.node, &config);
    config["tunnel"]["privateKeyFile"] =
        key_file(&twin, "same.key", &world.node_keys.private).into();
    config["tunnel"]["peers"][0]["endpoint"] = "198.51.100.1:51820".into();
    let _twin = Seedwire::start(&twin, &config);
    wait_until("the hub to tell of both", || {
        let status = hub.status().to_string();
        status.contains("in turn")
            && status.contains("192.0.2.2:")
            && status.contains("198.51.100.2:")
    });
    assert!(hub.log().contains("in turn"), "{}", hub.log());
    assert!(hub.is_ready(), "a hub is ready whatever its peers do");
}
