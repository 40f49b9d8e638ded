use std::time::Duration;

use super::PeerState;

/// Whether a peer answers what it has to answer, and what it is taken for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    /// When the wait for an answer ends; `None`: none is waited for.
    round_ends: Option<Duration>,
    down: bool,
    rounds: u64,
}

impl Answers {
    /// So long without an answer to a handshake initiation and the peer is down.
    pub(super) const PATIENCE: Duration = Duration::from_secs(10);

    /// Something was sent that must be answered by then.
    pub(super) fn expect_by(&mut self, by: Duration) {
        self.round_ends = Some(by);
    }

    /// When the wait for an answer ends.
    pub(super) fn due(&self) -> Option<Duration> {
        self.round_ends
    }

    /// An answer came, or nobody waits for one any more.
    pub(super) fn settle(&mut self) {
        self.round_ends = None;
        self.down = false;
    }

    /// Where the wait has ended without an answer, the peer is down, and the next wait lasts for
    /// [`Answers::PATIENCE`], or until `at_least`.
    pub(super) fn end_round(&mut self, now: Duration, at_least: Duration) {
        if self.round_ends.is_some_and(|ends| now >= ends) {
            self.down = true;
            self.rounds += 1;
            self.round_ends = Some(at_least.max(now + Self::PATIENCE));
        }
    }

    /// What the peer is doing, with a session or without.
    pub(super) fn state(&self, session: bool) -> PeerState {
        match (self.down, session) {
            (true, _) => PeerState::Down,
            (false, true) => PeerState::Up,
            (false, false) => PeerState::Idle,
        }
    }

    /// How often a wait ended without an answer.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }
}
