//! A tunnel in a tunnel, and one that leads into itself.

use super::pair::{Pair, transfer, wait_for_ping};
use crate::harness::client::{Client, serve_tcp};
use crate::harness::wireguard::Program::SeedwireDevice;
use crate::harness::wireguard::{Device, Keys, Peer};

pub fn a_tunnel_runs_in_another_one() {
    let pair = Pair::new(SeedwireDevice);
    let (node, hub) = (&pair.world.node, &pair.world.hub);
    let [node_keys, hub_keys] = [node, hub].map(Keys::generate);
    let inner_hub = Device::start(hub, SeedwireDevice, "wg1");
    let inner_node = Device::start(node, SeedwireDevice, "wg1");
    let to_node = Peer {
        public_key: &node_keys.public,
        allowed_ips: "10.99.0.2/32,fd99::2/128",
        ..Peer::default()
    };
    inner_hub.configure(&hub_keys, 5, &["10.99.0.1/32", "fd99::1/128"], &[to_node]);
    let to_hub = Peer {
        public_key: &hub_keys.public,
        endpoint: Some("[fd88::1]:5"),
        allowed_ips: "10.99.0.1/32,fd99::1/128",
        ..Peer::default()
    };
    inner_node.configure(&node_keys, 5, &["10.99.0.2/32", "fd99::2/128"], &[to_hub]);
    for host in [node, hub] {
        host.run("ip link set wg1 mtu 1340");
    }
    for (ping, to) in [
        ("10.99.0.1", "10.99.0.1:3100"),
        ("fd99::1", "[fd99::1]:3100"),
    ] {
        node.run(&format!("ping -c 3 -i 0.1 -W 10 -M do -s 1292 {ping}"));
        serve_tcp(hub, to);
        let mut client = Client::connect(node, to).expect("a connection");
        client.exchange(2_000_000).expect("data comes back");
    }
    let (inner, outer) = (transfer(node, "wg1"), transfer(node, "wg0"));
    assert!(
        outer.0 > inner.0 && outer.1 > inner.1,
        "{outer:?} around {inner:?}"
    );
}

pub fn a_tunnel_that_leads_into_itself_sends_little_and_recovers() {
    let pair = Pair::new(SeedwireDevice);
    let node = &pair.world.node;
    let peer = &pair.world.hub_keys.public;
    for (inner, outer) in [
        ("10.88.0.1:51820", "192.0.2.1:51820"),
        ("[fd88::1]:51820", "[2001:db8::1]:51820"),
    ] {
        node.run(&format!("wg set wg0 peer {peer} endpoint {outer}"));
        wait_for_ping(node, "10.88.0.1");
        node.run(&format!("wg set wg0 peer {peer} endpoint {inner}"));
        let before = transfer(node, "wg0").1;
        // Small ones, and ones that are in pieces once they are sealed.
        assert!(!node.succeeds("ping -f -c 50 -W 1 10.88.0.1"));
        assert!(!node.succeeds("ping -f -c 50 -W 1 -s 1392 10.88.0.1"));
        let sent = transfer(node, "wg0").1 - before;
        // Each once, and a second time what is left of one in pieces.
        assert!(sent < 200_000, "{sent} bytes for 100 pings");
        node.run(&format!("wg set wg0 peer {peer} endpoint {outer}"));
        wait_for_ping(node, "10.88.0.1");
    }
}
