//! The WireGuard protocol (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel"), without
//! input, output, clock or randomness.
//!
//! [`Identity`] is this host: it says which peer a datagram is for. An [`Engine`] for each peer
//! does the handshakes. What they give has two halves that share no lock: [`Sending`] seals in
//! place, and [`Receivers`] opens in place.

mod crypto;
mod engine;
mod gate;
mod handshake;
mod identity;
mod index;
mod limiter;
mod macs;
mod messages;
mod replay;
mod session;
mod tai64n;

pub use engine::{Engine, Opener, Taken};
pub use handshake::Initiation;
pub use identity::{Addressee, Identity};
pub use messages::data_index;
pub use session::{Opened, Receivers, Sending};

use zeroize::Zeroizing;

/// What a sealed packet has more than the packet in it: a header of 16 bytes and a tag of 16.
pub const OVERHEAD: usize = 32;

/// The room that a handshake message needs.
pub const HANDSHAKE_ROOM: usize = 148;

/// The room that a handshake response needs.
pub const RESPONSE_ROOM: usize = 92;

/// Gives 32 bytes that nobody can guess, or none where the system has no randomness.
pub type Random<'a> = &'a mut dyn FnMut() -> Option<Zeroizing<[u8; 32]>>;

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
    /// The peer began a handshake right after another one.
    #[error("the peer begins handshakes too often")]
    TooSoon,
    /// The key is a point of low order.
    #[error("the key of the peer gives no secret")]
    WeakKey,
    /// The system gave no random bytes.
    #[error("there is no randomness")]
    NoRandomness,
}

#[cfg(test)]
mod boringtun_tests;
#[cfg(test)]
mod tests;
