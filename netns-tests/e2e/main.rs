//! The main job with the real programs: Promtail in a pod of the user cluster, Loki in the seed.

// Nothing of a test program can be reached from outside.
#![allow(unreachable_pub)]

use std::process::ExitCode;

#[path = "../harness/mod.rs"]
mod harness;

mod logs;
mod loki;
mod promtail;

use harness::Case;

const CASES: &[Case] = &[
    case!(logs::every_line_arrives_once),
    case!(logs::every_line_arrives_once_over_a_restart_of_the_hub),
    case!(logs::every_line_arrives_once_over_a_kill_of_the_sidecar),
];

fn main() -> ExitCode {
    harness::main(env!("CARGO_BIN_EXE_seedwire"), CASES)
}
