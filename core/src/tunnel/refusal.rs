use super::EngineError;

/// Why a datagram that came to the tunnel's port, or the packet in it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no message of WireGuard, by its type or its length.
    Malformed,
    /// A handshake message whose first MAC was not made for our public key.
    WrongMac,
    /// Under load: the sender was asked to prove its address first.
    Unproven,
    /// A handshake initiation from a key that no peer has.
    UnknownKey,
    /// A message for a session that is not there, or not any more.
    UnknownIndex,
    /// It can't be opened.
    NotAuthentic,
    /// It, or one that came after it, was seen before.
    Replayed,
    /// A handshake message of a sender that sends more than are computed for it.
    TooOften,
    /// The packet in it has a source address that does not belong to the peer.
    WrongSource,
}

impl Refusal {
    /// All there are, each at the place of its number.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::WrongMac,
        Self::Unproven,
        Self::UnknownKey,
        Self::UnknownIndex,
        Self::NotAuthentic,
        Self::Replayed,
        Self::TooOften,
        Self::WrongSource,
    ];

    /// The word for it in metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongMac => "wrong_mac",
            Self::Unproven => "unproven",
            Self::UnknownKey => "unknown_key",
            Self::UnknownIndex => "unknown_index",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::TooOften => "too_often",
            Self::WrongSource => "wrong_source",
        }
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSession => Self::UnknownIndex,
            EngineError::NotAuthentic | EngineError::WeakKey => Self::NotAuthentic,
            EngineError::Replayed => Self::Replayed,
            EngineError::TooSoon | EngineError::NoRandomness => Self::TooOften,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_at_its_number() {
        for (number, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, number);
        }
    }
}
