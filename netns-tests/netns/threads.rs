//! One thread carries both directions until that is too much; then a second one helps.

use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use serde_json::{Value, json};

use super::pair::{stranger, wait_for_ping};
use crate::harness::client::serve_tcp;
use crate::harness::wait::wait_within;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire};

/// In no window of a busy machine may the daemon have a processor for itself.
const PATIENCE: Duration = Duration::from_secs(90);

const LENGTH: usize = 1200;

/// Numbered datagrams, until the case says stop.
struct Flow {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// How many datagrams go at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Some thousand a second.
    Slow = 1,
    /// As fast as the kernel takes them.
    Full = 40,
}

impl Flow {
    /// Both sockets are connected, or can be; every number that arrives must be above the last.
    fn start(from: UdpSocket, to: Option<UdpSocket>, pace: Pace) -> Self {
        let segment = LENGTH as i32;
        setsockopt(&from, UdpGsoSegment, &segment).expect("a kernel that cuts datagrams");
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let stopped = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let mut number = 0u64;
            let mut run = vec![0; LENGTH * pace as usize];
            while !stopped.load(Ordering::Relaxed) {
                for datagram in run.chunks_mut(LENGTH) {
                    number += 1;
                    datagram[..8].copy_from_slice(&number.to_be_bytes());
                }
                // A full queue is a loss as any other.
                let _ = from.send(&run);
                if pace == Pace::Slow {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let mut threads = vec![sender];
        if let Some(to) = to {
            let (stopped, count) = (Arc::clone(&stop), Arc::clone(&received));
            threads.push(std::thread::spawn(move || {
                in_order(&to, &stopped, &count);
            }));
        }
        Self {
            stop,
            received,
            threads,
        }
    }

    fn received(&self) -> u64 {
        let ended = self.threads.iter().any(JoinHandle::is_finished);
        assert!(!ended, "every number is above the last");
        self.received.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("every number is above the last");
        }
    }
}

/// Lowers the priority of this thread and of what it starts from now on.
fn be_nice() {
    let thread = nix::unistd::gettid().to_string();
    let done = std::process::Command::new("renice")
        .args(["-n", "19", "-p", &thread])
        .output();
    assert!(done.expect("renice").status.success());
}

fn in_order(socket: &UdpSocket, stopped: &AtomicBool, count: &AtomicU64) {
    let timeout = Some(Duration::from_millis(200));
    socket.set_read_timeout(timeout).expect("a timeout");
    let (mut buffer, mut last) = ([0; 2048], 0);
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                let number = buffer.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                let number = number.expect("8 bytes at least");
                assert!(number > last, "{number} after {last}");
                last = number;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// The sockets of a flow, which know each other's address.
fn sockets(from: (&Host, &str), to: (&Host, &str)) -> (UdpSocket, UdpSocket) {
    let (sender, receiver) = (from.0.udp(from.1), to.0.udp(to.1));
    sender.connect(to.1).expect("a route");
    (sender, receiver)
}

/// A node that tells what it does, and has one more peer, which nobody is.
fn node_config(world: &World) -> Value {
    let mut config = world.node_config();
    config["log"] = json!({"level": "debug"});
    let nobody = json!({
        "name": "nobody",
        "publicKey": stranger(&world.node),
        "endpoint": "192.0.2.9:51820",
        "allowedIPs": ["10.99.0.0/24"],
    });
    let peers = config["tunnel"]["peers"].as_array_mut();
    peers.expect("a list").push(nobody);
    config
}

/// Sends bytes there and back on one connection, in pieces, until told to stop; none may be
/// another one.
fn echo(node: &Host, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let mut stream = node.connect("10.240.16.10:3100").expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).expect("the address");
    }
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut rounds = 0u64;
        let mut back = vec![0; 50_000];
        while !stop.load(Ordering::Relaxed) {
            let sent: Vec<u8> = (0..50_000).map(|n| (n + rounds) as u8).collect();
            stream.write_all(&sent).expect("the connection stands");
            stream.read_exact(&mut back).expect("the connection stands");
            assert!(sent == back, "other bytes came back in round {rounds}");
            rounds += 1;
        }
        rounds
    })
}

pub fn order_and_connections_outlive_the_change_to_two_threads_and_back() {
    let world = World::new();
    // It is never ready, for want of one peer.
    let node = Seedwire::start(&world.node, &node_config(&world));
    // A second thread is only taken by one that has a processor for itself.
    be_nice();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    serve_tcp(&world.seed, "10.240.16.10:3100");
    wait_for_ping(&world.node, "10.240.16.10");
    let tells = |what: &str| node.log().matches(what).count();
    let stop = Arc::new(AtomicBool::new(false));
    let connection = echo(&world.node, &stop);

    let (from, to) = sockets(
        (&world.node, "10.88.0.2:4001"),
        (&world.seed, "10.240.16.10:4001"),
    );
    let forth = Flow::start(from, Some(to), Pace::Slow);
    let (from, to) = sockets(
        (&world.seed, "10.240.16.10:4002"),
        (&world.node, "10.88.0.2:4002"),
    );
    let back = Flow::start(from, Some(to), Pace::Full);
    // What goes to nobody costs the node time and the hub none.
    let nobody = world.node.udp("10.88.0.2:4003");
    nobody.connect("10.99.0.1:9").expect("a route");
    let lost = Flow::start(nobody, None, Pace::Full);
    wait_within(PATIENCE, "two threads", || {
        (tells("a second thread carries packets") > 0).then_some(())
    });
    let counts = [&forth, &back].map(Flow::received);
    wait_within(PATIENCE, "datagrams with two threads", || {
        let more = [&forth, &back].map(Flow::received);
        (more[0] > counts[0] + 100 && more[1] > counts[1] + 100).then_some(())
    });
    for flow in [lost, forth, back] {
        flow.end();
    }
    wait_within(PATIENCE, "one thread", || {
        let [two, one] = ["a second thread carries packets", "one thread carries both"].map(tells);
        (one > 0 && one == two).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let rounds = connection.join().expect("the connection stands");
    println!("{rounds} rounds");
    assert!(rounds > 0);
}
