//! Whether the two directions of a tunnel need a thread each.

use std::time::Duration;

/// How long is measured before it is judged.
const WINDOW: Duration = Duration::from_millis(20);

/// What one thread has done since the last judgement.
///
/// One thread for both directions costs less: what comes back while it works (for bulk in one
/// direction, its acknowledgements) gathers, goes together, and wakes nobody. So a second one is
/// only worth it when the first has a processor for itself, no time left, and much to do in both
/// directions. Where it has to share the processor, a second one would have none either.
pub(super) struct Load {
    since: Duration,
    used: Duration,
    egress: Duration,
    ingress: Duration,
}

impl Load {
    /// Starts at `now` for a thread that has `used` so much of a processor's time.
    pub(super) fn new(now: Duration, used: Duration) -> Self {
        Self {
            since: now,
            used,
            egress: Duration::ZERO,
            ingress: Duration::ZERO,
        }
    }

    /// Counts time that was spent in each direction, up to `now`. Returns the shares of the time
    /// when it is time to judge; only then asks what of a processor's time was `used`.
    pub(super) fn add(
        &mut self,
        egress: Duration,
        ingress: Duration,
        now: Duration,
        used: impl FnOnce() -> Duration,
    ) -> Option<Shares> {
        self.egress += egress;
        self.ingress += ingress;
        let elapsed = now.saturating_sub(self.since);
        if elapsed < WINDOW {
            return None;
        }
        let percent = |worked: Duration| (worked.as_micros() * 100 / elapsed.as_micros()) as u32;
        let used = used();
        let shares = Shares {
            used: percent(used.saturating_sub(self.used)),
            lesser: percent(self.egress.min(self.ingress)),
        };
        *self = Self::new(now, used);
        Some(shares)
    }
}

/// How much of a thread's time went where, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of a processor's time, what the thread used.
    used: u32,
    /// What it spent with the direction that has less to do.
    lesser: u32,
}

impl Shares {
    /// A thread that serves both directions has no time left, and neither is small.
    pub(super) fn want_two(self) -> bool {
        self.used >= 90 && self.lesser >= 25
    }

    /// A thread that serves one direction has so little to do that the other can do it too.
    pub(super) fn want_one(self) -> bool {
        self.used < 15
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_once_one_is_full_and_both_directions_count() {
        let millis = Duration::from_millis;
        for (egress, ingress, used, two, one) in [
            (10, 9, 19, true, false),
            // It had to wait for the processor half the time.
            (10, 9, 10, false, false),
            (18, 1, 19, false, false),
            (1, 18, 19, false, false),
            (10, 5, 15, false, false),
            (0, 0, 0, false, true),
            (2, 0, 2, false, true),
            (4, 0, 4, false, false),
        ] {
            let mut load = Load::new(millis(5), millis(100));
            let early = load.add(millis(0), millis(0), millis(24), || unreachable!());
            assert_eq!(early, None);
            let used = || millis(100 + used);
            let shares = load.add(millis(egress), millis(ingress), millis(25), used);
            let shares = shares.expect("the window is over");
            assert_eq!(shares.want_two(), two, "{shares:?}");
            assert_eq!(shares.want_one(), one, "{shares:?}");
            // The next window starts empty.
            let early = load.add(millis(19), millis(19), millis(44), || unreachable!());
            assert_eq!(early, None);
        }
    }
}
