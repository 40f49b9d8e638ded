use std::time::Duration;

/// Events that may happen so often, each kind for itself: token buckets, one for each of a fixed
/// number of places. Who shares a place shares its bucket, so that memory is bounded whoever comes.
pub(super) struct Buckets {
    /// When each bucket is full again, in ns.
    full_at: Box<[u64]>,
    interval: u64,
    burst: u64,
}

impl Buckets {
    /// `places` buckets with `burst` tokens at most that gain `rate` tokens a second each.
    pub(super) fn new(places: usize, rate: u32, burst: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(rate.max(1));
        Self {
            full_at: vec![0; places].into_boxed_slice(),
            interval,
            burst: interval * u64::from(burst),
        }
    }

    /// Takes a token from the bucket at `place`, of which any number leads to one; false where
    /// there is none.
    pub(super) fn take(&mut self, place: u32, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let at = place as usize % self.full_at.len();
        let full_at = self.full_at[at].max(now).saturating_add(self.interval);
        let taken = full_at <= now.saturating_add(self.burst);
        if taken {
            self.full_at[at] = full_at;
        }
        taken
    }

    /// Takes a token from each of two buckets; false where neither has one.
    pub(super) fn take_either(&mut self, places: [u32; 2], now: Duration) -> bool {
        let [one, other] = places.map(|place| self.take(place, now));
        one || other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut buckets = Buckets::new(2, 10, 3);
        let at = Duration::from_millis;
        let taken = |buckets: &mut Buckets, place, now| {
            (0..10).filter(|_| buckets.take(place, now)).count()
        };
        assert_eq!(taken(&mut buckets, 0, at(5000)), 3);
        assert_eq!(taken(&mut buckets, 1, at(5000)), 3);
        assert_eq!(taken(&mut buckets, 2, at(5000)), 0);
        assert_eq!(taken(&mut buckets, 0, at(5100)), 1);
        assert_eq!(taken(&mut buckets, 0, at(9000)), 3);
    }

    #[test]
    fn who_shares_one_of_two_places_with_a_flood_passes() {
        let mut buckets = Buckets::new(8, 10, 3);
        let taken = |buckets: &mut Buckets, places| {
            let now = Duration::from_secs(5);
            (0..10).filter(|_| buckets.take_either(places, now)).count()
        };
        assert_eq!(taken(&mut buckets, [0, 1]), 3);
        assert_eq!(taken(&mut buckets, [1, 2]), 3);
        assert_eq!(taken(&mut buckets, [2, 0]), 0);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(pauses in prop::collection::vec(0u64..200, 1..300)) {
            let mut buckets = Buckets::new(1, 10, 3);
            let (mut now, mut taken) = (0, 0);
            for pause in pauses {
                now += pause;
                taken += u64::from(buckets.take(0, Duration::from_millis(now)));
                prop_assert!(taken <= 3 + now / 100);
            }
        }
    }
}
