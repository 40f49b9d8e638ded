//! `seedwire device` under wg(8), held to what the kernel's own device does.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use super::pair::{Pair, key_file, stranger, transfer, wait_for_ping};
use crate::harness::client::{Client, serve_tcp};
use crate::harness::wireguard::Program::{DistributionWireguardGo, SeedwireDevice};
use crate::harness::wireguard::{Device, Keys, last_handshake};
use crate::harness::{Host, wait_until};

/// The messages of a handshake, and what sealing adds (the WireGuard paper, 5.4).
const INITIATION: u64 = 148;
const RESPONSE: u64 = 92;
const SEALED: u64 = 32;

fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// Ten pings of either family, counted on both ends and computed.
fn every_byte_is_counted(pair: &Pair) {
    let (node, hub) = (&pair.world.node, &pair.world.hub);
    let before = seconds();
    node.run("ping -c 10 -i 0.1 -W 10 10.88.0.1");
    node.run("ping -c 10 -i 0.1 -W 10 fd88::1");
    // 84 and 104 bytes, padded to a multiple of 16.
    let data = 10 * (96 + SEALED) + 10 * (112 + SEALED);
    let (received, sent) = transfer(node, "wg0");
    assert_eq!(received, RESPONSE + data);
    // An end may confirm the session before it sends what waits.
    let confirmed = [INITIATION + data, INITIATION + SEALED + data];
    assert!(confirmed.contains(&sent), "{sent} is none of {confirmed:?}");
    assert_eq!(transfer(hub, "wg0"), (sent, received), "the other end");
    for host in [node, hub] {
        let at = last_handshake(host, "wg0");
        assert!(
            (before..=seconds()).contains(&at),
            "{at} on {}",
            host.name()
        );
    }
}

pub fn every_byte_is_counted_between_two() {
    every_byte_is_counted(&Pair::new(SeedwireDevice));
}

pub fn every_byte_is_counted_with_wireguard_go() {
    every_byte_is_counted(&Pair::new(DistributionWireguardGo));
}

pub fn a_packet_is_padded_up_to_the_mtu_of_the_link() {
    let pair = Pair::new(SeedwireDevice);
    let node = &pair.world.node;
    wait_for_ping(node, "10.88.0.1");
    node.run("ip link set wg0 mtu 1299");
    // A packet of 1297 bytes becomes one of 1299; the next multiple of 16 would be 1312.
    wait_until("the MTU to be seen", || {
        let before = transfer(node, "wg0").1;
        node.run("ping -c 1 -W 10 -s 1269 10.88.0.1");
        transfer(node, "wg0").1 - before == 1299 + SEALED
    });
}

pub fn many_connections_at_once_carry_data() {
    let pair = Pair::new(SeedwireDevice);
    let (node, hub) = (&pair.world.node, &pair.world.hub);
    serve_tcp(hub, "10.88.0.1:3100");
    serve_tcp(hub, "[fd88::1]:3100");
    wait_for_ping(node, "10.88.0.1");
    for mtu in [1420, 34720] {
        for host in [node, hub] {
            host.run(&format!("ip link set wg0 mtu {mtu}"));
        }
        for (connections, length) in [(4, 2_000_000), (5, 2_000_000), (50, 200_000)] {
            std::thread::scope(|scope| {
                for n in 0..connections {
                    let to = ["10.88.0.1:3100", "[fd88::1]:3100"][n % 2];
                    scope.spawn(move || {
                        let mut client = Client::connect(node, to).expect("a connection");
                        client.exchange(length).expect("data comes back");
                    });
                }
            });
        }
    }
}

pub fn a_private_key_changes_under_traffic() {
    let pair = Pair::new(SeedwireDevice);
    let (node, hub) = (&pair.world.node, &pair.world.hub);
    serve_tcp(hub, "10.88.0.1:3100");
    let mut client = Client::connect(node, "10.88.0.1:3100").expect("a connection");
    let mut old = pair.world.node_keys.public.clone();
    for _ in 0..3 {
        client.exchange(500_000).expect("data comes back");
        let keys = Keys::generate(node);
        // The hub first, so that the first handshake with the new key is answered.
        hub.run(&format!(
            "wg set wg0 peer {} allowed-ips 10.88.0.2/32,fd88::2/128 peer {old} remove",
            keys.public
        ));
        let file = key_file(node, "new", &keys.private);
        node.run(&format!("wg set wg0 private-key {file}"));
        client
            .exchange(500_000)
            .expect("data comes back over the same connection");
        assert_eq!(hub.run("wg show wg0 peers").trim(), keys.public);
        old = keys.public;
    }
}

/// The prefixes of a peer, in order.
fn allowed_ips(host: &Host, peer: &str) -> Vec<String> {
    let all = host.run("wg show wg0 allowed-ips");
    let line = all.lines().find_map(|line| line.strip_prefix(peer));
    let prefixes = line.expect("the peer").split_whitespace();
    let mut prefixes: Vec<String> = prefixes.map(str::to_owned).collect();
    prefixes.sort();
    prefixes
}

pub fn a_device_is_no_peer_of_itself() {
    let host = Host::new("alone");
    let _device = Device::start(&host, SeedwireDevice, "wg0");
    let [own, other] = [(); 2].map(|()| Keys::generate(&host));
    let file = key_file(&host, "own", &own.private);
    let peers = || host.run("wg show wg0 peers").trim().to_owned();
    host.run(&format!("wg set wg0 private-key {file}"));
    host.run(&format!(
        "wg set wg0 peer {} allowed-ips 10.0.0.0/8",
        own.public
    ));
    assert_eq!(peers(), "");
    // A peer whose key becomes our own goes, and leaves its prefixes to others.
    host.run(&format!(
        "wg set wg0 peer {} allowed-ips 10.0.0.0/8",
        other.public
    ));
    assert_eq!(peers(), other.public);
    let file = key_file(&host, "other", &other.private);
    host.run(&format!("wg set wg0 private-key {file}"));
    assert_eq!(peers(), "");
    host.run(&format!(
        "wg set wg0 peer {} allowed-ips 10.0.0.0/8",
        own.public
    ));
    assert_eq!(allowed_ips(&host, &own.public), ["10.0.0.0/8"]);
}

pub fn keys_are_clamped_and_cleared() {
    let pair = Pair::new(SeedwireDevice);
    let (node, hub) = (&pair.world.node, &pair.world.hub.clone());
    wait_for_ping(node, "10.88.0.1");
    let peer = &pair.world.hub_keys.public;
    let psk = key_file(node, "psk", node.run("wg genpsk").trim());
    node.run(&format!(
        "wg set wg0 private-key /dev/null peer {peer} preshared-key {psk}"
    ));
    assert_eq!(node.run("wg show wg0 private-key").trim(), "(none)");
    assert!(!node.succeeds("ping -c 1 -W 1 10.88.0.1"), "without a key");
    let own = &pair.world.node_keys.private;
    // The lowest bits of the first byte never count: the first letter is shown as a multiple of 8.
    for first in ["/", "3"] {
        let unclamped = key_file(node, "own", &format!("{first}{}", &own[1..]));
        node.run(&format!("wg set wg0 private-key {unclamped}"));
        let shown = node.run("wg show wg0 private-key");
        assert_ne!(shown[..1], *first);
        assert_eq!(shown.trim()[1..], own[1..]);
    }
    let own = key_file(node, "own", own);
    node.run(&format!("wg set wg0 private-key {own}"));
    assert!(
        !node.succeeds("ping -c 1 -W 1 10.88.0.1"),
        "with another preshared key"
    );
    node.run(&format!("wg set wg0 peer {peer} preshared-key /dev/null"));
    assert_eq!(
        node.run("wg show wg0 preshared-keys").trim(),
        format!("{peer}\t(none)")
    );
    wait_for_ping(node, "10.88.0.1");
    wait_for_ping(hub, "10.88.0.2");
}

pub fn prefixes_overlap_and_move() {
    let pair = Pair::new(SeedwireDevice);
    let (node, hub) = (&pair.world.node, &pair.world.hub);
    let (to_hub, other) = (&pair.world.hub_keys.public, stranger(node));
    let set = |peer: &str, prefixes: &str| {
        node.run(&format!("wg set wg0 peer {peer} allowed-ips {prefixes}"));
    };
    let passes = || node.succeeds("ping -c 1 -W 1 10.88.0.1");
    set(
        to_hub,
        "0.0.0.0/0,10.0.0.0/8,100.0.0.0/10,172.16.0.0/12,192.168.0.0/16",
    );
    wait_for_ping(node, "10.88.0.1");
    // The longest prefix wins, for what is sent and for what comes.
    set(&other, "10.88.0.0/24");
    assert!(!passes(), "stolen by a longer prefix");
    assert!(
        !hub.succeeds("ping -c 1 -W 1 10.88.0.2"),
        "its source is another peer's"
    );
    // A list takes the place of the one before.
    set(to_hub, "0.0.0.0/0");
    assert_eq!(allowed_ips(node, to_hub), ["0.0.0.0/0"]);
    assert!(!passes());
    set(to_hub, "0.0.0.0/0,10.88.0.0/24");
    assert_eq!(
        node.run("wg show wg0 allowed-ips")
            .matches("10.88.0.0/24")
            .count(),
        1
    );
    assert!(passes(), "the identical prefix moves to the last");
    set(
        &other,
        "10.88.0.1/32,::/0,1700::/111,5000::/4,e000::/37,9000::/75",
    );
    assert!(!passes());
    set(&other, "::/0");
    assert_eq!(allowed_ips(node, &other), ["::/0"]);
    assert!(passes(), "taken back");
    set(&other, "10.88.0.1/32");
    assert!(!passes());
    node.run(&format!("wg set wg0 peer {other} remove"));
    assert!(passes(), "the peer with the longer prefix is gone");
}

pub fn a_prefix_is_taken_with_a_minus() {
    let host = Host::new("alone");
    let _device = Device::start(&host, SeedwireDevice, "wg0");
    let peer = stranger(&host);
    host.run(&format!(
        "wg set wg0 peer {peer} allowed-ips 10.1.0.0/16,10.2.0.0/16,fd01::/64"
    ));
    // The wg(8) of many distributions does not know it yet: as a newer one writes it.
    let hex = host.run_args(&[
        "sh",
        "-c",
        &format!("echo {peer} | base64 -d | od -An -v -tx1"),
    ]);
    let hex: String = hex.split_whitespace().collect();
    let request = |prefix: &str| {
        let socket = host.inside(|| UnixStream::connect("/run/wireguard/wg0.sock"));
        let mut socket = socket.expect("the device listens");
        let text = format!("set=1\npublic_key={hex}\nupdate_only=true\nallowed_ip={prefix}\n\n");
        socket.write_all(text.as_bytes()).expect("it is read");
        let mut answer = String::new();
        BufReader::new(socket)
            .read_line(&mut answer)
            .expect("an answer");
        answer
    };
    assert_eq!(request("-10.1.0.0/16"), "errno=0\n");
    assert_eq!(allowed_ips(&host, &peer), ["10.2.0.0/16", "fd01::/64"]);
    assert_eq!(request("-10.2.0.0/24"), "errno=0\n");
    assert_eq!(request("-fd01::/64"), "errno=0\n");
    assert_eq!(request("10.3.0.0/16"), "errno=0\n");
    assert_eq!(allowed_ips(&host, &peer), ["10.2.0.0/16", "10.3.0.0/16"]);
}

pub fn as_many_prefixes_as_a_list_holds_are_kept() {
    let host = Host::new("alone");
    let _device = Device::start(&host, SeedwireDevice, "wg0");
    let peers: Vec<String> = (0..40).map(|_| stranger(&host)).collect();
    let load = |peers: &[(&str, String)]| {
        let own = Keys::generate(&host).private;
        let mut text = format!("[Interface]\nPrivateKey = {own}\n");
        for (key, prefixes) in peers {
            text += &format!("[Peer]\nPublicKey = {key}\n{prefixes}");
        }
        host.run(&format!(
            "wg setconf wg0 {}",
            key_file(&host, "wg0.conf", &text)
        ));
        let shown = host.run("wg show wg0 allowed-ips");
        let count = |line: &str| {
            line.split_whitespace()
                .skip(1)
                .filter(|p| *p != "(none)")
                .count()
        };
        shown.lines().map(count).collect::<Vec<_>>()
    };
    let all = (1..=255).flat_map(|a| (0..=255).map(move |b| (a, b)));
    let all: String = all
        .map(|(a, b)| format!("AllowedIPs = {a}.{b}.0.0/16, {a}::{b}/128\n"))
        .collect();
    assert_eq!(load(&[(&peers[0], all)]), [255 * 256 * 2]);
    let some = |a: usize| {
        (1..=52)
            .map(|b| format!("AllowedIPs = {a}.{b}.0.0/16\n"))
            .collect()
    };
    let many: Vec<_> = (0..40).map(|a| (peers[a].as_str(), some(a + 1))).collect();
    assert_eq!(load(&many), [52; 40]);
    let none: Vec<_> = (0..30)
        .map(|n| (peers[n].as_str(), String::new()))
        .collect();
    assert_eq!(load(&none), [0; 30]);
}

pub fn nothing_is_sent_to_a_key_of_low_order() {
    /// The points of small order, as <https://cr.yp.to/ecdh.html> lists them.
    const LOW_ORDER: [&str; 7] = [
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
        "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
        "7P///////////////////////////////////////38=",
        "7f///////////////////////////////////////38=",
        "7v///////////////////////////////////////38=",
    ];
    let host = Host::new("alone");
    let _device = Device::start(&host, SeedwireDevice, "wg0");
    let own = key_file(&host, "own", &Keys::generate(&host).private);
    host.run(&format!("wg set wg0 private-key {own}"));
    host.run("ip link set wg0 up");
    let [silent, heard] = ["127.0.0.1:1111", "127.0.0.1:1112"].map(|at| host.udp(at));
    for key in LOW_ORDER {
        host.run(&format!(
            "wg set wg0 peer {key} persistent-keepalive 1 endpoint 127.0.0.1:1111"
        ));
    }
    let honest = stranger(&host);
    host.run(&format!(
        "wg set wg0 peer {honest} persistent-keepalive 1 endpoint 127.0.0.1:1112"
    ));
    assert_eq!(host.run("wg show wg0 peers").lines().count(), 8);
    // By the second call of a peer that was added last, all others have had their turn.
    let mut buffer = [0; 256];
    for _ in 0..2 {
        let limit = Some(std::time::Duration::from_secs(30));
        heard.set_read_timeout(limit).expect("a timeout");
        assert_eq!(
            heard.recv(&mut buffer).expect("a call"),
            INITIATION as usize
        );
    }
    silent.set_nonblocking(true).expect("a socket");
    let nothing = silent.recv(&mut buffer).expect_err("silence");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}

pub fn everything_goes_into_the_tunnel_but_what_is_marked() {
    let pair = Pair::new(SeedwireDevice);
    let (node, hub) = (&pair.world.node, &pair.world.hub);
    hub.add_address("wg0", "192.168.99.7/32");
    hub.add_address("wg0", "abab::1111/128");
    node.run("ip route add default via 192.0.2.1");
    node.run("ip -6 route add default via 2001:db8::1");
    let peer = &pair.world.hub_keys.public;
    node.run(&format!(
        "wg set wg0 fwmark 51820 peer {peer} allowed-ips 0.0.0.0/0,::/0"
    ));
    for family in ["-4", "-6"] {
        node.run(&format!(
            "ip {family} route add default dev wg0 table 51820"
        ));
        node.run(&format!(
            "ip {family} rule add not fwmark 51820 table 51820"
        ));
        node.run(&format!(
            "ip {family} rule add table main suppress_prefixlength 0"
        ));
    }
    for endpoint in ["192.0.2.1:51820", "[2001:db8::1]:51820"] {
        node.run(&format!("wg set wg0 peer {peer} endpoint {endpoint}"));
        node.run("ping -f -c 100 -W 10 192.168.99.7");
        node.run("ping -f -c 100 -W 10 abab::1111");
        assert_eq!(
            node.run("wg show wg0 endpoints").trim(),
            format!("{peer}\t{endpoint}")
        );
    }
}

pub fn an_answer_comes_from_the_address_that_was_called() {
    let pair = Pair::new(SeedwireDevice);
    let node = &pair.world.node;
    // On another interface than the one by which the call comes.
    node.run("ip route add 10.240.16.1 via 192.0.2.1");
    let peer = &pair.world.hub_keys.public;
    node.run(&format!(
        "wg set wg0 peer {peer} endpoint 10.240.16.1:51820"
    ));
    wait_for_ping(node, "10.88.0.1");
    assert_eq!(
        node.run("wg show wg0 endpoints").trim(),
        format!("{peer}\t10.240.16.1:51820")
    );
}
