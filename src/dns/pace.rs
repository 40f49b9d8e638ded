//! When to look for datagrams again.

use std::time::{Duration, Instant};

/// How long the rate is counted before it is judged.
const WINDOW: Duration = Duration::from_millis(1);
/// Datagrams in a window from which a rest is worth it: below, it would gather too few to pay for
/// itself and only make clients wait.
const MANY: u32 = 100;
/// How long datagrams are left to gather.
const REST: Duration = Duration::from_micros(100);
/// Datagrams in one round from which they gather enough without a rest.
const ENOUGH: u32 = 32;

/// Decides whether to rest before the next look.
///
/// Half of what a datagram costs is going to sleep and being woken for it. While they come in
/// quick succession, a short rest between looks lets many share that, as the interrupt moderation
/// of network cards does.
pub(super) struct Pace {
    since: Instant,
    count: u32,
    is_busy: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            count: 0,
            is_busy: false,
        }
    }

    /// How long to rest after a round that brought `received` datagrams, if at all.
    pub(super) fn rest(&mut self, received: u32, now: Instant) -> Option<Duration> {
        self.count = self.count.saturating_add(received);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= WINDOW {
            self.is_busy = WINDOW * self.count >= elapsed * MANY;
            self.since = now;
            self.count = 0;
        }
        (self.is_busy && received > 0 && received < ENOUGH).then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rests of `rounds` rounds that are `gap` apart and bring `each` datagrams.
    fn rests(pace: &mut Pace, start: Instant, rounds: u32, gap: Duration, each: u32) -> usize {
        (1..=rounds)
            .filter_map(|round| pace.rest(each, start + gap * round))
            .count()
    }

    #[test]
    fn rests_only_while_many_datagrams_come_a_few_at_a_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let micros = Duration::from_micros;
        // 20,000 a second, one at a time.
        assert_eq!(rests(&mut pace, start, 1000, micros(50), 1), 0);
        // 200,000 a second: as soon as a window has shown it.
        let start = start + micros(50_000);
        assert!(rests(&mut pace, start, 1000, micros(20), 4) > 900);
        // So many that they gather by themselves.
        let start = start + micros(20_000);
        assert_eq!(rests(&mut pace, start, 100, micros(200), 32), 0);
        // Silence, then one.
        let start = start + micros(20_000);
        assert_eq!(rests(&mut pace, start, 1, Duration::from_secs(1), 1), 0);
    }
}
