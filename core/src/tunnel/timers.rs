use std::time::Duration;

use super::PeerState;
use super::answers::Answers;

/// After this long the initiator makes a new session when it sends (the paper's Rekey-After-Time).
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// A session is good for this long (Reject-After-Time).
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// How long a handshake is tried for a peer that is not tried for ever (Rekey-Attempt-Time).
const ATTEMPT_FOR: Duration = Duration::from_secs(90);
/// The pause between two initiations (Rekey-Timeout).
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// What is added to the pause at random, in milliseconds; later on more, so that the peers of a
/// hub that was away for long don't call all at once when it returns. Two initiations still fit
/// into 15 s, so that one of them may be lost.
const JITTER_MS: u32 = 334;
const LATE_JITTER_MS: u32 = 2000;
/// Received data is answered within this time, by a keepalive when nothing else is sent
/// (Keepalive-Timeout).
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Data that is not answered for so long needs a new session.
const SILENCE: Duration = Duration::from_secs(15);
/// Data that goes on being sent to a peer that is called, and stays unanswered for so long, is
/// answered by no one: a hub was restarted, and knows the session no more. Each time that this
/// turns out to be how the peer is, it is twice as long, up to what the protocol asks for.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);
/// Data sent so long after the first that was not answered is no last word, which needs no answer;
/// and it gets as long to be answered.
const INSIST: Duration = Duration::from_secs(1);
/// The part of a keepalive period by which silence is looked into earlier, at random up to one in
/// so many, so that the peers of a hub that all came at once spread out.
const SPREAD: u32 = 4;

/// What is known of a peer beside its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// How often a packet is sent at least.
    pub keepalive: Option<Duration>,
    /// Whether an endpoint is configured: then it is tried for ever, and with a keepalive its
    /// silence is looked into.
    pub dialled: bool,
    /// Whether there is an address to send to.
    pub reachable: bool,
}

/// What has to be done for a peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a handshake initiation.
    Initiate {
        /// Whether the peer is silent, and the way to it may be another.
        silent: bool,
    },
    /// Send an empty packet.
    Keepalive,
    /// The handshake was given up: forget the packets that wait for it.
    GiveUp,
}

/// When something is sent to a peer that nobody asked for, and what state that peer is in.
///
/// Sans I/O: told what happened and when, it says what to do ([`PeerTimers::poll`]) and when to
/// ask next ([`PeerTimers::deadline`]). All times are since one instant of the caller's choosing.
#[derive(Clone, Debug)]
pub struct PeerTimers {
    policy: Policy,
    session: Option<Session>,
    attempt: Option<Attempt>,
    /// A handshake is wanted; none was begun yet.
    wanted: bool,
    last_initiation: Option<Duration>,
    last_sent: Option<Duration>,
    /// When something authentic came last, or when silence began to count.
    last_received: Duration,
    /// The first data sent since something authentic came.
    unanswered: Option<Duration>,
    /// When data was sent again, well after that.
    insisted: Option<Duration>,
    /// How long data that is insisted on may stay unanswered.
    patience: Duration,
    /// How much earlier silence is looked into.
    spread: Duration,
    /// The first data received since something was sent.
    owed: Option<Duration>,
    answers: Answers,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    established: Duration,
    initiator: bool,
}

/// Initiations in a row that were not answered.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    first: Duration,
    next: Duration,
}

impl PeerTimers {
    /// The timers of a peer that nothing is known of yet.
    pub fn new(policy: Policy, now: Duration) -> Self {
        let mut timers = Self {
            policy: Policy::default(),
            session: None,
            attempt: None,
            wanted: false,
            last_initiation: None,
            last_sent: None,
            last_received: now,
            unanswered: None,
            insisted: None,
            patience: SUSPECT_AFTER,
            spread: Duration::ZERO,
            owed: None,
            answers: Answers::default(),
        };
        timers.set_policy(policy, now);
        timers
    }

    /// Takes over what the configuration says now.
    pub fn set_policy(&mut self, policy: Policy, now: Duration) {
        let starts = policy.keepalive.is_some() && self.policy.keepalive.is_none();
        self.policy = policy;
        if starts {
            self.last_received = now;
            // As wg(8) has it: a keepalive that is switched on is sent at once.
            self.last_sent = None;
        }
    }

    /// What the configuration says.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The peer is to be tried at a new address: at once, whatever was tried before.
    pub fn redial(&mut self, now: Duration) {
        self.last_initiation = None;
        if let Some(attempt) = &mut self.attempt {
            attempt.next = now;
            // The new address gets the whole wait, and an attempt that ends all of its time.
            attempt.first = now;
            self.answers.expect_by(now + Answers::PATIENCE);
        } else if self.policy.dialled && self.policy.keepalive.is_some() {
            self.wanted = true;
        }
    }

    /// Something waits to be sent and there is no session.
    pub fn want_session(&mut self) {
        self.wanted = true;
    }

    /// A packet was sent; `data`: not a keepalive.
    pub fn on_sent(&mut self, now: Duration, data: bool) {
        self.last_sent = Some(now);
        self.owed = None;
        if data {
            let since = *self.unanswered.get_or_insert(now);
            if self.policy.dialled && now.saturating_sub(since) >= INSIST {
                self.insisted.get_or_insert(now);
            }
        }
        if let Some(session) = self.session
            && session.initiator
            && now.saturating_sub(session.established) >= REKEY_AFTER
        {
            self.wanted = true;
        }
    }

    /// An authentic packet came; `data`: not a keepalive.
    pub fn on_received(&mut self, now: Duration, data: bool) {
        self.heard(now);
        if data {
            self.owed.get_or_insert(now);
            self.patience = SUSPECT_AFTER;
        }
        if self.session.is_some() && self.attempt.is_some() {
            // Handshakes get lost, and the peer is there all the same.
            self.answers.settle();
            self.answers.expect_by(now + Answers::PATIENCE);
        }
        if let Some(session) = self.session
            && session.initiator
            && now.saturating_sub(session.established)
                >= REJECT_AFTER - ANSWER_WITHIN - REKEY_TIMEOUT
        {
            self.wanted = true;
        }
    }

    fn heard(&mut self, now: Duration) {
        self.last_received = now;
        self.unanswered = None;
        self.insisted = None;
    }

    /// A handshake is complete.
    pub fn on_handshake(&mut self, now: Duration, initiator: bool) {
        // Where both called at once each may end with the session of the other, and one must renew.
        let crossed = self.session.is_some_and(|before| {
            before.initiator && now.saturating_sub(before.established) < REKEY_TIMEOUT
        });
        self.session = Some(Session {
            established: now,
            initiator: initiator || crossed,
        });
        self.attempt = None;
        self.wanted = false;
        self.answers.settle();
        self.heard(now);
    }

    /// The keys changed: there is no session any more.
    pub fn on_keys_changed(&mut self) {
        self.session = None;
        self.attempt = None;
        self.last_initiation = None;
        self.last_sent = None;
        self.unanswered = None;
        self.insisted = None;
        self.owed = None;
        self.answers.settle();
    }

    /// What the peer is doing.
    pub fn state(&self) -> PeerState {
        self.answers.state(self.session.is_some())
    }

    /// How often a wait for an answer ended without one; each asks for another address.
    pub fn rounds(&self) -> u64 {
        self.answers.rounds()
    }

    /// When the last initiation was sent.
    pub fn last_initiation(&self) -> Option<Duration> {
        self.last_initiation
    }

    /// What has to be done now; to be asked until there is nothing more. What it says counts as
    /// done. `random` gives any 32 bits.
    pub fn poll(&mut self, now: Duration, random: &mut dyn FnMut() -> u32) -> Option<Action> {
        let ends = self.session.map(|s| s.established + REJECT_AFTER);
        if ends.is_some_and(|ends| now >= ends) {
            self.session = None;
        }
        let initiates = match self.attempt {
            Some(attempt) => self.poll_attempt(attempt, now, random),
            None if self.policy.reachable && self.handshake_due().is_some_and(|due| now >= due) => {
                Some(self.begin_attempt(now, random))
            }
            None => None,
        };
        if initiates.is_some() {
            return initiates;
        }
        if self.policy.reachable && self.keepalive_due().is_some_and(|due| now >= due) {
            if self.session.is_none() {
                return Some(self.begin_attempt(now, random));
            }
            self.on_sent(now, false);
            return Some(Action::Keepalive);
        }
        None
    }

    /// When to ask again at the latest; `None`: not before something happens.
    pub fn deadline(&self) -> Option<Duration> {
        let expires = self.session.map(|s| s.established + REJECT_AFTER);
        let reachable = |due: Option<Duration>| due.filter(|_| self.policy.reachable);
        let handshake = match self.attempt {
            Some(attempt) => [
                reachable(Some(attempt.next)),
                self.answers.due(),
                self.gives_up(&attempt),
            ],
            None => [reachable(self.handshake_due()), None, None],
        };
        let others = [reachable(self.keepalive_due()), expires];
        handshake.into_iter().chain(others).flatten().min()
    }

    fn for_ever(&self) -> bool {
        self.policy.dialled || self.policy.keepalive.is_some()
    }

    fn gives_up(&self, attempt: &Attempt) -> Option<Duration> {
        (!self.for_ever()).then_some(attempt.first + ATTEMPT_FOR)
    }

    fn poll_attempt(
        &mut self,
        mut attempt: Attempt,
        now: Duration,
        random: &mut dyn FnMut() -> u32,
    ) -> Option<Action> {
        self.answers.end_round(now, attempt.next);
        if self.gives_up(&attempt).is_some_and(|at| now >= at) {
            self.attempt = None;
            self.wanted = false;
            self.unanswered = None;
            self.insisted = None;
            self.answers.settle();
            return Some(Action::GiveUp);
        }
        let initiate = self.policy.reachable && now >= attempt.next;
        if initiate {
            self.last_initiation = Some(now);
            attempt.next = now + pause(now.saturating_sub(attempt.first), random);
        }
        self.attempt = Some(attempt);
        initiate.then_some(Action::Initiate { silent: true })
    }

    fn begin_attempt(&mut self, now: Duration, random: &mut dyn FnMut() -> u32) -> Action {
        let due = |at: Option<Duration>| at.is_some_and(|at| now >= at);
        let probing = due(self.probe_due()) && self.session.is_some();
        let unanswered = due(self.unanswered_due());
        if unanswered {
            self.patience = (2 * self.patience).min(SILENCE);
        }
        let period = self.policy.keepalive;
        let wait = match period {
            Some(period) if probing => period.max(REKEY_TIMEOUT),
            _ => Answers::PATIENCE,
        };
        self.answers.expect_by(now + wait);
        let most = period.map_or(0, |period| (period / SPREAD).as_millis() as u32);
        self.spread = Duration::from_millis(u64::from(random() % most.max(1)));
        self.wanted = false;
        self.unanswered = None;
        self.insisted = None;
        self.last_initiation = Some(now);
        self.attempt = Some(Attempt {
            first: now,
            next: now + pause(Duration::ZERO, random),
        });
        Action::Initiate {
            silent: probing || unanswered,
        }
    }

    /// When the silence of a peer that should speak is looked into.
    fn probe_due(&self) -> Option<Duration> {
        let period = self.policy.keepalive.filter(|_| self.policy.dialled)?;
        Some(self.last_received + 2 * period - self.spread.min(period))
    }

    /// When data that was not answered is looked into.
    fn unanswered_due(&self) -> Option<Duration> {
        let since = self.unanswered?;
        let suspected = self
            .insisted
            .map(|again| (again + INSIST).max(since + self.patience));
        Some(suspected.map_or(since + SILENCE, |at| at.min(since + SILENCE)))
    }

    fn handshake_due(&self) -> Option<Duration> {
        let spaced = self
            .last_initiation
            .map_or(Duration::ZERO, |last| last + REKEY_TIMEOUT);
        let wanted = self.wanted.then_some(Duration::ZERO);
        let due = [wanted, self.unanswered_due(), self.probe_due()]
            .into_iter()
            .flatten()
            .min()?;
        Some(due.max(spaced))
    }

    fn keepalive_due(&self) -> Option<Duration> {
        let periodic = self.policy.keepalive.map(|period| {
            let due = self.last_sent.map_or(Duration::ZERO, |last| last + period);
            if self.session.is_some() {
                return due;
            }
            if self.attempt.is_some() {
                return Duration::MAX;
            }
            // Without a session it takes a handshake, and those keep their distance.
            let spaced = self.last_initiation.map(|last| last + REKEY_TIMEOUT);
            due.min(self.session_lost_due())
                .max(spaced.unwrap_or_default())
        });
        let owed = self
            .session
            .and(self.owed)
            .map(|since| since + ANSWER_WITHIN);
        [periodic, owed].into_iter().flatten().min()
    }

    /// A dialled peer with a keepalive always has a session.
    fn session_lost_due(&self) -> Duration {
        if self.policy.dialled {
            Duration::ZERO
        } else {
            Duration::MAX
        }
    }
}

/// The pause after an initiation, `trying` after the first one.
fn pause(trying: Duration, random: &mut dyn FnMut() -> u32) -> Duration {
    let most = if trying < ATTEMPT_FOR {
        JITTER_MS
    } else {
        LATE_JITTER_MS
    };
    REKEY_TIMEOUT + Duration::from_millis(u64::from(random() % most))
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
