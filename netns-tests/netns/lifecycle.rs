//! The daemon's start, its end and what it needs.

use std::io::{Read, Write};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::dns::{LOKI, Names};
use crate::harness::client::{Client, serve_tcp};
use crate::harness::state::assert_unchanged;
use crate::harness::world::World;
use crate::harness::{Host, Seedwire, State, wait_until};

/// Runs a daemon that is to fail with an exit code, and returns what it said.
#[track_caller]
pub fn failed_run(host: &Host, config: &Value, code: i32) -> String {
    let mut daemon = Seedwire::start(host, config);
    let status = daemon.process().wait();
    assert_eq!(status.code(), Some(code), "{}", daemon.log());
    daemon.log()
}

pub fn a_second_run_names_the_holder() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let config = world.node_config();
    let mut first = Seedwire::start_ready(&world.node, &config);
    let before = State::of(&world.node);
    let error = failed_run(&world.node, &config, 1);
    assert!(
        error.contains(&first.process().pid().to_string()),
        "{error}"
    );
    let down = first.command("down");
    assert_eq!(down.status.code(), Some(1), "down while it runs");
    assert_unchanged("after both", &before, &State::of(&world.node));
    assert!(first.is_ready());
    first.stop();
    let mut next = Seedwire::start_ready(&world.node, &config);
    next.stop();
}

pub fn a_second_run_in_another_pid_namespace_says_so() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let first = Seedwire::start_ready(&world.node, &world.node_config());
    let program = crate::harness::sandbox::seedwire();
    let file = world.node.folder("seedwire-seed0").join("config.yaml");
    let line = format!("unshare --pid --fork {program} run -c {}", file.display());
    let second = world.node.try_run(&line);
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{error}");
    assert!(error.contains("pid namespace"), "{error}");
    assert!(first.is_ready());
}

pub fn a_bad_configuration_touches_nothing() {
    let world = World::new();
    let before = State::of(&world.node);
    let mut config = world.node_config();
    config["tunnel"]["adresses"] = json!([]);
    let error = failed_run(&world.node, &config, 78);
    assert!(
        error.contains("adresses") && error.contains("addresses"),
        "{error}"
    );
    assert_unchanged(
        "after a bad configuration",
        &before,
        &State::of(&world.node),
    );
}

pub fn down_needs_no_more_than_the_interface() {
    let world = World::new();
    let before = State::of(&world.node);
    let mut config = world.node_config();
    // With a peer that nobody answers for, `down` has routes and a table to remove.
    let mut node = Seedwire::start(&world.node, &config);
    wait_until("the routes to be there", || {
        world.node.run("ip route").contains("dev seed0")
    });
    node.kill_hard();
    config["tunnel"]["privateKeyFile"] = json!("/run/no/such.key");
    config["network"]["routes"] = json!("none");
    node.write_config(&config);
    let down = node.command("down");
    let error = String::from_utf8_lossy(&down.stderr).into_owned();
    assert!(down.status.success(), "{error}");
    assert!(error.contains("/run/no/such.key"), "{error}");
    assert_unchanged("after down", &before, &State::of(&world.node));
}

pub fn a_peer_that_goes_down_is_the_last_error() {
    let world = World::new();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["tunnel"]["peers"][0]["keepalive"] = json!("1s");
    let node = Seedwire::start_ready(&world.node, &config);
    assert_eq!(node.status()["lastError"], Value::Null);
    hub.kill_hard();
    wait_until("the peer to be the last error", || {
        let error = node.status()["lastError"]["text"].to_string();
        error.contains("is down")
    });
}

pub fn an_address_in_use_undoes_what_was_done() {
    let names = Names::new();
    let host = &names.world.node;
    let taken = host.udp("127.0.0.1:53");
    let before = State::of(host);
    let error = failed_run(host, &names.node_config(), 1);
    assert!(error.contains("127.0.0.1:53"), "{error}");
    assert_unchanged("after the failure", &before, &State::of(host));
    drop(taken);
    Seedwire::start_ready(host, &names.node_config()).stop();
}

fn ends_clean_with_clients(signal: Signal) {
    let names = Names::new();
    let world = &names.world;
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut config = names.node_config();
    config["ports"] = json!([{"listen": "127.0.0.1:3100", "to": "10.240.16.10:3100"}]);
    let before = State::of(&world.node);
    let mut node = Seedwire::start_ready(&world.node, &config);
    let mut relayed = Client::connect(&world.node, "127.0.0.1:3100").expect("a connection");
    relayed.exchange(1000).expect("data comes back");
    let mut tunnelled = Client::connect(&world.node, "10.240.16.10:3100").expect("a connection");
    tunnelled.exchange(1000).expect("data comes back");
    let mut dns = world.node.connect("127.0.0.1:53").expect("a connection");
    let mut http = world.node.connect("127.0.0.1:9586").expect("a connection");
    http.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    assert!(http.read(&mut [0; 4096]).expect("an answer") > 0);
    node.process().signal(signal);
    let status = node.process().wait();
    assert!(status.success(), "{status}: {}", node.log());
    assert_unchanged("after the end", &before, &State::of(&world.node));
    // The ends of the connections were closed, not left to time out.
    let mut rest = Vec::new();
    let _ = http.read_to_end(&mut rest);
    let _ = dns.read_to_end(&mut rest);
    assert!(relayed.exchange(1).is_err());
    for left in ["/run/seedwire", "/run/wireguard"] {
        let files = world.node.try_run(&format!("ls {left}"));
        assert!(
            files.stdout.is_empty(),
            "{}",
            String::from_utf8_lossy(&files.stdout)
        );
    }
}

pub fn sigterm_ends_it_clean_with_clients_connected() {
    ends_clean_with_clients(Signal::SIGTERM);
}

pub fn sigint_ends_it_clean_with_clients_connected() {
    ends_clean_with_clients(Signal::SIGINT);
}

pub fn an_unreachable_seed_never_ends_it() {
    let world = World::new();
    let mut config = world.node_config();
    config["control"]["startupWait"] = "2s".into();
    let mut node = Seedwire::start(&world.node, &config);
    wait_until("it to be alive", || {
        node.get("/livez").is_some_and(|r| r.status == 200)
    });
    wait_until("a reason", || {
        node.get("/readyz")
            .is_some_and(|r| r.status == 503 && r.body.contains("seed"))
    });
    wait_until("/startupz to give up", || {
        node.get("/startupz").is_some_and(|r| r.status == 200)
    });
    assert!(!node.is_ready() && node.process().is_running());
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    node.wait_until_ready();
    node.stop();
}

pub fn startup_waits_for_readiness() {
    let world = World::new();
    let mut config = world.node_config();
    config["control"]["startupWait"] = "never".into();
    let node = Seedwire::start(&world.node, &config);
    wait_until("it to be alive", || {
        node.get("/livez").is_some_and(|r| r.status == 200)
    });
    assert!(node.get("/startupz").is_some_and(|r| r.status == 503));
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    wait_until("/startupz", || {
        node.get("/startupz").is_some_and(|r| r.status == 200)
    });
    assert!(node.is_ready());
}

pub fn a_sidecar_runs_where_parameters_are_read_only() {
    let names = Names::new();
    let world = &names.world;
    world.node.make_sysctls_read_only();
    serve_tcp(&world.seed, "10.240.16.10:3100");
    let mut config = names.node_config();
    config["network"] = json!({"dnat": [
        {"protocol": "tcp", "address": "10.96.77.7", "port": 80, "to": "10.240.16.10:3100"},
    ]});
    let before = State::of(&world.node);
    let mut node = Seedwire::start_ready(&world.node, &config);
    let mut client = Client::connect(&world.node, "10.96.77.7:80").expect("a connection");
    client.exchange(100_000).expect("data comes back");
    assert_eq!(
        crate::harness::dns::ask(&world.node, &format!("@127.0.0.1 {LOKI}")).data,
        ["10.240.20.5"]
    );
    node.stop();
    assert_unchanged("after the end", &before, &State::of(&world.node));
}

pub fn status_and_metrics_tell_the_state() {
    let names = Names::new();
    let node = Seedwire::start_ready(&names.world.node, &names.node_config());
    names.world.node.run("ping -c 1 -W 5 10.88.0.1");
    let status = node.status().to_string();
    for part in [
        "seed",
        "192.0.2.1:51820",
        "10.240.16.0/20",
        "logging.svc.cluster.local",
    ] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let table = node.command("status");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("192.0.2.1:51820"), "{table}");
    assert!(
        node.metric("seedwire_peer_receive_bytes_total{peer=\"seed\"}")
            .is_some_and(|n| n > 0.0)
    );
    assert!(
        node.metric("seedwire_peer_last_handshake_timestamp_seconds{peer=\"seed\"}")
            .is_some_and(|n| n > 1e9)
    );
    let metrics = node.get("/metrics").expect("metrics").body;
    for name in [
        "seedwire_build_info",
        "seedwire_ready",
        "seedwire_config_last_reload_successful",
        "seedwire_dns_upstream_up",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let secret = &names.world.node_keys.private;
    for text in [status, table, metrics, node.log()] {
        assert!(!text.contains(secret.as_str()), "the private key in {text}");
    }
}

pub fn a_signal_during_the_start_leaves_nothing() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let mut config = world.node_config();
    config["network"] = json!({"forward": false, "dnat": [
        {"protocol": "tcp", "address": "10.96.77.7", "port": 80, "to": "10.240.16.10:3100"},
    ]});
    config["dns"] = json!({
        "listen": ["169.254.20.11:53"],
        "zones": [{"zone": "logging.svc.cluster.local", "upstreams": ["10.240.16.10:53"]}],
    });
    let before = State::of(&world.node);
    for milliseconds in [0, 1, 2, 4, 7, 10, 15, 20, 30, 50, 90] {
        let mut node = Seedwire::start(&world.node, &config);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        node.process().signal(Signal::SIGTERM);
        node.process().wait();
        let when = format!("after a signal {milliseconds} ms from the start");
        assert_unchanged(&when, &before, &State::of(&world.node));
    }
}

pub fn a_plan_names_the_steps_and_takes_none() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let before = State::of(&world.node);
    let mut node = Seedwire::start_ready(&world.node, &world.node_config());
    let beside = State::of(&world.node);
    let plan = || {
        let output = node.command("check --plan");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let running = plan();
    assert!(
        !running.contains("10.240.16.0/20"),
        "nothing is left to do: {running}"
    );
    assert_unchanged("after a plan", &beside, &State::of(&world.node));
    let status = node.status().to_string();
    node.stop();
    let plan = node.command("check --plan");
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let step = plan
        .lines()
        .find(|line| line.contains("10.240.16.0/20"))
        .expect("a step for the route");
    assert!(status.contains(step.trim()), "{step} in {status}");
    assert_unchanged("after a plan", &before, &State::of(&world.node));
}

pub fn forwarding_that_cannot_be_switched_on_is_named() {
    let world = World::new();
    world.hub.make_sysctls_read_only();
    let before = State::of(&world.hub);
    let error = failed_run(&world.hub, &world.hub_config(), 1);
    assert!(error.contains("ip_forward"), "{error}");
    assert_unchanged("after the failure", &before, &State::of(&world.hub));
}

pub fn forwarding_that_is_on_already_needs_no_switch() {
    let world = World::new();
    world.hub.forward();
    world.hub.make_sysctls_read_only();
    let mut hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _node = Seedwire::start_ready(&world.node, &world.node_config());
    world.node.run("ping -c 1 -W 5 10.240.16.10");
    hub.stop();
}
