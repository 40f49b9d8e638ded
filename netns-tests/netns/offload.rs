//! Many packets in one call, or one by one: what arrives is the same.

use crate::harness::refuse::{NO_TUN_OFFLOAD, NO_UDP_GRO, NO_UDP_SEGMENT, Refusal};
use crate::harness::world::World;
use crate::harness::{Seedwire, Start};
use crate::scenarios::tunnel::carries_data;

const NONE: Start<'static> = Start {
    arguments: &["--offload", "none"],
    refusals: &[],
    environment: &[],
};

const NOTHING: [(&str, f64); 4] = [
    ("tun_tcp", 0.0),
    ("tun_udp", 0.0),
    ("udp_send", 0.0),
    ("udp_receive", 0.0),
];

fn assert_offloads(daemon: &Seedwire, wanted: &[(&str, f64)]) {
    for (name, used) in wanted {
        let metric = format!("seedwire_tunnel_offload{{offload=\"{name}\"}}");
        assert_eq!(daemon.metric(&metric), Some(*used), "{metric}");
    }
}

/// Carries data between daemons that were started like that; the node has these offloads.
fn between(hub: &Start, node: &Start, wanted: &[(&str, f64)]) {
    let world = World::new();
    let _hub = Seedwire::start_like(&world.hub, &world.hub_config(), hub).ready();
    let node = Seedwire::start_like(&world.node, &world.node_config(), node).ready();
    assert_offloads(&node, wanted);
    carries_data(&world.node, &world.seed);
}

pub fn off_on_both_ends() {
    between(&NONE, &NONE, &NOTHING);
}

pub fn off_on_one_end() {
    between(&Start::default(), &NONE, &NOTHING);
}

pub fn off_on_the_other_end() {
    between(&NONE, &Start::default(), &[]);
}

pub fn a_kernel_that_refuses_them_is_one_without() {
    let refusing = |refusals: &'static [Refusal]| Start {
        arguments: &[],
        refusals,
        environment: &[],
    };
    let all = refusing(&[NO_TUN_OFFLOAD, NO_UDP_SEGMENT, NO_UDP_GRO]);
    between(&refusing(&[NO_UDP_SEGMENT]), &all, &NOTHING);
    let receive = [("udp_send", 1.0), ("udp_receive", 0.0)];
    between(&all, &refusing(&[NO_UDP_GRO]), &receive);
}
