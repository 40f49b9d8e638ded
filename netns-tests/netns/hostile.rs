//! Datagrams that nobody honest sends, as fast as they can be sent.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seedwire_core::types::{PrivateKey, PublicKey};
use serde_json::{Value, json};

use super::pair::wait_for_ping;
use crate::harness::caller::{Caller, new_key};
use crate::harness::client::{Client, serve_tcp};
use crate::harness::wait::DEADLINE;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, link, wait_until};

/// How many datagrams were refused for any of these reasons.
fn refused(daemon: &Seedwire, reasons: &[&str]) -> f64 {
    let name = |reason| format!("seedwire_tunnel_refused_datagrams_total{{reason=\"{reason}\"}}");
    let counts = reasons.iter().map(|reason| daemon.metric(&name(reason)));
    counts.map(Option::unwrap_or_default).sum()
}

/// The resident memory of a process, in KiB.
fn resident(daemon: &mut Seedwire) -> u64 {
    let file = format!("/proc/{}/status", daemon.process().pid());
    let status = std::fs::read_to_string(file).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// What an attacker can make out of what he has seen, and out of nothing.
fn datagrams(caller: &mut Caller, stranger: &mut Caller, of_the_hub: &[u8]) -> Vec<Vec<u8>> {
    let initiation = caller.initiation().to_vec();
    let data = caller.sealed(&[0x45; 100]);
    let changed = |datagram: &[u8], at: usize, to: u8| {
        let mut datagram = datagram.to_vec();
        datagram[at] ^= to;
        datagram
    };
    let mut all = vec![
        // Replayed, and reflected: what the hub itself has sent.
        initiation.clone(),
        data.clone(),
        of_the_hub.to_vec(),
        // Of somebody without a place here.
        stranger.initiation().to_vec(),
        // The MAC, the index, the counter (far ahead) and the tag.
        changed(&initiation, 120, 1),
        changed(&data, 5, 0x55),
        changed(&data, 12, 0x10),
        changed(&data, data.len() - 1, 1),
        // Cut, and too long: a datagram in pieces.
        initiation[..147].to_vec(),
        [&initiation[..], &[0]].concat(),
        data[..31].to_vec(),
        data[..33].to_vec(),
        [&data[..16], &[7; 20_000]].concat(),
        // No message of WireGuard.
        Vec::new(),
        vec![4],
        vec![0; 148],
        [&[5, 0, 0, 0], &[1; 144][..]].concat(),
        [&[4, 0, 0, 1], &data[4..]].concat(),
    ];
    for length in [3, 32, 64, 92, 148, 1400] {
        let mut noise = vec![0; length];
        getrandom::fill(&mut noise).expect("randomness");
        all.push(noise);
    }
    all
}

fn attacker(world: &World, n: u8) -> (Host, UdpSocket) {
    let host = Host::new(&format!("attacker{n}"));
    link(
        (&host, "uplink", &[&format!("198.51.{n}.2/24")]),
        (
            &world.hub,
            &format!("uplink{n}"),
            &[&format!("198.51.{n}.1/24")],
        ),
    );
    let socket = host.udp(&format!("198.51.{n}.2:1000"));
    socket
        .connect(format!("198.51.{n}.1:51820"))
        .expect("a route");
    (host, socket)
}

pub fn hostile_datagrams_stop_nobody() {
    let world = World::new();
    let (_attacker, socket) = attacker(&world, 1);
    let [own, other] = [new_key(), new_key()];
    let mut config = world.hub_config();
    let peers = config["tunnel"]["peers"].as_array_mut().expect("a list");
    // One that the hub calls, so that there is something of its own to send back.
    peers.push(
        json!({"name": "caller", "publicKey": own.public_key().to_string(),
                      "endpoint": "198.51.1.2:1000", "allowedIPs": ["10.88.0.9/32"]}),
    );
    let hub_key = world.hub_keys.public.parse().expect("a key");
    let copy = || socket.try_clone().expect("a socket");
    let mut caller = Caller::new(&own, hub_key, copy());
    let mut stranger = Caller::new(&other, hub_key, copy());
    let mut hub = Seedwire::start(&world.hub, &config);
    let mut of_the_hub = Vec::new();
    wait_until("a call of the hub", || {
        of_the_hub = caller.receive().unwrap_or_default();
        of_the_hub.len() == 148
    });
    wait_until("a session", || caller.call());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut client = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    client.exchange(1_000_000).expect("data comes back");
    client.be_patient(DEADLINE);

    let all = datagrams(&mut caller, &mut stranger, &of_the_hub);
    let before = resident(&mut hub);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for datagram in &all {
                    // What does not fit into a queue is lost, as it is anywhere.
                    let _ = socket.send(datagram);
                }
                // Many times what is honest, and less than fills the hub's queue, where the
                // honest would be lost too.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let attacked = std::panic::AssertUnwindSafe(|| {
            for reasons in [
                &["malformed"][..],
                &["wrong_mac"],
                &["unknown_index"],
                &["not_authentic"],
                &["replayed"],
                // The handshakes that are well made: refused for what they say, or for their rate.
                &["unknown_key", "unproven", "too_often"],
            ] {
                wait_until(&format!("1000 refused as {reasons:?}"), || {
                    refused(&hub, reasons) >= 1000.0
                });
                client.exchange(100_000).expect("data comes back");
            }
            // Whoever begins now gets through too.
            wait_for_ping(&world.node, "fd88::1");
        });
        let result = std::panic::catch_unwind(attacked);
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let grown = resident(&mut hub).saturating_sub(before);
    assert!(grown < 8 << 10, "grown by {grown} KiB");
    wait_until("a session of the one whose datagrams were replayed", || {
        caller.call()
    });
    hub.stop();
}

/// The configuration of a hub with these peers, one address of which soon has to prove itself.
fn hub_of(world: &World, keys: &[PrivateKey]) -> Value {
    let mut config = world.hub_config();
    let peers = keys.iter().enumerate().map(|(n, key)| {
        json!({"name": format!("n{n}"), "publicKey": key.public_key().to_string(),
               "allowedIPs": [format!("10.99.{}.{}/32", n / 250, n % 250)]})
    });
    config["tunnel"]["peers"] = peers.collect();
    // So few that nobody gets through by luck.
    config["tunnel"]["handshakesPerAddress"] = 100.into();
    config
}

/// Each of these peers calls the hub until it has a session, all from one address.
fn call_all(host: &Host, keys: &[PrivateKey], hub: PublicKey) {
    for key in keys {
        let socket = host.udp("198.51.1.2:0");
        socket.connect("198.51.1.1:51820").expect("a route");
        let mut caller = Caller::new(key, hub, socket);
        wait_until("a session beside the flood", || caller.call());
    }
}

pub fn a_flood_from_one_address_stops_nobody_behind_it() {
    let world = World::new();
    let (host, flooding) = attacker(&world, 1);
    let keys: Vec<_> = (0..1000).map(|_| new_key()).collect();
    let hub = Seedwire::start_ready(&world.hub, &hub_of(&world, &keys));
    let hub_key = world.hub_keys.public.parse().expect("a key");
    let copy = flooding.try_clone().expect("a socket");
    let flood = Caller::new(&new_key(), hub_key, copy).initiation();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Many times what one address may send, and less than fills the hub's queue.
                for _ in 0..20 {
                    let _ = flooding.send(&flood);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let callers = keys.chunks(125).map(|keys| {
            let host = &host;
            scope.spawn(move || call_all(host, keys, hub_key))
        });
        let callers: Vec<_> = callers.collect();
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "not everybody got through");
    });
    wait_until("the hub to have heard from each", || {
        let metrics = hub.get("/metrics").expect("metrics").body;
        let received = metrics
            .lines()
            .filter(|line| line.starts_with("seedwire_peer_receive_bytes_total{"));
        received.filter(|line| !line.ends_with(" 0")).count() == 1000
    });
    assert!(refused(&hub, &["unproven"]) >= 900.0);
    assert!(refused(&hub, &["too_often"]) >= 10_000.0);
}
