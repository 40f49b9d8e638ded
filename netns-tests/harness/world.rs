//! The network most cases stand in: a node of a user cluster, a hub, and the seed behind the hub.
//!
//! ```text
//! node 192.0.2.2 ---------------- 192.0.2.1 hub 10.240.16.1 ---------------- 10.240.16.10 seed
//!      2001:db8::2            2001:db8::1       fd24:16::1                   fd24:16::10
//!      10.88.0.2, fd88::2 ====== tunnel ======= 10.88.0.1, fd88::1
//! ```
//!
//! The node has no default route. The seed has a route back to the tunnel's addresses.

use serde_json::{Value, json};

use super::seedwire::HTTP;
use super::wireguard::Keys;
use super::{Host, link};

/// Three hosts and two pairs of keys.
pub struct World {
    /// Where the log agents run.
    pub node: Host,
    /// The far end of the tunnel.
    pub hub: Host,
    /// Where Loki and the control plane's DNS run.
    pub seed: Host,
    /// The node's keys.
    pub node_keys: Keys,
    /// The hub's keys.
    pub hub_keys: Keys,
}

impl World {
    /// Makes the hosts and their cables.
    pub fn new() -> Self {
        let world = Self::without_return_route();
        world.seed.run("ip route add 10.88.0.0/24 via 10.240.16.1");
        world.seed.run("ip route add fd88::/64 via fd24:16::1");
        world
    }

    /// The same, with a seed that knows nothing of the tunnel's addresses.
    pub fn without_return_route() -> Self {
        let [node, hub] = ["node", "hub"].map(Host::new);
        link(
            (&node, "uplink", &["192.0.2.2/24", "2001:db8::2/64"]),
            (&hub, "uplink", &["192.0.2.1/24", "2001:db8::1/64"]),
        );
        Self::around(node, hub)
    }

    /// The same with a router between node and hub, which its interfaces `near` and `far` lead to.
    /// The hub is at 198.51.100.1 and 2001:db8:1::1; node and hub have default routes.
    pub fn across_router() -> (Self, Host) {
        let [node, router, hub] = ["node", "router", "hub"].map(Host::new);
        link(
            (&node, "uplink", &["192.0.2.2/24", "2001:db8::2/64"]),
            (&router, "near", &["192.0.2.254/24", "2001:db8::fe/64"]),
        );
        link(
            (&hub, "uplink", &["198.51.100.1/24", "2001:db8:1::1/64"]),
            (&router, "far", &["198.51.100.254/24", "2001:db8:1::fe/64"]),
        );
        router.forward();
        node.run("ip route add default via 192.0.2.254");
        node.run("ip route add default via 2001:db8::fe");
        hub.run("ip route add default via 198.51.100.254");
        hub.run("ip route add default via 2001:db8:1::fe");
        let world = Self::around(node, hub);
        world.seed.run("ip route add 10.88.0.0/24 via 10.240.16.1");
        world.seed.run("ip route add fd88::/64 via fd24:16::1");
        (world, router)
    }

    /// The seed behind a hub, and the keys.
    fn around(node: Host, hub: Host) -> Self {
        let seed = Host::new("seed");
        link(
            (&hub, "inside", &["10.240.16.1/20", "fd24:16::1/64"]),
            (&seed, "inside", &["10.240.16.10/20", "fd24:16::10/64"]),
        );
        let node_keys = Keys::generate(&node);
        let hub_keys = Keys::generate(&hub);
        Self {
            node,
            hub,
            seed,
            node_keys,
            hub_keys,
        }
    }

    /// The node's configuration: a tunnel to the hub that leads to the seed's networks.
    pub fn node_config(&self) -> Value {
        json!({
            "tunnel": {
                "interface": "seed0",
                "backend": "userspace",
                "privateKeyFile": key_file(&self.node, "node.key", &self.node_keys.private),
                "addresses": ["10.88.0.2/32", "fd88::2/128"],
                "peers": [{
                    "name": "seed",
                    "publicKey": self.hub_keys.public,
                    "endpoint": "192.0.2.1:51820",
                    "allowedIPs": ["10.88.0.1/32", "fd88::1/128", "10.240.16.0/20", "fd24:16::/64"],
                }],
            },
            "control": {"http": HTTP},
        })
    }

    /// The hub's configuration: it takes the node's calls and forwards into the seed.
    pub fn hub_config(&self) -> Value {
        json!({
            "tunnel": {
                "interface": "hub0",
                "backend": "userspace",
                "privateKeyFile": key_file(&self.hub, "hub.key", &self.hub_keys.private),
                "addresses": ["10.88.0.1/32", "fd88::1/128"],
                "listenPort": 51820,
                "peers": [{
                    "name": "node",
                    "publicKey": self.node_keys.public,
                    "allowedIPs": ["10.88.0.2/32", "fd88::2/128"],
                }],
            },
            "network": {"forward": true},
            "control": {"http": HTTP},
        })
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a secret where only its host's root can read it, and returns the path.
pub fn key_file(host: &Host, name: &str, key: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let file = host.folder("keys").join(name);
    std::fs::write(&file, key).expect("a file in memory");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("own file");
    file.display().to_string()
}
