//! The harness itself: what the other cases take for granted.

use super::foreign::{foreign_state, settled};
use crate::harness::client::{Client, serve_tcp, serve_udp, udp_seen_as};
use crate::harness::state::assert_unchanged;
use crate::harness::wireguard::{Device, Peer, Program, has_handshake};
use crate::harness::world::World;
use crate::harness::{State, dns};

pub fn hosts_reach_each_other_and_only_by_their_routes() {
    let world = World::new();
    world.node.run("ping -c 1 -W 5 192.0.2.1");
    world.node.run("ping -c 1 -W 5 2001:db8::1");
    world.hub.run("ping -c 1 -W 5 fd24:16::10");
    assert!(!world.node.succeeds("ping -c 1 -W 1 10.240.16.10"));
    serve_tcp(&world.seed, "10.240.16.10:3100");
    serve_udp(&world.seed, "[fd24:16::10]:3100");
    let mut client = Client::connect(&world.hub, "10.240.16.10:3100").expect("a connection");
    assert_eq!(client.seen_as, "10.240.16.1");
    client.exchange(300_000).expect("data comes back");
    assert_eq!(
        udp_seen_as(&world.hub, "[fd24:16::10]:3100").as_deref(),
        Some("fd24:16::1")
    );
    assert!(Client::connect(&world.node, "10.240.16.10:3100").is_err());
}

pub fn wireguard_devices_of_the_distribution_reach_each_other() {
    let world = World::new();
    let node = Device::start(&world.node, Program::DistributionWireguardGo, "wg0");
    let hub = Device::start(&world.hub, Program::DistributionWireguardGo, "wg0");
    let to_hub = Peer {
        public_key: &world.hub_keys.public,
        endpoint: Some("[2001:db8::1]:51820"),
        allowed_ips: "10.88.0.1/32,fd88::1/128",
        ..Peer::default()
    };
    let to_node = Peer {
        public_key: &world.node_keys.public,
        allowed_ips: "10.88.0.2/32,fd88::2/128",
        ..Peer::default()
    };
    node.configure(
        &world.node_keys,
        0,
        &["10.88.0.2/32", "fd88::2/128"],
        &[to_hub],
    );
    hub.configure(
        &world.hub_keys,
        51820,
        &["10.88.0.1/32", "fd88::1/128"],
        &[to_node],
    );
    world.node.run("ping -c 3 -i 0.2 -W 10 10.88.0.1");
    world.node.run("ping -c 3 -i 0.2 -W 10 fd88::1");
    assert!(has_handshake(&world.hub, "wg0"));
}

pub fn dns_servers_answer() {
    let world = World::new();
    let unbound = dns::unbound(
        &world.seed,
        "10.240.16.10",
        &["local-data: \"loki.logging.svc.cluster.local. A 10.240.20.5\""],
    );
    let dnsmasq = dns::dnsmasq(
        &world.hub,
        "192.0.2.1",
        &["--host-record=example.test,192.0.2.77"],
    );
    let answer = dns::ask(&world.hub, "@10.240.16.10 loki.logging.svc.cluster.local");
    assert_eq!(
        (answer.status.as_str(), answer.data),
        ("NOERROR", vec!["10.240.20.5".into()])
    );
    assert_eq!(unbound.questions("loki.logging"), 1);
    let answer = dns::ask(&world.node, "@192.0.2.1 example.test +tcp");
    assert_eq!(
        (answer.status.as_str(), answer.data),
        ("NOERROR", vec!["192.0.2.77".into()])
    );
    assert!(dnsmasq.questions("example.test") > 0);
}

pub fn state_shows_what_changed() {
    let host = crate::harness::Host::new("alone");
    host.nft("table inet foreign { chain c { type filter hook input priority 0; counter; }; }");
    let before = State::of(&host);
    host.run("ping -c 1 127.0.0.1");
    assert!(before == State::of(&host), "traffic changes no state");
    for change in [
        "ip addr add 192.0.2.9/32 dev lo",
        "ip route add 192.0.2.0/24 dev lo table 77",
        "ip rule add fwmark 7 lookup 77",
        "nft add table inet other",
    ] {
        let before = State::of(&host);
        host.run(change);
        assert!(before != State::of(&host), "{change} is seen");
    }
}

pub fn state_less_what_is_ours_is_all_that_is_foreign() {
    let world = World::new();
    let _device = foreign_state(&world.node);
    let before = settled(&world.node);
    let less = before
        .clone()
        .without("seed0")
        .without_address("169.254.20.11");
    assert_unchanged("without seedwire", &before, &less);
    world.node.run("ip addr add 169.254.20.11/32 dev lo");
    let less = State::of(&world.node).without_address("169.254.20.11");
    assert_unchanged("with an address more", &before, &less);
}
