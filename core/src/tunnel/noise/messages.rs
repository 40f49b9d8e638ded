//! Where things stand in a datagram (the WireGuard paper, 5.4). Numbers are little-endian; after
//! the type come three zero bytes.

use std::ops::Range;

pub(super) const INITIATION: [u8; 4] = [1, 0, 0, 0];
pub(super) const RESPONSE: [u8; 4] = [2, 0, 0, 0];
pub(super) const COOKIE: [u8; 4] = [3, 0, 0, 0];
pub(super) const DATA: [u8; 4] = [4, 0, 0, 0];

pub(super) const TYPE: Range<usize> = 0..4;
/// The index that its sender gave the session.
pub(super) const SENDER: Range<usize> = 4..8;

/// A handshake initiation.
pub(super) mod initiation {
    use super::Range;

    pub(in super::super) const LENGTH: usize = 148;
    pub(in super::super) const EPHEMERAL: Range<usize> = 8..40;
    pub(in super::super) const STATIC: Range<usize> = 40..88;
    pub(in super::super) const TIMESTAMP: Range<usize> = 88..116;
}

/// A handshake response.
pub(super) mod response {
    use super::Range;

    pub(in super::super) const LENGTH: usize = 92;
    pub(in super::super) const RECEIVER: Range<usize> = 8..12;
    pub(in super::super) const EPHEMERAL: Range<usize> = 12..44;
    pub(in super::super) const NOTHING: Range<usize> = 44..60;
}

/// A cookie reply.
pub(super) mod cookie {
    use super::Range;

    pub(in super::super) const LENGTH: usize = 64;
    pub(in super::super) const RECEIVER: Range<usize> = 4..8;
    pub(in super::super) const NONCE: Range<usize> = 8..32;
    pub(in super::super) const COOKIE: Range<usize> = 32..64;
}

/// A sealed packet.
pub(super) mod data {
    use super::Range;

    pub(in super::super) const RECEIVER: Range<usize> = 4..8;
    pub(in super::super) const COUNTER: Range<usize> = 8..16;
    pub(in super::super) const HEADER: usize = 16;
}

/// The bytes at a place that the message has by its length.
pub(super) fn bytes<const N: usize>(message: &[u8], at: Range<usize>) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&message[at]);
    bytes
}

/// The number at a place that the message has by its length.
pub(super) fn number(message: &[u8], at: Range<usize>) -> u32 {
    u32::from_le_bytes(bytes(message, at))
}

/// The index that a datagram names its receiver's session by, where it is a sealed packet by its
/// type and length.
pub fn data_index(datagram: &[u8]) -> Option<u32> {
    (datagram.len() >= super::OVERHEAD && datagram[TYPE] == DATA)
        .then(|| number(datagram, data::RECEIVER))
}
