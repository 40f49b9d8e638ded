//! CoreDNS in the seed, and in the place of node-local-dns.

use serde_json::json;

use crate::harness::dns::{ask, coredns};
use crate::harness::seedwire::Seedwire;
use crate::harness::wait_until;
use crate::harness::world::World;

const LOKI: &str = "loki.logging.svc.cluster.local";

fn control_plane(world: &World) -> crate::harness::dns::Server {
    coredns(
        &world.seed,
        "10.240.16.10",
        ".:53 {
            bind 10.240.16.10
            log
            errors
            template IN A loki.logging.svc.cluster.local {
                answer \"{{ .Name }} 30 IN A 10.240.20.5\"
            }
            template ANY ANY {
                rcode NXDOMAIN
                authority \"svc.cluster.local 30 IN SOA ns.svc.cluster.local root.svc.cluster.local 1 7200 1800 86400 30\"
            }
        }",
    )
}

fn node_config(world: &World) -> serde_json::Value {
    let mut config = world.node_config();
    config["dns"] = json!({
        "listen": ["169.254.20.11:53"],
        "zones": [{"zone": "logging.svc.cluster.local", "upstreams": ["10.240.16.10:53"]}],
    });
    config
}

pub fn answers_for_the_zone_through_the_tunnel() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let control_plane = control_plane(&world);
    let _node = Seedwire::start_ready(&world.node, &node_config(&world));
    for transport in ["+notcp", "+tcp"] {
        let found = ask(&world.node, &format!("@169.254.20.11 {transport} {LOKI} A"));
        assert_eq!(found.data, ["10.240.20.5"], "{}", found.text);
    }
    let absent = "absent.logging.svc.cluster.local";
    for _ in 0..3 {
        let found = ask(&world.node, &format!("@169.254.20.11 {absent} A"));
        assert_eq!(found.status, "NXDOMAIN", "{}", found.text);
    }
    assert_eq!(
        control_plane.questions(absent),
        1,
        "a negative answer is kept"
    );
}

pub fn beside_the_node_forwards_the_zone() {
    let world = World::new();
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    let _control_plane = control_plane(&world);
    let node = Seedwire::start_ready(&world.node, &node_config(&world));
    let blocks = node.command("corefile");
    assert!(
        blocks.status.success(),
        "{}",
        String::from_utf8_lossy(&blocks.stderr)
    );
    let blocks = String::from_utf8_lossy(&blocks.stdout).into_owned();
    // The first block is for node-local-dns, which answers at its own link-local address; the
    // second for the seed.
    let (of_the_node, _) = blocks.split_once("# In the seed").expect("two parts");
    world.node.run("ip addr add 169.254.20.10/32 dev lo");
    let rest = ". {\n bind 169.254.20.10\n log\n template ANY ANY {\n rcode NXDOMAIN\n }\n}\n";
    let corefile = format!("{of_the_node}\n{rest}");
    let _node_local = coredns(&world.node, "169.254.20.10", &corefile);
    wait_until("an answer through both", || {
        ask(&world.node, &format!("@169.254.20.10 {LOKI} A")).data == ["10.240.20.5"]
    });
    assert_eq!(
        ask(&world.node, "@169.254.20.10 example.test").status,
        "NXDOMAIN"
    );
}
