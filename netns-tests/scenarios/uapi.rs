//! `seedwire device` under wg(8), with another program on the other end.

use crate::harness::wireguard::{Device, Peer, Program, has_handshake};
use crate::harness::world::World;

/// `wg setconf` on both ends, then a ping, and what `wg show` says of it.
pub fn device_reaches(program: Program) {
    let world = World::new();
    let node = Device::start(&world.node, Program::SeedwireDevice, "wg0");
    let hub = Device::start(&world.hub, program, "wg0");
    let psk = world.hub.run("wg genpsk").trim().to_owned();
    let to_hub = Peer {
        public_key: &world.hub_keys.public,
        preshared_key: Some(&psk),
        endpoint: Some("192.0.2.1:51820"),
        allowed_ips: "10.88.0.1/32,fd88::1/128",
        keepalive: Some(25),
    };
    let to_node = Peer {
        public_key: &world.node_keys.public,
        preshared_key: Some(&psk),
        allowed_ips: "10.88.0.2/32,fd88::2/128",
        ..Peer::default()
    };
    hub.configure(
        &world.hub_keys,
        51820,
        &["10.88.0.1/32", "fd88::1/128"],
        &[to_node],
    );
    node.configure(
        &world.node_keys,
        0,
        &["10.88.0.2/32", "fd88::2/128"],
        &[to_hub],
    );
    world.node.run("ping -c 3 -i 0.2 -W 10 10.88.0.1");
    world.node.run("ping -c 3 -i 0.2 -W 10 fd88::1");
    world.hub.run("ping -c 3 -i 0.2 -W 10 10.88.0.2");
    // Of the other side only what it carried: boringtun tells the age of a handshake, not its time.
    assert!(has_handshake(&world.node, "wg0"));
    let transfer = |host: &crate::harness::Host| -> Vec<u64> {
        let text = host.run("wg show wg0 transfer");
        text.split_whitespace()
            .skip(1)
            .map(|n| n.parse().expect("a number"))
            .collect()
    };
    let (node, hub) = (transfer(&world.node), transfer(&world.hub));
    assert!(
        node.iter().chain(&hub).all(|bytes| *bytes > 400),
        "{node:?} {hub:?}"
    );
}
