//! The pure half of the tunnel.

mod allowed_ips;
mod answers;
#[cfg(test)]
mod liveness_tests;
pub mod noise;
pub mod offload;
pub mod packet;
mod path;
mod prefixes;
mod refusal;
mod roaming;
mod status;
mod timers;
pub mod uapi;
mod unreachable;
mod watch;

pub use allowed_ips::AllowedIps;
pub use noise::{Engine, EngineError, OVERHEAD};
pub use path::{PathState, Paths};
pub use prefixes::Prefixes;
pub use refusal::Refusal;
pub use roaming::Roaming;
pub use status::{Offloads, PeerState, PeerStatus};
pub use timers::{Action, PeerTimers, Policy};
pub use unreachable::{Allowance, LONGEST_UNREACHABLE, unreachable};
pub use watch::{PeerWatch, Sample};
