//! The pure half of the DNS forwarder.
//!
//! Messages stay bytes from end to end: a question is looked at, an upstream's answer is read once,
//! and what goes to clients is those bytes with the ID, the letters of the name and the TTLs
//! patched.

mod answer;
mod cache;
mod counts;
mod failures;
mod few;
mod flight;
mod forwarder;
mod group;
mod ids;
mod lookup;
mod message;
mod resolv_conf;
mod status;
mod upstream;
mod wire;

#[cfg(test)]
mod tests;

pub use forwarder::{Change, Effects, Forwarder, LANES, Transport, UpstreamId};
pub use group::{Settings, ZoneSettings};
pub use lookup::{AddressAnswer, AddressKind, address_question, read_addresses};
pub use resolv_conf::resolv_conf_servers;
pub use status::{CacheStatus, Counters, ForwarderStatus, UpstreamStatus, ZoneStatus};
pub use upstream::Failure;
pub use wire::Rcode;
