//! Health, metrics and status through real sockets.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, not in their helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use seedwire::control::snapshot::{
    Cache, ConfigState, Dns, Instance, LastError, Peer, Port, Probe, Reason, ReasonKind, Step,
    Timestamp, Tunnel, Upstream, Zone,
};
use seedwire::control::{BindError, Health, Heartbeats, Server, Snapshot, Source};
use seedwire_core::config::Control;
use seedwire_core::tunnel::{Offloads, PeerState};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::run::{Folder, abandon, output, seedwire, stderr, stdout};

const WHEN: Timestamp = Timestamp(UNIX_EPOCH);

/// A source whose state a test can change.
struct Fake(Mutex<Snapshot>);

impl Source for Fake {
    fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap().clone()
    }
}

fn upstream(address: &str, up: bool) -> Upstream {
    Upstream {
        address: address.to_owned(),
        up,
        last_error: (!up).then(|| "no answer within 2 s".to_owned()),
        queries: 10,
        failures: 3,
        latency_seconds: up.then_some(0.0125),
    }
}

fn peer(name: &str, dialled: bool) -> Peer {
    Peer {
        name: name.to_owned(),
        public_key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
        state: PeerState::Up,
        dialled,
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        keepalive: Some(25),
        last_handshake: Some(Timestamp(UNIX_EPOCH + Duration::from_secs(1_700_000_000))),
        handshake_seconds: Some(0.002),
        received: 1536,
        transmitted: 2048,
        allowed_ips: vec!["10.88.0.1/32".to_owned(), "10.240.16.0/20".to_owned()],
        probe: Some(Probe {
            address: "10.88.0.1".parse().unwrap(),
            answered: Some(WHEN),
            limit: Some(1328),
        }),
        trouble: None,
    }
}

fn step(kind: &str, text: &str) -> Step {
    Step {
        kind: kind.to_owned(),
        text: text.to_owned(),
        error: None,
    }
}

fn dns() -> Dns {
    Dns {
        listen: vec!["127.0.0.1:53".parse().unwrap()],
        zones: vec![Zone {
            zone: "loki.logging.svc.cluster.local".to_owned(),
            not_ready: None,
            upstreams: vec![upstream("10.240.16.10:53", true)],
        }],
        upstreams: Some(vec![upstream("169.254.20.10:53", false)]),
        cache: Cache::default(),
        queries: BTreeMap::from([("udp".to_owned(), 7)]),
        responses: BTreeMap::from([("NOERROR".to_owned(), 6)]),
        coalesced: 1,
        hedged: 0,
        truncated: 0,
        stale: 2,
        refreshed: 3,
        distrusted: 0,
        ignored: 0,
    }
}

/// An instance that does its work.
fn ready() -> Snapshot {
    Snapshot {
        instance: Instance {
            version: "1.2.3".to_owned(),
            interface: Some("seed0".to_owned()),
            pid: 42,
            started: WHEN,
        },
        config: ConfigState {
            file: "/etc/seedwire/config.yaml".into(),
            applied: WHEN,
            error: None,
            reloads: 2,
            failures: 1,
            warnings: Vec::new(),
            readable_secrets: 0,
        },
        tunnel: Some(Tunnel {
            backend: "userspace".to_owned(),
            backend_reason: "configured".to_owned(),
            mtu: 1420,
            mtu_reason: "from the path".to_owned(),
            listen_port: 51820,
            offloads: Some(Offloads {
                tun_tcp: true,
                tun_udp: false,
                udp_send: true,
                udp_receive: true,
                refused_runs: 4,
            }),
            refused: BTreeMap::from([("malformed".to_owned(), 0), ("replayed".to_owned(), 7)]),
            // The second name is there to be quoted.
            peers: vec![peer("seed", true), peer("a \"b\" \\ c", false)],
        }),
        network: vec![
            step("link", "link seed0 mtu 1420"),
            step("route", "route 10.240.16.0/20 dev seed0"),
            step(
                "nft",
                "table inet seed0 {\n\tchain a long line that would widen the column\n}",
            ),
        ],
        repairs: [("route".to_owned(), 3)].into(),
        dns: Some(dns()),
        ports: vec![Port {
            listen: "127.0.0.1:3100".parse().unwrap(),
            to: "loki.logging.svc.cluster.local:3100".to_owned(),
            open: 1,
            accepted: 5,
            failed: 2,
            transmitted: 100,
            received: 200,
            last_error: None,
        }],
        conditions: Vec::new(),
        last_error: Some(LastError {
            at: WHEN,
            text: "failed to resolve hub.example: no answer".to_owned(),
        }),
    }
}

/// A server on a thread of its own, for clients that block. It ends when it is dropped.
struct Serving {
    address: SocketAddr,
    has_socket: bool,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn serve(control: Control, health: Arc<Health>, source: Arc<Fake>) -> Result<Serving, BindError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::bind(&control, health, source))?;
    let port = server.http_address().expect("it serves HTTP").port();
    let has_socket = server.has_socket();
    let (end, ended) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = server.run() => {}
                _ = ended => {}
            }
        });
    });
    Ok(Serving {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        has_socket,
        end: Some(end),
        thread: Some(thread),
    })
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

/// A server and what it tells.
struct Watched {
    /// Ends it when dropped.
    _serving: Serving,
    source: Arc<Fake>,
    heartbeats: Heartbeats,
    address: SocketAddr,
}

fn control(http: &str, socket: Option<&Path>, startup_wait: Option<Duration>) -> Control {
    Control {
        http: Some(http.parse().unwrap()),
        socket: socket.map(Path::to_owned),
        startup_wait,
    }
}

fn watch(control: Control) -> Watched {
    let source = Arc::new(Fake(Mutex::new(ready())));
    let heartbeats = Heartbeats::default();
    let health = Health::new(heartbeats.clone());
    let serving = serve(control, health, source.clone()).expect("the server binds");
    Watched {
        address: serving.address,
        _serving: serving,
        source,
        heartbeats,
    }
}

impl Watched {
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.source.0.lock().unwrap());
    }

    fn get(&self, path: &str) -> (u16, String) {
        let answer = exchange(
            self.address,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
        );
        (status_of(&answer), body_of(&answer).to_owned())
    }
}

/// Everything that is answered until the server closes the connection.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("someone listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn status_of(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).expect("a status line");
    status.parse().expect("a status")
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a header").1
}

#[test]
fn readiness_lists_each_reason_and_ignores_peers_that_call_us() {
    let watched = watch(control("127.0.0.1:0", None, None));
    assert_eq!(watched.get("/readyz"), (200, "ok\n".to_owned()));

    watched.change(|s| s.tunnel.as_mut().unwrap().peers[1].state = PeerState::Down);
    assert_eq!(watched.get("/readyz").0, 200, "it has no endpoint");

    watched.change(|s| {
        let peer = &mut s.tunnel.as_mut().unwrap().peers[0];
        peer.state = PeerState::Down;
        peer.trouble = Some("no answer for 12 s".to_owned());
        s.dns.as_mut().unwrap().zones[0].not_ready = Some("SERVFAIL".to_owned());
        s.network[1].error = Some("permission denied".to_owned());
        s.conditions = vec![Reason::new(ReasonKind::Starting, "starting")];
    });
    let (status, body) = watched.get("/readyz");
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "starting: starting\n\
         network: route 10.240.16.0/20 dev seed0: permission denied\n\
         peer: peer seed is down: no answer for 12 s\n\
         zone: loki.logging.svc.cluster.local: SERVFAIL\n"
    );
    assert_eq!(watched.get("/livez").0, 200, "it never looks at peers");

    watched.change(|s| *s = ready());
    assert_eq!(watched.get("/readyz").0, 200);
    watched.change(|s| s.tunnel.as_mut().unwrap().peers[0].state = PeerState::Idle);
    assert_eq!(watched.get("/readyz").0, 200, "an idle peer is ready");
}

#[test]
fn a_loop_that_stands_still_is_not_alive() {
    let watched = watch(control("127.0.0.1:0", None, None));
    let pulse = watched
        .heartbeats
        .register("tunnel", Duration::from_secs(3600));
    assert_eq!(watched.get("/livez"), (200, "ok\n".to_owned()));
    let panics = std::thread::spawn(move || {
        let _pulse = pulse;
        panic!("on purpose");
    });
    assert!(panics.join().is_err());
    assert_eq!(
        watched.get("/livez"),
        (503, "tunnel has panicked\n".to_owned())
    );
}

#[test]
fn startup_is_over_for_good_once_ready() {
    let starting = |s: &mut Snapshot| {
        s.conditions = vec![Reason::new(ReasonKind::Starting, "the tunnel comes up")];
    };
    let startup = |serving: &Serving| {
        let request = "GET /startupz HTTP/1.1\r\nHost: x\r\n\r\n";
        status_of(&exchange(serving.address, request))
    };
    let hour = Duration::from_secs(3600);
    for (wait, first) in [(None, 503), (Some(hour), 503), (Some(Duration::ZERO), 200)] {
        // The server looks by itself too, so the state is set before it listens.
        let mut snapshot = ready();
        starting(&mut snapshot);
        let source = Arc::new(Fake(Mutex::new(snapshot)));
        let health = Health::new(Heartbeats::default());
        let control = control("127.0.0.1:0", None, wait);
        let serving = serve(control.clone(), health.clone(), source.clone()).unwrap();
        assert_eq!(startup(&serving), first, "{wait:?}");
        *source.0.lock().unwrap() = ready();
        assert_eq!(startup(&serving), 200);
        starting(&mut source.0.lock().unwrap());
        assert_eq!(startup(&serving), 200, "it stays");

        // A reload with another `control` makes a new server.
        drop(serving);
        let serving = serve(control, health, source).unwrap();
        assert_eq!(startup(&serving), 200, "it stays over a reload");
    }
}

#[test]
fn only_known_paths_are_served_and_only_for_reading() {
    let watched = watch(control("127.0.0.1:0", None, None));
    let ask = |method: &str, path: &str| {
        exchange(
            watched.address,
            &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
        )
    };
    for path in ["/", "/status", "/status.json", "/livez/", "/debug"] {
        assert_eq!(status_of(&ask("GET", path)), 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(method, "/livez");
        assert_eq!(status_of(&answer), 405, "{method}");
        assert!(
            answer.to_lowercase().contains("allow: get, head"),
            "{answer}"
        );
    }
    let head = ask("HEAD", "/readyz");
    assert_eq!((status_of(&head), body_of(&head)), (200, ""));
    assert_eq!(watched.get("/readyz?verbose").0, 200);
}

#[test]
fn the_unspecified_ipv6_address_takes_ipv4_too() {
    let watched = watch(control("[::]:0", None, None));
    assert_eq!(watched.get("/livez").0, 200);
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, watched.address.port()));
    assert_eq!(
        status_of(&exchange(v6, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")),
        200
    );
}

#[test]
fn an_address_that_is_taken_is_named() {
    let watched = watch(control("127.0.0.1:0", None, None));
    let control = control(&watched.address.to_string(), None, None);
    let health = Health::new(Heartbeats::default());
    let Err(error) = serve(control, health, watched.source.clone()) else {
        panic!("two servers listen on one address")
    };
    let expected = format!(
        "failed to listen on {} for health and metrics",
        watched.address
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn held_connections_do_not_keep_a_probe_waiting_and_are_let_go() {
    let watched = watch(control("127.0.0.1:0", None, None));
    let held: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(watched.address).unwrap())
        .collect();
    assert_eq!(watched.get("/livez").0, 200);
    let closed = |mut stream: &TcpStream| {
        let deadline = Some(Duration::from_secs(30));
        stream.set_read_timeout(deadline).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the server closes it");
    };
    let (oldest, newest) = (&held[0], &held[held.len() - 1]);
    closed(oldest);
    // Whatever else was due to be closed by now is closed when these are answered.
    for _ in 0..500 {
        assert_eq!(watched.get("/livez").0, 200);
    }
    newest.set_nonblocking(true).unwrap();
    let open = newest.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(open, Err(ErrorKind::WouldBlock), "the oldest go first");
    newest.set_nonblocking(false).unwrap();
    closed(newest);
}

/// The samples of an OpenMetrics text, by name and labels; panics where the text is not sound.
fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut families = BTreeSet::new();
    let mut family = ("", "");
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.contains(' '), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split_once(' ').expect("a name and a type");
            assert!(families.insert(family.0), "{} comes twice", family.0);
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            let expected = match family.1 {
                "counter" => format!("{}_total", family.0),
                "gauge" => family.0.to_owned(),
                other => panic!("{other} of {line}"),
            };
            assert_eq!(name, expected, "{line}");
            check_labels(&series[name.len()..]);
            let value = value.parse().expect("a number");
            let before = samples.insert(series.to_owned(), value);
            assert!(before.is_none(), "{series} comes twice");
        }
    }
    samples
}

/// `{name="value",...}` or nothing, with quotes, backslashes and line breaks escaped.
fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let mut rest = labels.strip_prefix('{').expect("a brace");
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{labels}"
        );
        let mut escaped = false;
        let end = after.find(|c| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        });
        rest = &after[end.expect("a closing quote") + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break assert_eq!(rest, "}", "{labels}"),
        }
    }
}

#[test]
fn metrics_are_sound_and_have_the_promised_names() {
    let watched = watch(control("127.0.0.1:0", None, None));
    watched.change(|s| {
        s.conditions = vec![Reason::new(ReasonKind::Sockets, "a socket is not bound")];
        // The same upstream twice must not make the scrape invalid.
        let general = s.dns.as_mut().unwrap().upstreams.as_mut().unwrap();
        general.push(general[0].clone());
    });
    let answer = exchange(watched.address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.to_lowercase().contains(kind), "{answer}");
    let samples = parse_metrics(body_of(&answer));
    for (series, value) in [
        ("seedwire_build_info{version=\"1.2.3\"}", 1.0),
        ("seedwire_ready{reason=\"sockets\"}", 0.0),
        ("seedwire_ready{reason=\"peer\"}", 1.0),
        (
            "seedwire_peer_last_handshake_timestamp_seconds{peer=\"seed\"}",
            1.7e9,
        ),
        ("seedwire_peer_receive_bytes_total{peer=\"seed\"}", 1536.0),
        ("seedwire_peer_transmit_bytes_total{peer=\"seed\"}", 2048.0),
        (
            "seedwire_peer_state{peer=\"a \\\"b\\\" \\\\ c\",state=\"up\"}",
            1.0,
        ),
        ("seedwire_config_last_reload_successful", 1.0),
        ("seedwire_config_last_reload_success_timestamp_seconds", 0.0),
        ("seedwire_config_reloads_total{result=\"failed\"}", 1.0),
        (
            "seedwire_dns_upstream_up{zone=\"loki.logging.svc.cluster.local\",upstream=\"10.240.16.10:53\"}",
            1.0,
        ),
        (
            "seedwire_dns_upstream_up{zone=\".\",upstream=\"169.254.20.10:53\"}",
            0.0,
        ),
        ("seedwire_dns_queries_total{transport=\"udp\"}", 7.0),
        ("seedwire_dns_responses_total{rcode=\"NOERROR\"}", 6.0),
        ("seedwire_dns_cache_hits_total", 0.0),
        ("seedwire_netstate_objects{kind=\"route\"}", 1.0),
        (
            "seedwire_port_connections_total{listen=\"127.0.0.1:3100\"}",
            5.0,
        ),
    ] {
        assert_eq!(
            samples.get(series),
            Some(&value),
            "{series} in {samples:#?}"
        );
    }
}

#[test]
fn an_instance_without_sections_has_metrics_too() {
    let watched = watch(control("127.0.0.1:0", None, None));
    watched.change(|s| {
        (s.tunnel, s.dns) = (None, None);
        s.network.clear();
        s.ports.clear();
    });
    let samples = parse_metrics(&watched.get("/metrics").1);
    assert!(samples.contains_key("seedwire_ready{reason=\"zone\"}"));
    assert!(!samples.keys().any(|name| name.starts_with("seedwire_dns")));
}

#[test]
fn status_comes_over_the_socket_as_a_table_and_as_json() {
    let folder = Folder::new("control-status");
    let socket = folder.path().join("run/seed0.sock");
    let watched = watch(control("127.0.0.1:0", Some(&socket), None));
    watched.change(|s| {
        s.dns.as_mut().unwrap().zones[0].not_ready = Some("no answer yet".to_owned());
    });
    let status = |arguments: &[&str]| {
        let mut command = seedwire();
        command
            .arg("status")
            .arg("--socket")
            .arg(&socket)
            .args(arguments);
        let output = output(&mut command, b"");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let table = status(&[]);
    for line in [
        "seed0: NOT READY (seedwire 1.2.3, pid 42, running for ",
        "  not ready: loki.logging.svc.cluster.local: no answer yet\n",
        "tunnel: userspace (configured), MTU 1420 (from the path), UDP port 51820\n",
        "  offloads not in use: tun_udp\n",
        "  seed: 10.88.0.1 answered ",
        " ago, takes 1328 bytes at most\n",
        "  PEER       STATE  ENDPOINT         HANDSHAKE",
        " 1.5 KiB   2.0 KiB  10.88.0.1/32, 10.240.16.0/20\n",
        "  route 10.240.16.0/20 dev seed0  as desired\n  table inet seed0                as desired\n",
        "  (everything else)               -          169.254.20.10:53  DOWN   10         3         -        no answer within 2 s\n",
        "  127.0.0.1:3100  loki.logging.svc.cluster.local:3100  1     5      2",
        " ago: failed to resolve hub.example: no answer\n",
    ] {
        assert!(table.contains(line), "{line:?} is not in\n{table}");
    }
    let json = status(&["--json"]);
    assert_eq!(json.lines().count(), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ready"], false);
    assert_eq!(json["notReady"][0]["kind"], "zone");
    assert_eq!(json["instance"]["interface"], "seed0");
    assert_eq!(json["config"]["reloads"], 2);
    let peer = &json["tunnel"]["peers"][0];
    assert_eq!(peer["state"], "up");
    assert_eq!(peer["lastHandshake"], 1_700_000_000);
    assert_eq!(peer["handshakeSeconds"], 0.002);
    assert_eq!(peer["allowedIPs"][1], "10.240.16.0/20");
    assert_eq!(
        json["dns"]["zones"][0]["upstreams"][0]["latencySeconds"],
        0.0125
    );
}

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    let folder = Folder::new("control-socket");
    let socket = folder.path().join("run/seed0.sock");
    let watched = watch(control("127.0.0.1:0", Some(&socket), None));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()) & 0o077 & !0o055, 0);
    drop(watched);
    assert!(!socket.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is() {
    let folder = Folder::new("control-stale");
    let watched = watch(control("127.0.0.1:0", None, None));
    let bind = |path: &Path| {
        let control = control("127.0.0.1:0", Some(path), None);
        let health = Health::new(Heartbeats::default());
        serve(control, health, watched.source.clone())
    };
    let stale = folder.path().join("stale.sock");
    abandon(UnixListener::bind(&stale).unwrap(), &stale);
    let server = bind(&stale).expect("nobody listens there");
    assert!(matches!(bind(&stale), Err(BindError::InUse(path)) if path == stale));
    drop(server);
    assert!(!stale.exists());

    let file = folder.path().join("file.sock");
    std::fs::write(&file, "kept").unwrap();
    assert!(matches!(bind(&file), Err(BindError::NoSocket(path)) if path == file));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");

    // Nothing can be made in /proc, not even by root.
    let server = bind(Path::new("/proc/seedwire/seed0.sock")).expect("a warning only");
    assert!(!server.has_socket);
}

#[test]
fn status_says_when_nothing_runs() {
    let folder = Folder::new("control-nobody");
    let stale = folder.path().join("stale.sock");
    abandon(UnixListener::bind(&stale).unwrap(), &stale);
    for socket in [stale, folder.path().join("none.sock")] {
        let mut command = seedwire();
        command.arg("status").arg("--socket").arg(&socket);
        let output = output(&mut command, b"");
        assert_eq!(output.status.code(), Some(1));
        let expected = format!(
            "seedwire: no instance runs there; `seedwire run -c FILE` starts one: failed to \
             connect to the socket {}: ",
            socket.display()
        );
        assert!(
            stderr(&output).starts_with(&expected),
            "{}",
            stderr(&output)
        );
    }
}
