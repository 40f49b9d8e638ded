//! Names while the servers that know them fail, with unbound in the seed and dnsmasq beside the
//! node.

use serde_json::{Value, json};

use super::dns::{LOKI, Names};
use crate::harness::dns::{ask, unbound};
use crate::harness::{Host, Seedwire, wait_until};

/// A name that may be kept for a second.
const SHORT: &str = "short.logging.svc.cluster.local";
const SHORT_DATA: &str = "local-data: \"short.logging.svc.cluster.local. 1 A 10.240.20.7\"";
const LOKI_DATA: &str = "local-data: \"loki.logging.svc.cluster.local. 60 A 10.240.20.5\"";

/// Names whose control plane's DNS also knows the short one.
fn names() -> Names {
    let mut names = Names::new();
    names.control_plane.process.kill();
    names.control_plane = unbound(&names.world.seed, "10.240.16.10", &[SHORT_DATA, LOKI_DATA]);
    names
}

/// Asks until the answer holds this text.
#[track_caller]
fn wait_for(host: &Host, line: &str, text: &str) {
    wait_until(&format!("{text} for {line}"), || {
        ask(host, line).text.contains(text)
    });
}

/// Drops the questions that come to a server, and counts them.
fn drop_questions(host: &Host) {
    host.nft(
        "table inet outage { chain c { type filter hook input priority 0; \
         udp dport 53 counter drop; tcp dport 53 drop; }; }\n",
    );
}

/// How many questions were dropped.
fn dropped(host: &Host) -> u64 {
    let text = host.run("nft list table inet outage");
    let count = text.split("counter packets ").nth(1);
    let count = count.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.expect("a counter")
}

pub fn a_silent_seed_leaves_what_is_known_and_makes_no_storm() {
    let names = names();
    let host = &names.world.node;
    let node = Seedwire::start_ready(host, &names.node_config());
    let line = format!("@127.0.0.1 {SHORT} A");
    wait_for(host, &line, "10.240.20.7");
    drop_questions(&names.world.seed);
    wait_for(host, &line, "EDE: 3 ");
    // Thirty names that nobody knows, and the one that is known, again and again.
    let names_each_round = 31;
    for round in 0..3 {
        for number in 0..30 {
            let line = format!("@127.0.0.1 +time=1 n{number}.logging.svc.cluster.local A");
            let answer = ask(host, &line);
            assert!(answer.data.is_empty(), "round {round}: {}", answer.text);
        }
        let stale = ask(host, &line);
        assert_eq!(stale.data, ["10.240.20.7"], "{}", stale.text);
        assert!(stale.text.contains(" 30 IN\tA"), "{}", stale.text);
    }
    let sent = dropped(&names.world.seed);
    assert!(
        sent <= 2 * names_each_round,
        "{sent} questions to a dead server"
    );
    wait_until("stale answers to be counted", || {
        node.metric("seedwire_dns_stale_answers_total") >= Some(4.0)
    });
    let status = node.command("status");
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains(" stale") && text.contains("DOWN"), "{text}");
    // It is back: what was stale is fresh.
    names.world.seed.run("nft delete table inet outage");
    wait_until("a fresh answer", || {
        let answer = ask(host, &line);
        !answer.text.contains("EDE: 3") && answer.data == ["10.240.20.7"]
    });
}

pub fn a_refusal_takes_nothing_from_what_is_known() {
    let mut names = names();
    let host = &names.world.node;
    let _node = Seedwire::start_ready(host, &names.node_config());
    let line = format!("@127.0.0.1 {SHORT} A");
    wait_for(host, &line, "10.240.20.7");
    names.control_plane.process.kill();
    let refuses = unbound(
        &names.world.seed,
        "10.240.16.10",
        &["access-control: 10.88.0.0/24 refuse"],
    );
    wait_for(host, &line, "EDE: 3 ");
    assert_eq!(ask(host, &line).data, ["10.240.20.7"]);
    let unknown = ask(host, "@127.0.0.1 other.logging.svc.cluster.local");
    assert_eq!(unknown.status, "REFUSED");
    assert!(unknown.text.contains("EDE: 22 "), "{}", unknown.text);
    drop(refuses);
}

/// Runs a server that says the short name does not exist until the node's answer holds `wanted`;
/// none before may hold `unwanted`.
fn after_an_nxdomain(change: impl Fn(&mut Value), wanted: &str, unwanted: &str) {
    let mut names = names();
    let host = &names.world.node;
    let mut config = names.node_config();
    change(&mut config["dns"]);
    let _node = Seedwire::start_ready(host, &config);
    let line = format!("@127.0.0.1 {SHORT} A");
    wait_for(host, &line, "10.240.20.7");
    names.control_plane.process.kill();
    let empty = unbound(&names.world.seed, "10.240.16.10", &[LOKI_DATA]);
    wait_until(&format!("{wanted} for {line}"), || {
        let answer = ask(host, &line);
        assert!(!answer.text.contains(unwanted), "{}", answer.text);
        answer.text.contains(wanted)
    });
    assert!(empty.questions(SHORT) > 0);
}

pub fn an_nxdomain_stands_unless_it_is_not_to_be_believed() {
    after_an_nxdomain(|_| {}, "status: NXDOMAIN", "EDE: 3 ");
    let distrust = |dns: &mut Value| {
        dns["zones"][0]["cache"] = json!({"stale": "0s", "staleOnNXDOMAIN": "10m"});
    };
    after_an_nxdomain(distrust, "EDE: 3 ", "status: NXDOMAIN");
}

pub fn popular_negative_answers_are_renewed_and_end() {
    let mut names = names();
    let host = &names.world.node;
    let node = Seedwire::start_ready(host, &names.node_config());
    names.control_plane.process.kill();
    let soa = "local-data: \"svc.cluster.local. 3 SOA ns. host. 1 3600 600 86400 3\"";
    let empty = unbound(&names.world.seed, "10.240.16.10", &[LOKI_DATA, soa]);
    let line = "@127.0.0.1 later.logging.svc.cluster.local A";
    let refreshed = || node.metric("seedwire_dns_cache_refreshes_total");
    wait_until("a negative answer to be renewed ahead", || {
        let answer = ask(host, line);
        assert!(answer.status != "NOERROR", "{}", answer.text);
        refreshed() > Some(0.0)
    });
    drop(empty);
    let data = "local-data: \"later.logging.svc.cluster.local. 60 A 10.240.20.8\"";
    let _full = unbound(&names.world.seed, "10.240.16.10", &[LOKI_DATA, data]);
    wait_for(host, line, "10.240.20.8");
}

pub fn names_made_by_search_domains_end_here() {
    let names = Names::new();
    let host = &names.world.node;
    let mut config = names.node_config();
    config["dns"]["zones"][0]["zone"] = LOKI.into();
    config["dns"]["searchDomains"] = json!(["logging.svc.cluster.local", "cluster.local"]);
    let _node = Seedwire::start_ready(host, &config);
    for domain in ["logging.svc.cluster.local", "cluster.local"] {
        let name = format!("{LOKI}.{domain}");
        let answer = ask(host, &format!("@127.0.0.1 {name} A"));
        assert_eq!(answer.status, "NXDOMAIN", "{}", answer.text);
        assert_eq!(names.internet.questions(&name), 0);
        assert_eq!(names.control_plane.questions(&name), 0);
    }
    let other = format!("@127.0.0.1 {LOKI}.example.test A");
    ask(host, &other);
    assert!(names.internet.questions(&format!("{LOKI}.example.test")) > 0);
}
