//! Two bare devices that wg(8) configures, with a tunnel between them.

use crate::harness::wireguard::{Device, Keys, Peer, Program};
use crate::harness::world::World;
use crate::harness::{Host, wait_until};

/// `seedwire device` on the node, which calls the hub, and another device there. Both links are
/// `wg0`; nothing was sent yet.
pub struct Pair {
    pub world: World,
    _devices: [Device; 2],
}

impl Pair {
    /// With this program on the hub, and without keepalives.
    pub fn new(program: Program) -> Self {
        let world = World::new();
        let node = Device::start(&world.node, Program::SeedwireDevice, "wg0");
        let hub = Device::start(&world.hub, program, "wg0");
        let to_node = Peer {
            public_key: &world.node_keys.public,
            allowed_ips: "10.88.0.2/32,fd88::2/128",
            ..Peer::default()
        };
        let own = ["10.88.0.1/32", "fd88::1/128"];
        hub.configure(&world.hub_keys, 51820, &own, &[to_node]);
        let to_hub = Peer {
            public_key: &world.hub_keys.public,
            endpoint: Some("192.0.2.1:51820"),
            allowed_ips: "10.88.0.1/32,fd88::1/128,10.240.16.0/20,fd24:16::/64",
            ..Peer::default()
        };
        let own = ["10.88.0.2/32", "fd88::2/128"];
        node.configure(&world.node_keys, 51821, &own, &[to_hub]);
        // Pings to a group would be packets that a case does not count.
        for host in [&world.node, &world.hub] {
            host.run("ip link set wg0 multicast off");
        }
        Self {
            world,
            _devices: [node, hub],
        }
    }
}

/// Waits until a ping passes.
#[track_caller]
pub fn wait_for_ping(host: &Host, to: &str) {
    wait_until(&format!("a ping to {to}"), || {
        host.succeeds(&format!("ping -c 1 -W 1 {to}"))
    });
}

/// A public key that nobody has the private key of.
pub fn stranger(host: &Host) -> String {
    Keys::generate(host).public
}

/// Writes a file that `wg` can read, and returns its path.
pub fn key_file(host: &Host, name: &str, content: &str) -> String {
    let file = host.folder("keys").join(name);
    std::fs::write(&file, content).expect("a file in memory");
    file.display().to_string()
}

/// Bytes received and sent of the first peer, as wg(8) tells.
pub fn transfer(host: &Host, interface: &str) -> (u64, u64) {
    let text = host.run(&format!("wg show {interface} transfer"));
    let mut numbers = text.split_whitespace().skip(1);
    let mut next = || numbers.next()?.parse().ok();
    next().zip(next()).expect("two numbers")
}
