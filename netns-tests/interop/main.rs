//! The real binary between hosts, with today's peers as scripts/peers.sh builds them.

// Nothing of a test program can be reached from outside.
#![allow(unreachable_pub)]

use std::process::ExitCode;

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../scenarios/mod.rs"]
mod scenarios;

mod boringtun;
mod coredns;
mod wireguard_go;

use harness::Case;

const CASES: &[Case] = &[
    case!(wireguard_go::is_called_over_ipv4),
    case!(wireguard_go::is_called_over_ipv6),
    case!(wireguard_go::calls_over_ipv4),
    case!(wireguard_go::calls_over_ipv6),
    case!(wireguard_go::another_preshared_key_is_refused),
    case!(wireguard_go::reaches_a_bare_device),
    case!(boringtun::is_called_over_ipv4),
    case!(boringtun::is_called_over_ipv6),
    case!(boringtun::calls_over_ipv4),
    case!(boringtun::calls_over_ipv6),
    case!(boringtun::another_preshared_key_is_refused),
    case!(boringtun::reaches_a_bare_device),
    case!(coredns::answers_for_the_zone_through_the_tunnel),
    case!(coredns::beside_the_node_forwards_the_zone),
];

fn main() -> ExitCode {
    harness::main(env!("CARGO_BIN_EXE_seedwire"), CASES)
}
