//! Lines of a user cluster, found again in the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::loki::Loki;
use super::promtail::{Promtail, line};
use crate::harness::dns::{Server, unbound};
use crate::harness::wait::wait_within;
use crate::harness::world::World;
use crate::harness::{Seedwire, wait_until};

const LINES: usize = 10_000;

/// All that stands between a log file in the pod and Loki.
struct Pipeline {
    world: World,
    hub: Seedwire,
    sidecar: Seedwire,
    loki: Loki,
    promtail: Promtail,
    control_plane: Server,
}

impl Pipeline {
    fn start() -> Self {
        let world = World::new();
        world.seed.run("ip addr add 10.240.20.5/20 dev inside");
        let loki = Loki::start(&world.seed, "10.240.20.5:3100");
        let control_plane = unbound(
            &world.seed,
            "10.240.16.10",
            &["local-data: \"loki.logging.svc.cluster.local. 30 A 10.240.20.5\""],
        );
        let hub = Seedwire::start_ready(&world.hub, &world.hub_config());
        let sidecar = Seedwire::start_ready(&world.node, &sidecar_config(&world));
        // What the kubelet writes for `dnsPolicy: None`.
        let resolv_conf = "nameserver 127.0.0.1\nsearch default.svc.cluster.local\n";
        world.node.replace_file("/etc/resolv.conf", resolv_conf);
        let url = "http://loki.logging.svc.cluster.local:3100/loki/api/v1/push";
        let promtail = Promtail::start(&world.node, url);
        Self {
            world,
            hub,
            sidecar,
            loki,
            promtail,
            control_plane,
        }
    }

    /// Waits until some lines have arrived, with the rest still to come.
    fn wait_for_some(&self) {
        wait_until("the first lines", || !self.loki.lines().is_empty());
    }

    /// Waits for all lines and asserts that each is there once.
    #[track_caller]
    fn assert_each_line_once(&self) {
        let mut lines = Vec::new();
        wait_within(Duration::from_secs(60), "all lines", || {
            lines = self.loki.lines();
            (lines.len() >= LINES).then_some(())
        });
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        lines
            .iter()
            .for_each(|line| *counts.entry(line).or_default() += 1);
        let expected: BTreeMap<String, usize> = (0..LINES).map(|n| (line(n), 1)).collect();
        let wrong = expected
            .keys()
            .find(|line| counts.get(line.as_str()) != Some(&1));
        assert_eq!(wrong, None, "a line that is not there exactly once");
        assert_eq!(lines.len(), LINES);
        assert!(self.loki.lines_of("another-tenant").is_empty());
        assert!(
            self.control_plane
                .questions("loki.logging.svc.cluster.local. A")
                > 0
        );
    }
}

fn sidecar_config(world: &World) -> serde_json::Value {
    let mut config = world.node_config();
    config["dns"] = json!({
        "listen": ["127.0.0.1:53"],
        "zones": [{
            "zone": "loki.logging.svc.cluster.local",
            "upstreams": ["10.240.16.10:53"],
            "probe": "loki.logging.svc.cluster.local",
        }],
    });
    config
}

pub fn every_line_arrives_once() {
    let mut pipeline = Pipeline::start();
    pipeline.promtail.write(LINES);
    pipeline.assert_each_line_once();
}

pub fn every_line_arrives_once_over_a_restart_of_the_hub() {
    let mut pipeline = Pipeline::start();
    pipeline.promtail.write(LINES / 4);
    pipeline.wait_for_some();
    pipeline.promtail.write(LINES / 4);
    pipeline.hub.stop();
    pipeline.promtail.write(LINES / 4);
    pipeline.hub = Seedwire::start_ready(&pipeline.world.hub, &pipeline.world.hub_config());
    pipeline.promtail.write(LINES / 4);
    pipeline.assert_each_line_once();
    pipeline.sidecar.stop();
}

pub fn every_line_arrives_once_over_a_kill_of_the_sidecar() {
    let mut pipeline = Pipeline::start();
    pipeline.promtail.write(LINES / 4);
    pipeline.wait_for_some();
    pipeline.promtail.write(LINES / 4);
    pipeline.sidecar.kill_hard();
    pipeline.promtail.write(LINES / 4);
    let config = sidecar_config(&pipeline.world);
    pipeline.sidecar = Seedwire::start_ready(&pipeline.world.node, &config);
    pipeline.promtail.write(LINES / 4);
    pipeline.assert_each_line_once();
    pipeline.sidecar.stop();
}
