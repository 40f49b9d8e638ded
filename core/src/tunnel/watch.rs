use std::time::Duration;

use super::answers::Answers;
use super::{PeerState, Policy};

/// A session is good for this long (Reject-After-Time).
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Data in a session is answered within 10 s; 5 s later the kernel begins a handshake.
const DATA_DOWN_AFTER: Duration = Duration::from_secs(15 + Answers::PATIENCE.as_secs());
/// What the kernel counts for a keepalive, which nobody answers.
const KEEPALIVE_BYTES: u64 = 32;
/// The kernel repeats an initiation after 5 s and a third of a second; when it has not done so for
/// this long it has given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15);

/// What the kernel says of a peer at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sample {
    /// When the last handshake was completed, by the kernel's wall clock; only compared for being
    /// the same, so that a clock that is set makes no difference.
    pub last_handshake: Option<Duration>,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub transmitted: u64,
}

/// What a peer is doing whose packets the kernel carries, as far as its counters tell.
///
/// Sans I/O, like [`PeerTimers`](super::PeerTimers), which does the same where the packets are
/// ours. All times are since one instant of the caller's choosing.
#[derive(Clone, Debug)]
pub struct PeerWatch {
    policy: Policy,
    seen: Sample,
    session: Option<Duration>,
    /// When something authentic came last, or when silence began to count.
    last_received: Duration,
    /// When the silence was looked into by a packet that must be answered.
    probed: bool,
    /// What was sent before the silence began.
    sent_before: u64,
    answers: Answers,
    /// When something was sent last while an answer was waited for.
    last_sent: Duration,
}

impl PeerWatch {
    /// The watch over a peer that nothing is known of yet.
    pub fn new(policy: Policy, now: Duration) -> Self {
        Self {
            policy,
            seen: Sample::default(),
            session: None,
            last_received: now,
            probed: false,
            sent_before: 0,
            answers: Answers::default(),
            last_sent: now,
        }
    }

    /// Takes over what the configuration says now.
    pub fn set_policy(&mut self, policy: Policy, now: Duration) {
        if policy.keepalive.is_some() && self.policy.keepalive.is_none() {
            self.last_received = now;
        }
        self.policy = policy;
    }

    /// What the configuration says.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// A handshake was asked for, maybe at another address: its answer is waited for.
    pub fn on_dialled(&mut self, now: Duration) {
        if self.session.is_none() || self.answers.due().is_some() {
            self.wait(now, Answers::PATIENCE);
        }
    }

    fn wait(&mut self, now: Duration, patience: Duration) {
        self.answers.expect_by(now + patience);
        self.last_sent = now;
    }

    /// Takes in what the kernel says now. True when a packet must be sent to the peer that it has
    /// to answer: it was silent for two keepalive periods.
    pub fn observe(&mut self, now: Duration, sample: Sample) -> bool {
        let handshake = sample.last_handshake != self.seen.last_handshake;
        let heard = handshake || sample.received != self.seen.received;
        let sent = sample.transmitted != self.seen.transmitted;
        self.seen = sample;
        if handshake && sample.last_handshake.is_some() {
            self.session = Some(now);
        }
        if self
            .session
            .is_some_and(|since| now >= since + REJECT_AFTER)
        {
            self.session = None;
        }
        if heard {
            self.on_heard(now);
        } else {
            self.on_silence(now, sent);
        }
        self.end_round(now);
        self.is_probe_due(now)
    }

    fn on_heard(&mut self, now: Duration) {
        self.last_received = now;
        self.sent_before = self.seen.transmitted;
        self.probed = false;
        // An initiation or a cookie of the peer makes no session.
        if self.session.is_some() {
            self.answers.settle();
        }
    }

    fn on_silence(&mut self, now: Duration, sent: bool) {
        if self.answers.due().is_some() {
            if sent {
                self.last_sent = now;
            }
            return;
        }
        let silent = now.saturating_sub(self.last_received);
        let keepalives = match self.policy.keepalive {
            Some(period) if self.session.is_some() => {
                2 + silent.as_secs() / period.as_secs().max(1)
            }
            // The one that answers data.
            _ if self.session.is_some() => 1,
            _ => 0,
        };
        let sent_since = self.seen.transmitted.saturating_sub(self.sent_before);
        if sent_since > keepalives * KEEPALIVE_BYTES && sent {
            let patience = match self.session {
                Some(_) => DATA_DOWN_AFTER,
                None => Answers::PATIENCE,
            };
            self.wait(now, patience);
        } else if self.session.is_none() && self.calls() {
            // The kernel does not count what the network refuses.
            self.wait(now, Answers::PATIENCE);
        }
    }

    /// Whether the kernel calls this peer by itself.
    fn calls(&self) -> bool {
        self.policy.reachable && self.policy.dialled && self.policy.keepalive.is_some()
    }

    fn end_round(&mut self, now: Duration) {
        if self.answers.due().is_none() {
            return;
        }
        self.answers.end_round(now, now);
        let for_ever = self.policy.dialled || self.policy.keepalive.is_some();
        if !for_ever && now >= self.last_sent + GIVEN_UP_AFTER + Answers::PATIENCE {
            self.answers.settle();
            self.sent_before = self.seen.transmitted;
        }
    }

    fn is_probe_due(&mut self, now: Duration) -> bool {
        let period = self.policy.keepalive.filter(|_| self.policy.dialled);
        let due = period.is_some_and(|period| now >= self.last_received + 2 * period)
            && self.policy.reachable
            && self.session.is_some()
            && !self.probed;
        self.probed |= due;
        due
    }

    /// What the peer is doing.
    pub fn state(&self) -> PeerState {
        self.answers.state(self.session.is_some())
    }

    /// How often a wait for an answer ended without one; each asks for another address.
    pub fn rounds(&self) -> u64 {
        self.answers.rounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A kernel whose peer was up at 0 s and that is looked at each second.
    struct Kernel {
        watch: PeerWatch,
        now: Duration,
        sample: Sample,
        probes: u64,
    }

    impl Kernel {
        fn new(keepalive: Option<u64>, dialled: bool) -> Self {
            let policy = Policy {
                keepalive: keepalive.map(Duration::from_secs),
                dialled,
                reachable: true,
            };
            Self {
                watch: PeerWatch::new(policy, Duration::ZERO),
                now: Duration::ZERO,
                sample: Sample::default(),
                probes: 0,
            }
        }

        fn up(keepalive: Option<u64>, dialled: bool) -> Self {
            let mut kernel = Self::new(keepalive, dialled);
            kernel.handshake();
            kernel.run(0, |_| {});
            assert_eq!(kernel.watch.state(), PeerState::Up);
            kernel
        }

        fn handshake(&mut self) {
            self.sample.transmitted += 148;
            self.sample.received += 92;
            self.sample.last_handshake = Some(SECOND * 1_700_000_000 + self.now);
        }

        fn run(&mut self, seconds: u64, mut each: impl FnMut(&mut Self)) {
            for _ in 0..=seconds {
                each(self);
                if self.watch.observe(self.now, self.sample) {
                    self.probes += 1;
                    self.sample.transmitted += 192;
                }
                self.now += SECOND;
            }
        }
    }

    fn keepalive(kernel: &mut Kernel) {
        if kernel.now.as_secs().is_multiple_of(25) {
            kernel.sample.transmitted += KEEPALIVE_BYTES;
        }
    }

    #[test]
    fn an_idle_peer_that_answers_probes_stays_up() {
        let mut kernel = Kernel::up(Some(25), true);
        let mut answered = 0;
        kernel.run(7200, |kernel| {
            keepalive(kernel);
            if kernel.now.as_secs().is_multiple_of(120) {
                kernel.handshake();
            }
            if kernel.probes > answered {
                answered = kernel.probes;
                kernel.sample.received += KEEPALIVE_BYTES;
            }
            assert_eq!(kernel.watch.state(), PeerState::Up, "{:?}", kernel.now);
        });
        assert_eq!(kernel.watch.rounds(), 0);
        assert!(kernel.probes >= 60, "{}", kernel.probes);
    }

    #[test]
    fn a_peer_silent_for_two_periods_is_probed_and_then_down() {
        let mut kernel = Kernel::up(Some(25), true);
        kernel.run(48, keepalive);
        assert_eq!(kernel.probes, 0);
        kernel.run(2, keepalive);
        assert_eq!(kernel.probes, 1);
        kernel.run(20, keepalive);
        assert_eq!(kernel.watch.state(), PeerState::Up);
        kernel.run(10, keepalive);
        assert_eq!(kernel.watch.state(), PeerState::Down);
        assert_eq!(kernel.watch.rounds(), 1);
        kernel.run(30, keepalive);
        assert!(kernel.watch.rounds() >= 3);
        kernel.handshake();
        kernel.run(0, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Up);
    }

    #[test]
    fn a_dialled_peer_that_never_answers_is_down_after_ten_seconds() {
        // Also where the network refuses each packet, and the kernel counts none of them.
        let mut kernel = Kernel::new(Some(25), true);
        kernel.run(9, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Idle);
        kernel.run(1, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Down);
        assert_eq!(kernel.watch.rounds(), 1);
    }

    #[test]
    fn unanswered_data_makes_a_peer_without_keepalive_down() {
        let mut kernel = Kernel::up(None, true);
        kernel.run(60, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Up);
        kernel.run(26, |kernel| kernel.sample.transmitted += 1000);
        assert_eq!(kernel.watch.state(), PeerState::Down);
    }

    #[test]
    fn a_peer_that_calls_us_is_idle_once_its_session_ended_and_after_the_kernel_gave_up() {
        let mut kernel = Kernel::up(None, false);
        kernel.run(178, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Up);
        kernel.run(2, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Idle);
        kernel.run(90, |kernel| {
            if kernel.now.as_secs().is_multiple_of(5) {
                kernel.sample.transmitted += 148;
            }
        });
        assert_eq!(kernel.watch.state(), PeerState::Down);
        kernel.run(60, |_| {});
        assert_eq!(kernel.watch.state(), PeerState::Idle);
    }
}
