//! What is told of packets that nobody is there for.

use std::io::ErrorKind;

use super::pair::{Pair, stranger, wait_for_ping};
use crate::harness::Host;
use crate::harness::wireguard::Program::SeedwireDevice;

/// Asserts that pings to both are answered by the destination, by an ICMP error.
#[track_caller]
fn told(host: &Host, v4: &str, v6: &str) {
    for (to, error) in [
        (v4, "Destination Host Unreachable"),
        (v6, "Destination unreachable: Address unreachable"),
    ] {
        let output = host.try_run(&format!("ping -c 1 -W 10 {to}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(&format!("From {to} icmp_seq=1 {error}")),
            "{text}"
        );
    }
}

pub fn a_destination_without_a_peer_is_told() {
    let pair = Pair::new(SeedwireDevice);
    let node = &pair.world.node;
    node.run("ip route add 10.77.0.0/16 dev wg0");
    node.run("ip route add fd77::/64 dev wg0");
    // The strictest a host can be.
    node.sysctl("net/ipv4/conf/all/rp_filter", "1");
    node.sysctl("net/ipv4/conf/wg0/rp_filter", "1");
    told(node, "10.77.0.9", "fd77::9");
    for to in ["10.77.0.9:3100", "[fd77::9]:3100"] {
        let error = node.connect(to).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    }
    // A large one is quoted in part.
    let output = node.try_run("ping -c 1 -W 10 -s 1372 -M do 10.77.0.9");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Destination Host Unreachable"), "{text}");
    wait_for_ping(node, "10.88.0.1");
}

pub fn a_peer_without_an_endpoint_is_told_to_forwarded_hosts_too() {
    let pair = Pair::new(SeedwireDevice);
    let world = &pair.world;
    world.hub.forward();
    told(&world.hub, "10.88.0.2", "fd88::2");
    told(&world.seed, "10.88.0.2", "fd88::2");
    let error = world
        .seed
        .connect("10.88.0.2:3100")
        .expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    // Once the node has called, it is reached.
    wait_for_ping(&world.node, "10.88.0.1");
    wait_for_ping(&world.seed, "10.88.0.2");
    wait_for_ping(&world.seed, "fd88::2");
    // A peer that takes the prefix and is nowhere.
    let other = stranger(&world.hub);
    world.hub.run(&format!(
        "wg set wg0 peer {other} allowed-ips 10.88.0.2/32,fd88::2/128"
    ));
    told(&world.seed, "10.88.0.2", "fd88::2");
}
