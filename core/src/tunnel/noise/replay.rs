/// How many counters below the greatest one are still told apart.
const WINDOW: u64 = 8192;

/// Which counters of a session were seen.
///
/// It grows with the counters, to 1 KiB, so that a session with nothing but keepalives has 8 bytes.
#[derive(Default)]
pub(super) struct Window {
    /// A bit for each counter, at its place modulo the window; a power of two of words.
    seen: Vec<u64>,
    /// One more than the greatest counter.
    end: u64,
}

impl Window {
    /// Notes an authentic counter, below 2^63; false for one that was seen before, or is so old
    /// that nobody knows.
    pub(super) fn note(&mut self, counter: u64) -> bool {
        if counter + WINDOW < self.end {
            return false;
        }
        self.grow(counter);
        let bits = self.seen.len() as u64 * 64;
        if counter >= self.end {
            // What these places said of counters before the window is not true of theirs.
            let passed = (counter - self.end).min(bits);
            for skipped in counter - passed..counter {
                self.seen[(skipped % bits / 64) as usize] &= !(1 << (skipped % 64));
            }
            self.end = counter + 1;
            self.seen[(counter % bits / 64) as usize] |= 1 << (counter % 64);
            return true;
        }
        let word = &mut self.seen[(counter % bits / 64) as usize];
        let fresh = *word & 1 << (counter % 64) == 0;
        *word |= 1 << (counter % 64);
        fresh
    }

    fn grow(&mut self, counter: u64) {
        let words = (counter.min(WINDOW - 1) / 64 + 1).next_power_of_two() as usize;
        if words > self.seen.len() {
            // As long as it has not its full length every counter is at its own place.
            self.seen.resize(words, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_idle_session_takes_little() {
        let mut window = Window::default();
        for counter in 0..64 {
            assert!(window.note(counter));
        }
        assert_eq!(window.seen.len(), 1);
        assert!(window.note(100_000));
        assert_eq!(window.seen.len(), 128);
    }

    #[test]
    fn the_window_is_exactly_8192_wide() {
        let mut window = Window::default();
        assert!(window.note(20_000));
        assert!(window.note(20_000 - 8191));
        assert!(!window.note(20_000 - 8191));
        assert!(!window.note(20_000 - 8192));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_all_counters(
            start in prop_oneof![Just(0u64), 0..20_000u64, Just((1 << 62) - 5)],
            steps in prop::collection::vec(
                prop_oneof![-3i64..4, -70i64..70, -9000i64..9000, Just(-8191i64), Just(-8192i64)], 1..400)
        ) {
            let mut window = Window::default();
            let mut all = BTreeSet::new();
            let mut counter = start;
            for step in steps {
                counter = counter.saturating_add_signed(step);
                let greatest = all.last().copied().unwrap_or(0);
                let known = counter + WINDOW > greatest;
                let fresh = known && all.insert(counter);
                prop_assert_eq!(window.note(counter), fresh, "{}", counter);
            }
        }
    }
}
