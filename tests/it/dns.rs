//! The DNS forwarder between small clients and servers on loopback addresses.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seedwire::dns::{ConfiguredResolver, DnsError, Forwarder, Servers};
use seedwire::resolve::Resolve;
use seedwire_core::config::{Cache, Dns, Lifetimes, Order, Server as DnsServer, Upstream, Zone};
use seedwire_core::tunnel::{PathState, Paths};
use seedwire_core::types::DnsName;

const PATIENCE: Duration = Duration::from_secs(30);
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;
const A: u16 = 1;
const SOA: u16 = 6;
const AAAA: u16 = 28;

/// A tunnel in any state.
struct Tunnel {
    state: Mutex<PathState>,
    woken: AtomicUsize,
}

impl Tunnel {
    fn new(state: PathState) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            woken: AtomicUsize::new(0),
        })
    }

    fn set(&self, state: PathState) {
        *self.state.lock().unwrap() = state;
    }
}

impl Paths for Tunnel {
    fn state(&self, _: IpAddr) -> PathState {
        *self.state.lock().unwrap()
    }

    fn wake(&self, _: IpAddr) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.set(PathState::Up);
    }
}

/// What a server does with a question: the question's bytes, and whether it came over TCP.
type Script = dyn Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync;

/// A DNS server that does what the test says.
struct Server {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<Vec<u8>>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(script: impl Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), script)
    }

    fn start_on(
        ip: IpAddr,
        script: impl Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((ip, 0)).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let questions = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let threads = vec![
            std::thread::spawn({
                let (script, questions, over) = (script.clone(), questions.clone(), over.clone());
                move || serve_udp(&udp, &*script, &questions, &over)
            }),
            std::thread::spawn({
                let (questions, over) = (questions.clone(), over.clone());
                move || serve_tcp(&tcp, &*script, &questions, &over)
            }),
        ];
        Self {
            address,
            questions,
            over,
            threads,
        }
    }

    /// How many questions for `name` came.
    fn asked(&self, name: &str) -> usize {
        let wire = wire_name(name);
        let questions = self.questions.lock().unwrap();
        let is_for = |question: &&Vec<u8>| {
            question.len() >= 12 + wire.len()
                && question[12..12 + wire.len()].eq_ignore_ascii_case(&wire)
        };
        questions.iter().filter(is_for).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let local = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        let _ = local.send_to(&[], self.address);
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_udp(socket: &UdpSocket, script: &Script, seen: &Mutex<Vec<Vec<u8>>>, over: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let question = &buffer[..length];
        seen.lock().unwrap().push(question.to_vec());
        if let Some(answer) = script(question, false) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn serve_tcp(socket: &TcpListener, script: &Script, seen: &Mutex<Vec<Vec<u8>>>, over: &AtomicBool) {
    while let Ok((mut stream, _)) = socket.accept() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let Some(question) = read_framed(&mut stream) else {
            continue;
        };
        seen.lock().unwrap().push(question.clone());
        if let Some(answer) = script(&question, true) {
            let _ = stream.write_all(&framed(&answer));
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A question with recursion desired, and with EDNS where a UDP size is given.
fn question(id: u16, name: &str, rtype: u16, udp_size: Option<u16>) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(udp_size.is_some())]);
    message.extend_from_slice(&wire_name(name));
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some(size) = udp_size {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    }
    message
}

fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// An answer to `question` with records of `(type, TTL, data)` in the answer section.
fn answer(question: &[u8], rcode: u8, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
    let mut message = question[..question_end(question)].to_vec();
    message[2] |= 0x80;
    message[3] = 0x80 | rcode;
    message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    message[10..12].fill(0);
    for (rtype, ttl, data) in records {
        message.extend_from_slice(&[0xc0, 12]);
        message.extend_from_slice(&rtype.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

/// An answer of one address with a TTL of 60 s.
fn one(question: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    Some(answer(question, NOERROR, &[(A, 60, &address)]))
}

/// An answer without records but for an SOA with this TTL and minimum.
fn negative(question: &[u8], rcode: u8, ttl: u32, minimum: u32) -> Vec<u8> {
    let mut data = vec![0, 0];
    for number in [1, 2, 3, 4, minimum] {
        data.extend_from_slice(&u32::to_be_bytes(number));
    }
    let mut message = answer(question, rcode, &[(SOA, ttl, &data)]);
    message[7] = 0;
    message[9] = 1;
    message
}

fn rcode(message: &[u8]) -> u8 {
    message[3] & 15
}

fn is_truncated(message: &[u8]) -> bool {
    message[2] & 2 != 0
}

fn config(zones: &[(&str, &[SocketAddr])], upstreams: Option<Vec<SocketAddr>>) -> Dns {
    let zone = |(name, upstreams): &(&str, &[SocketAddr])| Zone {
        zone: name.parse().unwrap(),
        upstreams: upstreams.iter().copied().map(DnsServer::plain).collect(),
        probe: None,
        lifetimes: Lifetimes::default(),
    };
    Dns {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        upstreams: upstreams.map(|all| {
            let servers = all.into_iter().map(DnsServer::plain);
            servers.map(Upstream::Server).collect()
        }),
        zones: zones.iter().map(zone).collect(),
        order: Order::Listed,
        search_domains: Vec::new(),
        cache: Cache::default(),
    }
}

/// A forwarder and a client of it.
struct Bench {
    forwarder: Forwarder,
    client: UdpSocket,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(dns: &Dns) -> Self {
        Self::behind(dns, Tunnel::new(PathState::Direct))
    }

    fn behind(dns: &Dns, paths: Arc<Tunnel>) -> Self {
        let forwarder = Forwarder::start(dns, paths).unwrap();
        let to = forwarder.local_addresses()[0];
        let client = UdpSocket::bind((to.ip(), 0)).unwrap();
        client.connect(to).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            forwarder,
            client,
            runtime,
        }
    }

    fn send(&self, message: &[u8]) -> Vec<u8> {
        self.client.send(message).unwrap();
        self.receive()
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        let length = self.client.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn ask(&self, name: &str) -> Vec<u8> {
        self.send(&question(0x1234, name, A, None))
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.forwarder.local_addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn status(&self) -> seedwire_core::dns::ForwarderStatus {
        self.runtime.block_on(self.forwarder.status()).unwrap()
    }

    fn reload(&self, dns: &Dns) -> Result<(), DnsError> {
        self.runtime.block_on(self.forwarder.reload(dns))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runtime.block_on(self.forwarder.stop());
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_longest_zone_is_asked_and_answers_are_kept() {
    let outer = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let inner = Server::start(|q, _| one(q, [10, 0, 0, 2]));
    let rest = Server::start(|q, _| one(q, [10, 0, 0, 3]));
    let bench = Bench::new(&config(
        &[
            ("cluster.local", &[outer.address]),
            ("loki.cluster.local", &[inner.address]),
        ],
        Some(vec![rest.address]),
    ));
    for _ in 0..3 {
        assert!(bench.ask("x.loki.cluster.local").ends_with(&[10, 0, 0, 2]));
        assert!(bench.ask("loki.cluster.local").ends_with(&[10, 0, 0, 2]));
        assert!(bench.ask("xloki.cluster.local").ends_with(&[10, 0, 0, 1]));
        assert!(bench.ask("local").ends_with(&[10, 0, 0, 3]));
    }
    assert_eq!(inner.asked("x.loki.cluster.local"), 1);
    assert_eq!(inner.asked("local"), 0);
    assert_eq!(rest.asked("local"), 1);
    let status = bench.status();
    assert_eq!(status.cache.hits, 8);
    assert_eq!(status.counters.udp_queries, 12);
    assert_eq!(status.counters.responses["NOERROR"], 12);
}

#[test]
fn the_client_gets_its_id_case_and_flags() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    for (id, name) in [
        (1, "Name.Example"),
        (2, "nAME.example"),
        (3, "name.example"),
    ] {
        let asked = question(id, name, A, None);
        let got = bench.send(&asked);
        assert_eq!(got[..2], id.to_be_bytes());
        assert_eq!(got[12..asked.len()], asked[12..]);
    }
    assert_eq!(server.asked("name.example"), 1);
    let mut checking_disabled = question(4, "name.example", A, None);
    checking_disabled[3] |= 0x10;
    bench.send(&checking_disabled);
    assert_eq!(server.asked("name.example"), 2);
    assert_eq!(server.questions.lock().unwrap()[1][3] & 0x10, 0x10);
}

#[test]
fn names_without_an_upstream_are_refused_at_once() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let bench = Bench::new(&config(&[("loki.example", &[server.address])], None));
    let plain = bench.ask("other.example");
    assert_eq!(rcode(&plain), REFUSED);
    let with_edns = bench.send(&question(9, "other.example", A, Some(1232)));
    assert_eq!(rcode(&with_edns), REFUSED);
    let text = String::from_utf8_lossy(&with_edns).into_owned();
    assert!(text.contains("no upstream is configured"), "{text}");
}

#[test]
fn the_next_upstream_answers_for_one_that_fails() {
    for failing in [SERVFAIL, REFUSED] {
        let bad = Server::start(move |q, _| Some(answer(q, failing, &[])));
        let good = Server::start(|q, _| one(q, [10, 0, 0, 2]));
        let bench = Bench::new(&config(
            &[("a.example", &[bad.address, good.address])],
            None,
        ));
        assert!(bench.ask("x.a.example").ends_with(&[10, 0, 0, 2]));
        assert_eq!(bad.asked("x.a.example"), 1);
    }
}

#[test]
fn a_silent_upstream_is_not_asked_first_again() {
    let dead = Server::start(|_, _| None);
    let good = Server::start(|q, _| one(q, [10, 0, 0, 2]));
    let bench = Bench::new(&config(&[], Some(vec![dead.address, good.address])));
    assert!(bench.ask("x0.example").ends_with(&[10, 0, 0, 2]));
    assert_eq!(bench.status().counters.hedged, 1, "it was not waited for");
    wait_until("its silence is held against it", || {
        let upstreams = bench.status().upstreams.unwrap();
        upstreams[0].last_error.as_deref() == Some("no answer in time")
    });
    for number in 1..50 {
        assert!(
            bench
                .ask(&format!("x{number}.example"))
                .ends_with(&[10, 0, 0, 2])
        );
    }
    let status = bench.status().upstreams.unwrap();
    assert!(status[0].queries < 10, "{status:?}");
    assert_eq!(status[1].queries, 50);
}

#[test]
fn a_closed_port_is_noticed_without_waiting() {
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let good = Server::start(|q, _| one(q, [10, 0, 0, 2]));
    let bench = Bench::new(&config(&[], Some(vec![closed, good.address])));
    assert!(bench.ask("x.example").ends_with(&[10, 0, 0, 2]));
    let status = bench.status().upstreams.unwrap();
    let error = status[0].last_error.clone().unwrap();
    assert!(
        error.starts_with("unreachable: Connection refused"),
        "{error}"
    );
}

#[test]
fn a_name_that_does_not_exist_is_final_and_kept() {
    let first = Server::start(|q, _| Some(negative(q, NXDOMAIN, 3600, 5)));
    let second = Server::start(|q, _| one(q, [10, 0, 0, 2]));
    let bench = Bench::new(&config(
        &[("a.example", &[first.address, second.address])],
        None,
    ));
    for _ in 0..3 {
        let got = bench.ask("x.a.example");
        assert_eq!(rcode(&got), NXDOMAIN);
        // The SOA's TTL is the shorter of both (RFC 2308, 5).
        let ttl_at = question_end(&got) + 6;
        assert_eq!(got[ttl_at..ttl_at + 3], [0, 0, 0]);
        assert!(got[ttl_at + 3] <= 5);
    }
    assert_eq!(first.asked("x.a.example"), 1);
    assert_eq!(second.asked("x.a.example"), 0);
}

#[test]
fn a_zone_never_falls_back_to_the_general_upstreams() {
    let zone = Server::start(|q, _| Some(answer(q, SERVFAIL, &[])));
    let general = Server::start(|q, _| one(q, [10, 0, 0, 2]));
    let dns = config(
        &[("a.example", &[zone.address])],
        Some(vec![general.address]),
    );
    let bench = Bench::new(&dns);
    assert_eq!(rcode(&bench.ask("x.a.example")), SERVFAIL);
    assert_eq!(general.asked("x.a.example"), 0);
    // A second question right after it is not passed on, and nothing is kept for long.
    assert_eq!(rcode(&bench.ask("x.a.example")), SERVFAIL);
    assert_eq!(zone.asked("x.a.example"), 1);
    assert_eq!(bench.status().cache.entries, 0);
}

#[test]
fn records_without_a_ttl_are_not_kept() {
    let server = Server::start(|q, _| Some(answer(q, NOERROR, &[(A, 0, &[10, 0, 0, 1])])));
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    bench.ask("x.example");
    bench.ask("x.example");
    assert_eq!(server.asked("x.example"), 2);
    assert_eq!(bench.status().cache.entries, 0);
}

#[test]
fn equal_questions_are_asked_once() {
    let release = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let release = release.clone();
        move |q, _| {
            let deadline = Instant::now() + PATIENCE;
            while !release.load(Ordering::SeqCst) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            Some(answer(q, NOERROR, &[(A, 0, &[10, 0, 0, 1])]))
        }
    });
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    for id in 1..=20 {
        let name = if id & 1 == 0 {
            "x.example"
        } else {
            "X.Example"
        };
        bench.client.send(&question(id, name, A, None)).unwrap();
    }
    wait_until("all have joined", || {
        bench.status().counters.coalesced == 19
    });
    release.store(true, Ordering::SeqCst);
    for _ in 1..=20 {
        let got = bench.receive();
        let id = u16::from_be_bytes([got[0], got[1]]);
        assert_eq!(got[13], if id & 1 == 0 { b'x' } else { b'X' });
        assert_eq!(rcode(&got), NOERROR);
    }
}

#[test]
fn what_does_not_fit_goes_over_tcp() {
    let records: Vec<[u8; 4]> = (0..100).map(|n| [10, 0, 0, n]).collect();
    let server = Server::start(move |q, is_tcp| {
        if is_tcp {
            let records: Vec<_> = records.iter().map(|data| (A, 60, &data[..])).collect();
            Some(answer(q, NOERROR, &records))
        } else {
            let mut short = answer(q, NOERROR, &[]);
            short[2] |= 2;
            Some(short)
        }
    });
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    let short = bench.send(&question(1, "x.example", A, Some(4096)));
    assert!(is_truncated(&short));
    assert!(short.len() < 100);
    let mut stream = bench.tcp();
    stream
        .write_all(&framed(&question(2, "x.example", A, Some(4096))))
        .unwrap();
    let whole = read_framed(&mut stream).unwrap();
    assert!(!is_truncated(&whole));
    assert_eq!(whole[7], 100);
    // Cut short once over UDP, then whole over TCP; the rest came from the cache.
    assert_eq!(server.asked("x.example"), 2);
}

#[test]
fn a_client_without_edns_gets_512_bytes_at_most() {
    let server = Server::start(move |q, _| {
        let records: Vec<_> = (0..40).map(|_| (A, 60, &[10, 0, 0, 1][..])).collect();
        Some(answer(q, NOERROR, &records))
    });
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    assert!(is_truncated(&bench.send(&question(
        1,
        "x.example",
        A,
        None
    ))));
    assert!(is_truncated(&bench.send(&question(
        1,
        "x.example",
        A,
        Some(600)
    ))));
    let got = bench.send(&question(1, "x.example", A, Some(1232)));
    assert!(!is_truncated(&got));
    assert_eq!(got[7], 40);
}

#[test]
fn many_questions_on_one_connection_are_all_answered() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    let mut stream = bench.tcp();
    let mut all = Vec::new();
    for id in 0..500 {
        all.extend(framed(&question(
            id,
            &format!("x{}.example", id % 7),
            A,
            None,
        )));
    }
    // In pieces that do not end where the messages do.
    for piece in all.chunks(37) {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut ids: Vec<u16> = (0..500)
        .map(|_| read_framed(&mut stream).unwrap())
        .map(|got| u16::from_be_bytes([got[0], got[1]]))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..500).collect::<Vec<_>>());
    assert_eq!(
        stream.read(&mut [0]).unwrap(),
        0,
        "the connection is closed after the last"
    );
}

#[test]
fn malformed_packets_get_the_right_answer_or_silence() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    let good = question(7, "x.example", A, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = good.clone();
        change(&mut message);
        message
    };
    let expected: [(&str, Vec<u8>, u8); 9] = [
        ("no question", with(&|m| m[5] = 0), 1),
        ("two questions", with(&|m| m[5] = 2), 1),
        ("an answer in a question", with(&|m| m[7] = 1), 1),
        ("trailing bytes", with(&|m| m.push(0)), 1),
        ("cut", with(&|m| m.truncate(20)), 1),
        ("a compressed name", with(&|m| m[12] = 0xc0), 1),
        ("another opcode", with(&|m| m[2] = 0x28), 4),
        ("a zone transfer", with(&|m| m[24] = 252), 5),
        ("class CHAOS", with(&|m| m[26] = 3), 5),
    ];
    for (what, message, code) in expected {
        let got = bench.send(&message);
        assert_eq!(
            (got[1], got[2] & 0x80, rcode(&got)),
            (7, 0x80, code),
            "{what}"
        );
    }
    let mut version = question(8, "x.example", A, Some(1232));
    let at = version.len() - 5;
    version[at] = 1;
    let got = bench.send(&version);
    assert_eq!((rcode(&got), got[got.len() - 6]), (0, 1), "BADVERS is 16");
    // Not answered: an answer, and what is shorter than a header.
    bench.client.send(&with(&|m| m[2] |= 0x80)).unwrap();
    bench.client.send(&good[..11]).unwrap();
    bench
        .client
        .send(&question(99, "x.example", A, None))
        .unwrap();
    assert_eq!(bench.receive()[1], 99);
    assert_eq!(bench.status().counters.ignored, 2);
}

#[test]
fn answers_that_were_not_asked_for_are_ignored() {
    let server = Server::start(|q, _| {
        let mut other = question(0, "y.example", A, None);
        other[..2].copy_from_slice(&q[..2]);
        one(&other, [6, 6, 6, 6])
    });
    let good = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let bench = Bench::new(&config(&[], Some(vec![server.address, good.address])));
    assert!(bench.ask("x.example").ends_with(&[10, 0, 0, 1]));
    assert!(server.asked("x.example") > 0);
    assert_eq!(bench.status().cache.entries, 1);
}

#[test]
fn cookies_stay_between_neighbours_and_other_options_pass() {
    let server = Server::start(|q, _| {
        let mut got = answer(q, NOERROR, &[(A, 60, &[10, 0, 0, 1])]);
        got[11] = 1;
        got.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 18]);
        // COOKIE, then an Extended DNS Error.
        got.extend_from_slice(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 15, 0, 2, 0, 3]);
        Some(got)
    });
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    let mut asked = question(1, "x.example", A, Some(4096));
    let length_at = asked.len() - 1;
    asked[length_at] = 12 + 6;
    asked.extend_from_slice(&[0, 10, 0, 8, 9, 9, 9, 9, 9, 9, 9, 9, 0, 100, 0, 2, 7, 7]);
    let got = bench.send(&asked);
    assert!(got.ends_with(&[0, 6, 0, 15, 0, 2, 0, 3]), "{got:?}");
    let seen = server.questions.lock().unwrap()[0].clone();
    assert!(seen.ends_with(&[0, 6, 0, 100, 0, 2, 7, 7]), "{seen:?}");
    // Our own UDP size in both directions.
    let opt = question_end(&seen);
    assert_eq!(seen[opt..opt + 5], [0, 0, 41, 4, 208]);
}

#[test]
fn a_tunnel_that_is_down_fails_the_question_at_once() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let tunnel = Tunnel::new(PathState::Down);
    let bench = Bench::behind(
        &config(&[("a.example", &[server.address])], None),
        tunnel.clone(),
    );
    let got = bench.send(&question(1, "x.a.example", A, Some(1232)));
    assert_eq!(rcode(&got), SERVFAIL);
    let text = String::from_utf8_lossy(&got).into_owned();
    assert!(
        text.contains("the tunnel to every upstream is down"),
        "{text}"
    );
    assert_eq!(server.asked("x.a.example"), 0);
    let zone = &bench.status().zones[0];
    assert_eq!(
        zone.not_ready.as_deref(),
        Some("the tunnel to its upstreams is down")
    );
    tunnel.set(PathState::Up);
    assert!(bench.ask("x.a.example").ends_with(&[10, 0, 0, 1]));
    wait_until("the zone is ready", || {
        bench.status().zones[0].not_ready.is_none()
    });
}

#[test]
fn a_question_wakes_an_idle_tunnel() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let tunnel = Tunnel::new(PathState::Idle);
    let bench = Bench::behind(&config(&[], Some(vec![server.address])), tunnel.clone());
    assert!(bench.ask("x.example").ends_with(&[10, 0, 0, 1]));
    assert_eq!(tunnel.woken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_zone_is_ready_once_it_answers_its_probe() {
    let is_well = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let is_well = is_well.clone();
        move |q, _| {
            let code = if is_well.load(Ordering::SeqCst) {
                NXDOMAIN
            } else {
                REFUSED
            };
            Some(answer(q, code, &[]))
        }
    });
    let mut dns = config(&[("a.example", &[server.address])], None);
    dns.zones[0].probe = Some("probe.a.example".parse().unwrap());
    let bench = Bench::new(&dns);
    let reason = format!("{}: answered REFUSED", server.address);
    wait_until("the probe failed", || {
        bench.status().zones[0].not_ready.as_deref() == Some(&reason)
    });
    is_well.store(true, Ordering::SeqCst);
    wait_until("the zone is ready", || {
        bench.status().zones[0].not_ready.is_none()
    });
    assert!(server.asked("probe.a.example") > 0);
}

#[test]
fn ipv6_at_both_ends() {
    let server = Server::start_on(Ipv6Addr::LOCALHOST.into(), |q, _| {
        Some(answer(q, NOERROR, &[(AAAA, 60, &[0xfd; 16])]))
    });
    let mut dns = config(&[], Some(vec![server.address]));
    dns.listen = vec!["[::1]:0".parse().unwrap()];
    let bench = Bench::new(&dns);
    let got = bench.send(&question(1, "x.example", AAAA, None));
    assert!(got.ends_with(&[0xfd; 16]));
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let mut dns = config(&[], Some(vec![server.address]));
    dns.listen = vec!["0.0.0.0:0".parse().unwrap()];
    let forwarder = Forwarder::start(&dns, Tunnel::new(PathState::Direct)).unwrap();
    let port = forwarder.local_addresses()[0].port();
    // A connected socket takes no answer from another address.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.9.9.9", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(&question(1, "x.example", A, None)).unwrap();
    assert!(client.recv(&mut [0; 512]).unwrap() > 12);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut dns = config(&[], None);
    dns.listen = vec![address];
    let error = Forwarder::start(&dns, Tunnel::new(PathState::Direct))
        .err()
        .unwrap();
    let expected = format!("failed to listen on {address} over UDP: another program listens there");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn reload_keeps_listeners_and_the_answers_of_zones_that_stay() {
    let one_server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let other = Server::start(|q, _| one(q, [10, 0, 0, 2]));
    let zones = |b: SocketAddr| {
        config(
            &[("a.example", &[one_server.address]), ("b.example", &[b])],
            None,
        )
    };
    let bench = Bench::new(&zones(one_server.address));
    bench.ask("x.a.example");
    bench.ask("x.b.example");
    bench.reload(&zones(other.address)).unwrap();
    assert!(bench.ask("x.a.example").ends_with(&[10, 0, 0, 1]));
    assert!(bench.ask("x.b.example").ends_with(&[10, 0, 0, 2]));
    assert_eq!(one_server.asked("x.a.example"), 1);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut bad = zones(one_server.address);
    bad.listen.push(taken.local_addr().unwrap());
    bench.reload(&bad).unwrap_err();
    assert!(bench.ask("y.b.example").ends_with(&[10, 0, 0, 2]));
}

#[test]
fn a_flood_of_names_stays_within_the_bounds() {
    let server = Server::start(|q, _| one(q, [10, 0, 0, 1]));
    let mut dns = config(&[], Some(vec![server.address]));
    dns.cache.max_entries = 50;
    let bench = Bench::new(&dns);
    for number in 0..200 {
        bench.ask(&format!("x{number}.example"));
    }
    let cache = bench.status().cache;
    assert_eq!(cache.entries, 50);
    assert_eq!(cache.evictions, 150);
}

#[test]
fn stop_answers_what_is_under_way() {
    let asked = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let asked = asked.clone();
        move |q, _| {
            asked.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            one(q, [10, 0, 0, 1])
        }
    });
    let bench = Bench::new(&config(&[], Some(vec![server.address])));
    bench
        .client
        .send(&question(1, "x.example", A, None))
        .unwrap();
    wait_until("the upstream was asked", || asked.load(Ordering::SeqCst));
    bench.runtime.block_on(bench.forwarder.stop());
    assert!(bench.receive().ends_with(&[10, 0, 0, 1]));
    bench
        .runtime
        .block_on(async { bench.forwarder.status().await.unwrap_err() });
}

#[test]
fn names_are_resolved_in_process_and_through_given_servers() {
    let server = Server::start(|q, is_tcp| {
        let end = question_end(q);
        match (q[end - 3] == AAAA as u8, is_tcp) {
            (true, _) => Some(answer(q, NOERROR, &[(AAAA, 60, &[0xfd; 16])])),
            (false, true) => {
                // An alias: the address belongs to the name that starts 4 bytes into the question.
                let mut got = answer(q, NOERROR, &[(5, 60, &[0xc0, 14]), (A, 60, &[10, 0, 0, 1])]);
                let owner = got.len() - 15;
                got[owner] = 14;
                Some(got)
            }
            (false, false) => {
                let mut short = answer(q, NOERROR, &[]);
                short[2] |= 2;
                Some(short)
            }
        }
    });
    let silent = Server::start(|_, _| None);
    let bench = Bench::new(&config(&[("example", &[server.address])], None));
    let name: DnsName = "x.host.example".parse().unwrap();
    let expected: Vec<IpAddr> = vec![
        Ipv4Addr::new(10, 0, 0, 1).into(),
        Ipv6Addr::from([0xfd; 16]).into(),
    ];
    bench.runtime.block_on(async {
        let inside = bench.forwarder.resolver();
        assert_eq!(inside.resolve(&name).await.unwrap(), expected);
        let outside = "x.invalid".parse().unwrap();
        let error = inside.resolve(&outside).await.unwrap_err();
        assert_eq!(error.source.to_string(), "the answer was REFUSED");
        let servers = Servers::Listed(vec![silent.address, server.address]);
        let resolver = ConfiguredResolver::new(servers, None);
        assert_eq!(resolver.resolve(&name).await.unwrap(), expected);
        resolver.configure(Servers::Listed(vec![]), None);
        let error = resolver.resolve(&name).await.unwrap_err();
        assert_eq!(error.source.to_string(), "no name server is known");
    });
}
