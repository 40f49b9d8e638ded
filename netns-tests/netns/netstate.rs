//! The network state's own layer against the kernel, where the command can't lead it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seedwire::netlink::Rtnl;
use seedwire::netstate::{ApplyError, NetState};
use seedwire_core::netstate::{
    Desired, DesiredRoute, Family, Instance, MAIN_TABLE, PROTOCOL, Rule, Table,
};
use seedwire_core::types::Prefix;

use crate::harness::state::assert_unchanged;
use crate::harness::{Host, State, link, wait_until};

/// A host with an interface that the tests take for a tunnel, and its far end.
fn host_with_cable() -> (Host, Host) {
    let (host, far) = (Host::new("host"), Host::new("far"));
    link((&host, "seed0", &[]), (&far, "near", &[]));
    host.run("ip link set seed0 down");
    (host, far)
}

fn wanted(routes: impl IntoIterator<Item = String>) -> Desired {
    let instance = Instance::new("seed0".parse().expect("a name"));
    let route = |to: String| {
        let to: Prefix = to.parse().expect("a prefix");
        DesiredRoute {
            table: MAIN_TABLE,
            to,
            metric: if to.is_ipv4() { 0 } else { 1024 },
            metric_chosen: false,
        }
    };
    Desired {
        mtu: Some(1300),
        addresses: ["10.88.0.2/24", "fd88::2/64"]
            .map(|address| address.parse().expect("an address"))
            .to_vec(),
        routes: routes.into_iter().map(route).collect(),
        table: Some(Table {
            name: instance.nft_table(),
            chains: Vec::new(),
        }),
        ..Desired::nothing(instance)
    }
}

fn routes(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("10.{}.{}.0/24", 100 + n / 256, n % 256))
}

fn net_state() -> NetState {
    NetState::new("seed0".parse().expect("a name"))
}

/// Adds and deletes the first policy rule until it is told to stop, with pauses that let a listing
/// through now and then. The kernel counts rules while it lists them, so that one that goes takes
/// another out of the listing.
fn change_rules(host: &Host, stop: &AtomicBool) {
    let rule = Rule {
        family: Family::V4,
        priority: 5,
        protocol: 3,
        table: MAIN_TABLE,
        invert: false,
        mark: None,
        suppress_prefix_length: None,
    };
    host.inside(|| {
        let mut rtnl = Rtnl::open().expect("a socket");
        let mut pause = 0;
        while !stop.load(Ordering::Relaxed) {
            rtnl.add_rule(&rule).expect("added");
            rtnl.delete_rule(&rule).expect("deleted");
            pause = (pause + 3) % 8;
            std::thread::sleep(Duration::from_millis(pause));
        }
    });
}

pub fn a_step_that_the_kernel_refuses_takes_all_back() {
    let (host, _far) = host_with_cable();
    host.run("ip addr add 169.254.20.10/32 dev lo");
    let before = State::of(&host);
    let mut desired = wanted(routes(100));
    desired.local_addresses = vec!["169.254.20.11".parse().expect("an address")];
    desired.forward = vec![Family::V4, Family::V6];
    desired.rules = vec![Rule {
        family: Family::V6,
        priority: desired.instance.priority(),
        protocol: PROTOCOL,
        table: MAIN_TABLE,
        invert: false,
        mark: None,
        suppress_prefix_length: Some(0),
    }];
    let table = desired.table.take().map(|table| Table {
        // Longer than the kernel takes.
        name: "x".repeat(300),
        ..table
    });
    desired.table = table;
    let error = host
        .inside(|| net_state().apply(&desired))
        .expect_err("a refused table");
    let ApplyError::Step {
        rolled_back, left, ..
    } = error
    else {
        panic!("not a failed step: {error}");
    };
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(rolled_back.len() > 105, "{rolled_back:?}");
    assert_unchanged("after a failed step", &before, &State::of(&host));
    assert_eq!(host.read_sysctl("net/ipv4/ip_forward"), "0");
}

pub fn what_was_applied_is_seen_and_cleared_by_another_process() {
    let (host, _far) = host_with_cable();
    let desired = wanted(routes(5000).chain(["fd10::/16".to_owned()]));
    let first = host
        .inside(|| net_state().apply(&desired))
        .expect("applied");
    assert!(first.steps.len() > 5000);
    let again = host
        .inside(|| net_state().apply(&desired))
        .expect("applied");
    assert_eq!(again.steps, []);
    let text = host.run("ip route show proto 94");
    assert_eq!(text.lines().count(), 2 * 5000, "with its guard each");
    host.inside(|| net_state().clear()).expect("cleared");
    assert_eq!(host.run("ip route show proto 94"), "");
    assert_eq!(host.run("ip -6 route show proto 94"), "");
    assert_eq!(host.run("nft list tables"), "");
    assert!(!host.run("ip addr show seed0").contains("10.88.0.2"));
}

/// A listing that changed meanwhile must never pass for a whole one: what is missing in it would
/// be added again, or be taken for removed.
pub fn a_listing_that_changes_while_it_is_read_is_whole_or_an_error() {
    const RULES: u32 = 2000;
    const LISTINGS: u32 = 300;
    let (host, _far) = host_with_cable();
    let rules: String = (0..RULES)
        .map(|n| format!("rule add fwmark {n} lookup 77 priority {}\n", 10_000 + n))
        .collect();
    let batch = host.folder("files").join("rules");
    std::fs::write(&batch, rules).expect("a file in memory");
    host.run(&format!("ip -batch {}", batch.display()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| change_rules(&host, &stop));
        let mut whole = 0;
        host.inside(|| {
            let mut state = net_state();
            // Ends by the deadline of the case if no listing is ever whole.
            while whole < LISTINGS {
                let Ok(observed) = state.observe() else {
                    continue;
                };
                let there = observed.rules.iter().filter(|rule| rule.table == 77);
                if there.count() != RULES as usize {
                    break;
                }
                whole += 1;
            }
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(whole, LISTINGS, "a listing lacked rules");
    });
}

pub fn replies_to_marked_packets_pass_a_strict_reverse_path_filter() {
    let (host, far) = host_with_cable();
    link(
        (&host, "uplink", &["192.0.2.2/24"]),
        (&far, "inet", &["192.0.2.1/24"]),
    );
    far.add_address("lo", "198.51.100.7/32");
    host.run("ip route add default via 192.0.2.1");
    host.sysctl("net/ipv4/conf/all/rp_filter", "1");
    let mark = 0x1000;
    let config = everything_through_the_tunnel();
    let facts = seedwire_core::netstate::Facts {
        mtu: 1300,
        endpoints: vec!["198.51.100.7".parse().expect("an address")],
    };
    let instance = Instance::new("seed0".parse().expect("a name"));
    let desired = seedwire_core::netstate::desired(instance, &config, &facts);
    assert_eq!(desired.fwmark, Some(mark));
    let mut state = net_state();
    host.inside(|| state.apply(&desired)).expect("applied");
    let endpoint: SocketAddr = "198.51.100.7:9000".parse().expect("an address");
    crate::harness::client::serve_udp(&far, "198.51.100.7:9000");
    let answered = |marked: bool| host.inside(|| is_answered(endpoint, marked.then_some(mark)));
    wait_until("an answer to a marked packet", || answered(true));
    assert!(!answered(false), "an unmarked packet went round the tunnel");
    let path = |mark| host.inside(|| net_state().path_mtu(endpoint.ip(), mark));
    assert_eq!(path(Some(mark)).expect("a look-up"), Some(1500));
    assert_eq!(path(None).expect("a look-up"), Some(1300));
    host.run("nft delete table inet seedwire-seed0");
    assert!(!answered(true), "the answer passed without its mark");
}

fn everything_through_the_tunnel() -> seedwire_core::config::Config {
    use seedwire_core::config::*;
    use seedwire_core::types::{PrivateKey, PublicKey};
    let peer = Peer {
        name: "seed".to_owned(),
        public_key: PublicKey::from_bytes([2; 32]),
        preshared_key: None,
        endpoints: Vec::new(),
        keepalive: None,
        allowed_ips: vec!["0.0.0.0/0".parse().expect("a prefix")],
        probe: None,
    };
    Config {
        tunnel: Some(Tunnel {
            interface: "seed0".parse().expect("a name"),
            backend: Backend::Userspace,
            private_key: PrivateKey::from_bytes([1; 32]),
            addresses: vec!["10.88.0.2/32".parse().expect("an address")],
            listen_port: None,
            mtu: None,
            fwmark: None,
            handshakes_per_address: 2000,
            resolvers: Vec::new(),
            peers: vec![peer],
        }),
        network: Network::default(),
        ports: Vec::new(),
        dns: None,
        control: Control {
            http: None,
            socket: None,
            startup_wait: None,
        },
        log: Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
        },
    }
}

/// Whether an echo server answers a packet with this mark.
fn is_answered(to: SocketAddr, mark: Option<u32>) -> bool {
    let any: IpAddr = [0; 4].into();
    let socket = std::net::UdpSocket::bind((any, 0)).expect("a free port");
    if let Some(mark) = mark {
        socket2::SockRef::from(&socket)
            .set_mark(mark)
            .expect("the right to mark");
    }
    let limit = Duration::from_secs(1);
    socket.set_read_timeout(Some(limit)).expect("a time-out");
    socket.send_to(b"ping", to).expect("a route");
    socket.recv(&mut [0; 64]).is_ok()
}
