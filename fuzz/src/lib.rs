//! What is fuzzed: a function for each target, which takes any bytes and panics where the code
//! under test is wrong. The binaries in `fuzz_targets/` give them to libFuzzer; the ordinary tests
//! replay `corpus/` through them.

mod config;
mod datagrams;
mod dns;
mod packets;
mod uapi;

pub use config::config;
pub use datagrams::datagrams;
pub use dns::{dns_addresses, dns_answer, dns_question};
pub use packets::{packet_cut, packet_merge};
pub use uapi::uapi;
