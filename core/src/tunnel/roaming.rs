use std::net::SocketAddr;
use std::time::Duration;

/// Two endpoints that alternate within this time are two hosts with one key.
const IN_TURN: Duration = Duration::from_secs(30);

/// Notices that one key is used from two endpoints in turn: that a peer is back where it was
/// before it moved, within 30 s. A peer that moves on does not come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roaming {
    /// Where the peer was before its last move, and when it moved.
    before: Option<(SocketAddr, Duration)>,
    noticed: Option<(SocketAddr, SocketAddr, Duration)>,
}

impl Roaming {
    /// The peer moved. True when it did so in turn with another.
    pub fn on_move(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) -> bool {
        let in_turn = self
            .before
            .is_some_and(|(before, at)| before == to && now.saturating_sub(at) <= IN_TURN);
        self.before = Some((from, now));
        if in_turn {
            self.noticed = Some((from, to, now));
        }
        in_turn
    }

    /// The two endpoints that were last used in turn, for 30 s after it.
    pub fn in_turn(&self, now: Duration) -> Option<(SocketAddr, SocketAddr)> {
        let (one, other, at) = self.noticed?;
        (now.saturating_sub(at) <= IN_TURN).then_some((one, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_return_is_noticed() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let at = Duration::from_secs;
        let mut roaming = Roaming::default();
        assert!(!roaming.on_move(a, b, at(10)));
        assert!(!roaming.on_move(b, c, at(20)));
        assert!(!roaming.on_move(c, a, at(30)));
        assert_eq!(roaming.in_turn(at(30)), None);
        assert!(roaming.on_move(a, c, at(60)));
        assert_eq!(roaming.in_turn(at(90)), Some((a, c)));
        assert_eq!(roaming.in_turn(at(91)), None);
        assert!(!roaming.on_move(c, a, at(91)));
    }
}
