//! The real binary between hosts, with the peers that the distribution has.

// Nothing of a test program can be reached from outside.
#![allow(unreachable_pub)]

use std::process::ExitCode;

#[path = "../harness/mod.rs"]
mod harness;

mod world;

use harness::Case;

const CASES: &[Case] = &[
    case!(world::hosts_reach_each_other_and_only_by_their_routes),
    case!(world::wireguard_devices_of_the_distribution_reach_each_other),
    case!(world::dns_servers_answer),
    case!(world::state_shows_what_changed),
];

fn main() -> ExitCode {
    harness::main(env!("CARGO_BIN_EXE_seedwire"), CASES)
}
