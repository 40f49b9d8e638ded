use std::net::IpAddr;

/// Whether an address can be reached now, as far as the tunnel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// The address is not reached through the tunnel, or the tunnel says nothing of it.
    Direct,
    /// Through a peer that has nothing to do at the moment; sending starts a handshake.
    Idle,
    /// Through a peer with a live session.
    Up,
    /// Through a peer that does not answer.
    Down,
}

/// The seam between the tunnel and those who send through it.
pub trait Paths: Send + Sync {
    /// The state of the path to `to`. Cheap enough for every query.
    fn state(&self, to: IpAddr) -> PathState;

    /// Starts a handshake with the peer that `to` lies behind, unless one is under way or a
    /// session stands.
    fn wake(&self, to: IpAddr);
}
