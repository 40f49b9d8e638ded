//! Names through the tunnel and names of the node, with unbound in the seed and dnsmasq beside the
//! node.

use serde_json::{Value, json};

use crate::harness::dns::{Server, ask, dnsmasq, unbound};
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, State, wait_until};

pub const LOKI: &str = "loki.logging.svc.cluster.local";

/// A world with a running hub, whose seed knows the zone and whose internet knows the rest.
pub struct Names {
    pub world: World,
    pub hub: Seedwire,
    pub control_plane: Server,
    pub internet: Server,
}

impl Names {
    pub fn new() -> Self {
        let world = World::new();
        let hub = Seedwire::start_ready(&world.hub, &world.hub_config());
        let long = format!("\"{}\" ", "x".repeat(150)).repeat(12);
        let control_plane = unbound(
            &world.seed,
            "10.240.16.10",
            &[
                "local-data: \"loki.logging.svc.cluster.local. 60 A 10.240.20.5\"",
                "local-data: \"loki.logging.svc.cluster.local. 60 AAAA fd24:16::5\"",
                &format!("local-data: 'long.logging.svc.cluster.local. 60 TXT {long}'"),
            ],
        );
        let internet = dnsmasq(
            &world.hub,
            "192.0.2.1",
            &[
                "--host-record=example.test,192.0.2.77",
                "--host-record=loki.logging.svc.cluster.local,192.0.2.66",
            ],
        );
        Self {
            world,
            hub,
            control_plane,
            internet,
        }
    }

    /// The node's configuration with the zone through the tunnel and the rest from the internet.
    pub fn node_config(&self) -> Value {
        let mut config = self.world.node_config();
        config["dns"] = json!({
            "listen": ["127.0.0.1:53", "[::1]:53"],
            "upstreams": ["192.0.2.1:53"],
            "zones": [{
                "zone": "logging.svc.cluster.local",
                "upstreams": ["10.240.16.10:53"],
                "probe": LOKI,
            }],
        });
        config
    }
}

/// Asserts what an answer holds.
#[track_caller]
fn expect(host: &Host, line: &str, status: &str, data: &[&str]) {
    let mut answer = ask(host, line);
    answer.data.sort();
    assert!(
        answer.status == status && answer.data == data,
        "{line}: {}",
        answer.text
    );
}

pub fn the_zone_is_answered_by_the_seed_and_the_rest_by_the_node() {
    let names = Names::new();
    let mut node = Seedwire::start_ready(&names.world.node, &names.node_config());
    let host = &names.world.node;
    for server in ["@127.0.0.1", "@::1"] {
        for transport in ["+notcp", "+tcp"] {
            expect(
                host,
                &format!("{server} {transport} {LOKI} A"),
                "NOERROR",
                &["10.240.20.5"],
            );
            expect(
                host,
                &format!("{server} {transport} {LOKI} AAAA"),
                "NOERROR",
                &["fd24:16::5"],
            );
            expect(
                host,
                &format!("{server} {transport} {LOKI} MX"),
                "NOERROR",
                &[],
            );
            let absent = format!("{server} {transport} absent.logging.svc.cluster.local");
            expect(host, &absent, "NXDOMAIN", &[]);
            let rest = format!("{server} {transport} example.test");
            expect(host, &rest, "NOERROR", &["192.0.2.77"]);
        }
    }
    assert_eq!(
        names.internet.questions("logging.svc"),
        0,
        "the zone is the seed's alone"
    );
    assert_eq!(names.control_plane.questions("example.test"), 0);
    node.stop();
}

pub fn answers_are_kept_with_their_time() {
    let names = Names::new();
    let _node = Seedwire::start_ready(&names.world.node, &names.node_config());
    let host = &names.world.node;
    let line = format!("@127.0.0.1 {LOKI} AAAA");
    for _ in 0..5 {
        expect(host, &line, "NOERROR", &["fd24:16::5"]);
    }
    assert_eq!(names.control_plane.questions(&format!("{LOKI}. AAAA")), 1);
    let ttl = || -> u32 {
        let answer = ask(host, &line);
        let record = answer.text.lines().find(|line| line.contains("fd24:16::5"));
        let ttl = record.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        ttl.unwrap_or_else(|| panic!("a TTL in {}", answer.text))
    };
    assert!(ttl() <= 60);
    wait_until("the TTL to count down", || ttl() < 59);
    // A negative answer too, for as long as its SOA says; unbound's static zone has none, so the
    // control plane is asked each time.
    assert_eq!(names.control_plane.questions(&format!("{LOKI}. AAAA")), 1);
}

pub fn an_answer_too_long_for_udp_comes_over_tcp() {
    let names = Names::new();
    let _node = Seedwire::start_ready(&names.world.node, &names.node_config());
    let host = &names.world.node;
    let long = "long.logging.svc.cluster.local TXT";
    let cut = ask(host, &format!("@127.0.0.1 +ignore +noedns {long}"));
    assert!(cut.text.contains(" tc"), "{}", cut.text);
    let whole = ask(host, &format!("@127.0.0.1 +noedns {long}"));
    assert!(
        whole.data.len() == 1 && whole.data[0].len() > 1800,
        "{}",
        whole.text
    );
    let whole = ask(host, &format!("@127.0.0.1 +bufsize=1232 {long}"));
    assert!(
        whole.data.len() == 1 && whole.data[0].len() > 1800,
        "{}",
        whole.text
    );
}

pub fn another_upstream_answers_for_one_that_refuses_or_is_dead() {
    let names = Names::new();
    let world = &names.world;
    world.seed.run("ip addr add 10.240.16.11/20 dev inside");
    world.seed.run("ip addr add 10.240.16.12/20 dev inside");
    let refuses = unbound(
        &world.seed,
        "10.240.16.11",
        &["access-control: 10.88.0.0/24 refuse"],
    );
    let mut config = names.node_config();
    // At 10.240.16.12 nobody listens, and at 10.240.16.13 nobody is.
    config["dns"]["zones"][0]["upstreams"] = json!([
        "10.240.16.11:53",
        "10.240.16.12:53",
        "10.240.16.13:53",
        "10.240.16.10:53"
    ]);
    config["dns"]["upstreams"] = json!(["192.0.2.99:53", "192.0.2.1:53"]);
    let _node = Seedwire::start_ready(&world.node, &config);
    expect(
        &world.node,
        &format!("@127.0.0.1 {LOKI} AAAA"),
        "NOERROR",
        &["fd24:16::5"],
    );
    expect(
        &world.node,
        &format!("@127.0.0.1 +tcp {LOKI} A"),
        "NOERROR",
        &["10.240.20.5"],
    );
    expect(
        &world.node,
        "@127.0.0.1 example.test",
        "NOERROR",
        &["192.0.2.77"],
    );
    drop(refuses);
}

pub fn the_zone_never_falls_back_to_the_general_upstreams() {
    let mut names = Names::new();
    let node = Seedwire::start_ready(&names.world.node, &names.node_config());
    names.control_plane.process.kill();
    let name = "other.logging.svc.cluster.local";
    expect(
        &names.world.node,
        &format!("@127.0.0.1 {name}"),
        "SERVFAIL",
        &[],
    );
    wait_until("readiness to end with the zone", || {
        node.get("/readyz").is_some_and(|ready| ready.status == 503)
    });
    expect(
        &names.world.node,
        "@127.0.0.1 example.test",
        "NOERROR",
        &["192.0.2.77"],
    );
    assert_eq!(names.internet.questions(name), 0);
}

pub fn a_zone_behind_a_peer_that_is_down_fails_fast() {
    let mut names = Names::new();
    let mut config = names.node_config();
    config["tunnel"]["peers"][0]["keepalive"] = "1s".into();
    let node = Seedwire::start_ready(&names.world.node, &config);
    names.hub.kill_hard();
    let host = &names.world.node;
    let line = "@127.0.0.1 +time=1 fresh.logging.svc.cluster.local";
    wait_until("the peer to be down", || {
        node.get("/readyz")
            .is_some_and(|ready| ready.body.contains("peer"))
    });
    // dig waits 1 s, less than an upstream's timeout.
    assert_eq!(ask(host, line).status, "SERVFAIL", "within a second");
    assert!(
        ask(host, line).text.contains("EDE: "),
        "an extended error says why"
    );
    expect(host, "@127.0.0.1 example.test", "NOERROR", &["192.0.2.77"]);
    assert!(!node.is_ready());
    let _hub = Seedwire::start_ready(&names.world.hub, &names.world.hub_config());
    wait_until("the zone to be answered", || {
        ask(host, &format!("@127.0.0.1 {LOKI} A")).data == ["10.240.20.5"]
    });
}

pub fn a_question_wakes_an_idle_tunnel() {
    let names = Names::new();
    let mut config = names.node_config();
    config["tunnel"]["peers"][0]["keepalive"] = "0s".into();
    config["control"] = json!({});
    let node = Seedwire::start(&names.world.node, &config);
    let host = &names.world.node;
    wait_until("an answer", || {
        !ask(host, "@127.0.0.1 example.test").status.is_empty()
    });
    expect(
        host,
        &format!("@127.0.0.1 {LOKI} A"),
        "NOERROR",
        &["10.240.20.5"],
    );
    drop(node);
}

pub fn names_outside_the_zones_are_refused_without_upstreams() {
    let names = Names::new();
    let mut config = names.node_config();
    config["dns"]
        .as_object_mut()
        .expect("a section")
        .remove("upstreams");
    let _node = Seedwire::start_ready(&names.world.node, &config);
    expect(&names.world.node, "@127.0.0.1 example.test", "REFUSED", &[]);
    expect(
        &names.world.node,
        "@127.0.0.1 +tcp example.test",
        "REFUSED",
        &[],
    );
    expect(
        &names.world.node,
        &format!("@127.0.0.1 {LOKI} A"),
        "NOERROR",
        &["10.240.20.5"],
    );
}

pub fn a_listen_address_is_lent_to_the_loopback_interface() {
    let names = Names::new();
    let host = &names.world.node;
    host.run("ip addr add 169.254.20.10/32 dev lo");
    let before = State::of(host);
    let mut config = names.node_config();
    config["dns"]["listen"] = json!(["169.254.20.10:53", "169.254.20.11:53"]);
    let mut node = Seedwire::start_ready(host, &config);
    expect(
        host,
        &format!("@169.254.20.10 {LOKI} A"),
        "NOERROR",
        &["10.240.20.5"],
    );
    expect(
        host,
        &format!("@169.254.20.11 {LOKI} A"),
        "NOERROR",
        &["10.240.20.5"],
    );
    node.stop();
    crate::harness::state::assert_unchanged("after the end", &before, &State::of(host));
    let mut node = Seedwire::start_ready(host, &config);
    node.kill_hard();
    assert!(node.command("down").status.success());
    crate::harness::state::assert_unchanged("after down", &before, &State::of(host));
}

pub fn the_systems_servers_are_upstreams_less_our_own() {
    let names = Names::new();
    let host = &names.world.node;
    host.replace_file(
        "/etc/resolv.conf",
        "nameserver 127.0.0.1\nnameserver 192.0.2.1\n",
    );
    let mut config = names.node_config();
    config["dns"]["upstreams"] = json!(["system"]);
    let _node = Seedwire::start_ready(host, &config);
    expect(host, "@127.0.0.1 example.test", "NOERROR", &["192.0.2.77"]);
    expect(
        host,
        &format!("@127.0.0.1 {LOKI} A"),
        "NOERROR",
        &["10.240.20.5"],
    );
}

pub fn names_alone_need_no_privileges() {
    let names = Names::new();
    let host = &names.world.node;
    let config = json!({
        "dns": {"listen": ["127.0.0.1:5353"], "upstreams": ["192.0.2.1:53"]},
        "control": {"http": crate::harness::seedwire::HTTP},
    });
    let before = State::of(host);
    let file = host.folder("plain").join("config.yaml");
    std::fs::write(&file, config.to_string()).expect("a file in memory");
    let program = crate::harness::sandbox::seedwire();
    let line = format!(
        "setpriv --bounding-set=-all --inh-caps=-all {program} run -c {}",
        file.display()
    );
    let mut process = host.spawn(&line);
    wait_until("an answer", || {
        assert!(process.is_running(), "{}", process.output());
        ask(host, "@127.0.0.1 -p 5353 example.test").data == ["192.0.2.77"]
    });
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(process.wait().success());
    crate::harness::state::assert_unchanged("after the end", &before, &State::of(host));
}

pub fn upstreams_are_asked_over_ipv6_too() {
    let names = Names::new();
    let line = "local-data: \"loki.logging.svc.cluster.local. 60 A 10.240.20.66\"";
    let control_plane = unbound(&names.world.seed, "fd24:16::10", &[line]);
    let internet = dnsmasq(
        &names.world.hub,
        "2001:db8::1",
        &["--host-record=example.test,192.0.2.66"],
    );
    let mut config = names.node_config();
    config["dns"]["zones"][0]["upstreams"] = json!(["[fd24:16::10]:53"]);
    config["dns"]["upstreams"] = json!(["[2001:db8::1]:53"]);
    let _node = Seedwire::start_ready(&names.world.node, &config);
    for transport in ["+notcp", "+tcp"] {
        let host = &names.world.node;
        expect(
            host,
            &format!("@::1 {transport} {LOKI} A"),
            "NOERROR",
            &["10.240.20.66"],
        );
        expect(
            host,
            &format!("@127.0.0.1 {transport} example.test"),
            "NOERROR",
            &["192.0.2.66"],
        );
    }
    assert!(control_plane.questions(LOKI) > 0 && internet.questions("example.test") > 0);
}
