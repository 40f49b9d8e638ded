//! The pure half of the tunnel.

mod path;
mod status;

pub use path::{PathState, Paths};
pub use status::{PeerState, PeerStatus};
