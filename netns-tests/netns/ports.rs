//! Local ports that lead into the seed.

use serde_json::json;

use super::dns::Names;
use crate::harness::client::{Client, serve_tcp};
use crate::harness::{Seedwire, wait_until};

pub fn a_port_leads_to_a_name_in_the_seed() {
    let mut names = Names::new();
    let world = &names.world;
    world.seed.add_address("inside", "10.240.20.5/20");
    world.seed.add_address("inside", "fd24:16::5/64");
    serve_tcp(&world.seed, "10.240.20.5:3100");
    serve_tcp(&world.seed, "[fd24:16::5]:3100");
    let mut config = names.node_config();
    config["ports"] = json!([
        {"listen": "127.0.0.1:3100", "to": "loki.logging.svc.cluster.local:3100"},
        {"listen": "[::1]:3101", "to": "10.240.20.5:3100"},
    ]);
    config["tunnel"]["peers"][0]["keepalive"] = "1s".into();
    // Only for its own needs: nothing listens for questions.
    config["dns"]
        .as_object_mut()
        .expect("a section")
        .remove("listen");
    let mut node = Seedwire::start_ready(&world.node, &config);
    for address in ["127.0.0.1:3100", "[::1]:3101"] {
        let mut client = Client::connect(&world.node, address).expect("a connection");
        assert!(
            ["10.88.0.2", "fd88::2"].contains(&client.seen_as.as_str()),
            "{}",
            client.seen_as
        );
        client.exchange(2_000_000).expect("data comes back");
    }
    names.hub.kill_hard();
    let world = &names.world;
    wait_until("the peer to be down", || !node.is_ready());
    // At once and in words that an agent understands: the connection is closed.
    wait_until("a connection to be closed", || {
        Client::connect(&world.node, "127.0.0.1:3100").is_err()
    });
    assert!(
        world.node.connect("127.0.0.1:3100").is_ok(),
        "the port itself is open"
    );
    let _hub = Seedwire::start_ready(&world.hub, &world.hub_config());
    wait_until("the port to lead into the seed again", || {
        Client::connect(&world.node, "127.0.0.1:3100").is_ok()
    });
    node.stop();
}
