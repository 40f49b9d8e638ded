use std::net::IpAddr;
use std::time::Duration;

/// The protocol between this host and one peer: handshakes and sealed packets, without input or
/// output and without a timer of its own. When something is sent is decided by
/// [`PeerTimers`](super::PeerTimers).
///
/// `now` is the time since an instant of the caller's choosing, the same for every call.
pub trait Engine: Send {
    /// Writes a handshake initiation into `out`, [`HANDSHAKE_ROOM`] bytes at least, and returns
    /// its length. An earlier one that is still unanswered stays valid.
    fn initiate(&mut self, now: Duration, out: &mut [u8]) -> Result<usize, EngineError>;

    /// Seals `packet` (empty: a keepalive) into `out`, which has room for [`OVERHEAD`] bytes
    /// more, and returns the length of the datagram.
    fn seal(&mut self, now: Duration, packet: &[u8], out: &mut [u8]) -> Result<usize, EngineError>;

    /// Takes a datagram that is meant for this peer. `out` is at least as long as the datagram
    /// and has [`HANDSHAKE_ROOM`] bytes at least.
    fn open(
        &mut self,
        now: Duration,
        from: IpAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Opened, EngineError>;

    /// Whether packets can be sealed now.
    fn has_session(&self) -> bool;
}

/// What a sealed packet has more than the packet in it: a header of 16 bytes and a tag of 16.
pub const OVERHEAD: usize = 32;

/// The room that a handshake message needs.
pub const HANDSHAKE_ROOM: usize = 148;

/// What was in an authentic datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The first `length` bytes of the buffer are an inner packet, of the length that its own
    /// header states; 0: a keepalive.
    Packet {
        /// The length of the inner packet.
        length: usize,
        /// Whether it confirms a session that the peer asked for: that handshake is complete.
        completes: bool,
    },
    /// A handshake initiation; the first `length` bytes of the buffer are the response.
    Initiation {
        /// The length of the response.
        length: usize,
    },
    /// A handshake response: a session stands; the first `length` bytes of the buffer are a
    /// keepalive that tells the peer so.
    Response {
        /// The length of the keepalive.
        length: usize,
    },
    /// A cookie for the next handshake initiation.
    Cookie,
}

/// Why the engine did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no session to seal with or to open with.
    #[error("there is no session")]
    NoSession,
    /// The datagram is not authentic, or not for this peer.
    #[error("the datagram is not authentic")]
    NotAuthentic,
    /// The datagram, or a later handshake of the peer, was seen before.
    #[error("the datagram is a replay")]
    Replayed,
}
