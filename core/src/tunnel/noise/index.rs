//! The numbers by which datagrams name a session.

/// How many bits of an index say which session of a peer it is.
const NUMBER_BITS: u32 = 8;

/// Makes indices and reads them: which peer it is, and which of its sessions, enciphered, so that
/// an index of one session tells nothing of any other's, and a look-up needs no table of sessions
/// that threads would have to share.
///
/// The cipher is Speck32/64 (Beaulieu and others, 2013), whose block has the 32 bits of an index.
/// Nothing rests on it but that indices are hard to guess: who knows one still can't seal.
pub(super) struct Indices {
    round_keys: [u16; ROUNDS],
}

const ROUNDS: usize = 22;

impl Indices {
    pub(super) fn new(key: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = key;
        let mut schedule = [[c, d], [e, f], [g, h]].map(u16::from_le_bytes);
        let mut round_key = u16::from_le_bytes([a, b]);
        let mut round_keys = [0; ROUNDS];
        for (round, slot) in round_keys.iter_mut().enumerate() {
            *slot = round_key;
            let word = &mut schedule[round % 3];
            (*word, round_key) = encipher(*word, round_key, round as u16);
        }
        Self { round_keys }
    }

    /// The index of a peer's session. Of the peer 24 bits count.
    pub(super) fn of(&self, peer: u32, number: u8) -> u32 {
        let plain = peer << NUMBER_BITS | u32::from(number);
        let (mut x, mut y) = ((plain >> 16) as u16, plain as u16);
        for key in self.round_keys {
            (x, y) = encipher(x, y, key);
        }
        u32::from(x) << 16 | u32::from(y)
    }

    /// The peer whose session it is.
    pub(super) fn peer(&self, index: u32) -> u32 {
        let (mut x, mut y) = ((index >> 16) as u16, index as u16);
        for key in self.round_keys.iter().rev() {
            y = (y ^ x).rotate_right(2);
            x = (x ^ key).wrapping_sub(y).rotate_left(7);
        }
        (u32::from(x) << 16 | u32::from(y)) >> NUMBER_BITS
    }
}

fn encipher(x: u16, y: u16, key: u16) -> (u16, u16) {
    let x = x.rotate_right(7).wrapping_add(y) ^ key;
    (x, y.rotate_left(2) ^ x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cipher_is_that_of_its_paper() {
        // The key's words there are written from the last to the first.
        let indices = Indices::new([0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19]);
        assert_eq!(indices.of(0x65_7469, 0x4c), 0xa868_42f2);
    }

    proptest! {
        #[test]
        fn an_index_leads_back_to_its_peer(key: [u8; 8], peer in 0u32..1 << 24, number: u8) {
            let indices = Indices::new(key);
            prop_assert_eq!(indices.peer(indices.of(peer, number)), peer);
        }
    }
}
