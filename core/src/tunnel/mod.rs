//! The pure half of the tunnel.

mod allowed_ips;
mod answers;
mod echo;
#[cfg(test)]
mod liveness_tests;
pub mod noise;
pub mod offload;
pub mod packet;
mod path;
mod path_mtu;
mod prefixes;
mod refusal;
mod roaming;
mod status;
mod timers;
pub mod uapi;
mod unreachable;
mod watch;

pub use allowed_ips::AllowedIps;
pub use echo::EchoFlow;
pub use noise::{Engine, EngineError, OVERHEAD};
pub use path::{PathState, Paths};
pub use path_mtu::{LEAST_MTU, PathProbe};
pub use prefixes::Prefixes;
pub use refusal::Refusal;
pub use roaming::Roaming;
pub use status::{Offloads, PeerState, PeerStatus, ProbeStatus};
pub use timers::{Action, PeerTimers, Policy};
pub use unreachable::{Allowance, LONGEST_UNREACHABLE, unreachable};
pub use watch::{PeerWatch, Sample};
