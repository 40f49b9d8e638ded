//! A changed configuration, without an interruption of what stays.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::dns::{LOKI, Names};
use crate::harness::client::{Client, serve_tcp};
use crate::harness::dns::{ask, unbound};
use crate::harness::wireguard::{Keys, last_handshake};
use crate::harness::world::{World, key_file};
use crate::harness::{Seedwire, wait_until};

pub fn a_reload_keeps_what_stays() {
    let names = Names::new();
    let world = &names.world;
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut config = names.node_config();
    config["ports"] = json!([{"listen": "127.0.0.1:3100", "to": "10.240.16.10:3100"}]);
    let mut node = Seedwire::start_ready(&world.node, &config);
    let mut tunnelled = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    let mut relayed = Client::connect(&world.node, "127.0.0.1:3100").expect("a connection");
    tunnelled.exchange(1000).expect("data comes back");
    relayed.exchange(1000).expect("data comes back");
    assert_eq!(
        ask(&world.node, &format!("@127.0.0.1 {LOKI} AAAA")).data,
        ["fd24:16::5"]
    );
    let handshake = last_handshake(&world.node, "seed0");
    let mut stays = |what: &str| {
        tunnelled
            .exchange(10_000)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        relayed
            .exchange(10_000)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    };

    let other = Keys::generate(&world.node);
    config["tunnel"]["peers"]
        .as_array_mut()
        .expect("a list")
        .push(json!({
            "name": "second", "publicKey": other.public, "allowedIPs": ["10.66.0.0/16"],
        }));
    node.write_config(&config);
    wait_until("the new peer", || {
        world
            .node
            .run("wg show seed0 peers")
            .contains(&other.public)
    });
    stays("a new peer");
    wait_until("its route", || {
        world.node.run("ip route").contains("10.66.0.0/16")
    });
    stays("its route");

    config["tunnel"]["peers"][0]["allowedIPs"]
        .as_array_mut()
        .expect("a list")
        .push("10.67.0.0/16".into());
    config["tunnel"]["peers"]
        .as_array_mut()
        .expect("a list")
        .pop();
    node.write_config(&config);
    wait_until("a new route", || {
        world.node.run("ip route").contains("10.67.0.0/16")
    });
    wait_until("an old route's end", || {
        !world.node.run("ip route").contains("10.66.0.0/16")
    });
    assert!(
        !world
            .node
            .run("wg show seed0 peers")
            .contains(&other.public)
    );
    stays("a new route");

    world.seed.run("ip addr add 10.240.16.11/20 dev inside");
    let _monitoring = unbound(
        &world.seed,
        "10.240.16.11",
        &["local-data: \"prometheus.monitoring.svc.cluster.local. A 10.240.20.6\""],
    );
    config["dns"]["zones"]
        .as_array_mut()
        .expect("a list")
        .push(json!({
            "zone": "monitoring.svc.cluster.local", "upstreams": ["10.240.16.11:53"],
        }));
    node.write_config(&config);
    wait_until("the new zone", || {
        ask(
            &world.node,
            "@127.0.0.1 prometheus.monitoring.svc.cluster.local",
        )
        .data
            == ["10.240.20.6"]
    });
    stays("a new zone");
    assert_eq!(
        ask(&world.node, &format!("@127.0.0.1 {LOKI} AAAA")).data,
        ["fd24:16::5"]
    );
    assert_eq!(
        last_handshake(&world.node, "seed0"),
        handshake,
        "the session stays"
    );
    node.wait_until_ready();
    node.stop();
}

pub fn ports_that_go_with_dns_leave_status() {
    let names = Names::new();
    let mut config = names.node_config();
    config["ports"] = json!([{"listen": "127.0.0.1:3100", "to": "10.240.16.10:3100"}]);
    let mut node = Seedwire::start_ready(&names.world.node, &config);
    assert_eq!(node.status()["ports"][0]["listen"], "127.0.0.1:3100");
    let sections = config.as_object_mut().expect("a mapping");
    sections.remove("ports");
    sections.remove("dns");
    node.write_config(&config);
    wait_until("the reload", || node.status()["config"]["reloads"] == 1);
    let status = node.status();
    assert_eq!(status["ports"], json!([]));
    assert_eq!(status["dns"], Value::Null);
    node.stop();
}

pub fn a_bad_file_keeps_the_old_state() {
    let names = Names::new();
    let world = &names.world;
    let config = names.node_config();
    let mut node = Seedwire::start_ready(&world.node, &config);
    let success = || node.metric("seedwire_config_last_reload_successful");
    assert_eq!(success(), Some(1.0));
    for bad in [
        "tunnel: [",
        "tunnel: {interface: \"a/b\"}",
        "tunnel:\n  unknown: 1\n",
    ] {
        node.write_text(bad);
        wait_until(&format!("{bad:?} to be refused"), || success() == Some(0.0));
        world.node.run("ping -c 1 -W 5 10.88.0.1");
        assert_eq!(
            ask(&world.node, &format!("@127.0.0.1 {LOKI} A")).data,
            ["10.240.20.5"]
        );
        node.write_config(&config);
        wait_until("the good file", || success() == Some(1.0));
    }
    assert!(
        node.log().contains("a/b"),
        "the log says why: {}",
        node.log()
    );
    node.wait_until_ready();
    node.stop();
}

pub fn sighup_reloads() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    let mut node = Seedwire::start_ready(&world.node, &config);
    config["network"] = json!({"dnat": [
        {"protocol": "tcp", "address": "10.96.77.7", "port": 80, "to": "10.240.16.10:3100"},
    ]});
    node.write_config(&config);
    node.process().signal(Signal::SIGHUP);
    wait_until("the DNAT", || {
        world.node.run("nft list ruleset").contains("10.96.77.7")
    });
    assert!(node.process().is_running());
    node.stop();
}

/// A folder as the kubelet makes it of a ConfigMap or a Secret: files are links through `..data`.
struct Mounted {
    folder: PathBuf,
    versions: std::cell::Cell<u32>,
}

impl Mounted {
    fn new(folder: PathBuf, file: &str, content: &str) -> Self {
        let versions = std::cell::Cell::new(0);
        let mounted = Self { folder, versions };
        mounted.swap(file, content);
        symlink(Path::new("..data").join(file), mounted.folder.join(file)).expect("a link");
        mounted
    }

    /// Writes a new version and points `..data` to it in one step, then removes the old one.
    fn swap(&self, file: &str, content: &str) {
        use std::os::unix::fs::PermissionsExt;
        let version = self.versions.get() + 1;
        self.versions.set(version);
        let name = format!("..2026_11_21_{version}");
        let path = self.folder.join(&name);
        std::fs::create_dir(&path).expect("a folder in memory");
        std::fs::write(path.join(file), content).expect("a file in memory");
        let private = std::fs::Permissions::from_mode(0o400);
        std::fs::set_permissions(path.join(file), private).expect("own file");
        symlink(&name, self.folder.join("..data_tmp")).expect("a link");
        std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))
            .expect("a link");
        if version > 1 {
            let old = self.folder.join(format!("..2026_11_21_{}", version - 1));
            std::fs::remove_dir_all(old).expect("a folder in memory");
        }
    }
}

/// The node's identity moves to new keys and a new hub, in two mounts that change a while apart.
fn swaps(key_first: bool) {
    let world = World::new();
    let new_node = Keys::generate(&world.node);
    let mut hub = world.hub_config();
    hub["tunnel"]["peers"]
        .as_array_mut()
        .expect("a list")
        .push(json!({
            "name": "new", "publicKey": new_node.public, "allowedIPs": ["10.88.0.3/32"],
        }));
    let _hub = Seedwire::start_ready(&world.hub, &hub);
    let keys = Mounted::new(
        world.node.folder("secret"),
        "private.key",
        &world.node_keys.private,
    );
    let mut config = world.node_config();
    config["tunnel"]["privateKeyFile"] =
        keys.folder.join("private.key").display().to_string().into();
    let write = |config: &Value| serde_json::to_string_pretty(config).expect("JSON");
    let configs = Mounted::new(
        world.node.folder("config"),
        "seedwire.yaml",
        &write(&config),
    );
    let mut node = Seedwire::start_file(&world.node, &configs.folder.join("seedwire.yaml"));
    node.wait_until_ready();
    world.node.run("ping -c 1 -W 5 10.88.0.1");

    config["tunnel"]["addresses"] = json!(["10.88.0.3/32"]);
    config["tunnel"]["peers"][0]["allowedIPs"] = json!(["10.88.0.1/32", "10.240.16.0/20"]);
    let swap_key = || {
        keys.swap("private.key", &new_node.private);
        wait_until("the new key", || {
            world.node.run("wg show seed0 public-key").trim() == new_node.public
        });
    };
    let swap_config = || {
        configs.swap("seedwire.yaml", &write(&config));
        wait_until("the new address", || {
            world
                .node
                .run("ip addr show dev seed0")
                .contains("10.88.0.3/32")
        });
    };
    if key_first {
        swap_key();
        swap_config();
    } else {
        swap_config();
        swap_key();
    }
    wait_until("a ping with the new identity", || {
        world.node.succeeds("ping -c 1 -W 1 -I 10.88.0.3 10.88.0.1")
    });
    assert!(
        !world
            .node
            .run("ip addr show dev seed0")
            .contains("10.88.0.2")
    );
    node.wait_until_ready();
    node.stop();
}

pub fn a_swap_of_the_key_then_of_the_configuration() {
    swaps(true);
}

pub fn a_swap_of_the_configuration_then_of_the_key() {
    swaps(false);
}

pub fn a_key_that_is_missing_for_a_while_keeps_the_old_state() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    let mut node = Seedwire::start_ready(&world.node, &config);
    let file = world.node.folder("keys").join("later.psk");
    config["tunnel"]["peers"][0]["presharedKeyFile"] = file.display().to_string().into();
    node.write_config(&config);
    wait_until("the set to be refused", || {
        node.metric("seedwire_config_last_reload_successful") == Some(0.0)
    });
    world.node.run("ping -c 1 -W 5 10.88.0.1");
    let psk = world.node.run("wg genpsk").trim().to_owned();
    key_file(&world.node, "later.psk", &psk);
    wait_until("the set to be taken", || {
        node.metric("seedwire_config_last_reload_successful") == Some(1.0)
    });
    assert!(
        world
            .node
            .run("wg show seed0 preshared-keys")
            .contains(&psk)
    );
    node.stop();
}
