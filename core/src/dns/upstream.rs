//! What is known of an upstream from the answers it gives and those it owes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{DnsProtocol, Server};

use super::wire::Rcode;

/// Unanswered in a row from which an upstream counts as down.
const DOWN_AFTER: u32 = 3;
/// SERVFAIL or REFUSED in a row from which others are asked first.
const UNHELPFUL_AFTER: u32 = 3;
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How long an answer is waited for while nothing is known, and at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(300);
/// How soon another upstream is asked as well, at the earliest.
const SHORTEST_HEDGE: Duration = Duration::from_millis(20);

/// How long a measured latency holds where the fastest is asked.
const MEASURE_AGAIN: Duration = Duration::from_secs(30);

/// Why an upstream did not give a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came in time.
    Timeout,
    /// It can't be reached: the system's words.
    Unreachable(Arc<str>),
    /// It answered, but only with this.
    Unhelpful(Rcode),
    /// It answered what is no DNS message.
    Malformed,
    /// The tunnel that leads to it is down.
    PathDown,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Unhelpful(rcode) => write!(f, "answered {}", rcode.name()),
            Self::Malformed => f.write_str("answered with a malformed message"),
            Self::PathDown => f.write_str("the tunnel to it is down"),
        }
    }
}

/// A server that is asked, as a member of one group.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) server: Arc<Server>,
    pub(super) queries: u64,
    pub(super) failures: u64,
    pub(super) last_error: Option<Failure>,
    /// A copy of a client's question is under way to see whether it is back.
    pub(super) on_trial: bool,
    latency: Option<Duration>,
    /// When its latency was last measured.
    measured: Option<Instant>,
    /// The time within which 19 of 20 answers come, about.
    slow_latency: Duration,
    unanswered: u32,
    unhelpful: u32,
    last_failure: Option<Instant>,
    retry_at: Option<Instant>,
    path_was_down: bool,
}

impl Upstream {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server: Arc::new(server),
            queries: 0,
            failures: 0,
            last_error: None,
            on_trial: false,
            latency: None,
            measured: None,
            slow_latency: Duration::ZERO,
            unanswered: 0,
            unhelpful: 0,
            last_failure: None,
            retry_at: None,
            path_was_down: false,
        }
    }

    /// Its address.
    pub(super) fn ip(&self) -> IpAddr {
        self.server.address.ip()
    }

    /// Whether it is asked over connections alone.
    pub(super) fn is_stream(&self) -> bool {
        self.server.protocol != DnsProtocol::Udp
    }

    /// Whether it answers, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.unanswered < DOWN_AFTER
    }

    /// Whether it answers and the path to it is not down.
    pub(super) fn is_reachable(&self) -> bool {
        self.is_up() && !self.path_was_down
    }

    /// Whether others are asked first.
    pub(super) fn is_suspect(&self) -> bool {
        self.unanswered > 0 || self.unhelpful >= UNHELPFUL_AFTER
    }

    /// Whether it is worth asking once more for a question that it did not answer.
    pub(super) fn is_steady(&self) -> bool {
        self.is_up() && self.unhelpful == 0
    }

    /// Whether it is time to see how fast it is.
    pub(super) fn is_unmeasured(&self, now: Instant) -> bool {
        let is_old = |at| now.saturating_duration_since(at) >= MEASURE_AGAIN;
        !self.on_trial && self.measured.is_none_or(is_old)
    }

    /// Whether it is not asked at all for now.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        !self.is_up() && self.retry_at.is_some_and(|at| now < at)
    }

    /// Whether it is time to see if it is back.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_suspect() && !self.on_trial && self.retry_at.is_none_or(|at| now >= at)
    }

    /// The smoothed time to an answer.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// How long an answer is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.latency.map_or(LONGEST_WAIT, |latency| {
            (latency * 4 + Duration::from_millis(50)).clamp(SHORTEST_WAIT, LONGEST_WAIT)
        })
    }

    /// How long it alone is waited for before another is asked as well.
    pub(super) fn hedge_after(&self) -> Duration {
        self.slow_latency.clamp(SHORTEST_HEDGE, self.patience())
    }

    /// The path to it is down; when it is up again, older failures say nothing any more.
    pub(super) fn path_is_down(&mut self) {
        self.path_was_down = true;
    }

    /// The path to it stands.
    pub(super) fn path_is_up(&mut self) {
        if std::mem::take(&mut self.path_was_down) {
            self.unanswered = 0;
            self.retry_at = None;
        }
    }

    /// A question goes to it. While it is down, the next waits until this one was judged.
    pub(super) fn asked(&mut self, now: Instant) {
        self.queries += 1;
        if self.is_suspect() {
            self.retry_at = Some(now + self.rest());
        }
    }

    /// It answered. Returns whether that is news.
    pub(super) fn answered(&mut self, latency: Option<Duration>, now: Instant) -> bool {
        let was_up = self.is_up();
        self.unanswered = 0;
        if self.unhelpful < UNHELPFUL_AFTER {
            self.retry_at = None;
        }
        if let Some(sample) = latency {
            self.measured = Some(now);
            self.latency = Some(self.latency.map_or(sample, |mean| (mean * 7 + sample) / 8));
            // Steps up and down in the ratio 19 to 1 stand still where 1 of 20 is slower.
            let slow = self.slow_latency;
            self.slow_latency = match sample {
                _ if slow.is_zero() => sample,
                _ if sample > slow => slow + slow * 19 / 100,
                _ => slow - slow / 100,
            };
        }
        !was_up
    }

    /// Its answer was of use.
    pub(super) fn helped(&mut self) {
        self.unhelpful = 0;
        self.retry_at = None;
    }

    /// A question that was sent at `sent` failed. Returns whether it counts as down since now.
    pub(super) fn failed(&mut self, failure: Failure, sent: Instant, now: Instant) -> bool {
        let was_up = self.is_up();
        self.failures += 1;
        // Questions that were under way together fail together: that is one failure.
        let is_new = self.last_failure.is_none_or(|last| sent >= last);
        if is_new {
            match failure {
                Failure::Unhelpful(_) | Failure::Malformed => self.unhelpful += 1,
                _ => self.unanswered += 1,
            }
            self.last_failure = Some(now);
            self.retry_at = Some(now + self.rest());
        }
        self.last_error = Some(failure);
        was_up && !self.is_up()
    }

    fn rest(&self) -> Duration {
        let doublings = self.unanswered.max(self.unhelpful).saturating_sub(1).min(8);
        (FIRST_REST * (1 << doublings)).min(LONGEST_REST)
    }
}
