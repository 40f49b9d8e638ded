//! What holds with every WireGuard program on the other end.

pub mod tunnel;
pub mod uapi;
