//! A seedwire on one end of the tunnel and another program on the other.

use serde_json::json;

use crate::harness::client::{Client, serve_tcp};
use crate::harness::wireguard::{Device, Peer, Program, has_handshake};
use crate::harness::world::{World, key_file};
use crate::harness::{Host, Seedwire, wait_until};

/// The family of the packets that carry the tunnel.
#[derive(Clone, Copy, Debug)]
pub enum Outer {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Outer {
    /// Where the hub takes calls.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::V4 => "192.0.2.1:51820",
            Self::V6 => "[2001:db8::1]:51820",
        }
    }
}

/// The other program is the hub; seedwire calls it, with a preshared key.
pub fn seedwire_calls(program: Program, outer: Outer) {
    let world = World::new();
    world.hub.forward();
    let psk = world.hub.run("wg genpsk").trim().to_owned();
    let hub = Device::start(&world.hub, program, "wg0");
    let node = Peer {
        public_key: &world.node_keys.public,
        preshared_key: Some(&psk),
        allowed_ips: "10.88.0.2/32,fd88::2/128",
        ..Peer::default()
    };
    hub.configure(
        &world.hub_keys,
        51820,
        &["10.88.0.1/32", "fd88::1/128"],
        &[node],
    );
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["endpoint"] = outer.endpoint().into();
    config["tunnel"]["peers"][0]["presharedKeyFile"] = key_file(&world.node, "psk", &psk).into();
    let mut node = Seedwire::start_ready(&world.node, &config);
    carries_data(&world.node, &world.seed);
    assert!(has_handshake(&world.node, "seed0"));
    node.stop();
}

/// The other program calls a seedwire hub, with a preshared key.
pub fn seedwire_is_called(program: Program, outer: Outer) {
    let world = World::new();
    let psk = world.hub.run("wg genpsk").trim().to_owned();
    let mut config = world.hub_config();
    config["tunnel"]["peers"][0]["presharedKeyFile"] = key_file(&world.hub, "psk", &psk).into();
    let mut hub = Seedwire::start_ready(&world.hub, &config);
    let node = Device::start(&world.node, program, "wg0");
    let to_hub = Peer {
        public_key: &world.hub_keys.public,
        preshared_key: Some(&psk),
        endpoint: Some(outer.endpoint()),
        allowed_ips: "10.88.0.1/32,fd88::1/128,10.240.16.0/20,fd24:16::/64",
        keepalive: Some(5),
    };
    node.configure(
        &world.node_keys,
        0,
        &["10.88.0.2/32", "fd88::2/128"],
        &[to_hub],
    );
    carries_data(&world.node, &world.seed);
    hub.stop();
}

/// A wrong preshared key lets nothing through.
pub fn another_preshared_key_is_refused(program: Program) {
    let world = World::new();
    let hub = Device::start(&world.hub, program, "wg0");
    let psk = world.hub.run("wg genpsk").trim().to_owned();
    let node = Peer {
        public_key: &world.node_keys.public,
        preshared_key: Some(&psk),
        allowed_ips: "10.88.0.2/32",
        ..Peer::default()
    };
    hub.configure(&world.hub_keys, 51820, &["10.88.0.1/32"], &[node]);
    let mut config = world.node_config();
    let other = world.node.run("wg genpsk").trim().to_owned();
    config["tunnel"]["peers"][0]["presharedKeyFile"] = key_file(&world.node, "psk", &other).into();
    let node = Seedwire::start(&world.node, &config);
    wait_until("the peer to be down", || {
        node.get("/readyz")
            .is_some_and(|ready| ready.status == 503 && ready.body.contains("seed"))
    });
    assert!(!world.node.succeeds("ping -c 1 -W 1 10.88.0.1"));
    // The same without a restart, once the keys agree.
    let config = {
        let mut config = config;
        config["tunnel"]["peers"][0]["presharedKeyFile"] =
            json!(key_file(&world.node, "psk2", &psk));
        config
    };
    node.write_config(&config);
    wait_until("a ping through the tunnel", || {
        world.node.succeeds("ping -c 1 -W 1 10.88.0.1")
    });
}

/// Small and large packets both ways, IPv4 and IPv6.
pub fn carries_data(node: &Host, seed: &Host) {
    serve_tcp(seed, "10.240.16.10:3100");
    serve_tcp(seed, "[fd24:16::10]:3100");
    wait_until("a ping through the tunnel", || {
        node.succeeds("ping -c 1 -W 1 10.240.16.10")
    });
    node.run("ping -c 3 -i 0.2 -W 5 fd24:16::10");
    // As large as a packet of the tunnel is, and larger: in fragments.
    node.run("ping -c 3 -i 0.2 -W 5 -M do -s 1372 10.240.16.10");
    node.run("ping -c 3 -i 0.2 -W 5 -s 4000 10.240.16.10");
    for (address, seen_as) in [
        ("10.240.16.10:3100", "10.88.0.2"),
        ("[fd24:16::10]:3100", "fd88::2"),
    ] {
        let mut client = Client::connect(node, address).expect("a connection");
        assert_eq!(client.seen_as, seen_as);
        client.exchange(2_000_000).expect("data comes back");
    }
}
