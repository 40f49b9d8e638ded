//! Relays of TCP ports between clients and servers on loopback addresses.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seedwire::ports::Relays;
use seedwire::resolve::{Lookup, Resolve, ResolveError};
use seedwire_core::config::PortRelay;
use seedwire_core::tunnel::{PathState, Paths};
use seedwire_core::types::DnsName;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(30);

struct Tunnel(Mutex<PathState>);

impl Paths for Tunnel {
    fn state(&self, _: IpAddr) -> PathState {
        *self.0.lock().unwrap()
    }

    fn wake(&self, _: IpAddr) {}
}

/// Knows `here.example` alone; its first address has no listener.
struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
        Box::pin(async move {
            if name.as_str() == "here.example" {
                Ok(vec![
                    Ipv4Addr::new(127, 8, 8, 8).into(),
                    Ipv4Addr::LOCALHOST.into(),
                ])
            } else {
                Err(ResolveError {
                    name: name.clone(),
                    source: Arc::new(std::io::Error::other("it is unknown")),
                })
            }
        })
    }
}

struct Bench {
    relays: Relays,
    tunnel: Arc<Tunnel>,
    runtime: Handle,
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Bench {
    fn new(ports: &[PortRelay]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let (over, until) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(until);
        });
        let tunnel = Arc::new(Tunnel(Mutex::new(PathState::Up)));
        let relays = {
            let _inside = handle.enter();
            Relays::start(ports, Arc::new(Names), tunnel.clone()).unwrap()
        };
        Self {
            relays,
            tunnel,
            runtime: handle,
            over: Some(over),
            thread: Some(thread),
        }
    }
}

/// A port that is free at the moment.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn relay(listen: SocketAddr, to: &str) -> PortRelay {
    PortRelay {
        listen,
        to: to.parse().unwrap(),
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Answers each connection with all that it sent, once it has sent all.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).is_ok() {
                    let _ = stream.write_all(&all);
                }
            });
        }
    });
    address
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn bytes_go_both_ways_and_each_side_may_end_first() {
    let listen = free_port();
    let server = echo_server();
    let bench = Bench::new(&[relay(listen, &format!("here.example:{}", server.port()))]);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let mut stream = connect(listen);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received == sent);
    let status = || {
        bench
            .runtime
            .block_on(bench.relays.status())
            .remove(0)
            .counters
    };
    wait_until("the connection has ended", || status().open == 0);
    assert_eq!(
        (status().sent_bytes, status().received_bytes),
        (1_000_000, 1_000_000)
    );
    assert_eq!((status().accepted, status().failed), (1, 0));
}

#[test]
fn a_connection_that_can_not_be_led_on_is_closed() {
    let (unknown, down) = (free_port(), free_port());
    let server = echo_server();
    let bench = Bench::new(&[
        relay(unknown, "nowhere.example:80"),
        relay(down, &server.to_string()),
    ]);
    assert_eq!(connect(unknown).read(&mut [0]).unwrap(), 0);
    *bench.tunnel.0.lock().unwrap() = PathState::Down;
    assert_eq!(connect(down).read(&mut [0]).unwrap(), 0);
    let errors = || -> Vec<_> {
        let status = bench.runtime.block_on(bench.relays.status());
        status
            .into_iter()
            .filter_map(|relay| relay.last_error)
            .collect()
    };
    assert_eq!(
        errors(),
        [
            "failed to resolve nowhere.example: it is unknown",
            "the tunnel to 127.0.0.1 is down"
        ]
    );
    *bench.tunnel.0.lock().unwrap() = PathState::Up;
    let mut stream = connect(down);
    stream.write_all(b"up again").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    assert_eq!(received, "up again");
}

#[test]
fn reload_keeps_connections_and_leads_new_ones_elsewhere() {
    let (stays, goes, comes) = (free_port(), free_port(), free_port());
    let server = echo_server();
    let to = server.to_string();
    let bench = Bench::new(&[relay(stays, &to), relay(goes, &to)]);
    let mut streams = [connect(stays), connect(goes)];
    let accepted = || -> u64 {
        let status = bench.runtime.block_on(bench.relays.status());
        status.iter().map(|relay| relay.counters.accepted).sum()
    };
    wait_until("both were taken", || accepted() == 2);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = other.local_addr().unwrap().to_string();
    let ports = [relay(stays, &elsewhere), relay(comes, &to)];
    bench.runtime.block_on(bench.relays.reload(&ports)).unwrap();
    for stream in &mut streams {
        stream.write_all(b"still here").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        assert_eq!(received, "still here");
    }
    let _new = connect(stays);
    other.accept().unwrap();
    drop(connect(comes));
    wait_until("the old port is closed", || {
        TcpStream::connect(goes).is_err()
    });
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bad = [relay(taken.local_addr().unwrap(), &to)];
    let error = bench
        .runtime
        .block_on(bench.relays.reload(&bad))
        .unwrap_err();
    assert!(
        error.to_string().ends_with("another program listens there"),
        "{error}"
    );
    drop(connect(stays));
}

#[test]
fn stop_ends_connections_that_do_not_end_themselves() {
    let listen = free_port();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = Bench::new(&[relay(listen, &server.local_addr().unwrap().to_string())]);
    let mut stream = connect(listen);
    let (mut far, _) = server.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    bench.runtime.block_on(bench.relays.stop());
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(far.read(&mut [0]).unwrap_or(0), 0);
    TcpStream::connect(listen).unwrap_err();
}
