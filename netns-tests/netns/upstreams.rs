//! Upstreams that are asked over TCP and TLS, with unbound.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::dns::{LOKI, Names};
use crate::harness::dns::{Server, ask, unbound};
use crate::harness::{Host, Seedwire, wait_until};

/// A certificate authority for one test, and what it signed.
struct Authority(PathBuf);

impl Authority {
    fn new(host: &Host, name: &str) -> Self {
        let folder = host.folder(name);
        let made = Self(folder);
        host.run(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN={name} -addext basicConstraints=critical,CA:TRUE -keyout {} -out {}",
            made.file("ca.key"),
            made.file("ca.pem")
        ));
        made
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Signs a certificate for `san`, such as `DNS:dns.seed.test`; returns unbound's lines for it.
    fn sign(&self, host: &Host, san: &str) -> [String; 3] {
        let [key, request, certificate] =
            ["key", "csr", "pem"].map(|kind| self.file(&format!("server.{kind}")));
        let extensions = self.file("extensions");
        std::fs::write(&extensions, format!("subjectAltName={san}\n")).expect("a file in memory");
        host.run(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server \
             -keyout {key} -out {request}"
        ));
        host.run(&format!(
            "openssl x509 -req -in {request} -CA {} -CAkey {} -CAcreateserial -days 2 \
             -extfile {extensions} -out {certificate}",
            self.file("ca.pem"),
            self.file("ca.key")
        ));
        [
            format!("tls-service-key: {key}"),
            format!("tls-service-pem: {certificate}"),
            "interface: 10.240.16.10@853".to_owned(),
        ]
    }
}

/// The control plane's DNS in place of the one there is, with these lines too.
fn control_plane(names: &mut Names, lines: &[String]) -> Server {
    names.control_plane.process.kill();
    let mut all = vec![
        "local-data: \"loki.logging.svc.cluster.local. 0 A 10.240.20.5\"",
        "local-zone: \"many.logging.svc.cluster.local.\" redirect",
        "local-data: \"many.logging.svc.cluster.local. 60 A 10.240.20.9\"",
    ];
    all.extend(lines.iter().map(String::as_str));
    unbound(&names.world.seed, "10.240.16.10", &all)
}

/// Counts the connections that are made to a port; what comes over UDP is dropped.
fn count_connections(host: &Host, port: u16) {
    host.nft(&format!(
        "table inet look {{ chain c {{ type filter hook input priority 0; \
         tcp dport {port} tcp flags & (syn | ack) == syn counter; udp dport 53 drop; }}; }}\n"
    ));
}

fn connections(host: &Host) -> u64 {
    let text = host.run("nft list table inet look");
    let count = text.split("counter packets ").nth(1);
    let count = count.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.expect("a counter")
}

fn config(names: &Names, upstreams: Value) -> Value {
    let mut config = names.node_config();
    config["dns"]["zones"][0]["upstreams"] = upstreams;
    config
}

/// Asks for names that nobody asked for before.
#[track_caller]
fn ask_many(host: &Host, what: &str) {
    for number in 0..20 {
        let name = format!("{what}{number}.many.logging.svc.cluster.local");
        let answer = ask(host, &format!("@127.0.0.1 {name} A"));
        assert_eq!(answer.data, ["10.240.20.9"], "{}", answer.text);
    }
}

pub fn a_zone_is_asked_over_tls_on_one_connection() {
    let mut names = Names::new();
    let seed = &names.world.seed;
    let authority = Authority::new(seed, "authority");
    let lines = authority.sign(seed, "DNS:dns.seed.test,IP:10.240.16.10");
    let _server = control_plane(&mut names, &lines);
    count_connections(&names.world.seed, 853);
    let host = &names.world.node;
    for address in ["10.240.16.10:853#dns.seed.test", "10.240.16.10:853"] {
        let upstream = json!([{"address": address, "protocol": "tls",
            "ca": authority.file("ca.pem")}]);
        let mut node = Seedwire::start_ready(host, &config(&names, upstream));
        let before = connections(&names.world.seed);
        ask_many(host, "x");
        let made = connections(&names.world.seed) - before;
        assert!(made <= 1, "{made} connections");
        let status = node.command("status");
        let text = String::from_utf8_lossy(&status.stdout);
        assert!(text.contains(&format!("tls://{address}")), "{text}");
        node.stop();
    }
}

pub fn a_server_with_another_name_or_authority_is_not_believed() {
    let mut names = Names::new();
    let seed = &names.world.seed;
    let authority = Authority::new(seed, "authority");
    let other = Authority::new(seed, "other");
    let lines = authority.sign(seed, "DNS:dns.seed.test");
    let server = control_plane(&mut names, &lines);
    let host = &names.world.node;
    for (name, ca, why) in [
        ("#dns.other.test", &authority, "not valid for"),
        ("", &authority, "not valid for"),
        ("#dns.seed.test", &other, "UnknownIssuer"),
    ] {
        let upstream = json!([{"address": format!("tls://10.240.16.10{name}"),
            "ca": ca.file("ca.pem")}]);
        let node = Seedwire::start(host, &config(&names, upstream));
        wait_until("the reason to be told", || {
            let ready = node.get("/readyz");
            ready.is_some_and(|ready| ready.body.contains("certificate"))
        });
        let answer = ask(host, &format!("@127.0.0.1 {LOKI} A"));
        assert_eq!(answer.status, "SERVFAIL", "{}", answer.text);
        assert!(answer.text.contains("EDE: 23 "), "{}", answer.text);
        let text = node.status().to_string();
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(server.questions(LOKI), 0);
}

pub fn a_tcp_upstream_is_asked_on_one_connection_that_is_renewed() {
    let mut names = Names::new();
    let mut server = control_plane(&mut names, &[]);
    count_connections(&names.world.seed, 53);
    let upstream = json!([{"address": "tcp://10.240.16.10", "maxAge": "3s"}]);
    let _node = Seedwire::start_ready(&names.world.node, &config(&names, upstream));
    ask_many(&names.world.node, "x");
    let made = connections(&names.world.seed);
    assert!((1..=4).contains(&made), "{made} connections");
    // In use all the time, it gives way to another, and no question fails.
    let line = format!("@127.0.0.1 {LOKI} A");
    wait_until("a new connection", || {
        assert_eq!(ask(&names.world.node, &line).data, ["10.240.20.5"]);
        connections(&names.world.seed) > made + 1
    });
    // A server that starts anew closes it.
    names.world.seed.run("nft delete table inet look");
    server.process.kill();
    let _server = control_plane(&mut names, &[]);
    wait_until("an answer", || {
        ask(&names.world.node, &line).data == ["10.240.20.5"]
    });
}

pub fn an_upstream_that_takes_connections_and_says_nothing_is_left() {
    let mut names = Names::new();
    let first = control_plane(&mut names, &[]);
    let seed = &names.world.seed;
    seed.run("ip addr add 10.240.16.11/20 dev inside");
    let data = "local-data: \"loki.logging.svc.cluster.local. 0 A 10.240.20.6\"";
    let _second = unbound(seed, "10.240.16.11", &[data]);
    let host = &names.world.node;
    let mut config = config(&names, json!(["tcp://10.240.16.10", "tcp://10.240.16.11"]));
    config["dns"]["order"] = "listed".into();
    let _node = Seedwire::start_ready(host, &config);
    let line = format!("@127.0.0.1 {LOKI} A");
    assert_eq!(ask(host, &line).data, ["10.240.20.5"]);
    // The kernel still takes its connections.
    first.process.signal(Signal::SIGSTOP);
    let asked_in_vain = first.questions(LOKI);
    for _ in 0..20 {
        assert_eq!(ask(host, &line).data, ["10.240.20.6"]);
    }
    assert_eq!(first.questions(LOKI), asked_in_vain);
    first.process.signal(Signal::SIGCONT);
    wait_until("the first to be asked again", || {
        ask(host, &line).data == ["10.240.20.5"]
    });
}

pub fn a_link_local_upstream_is_asked_on_its_interface() {
    let names = Names::new();
    let hub = &names.world.hub;
    hub.run("ip addr add fe80::53/64 dev uplink nodad");
    let record = "local-data: \"example.test. 60 A 192.0.2.78\"";
    let server = unbound(hub, "fe80::53%uplink", &[record]);
    let host = &names.world.node;
    let mut config = names.node_config();
    config["dns"]["upstreams"] = json!(["fe80::53%uplink"]);
    let _node = Seedwire::start_ready(host, &config);
    for transport in ["+notcp", "+tcp"] {
        let answer = ask(host, &format!("@127.0.0.1 {transport} example.test A"));
        assert_eq!(answer.data, ["192.0.2.78"], "{}", answer.text);
    }
    drop(server);
}
