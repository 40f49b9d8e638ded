//! wg(8) over the UAPI socket, of `seedwire device` and of `seedwire run`.

use crate::harness::wireguard::Program::{DistributionWireguardGo, SeedwireDevice};
use crate::harness::wireguard::{Device, Keys, Peer, setconf};
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, sandbox, wait_until};
use crate::scenarios::uapi::device_reaches;

pub fn device_reaches_wireguard_go() {
    device_reaches(DistributionWireguardGo);
}

pub fn device_reaches_itself() {
    device_reaches(SeedwireDevice);
}

pub fn device_goes_to_the_background_once_it_can_be_configured() {
    let host = Host::new("alone");
    host.run(&format!("{} device wg7", sandbox::seedwire()));
    // Without any wait: it returned.
    host.run("ip link show dev wg7");
    host.run("wg set wg7 listen-port 12345");
    assert_eq!(host.run("wg show wg7 listen-port").trim(), "12345");
    host.run("rm /run/wireguard/wg7.sock");
    wait_until("the device to end with its socket", || {
        !host.succeeds("ip link show dev wg7")
    });
}

pub fn device_ends_with_its_interface() {
    let host = Host::new("alone");
    let mut device = Device::start(&host, SeedwireDevice, "wg0");
    host.run("ip link delete wg0");
    device.process().wait();
    assert!(!host.succeeds("test -e /run/wireguard/wg0.sock"));
}

pub fn set_and_show_agree() {
    let host = Host::new("alone");
    let _device = Device::start(&host, SeedwireDevice, "wg0");
    let [own, a, b] = [(); 3].map(|()| Keys::generate(&host));
    let key = host.folder("keys").join("own");
    std::fs::write(&key, &own.private).expect("a file in memory");
    let psk = host.run("wg genpsk").trim().to_owned();
    let psk_file = host.folder("keys").join("psk");
    std::fs::write(&psk_file, &psk).expect("a file in memory");
    host.run(&format!(
        "wg set wg0 private-key {} listen-port 51999 fwmark 0x1234",
        key.display()
    ));
    assert_eq!(host.run("wg show wg0 public-key").trim(), own.public);
    assert_eq!(host.run("wg show wg0 private-key").trim(), own.private);
    assert_eq!(host.run("wg show wg0 listen-port").trim(), "51999");
    assert_eq!(host.run("wg show wg0 fwmark").trim(), "0x1234");
    host.run(&format!(
        "wg set wg0 peer {} preshared-key {} endpoint 192.0.2.9:1000 persistent-keepalive 7 \
         allowed-ips 10.1.0.0/16,fd01::/64",
        a.public,
        psk_file.display()
    ));
    let dump = host.run("wg show wg0 dump");
    let peer: Vec<&str> = dump.lines().nth(1).expect("a peer").split('\t').collect();
    assert_eq!(
        (peer[0], peer[1], peer[2]),
        (a.public.as_str(), psk.as_str(), "192.0.2.9:1000")
    );
    assert_eq!(
        (peer[4], peer[7]),
        ("0", "7"),
        "no handshake, and the keepalive"
    );
    assert_eq!(allowed_ips(&host, &a), ["10.1.0.0/16", "fd01::/64"]);
    // The identical prefix moves to the peer that was given it last.
    host.run(&format!(
        "wg set wg0 peer {} allowed-ips 10.1.0.0/16,10.2.0.0/16",
        b.public
    ));
    assert_eq!(allowed_ips(&host, &a), ["fd01::/64"]);
    assert_eq!(allowed_ips(&host, &b), ["10.1.0.0/16", "10.2.0.0/16"]);
    host.run(&format!("wg set wg0 peer {} remove", a.public));
    assert_eq!(host.run("wg show wg0 peers").trim(), b.public);
    host.run(&format!(
        "wg set wg0 peer {} preshared-key /dev/null persistent-keepalive off",
        b.public
    ));
    assert_eq!(
        host.run("wg show wg0 preshared-keys").trim(),
        format!("{}\t(none)", b.public)
    );
}

/// The prefixes of a peer, in order.
fn allowed_ips(host: &Host, peer: &Keys) -> Vec<String> {
    let all = host.run("wg show wg0 allowed-ips");
    let line = all.lines().find_map(|line| line.strip_prefix(&peer.public));
    let prefixes = line.expect("the peer").split_whitespace();
    let mut prefixes: Vec<String> = prefixes.map(str::to_owned).collect();
    prefixes.sort();
    prefixes
}

pub fn showconf_setconf_and_syncconf_agree() {
    let world = World::new();
    let host = &world.node;
    let _device = Device::start(host, SeedwireDevice, "wg0");
    let other = Keys::generate(host);
    let peer = |key, allowed_ips| Peer {
        public_key: key,
        endpoint: Some("192.0.2.1:51820"),
        allowed_ips,
        keepalive: Some(25),
        ..Peer::default()
    };
    let file = host.folder("keys").join("wg0.conf");
    let load = |command: &str, peers: &[Peer]| {
        std::fs::write(&file, setconf(&world.node_keys, 51999, peers)).expect("a file in memory");
        host.run(&format!("wg {command} wg0 {}", file.display()));
    };
    let many: Vec<String> = (0..50).map(|n| format!("10.{n}.0.0/16")).collect();
    let (hub, many) = (world.hub_keys.public.as_str(), many.join(","));
    load(
        "setconf",
        &[peer(hub, &many), peer(&other.public, "10.99.0.0/16")],
    );
    let shown = host.run("wg showconf wg0");
    std::fs::write(&file, &shown).expect("a file in memory");
    host.run(&format!("wg setconf wg0 {}", file.display()));
    assert_eq!(host.run("wg showconf wg0"), shown);
    assert_eq!(host.run("wg show wg0 peers").lines().count(), 2);

    // syncconf leaves the session of a peer that stays.
    let hub_device = Device::start(&world.hub, DistributionWireguardGo, "wg0");
    let to_node = Peer {
        public_key: &world.node_keys.public,
        allowed_ips: "10.88.0.2/32",
        ..Peer::default()
    };
    hub_device.configure(&world.hub_keys, 51820, &["10.88.0.1/32"], &[to_node]);
    load(
        "setconf",
        &[
            peer(hub, "10.88.0.1/32"),
            peer(&other.public, "10.99.0.0/16"),
        ],
    );
    host.run("ip addr add 10.88.0.2/32 dev wg0");
    host.run("ip link set wg0 up");
    host.run("ip route add 10.88.0.1/32 dev wg0");
    host.run("ping -c 1 -W 10 10.88.0.1");
    let handshakes = |host: &Host| host.run("wg show wg0 latest-handshakes");
    let before = handshakes(host);
    load("syncconf", &[peer(hub, "10.88.0.1/32,10.98.0.0/16")]);
    assert!(
        before.contains(handshakes(host).trim()),
        "the session stays"
    );
    assert_eq!(host.run("wg show wg0 peers").trim(), hub);
    host.run("ping -c 1 -W 10 10.88.0.1");
}

pub fn what_wg_set_changed_in_a_daemon_lasts_until_the_next_reload() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let config = world.node_config();
    let node = Seedwire::start_ready(&world.node, &config);
    let hub = &world.hub_keys.public;
    world
        .node
        .run(&format!("wg set seed0 peer {hub} persistent-keepalive 3"));
    let keepalive = || world.node.run("wg show seed0 persistent-keepalive");
    assert_eq!(keepalive().trim(), format!("{hub}\t3"));
    let mut changed = config.clone();
    changed["tunnel"]["peers"][0]["allowedIPs"]
        .as_array_mut()
        .expect("a list")
        .push("10.77.0.0/16".into());
    node.write_config(&changed);
    wait_until("the reload", || {
        world
            .node
            .run("wg show seed0 allowed-ips")
            .contains("10.77.0.0/16")
    });
    assert_eq!(keepalive().trim(), format!("{hub}\t25"));
}
