//! What size of packet passes through a path that says nothing: found by echo requests, in the
//! time that the caller tells.
//!
//! At rest one as long as the link's MTU is sent now and then. When three in a row are lost while
//! shorter ones, sent with the second and third, are answered, the path takes no more than the
//! longest of those. Where none at all is answered nothing is known. What was found narrow is
//! tried again after a while, with longer ones that are not used for anything else meanwhile.

use std::time::Duration;

/// How often it is looked whether the path takes what is sent, while it does.
const PERIOD: Duration = Duration::from_secs(15);
/// How long an answer may take before the next request.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many requests are lost before it is no accident.
const ROUNDS: u8 = 3;
/// How long after a path was found narrow it is tried whether it takes more, first and at most.
const FIRST_HOLD: Duration = Duration::from_secs(600);
const LONGEST_HOLD: Duration = Duration::from_secs(7200);
/// The least that a path is said to take: what IPv6 needs (RFC 8200, section 5).
pub const LEAST_MTU: u16 = 1280;
/// A packet that every path takes.
const SMALL: u16 = 128;
/// What is tried between the least and the most: multiples of 16, which the other end can't pad
/// to more when it answers.
const SIZES: [u16; 14] = [
    1280, 1296, 1312, 1328, 1344, 1360, 1376, 1392, 1408, 1424, 1440, 2000, 4000, 8000,
];

/// An echo request that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Its number, which the answer bears.
    pub sequence: u16,
    /// The length of the packet in bytes, with its IP header.
    pub size: u16,
}

/// Finds what one path takes.
#[derive(Clone, Debug)]
pub struct PathProbe {
    limit: Option<u16>,
    /// What is under way.
    search: Option<Search>,
    next: Duration,
    /// When longer packets are tried, where there is a limit.
    raise_at: Duration,
    hold: Duration,
    sequence: u16,
    answered_at: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Search {
    /// Whether longer packets than the limit are tried.
    raises: bool,
    /// What the link takes, or is to take.
    full: u16,
    round: u8,
    sent: Vec<Echo>,
    /// The sizes that were answered, one for each answer.
    answered: Vec<u16>,
}

impl PathProbe {
    /// A path of which nothing is known yet; it is looked at once.
    pub fn new(now: Duration) -> Self {
        Self {
            limit: None,
            search: None,
            next: now,
            raise_at: now,
            hold: FIRST_HOLD,
            sequence: 0,
            answered_at: None,
        }
    }

    /// The most that passes, in bytes, where it is less than the link could take.
    pub fn limit(&self) -> Option<u16> {
        self.limit
    }

    /// When the last request was answered.
    pub fn answered_at(&self) -> Option<Duration> {
        self.answered_at
    }

    /// When [`PathProbe::poll`] is to be called next.
    pub fn deadline(&self) -> Duration {
        self.next
    }

    /// The path may be another one: it is looked at once, whether it takes more too.
    pub fn on_path_changed(&mut self, now: Duration) {
        self.search = None;
        self.next = now;
        self.raise_at = now;
        self.hold = FIRST_HOLD;
    }

    /// What is to be sent now. `most` is what the link could take if the path did.
    pub fn poll(&mut self, now: Duration, most: u16) -> Vec<Echo> {
        if now < self.next {
            return Vec::new();
        }
        match self.search.take() {
            None => self.begin(now, most),
            Some(search) if search.round < ROUNDS => self.ask(now, search),
            Some(search) => {
                self.conclude(now, most, &search);
                self.next = now + PERIOD;
                Vec::new()
            }
        }
    }

    fn begin(&mut self, now: Duration, most: u16) -> Vec<Echo> {
        self.limit = self.limit.filter(|limit| *limit < most);
        let raises = self.limit.is_some() && now >= self.raise_at;
        let full = match self.limit {
            Some(limit) if !raises => limit,
            _ => most,
        };
        let search = Search {
            raises,
            full,
            round: 0,
            sent: Vec::new(),
            answered: Vec::new(),
        };
        self.ask(now, search)
    }

    fn ask(&mut self, now: Duration, mut search: Search) -> Vec<Echo> {
        search.round += 1;
        self.next = now + PATIENCE;
        let mut sizes = vec![search.full];
        if search.raises {
            let above = self.limit.unwrap_or(0);
            sizes.extend(
                SIZES
                    .iter()
                    .filter(|s| (above + 1..search.full).contains(s)),
            );
        } else if search.round > 1 {
            sizes.extend(SIZES.iter().filter(|size| **size < search.full));
            sizes.push(SMALL);
        }
        let echoes = sizes.into_iter().map(|size| {
            self.sequence = self.sequence.wrapping_add(1);
            Echo {
                sequence: self.sequence,
                size,
            }
        });
        let echoes: Vec<Echo> = echoes.collect();
        search.sent.extend(&echoes);
        self.search = Some(search);
        echoes
    }

    /// A request was answered. Returns whether it is one of ours that was waited for.
    pub fn on_answer(&mut self, now: Duration, sequence: u16) -> bool {
        let Some(search) = &mut self.search else {
            return false;
        };
        let Some(at) = search.sent.iter().position(|e| e.sequence == sequence) else {
            return false;
        };
        let echo = search.sent.swap_remove(at);
        search.answered.push(echo.size);
        self.answered_at = Some(now);
        if echo.size == search.full && !search.raises {
            self.search = None;
            self.next = now + PERIOD;
        }
        true
    }

    fn conclude(&mut self, now: Duration, most: u16, search: &Search) {
        let answers = |size: &u16| search.answered.iter().filter(|s| *s == size).count();
        if search.raises {
            // Twice, so that an accident does not lead into a path that loses most.
            let passed = search.answered.iter().filter(|size| answers(size) > 1);
            match passed.max() {
                Some(passed) => {
                    self.limit = Some(*passed).filter(|limit| *limit < most);
                    self.hold = FIRST_HOLD;
                }
                None => self.hold = (2 * self.hold).min(LONGEST_HOLD),
            }
            self.raise_at = now + self.hold;
        } else if let Some(longest) = search.answered.iter().max() {
            let limit = (*longest).max(LEAST_MTU);
            if limit < search.full {
                self.limit = Some(limit);
                self.raise_at = now + self.hold;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A path, and who probes it.
    struct Line {
        probe: PathProbe,
        now: Duration,
        sent: Vec<(Duration, Echo)>,
    }

    impl Line {
        fn new() -> Self {
            Self {
                probe: PathProbe::new(Duration::ZERO),
                now: Duration::ZERO,
                sent: Vec::new(),
            }
        }

        /// Passes time; requests that `passes` are answered.
        fn run(&mut self, time: Duration, most: u16, mut passes: impl FnMut(u16) -> bool) {
            let end = self.now + time;
            while self.probe.deadline() <= end {
                self.now = self.now.max(self.probe.deadline());
                for echo in self.probe.poll(self.now, most) {
                    self.sent.push((self.now, echo));
                    if passes(echo.size) {
                        self.probe.on_answer(self.now, echo.sequence);
                    }
                }
            }
            self.now = end;
        }

        fn mtu(&self, most: u16) -> u16 {
            self.probe.limit().unwrap_or(most).min(most)
        }
    }

    #[test]
    fn three_lost_large_packets_lower_it_and_a_while_later_it_rises_again() {
        let mut line = Line::new();
        line.run(HOUR, 1420, |_| true);
        assert_eq!(line.mtu(1420), 1420);
        line.run(PERIOD + 3 * PATIENCE, 1420, |size| size <= 1350);
        assert_eq!(line.mtu(1420), 1344);
        line.run(FIRST_HOLD - 2 * PERIOD, 1420, |_| true);
        assert_eq!(line.mtu(1420), 1344, "it is left for a while");
        line.run(4 * PERIOD, 1420, |_| true);
        assert_eq!(line.mtu(1420), 1420);
    }

    #[test]
    fn one_lost_packet_or_two_are_an_accident() {
        for lost in 1..=2 {
            let mut line = Line::new();
            let mut count = 0;
            line.run(HOUR, 1420, |size| {
                count += u32::from(size == 1420);
                size < 1420 || count > lost
            });
            assert_eq!(line.probe.limit(), None);
        }
    }

    #[test]
    fn a_probe_that_never_answers_says_nothing() {
        let mut line = Line::new();
        line.run(HOUR, 1420, |_| false);
        assert_eq!(line.probe.limit(), None);
        assert_eq!(line.probe.answered_at(), None);
    }

    #[test]
    fn another_path_is_tried_at_once() {
        let mut line = Line::new();
        line.run(HOUR / 60, 1420, |size| size <= 1300);
        assert_eq!(line.mtu(1420), 1296);
        line.probe.on_path_changed(line.now);
        line.run(4 * PATIENCE, 1420, |_| true);
        assert_eq!(line.mtu(1420), 1420);
    }

    #[test]
    fn a_path_that_stays_narrow_is_tried_seldom() {
        let mut line = Line::new();
        line.run(24 * HOUR, 1420, |size| size <= 1300);
        let longer = line
            .sent
            .iter()
            .filter(|(at, echo)| *at > HOUR && echo.size > 1296);
        let mut times: Vec<_> = longer.map(|(at, _)| *at).collect();
        times.dedup();
        assert!((30..45).contains(&times.len()), "{} times", times.len());
    }

    proptest! {
        #[test]
        fn it_ends_at_what_the_path_takes(most in 1280u16..9000, width in 500u16..9000) {
            let mut line = Line::new();
            line.run(HOUR / 30, most, |size| size <= width);
            let best = SIZES.iter().copied().chain([most]).filter(|s| *s <= width.min(most)).max();
            let expected = best.unwrap_or(LEAST_MTU).max(LEAST_MTU);
            prop_assert_eq!(line.mtu(most), expected);
            line.run(3 * HOUR, most, |_| true);
            prop_assert_eq!(line.mtu(most), most);
        }

        #[test]
        fn it_stays_within_bounds_whatever_is_lost(
            mosts in prop::collection::vec(576u16..9000, 1..8),
            seed in any::<u64>(),
        ) {
            let mut line = Line::new();
            let mut random = seed | 1;
            for most in mosts {
                line.run(HOUR, most, |_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random % 3 != 0
                });
                let mtu = line.mtu(most);
                prop_assert!(mtu <= most && mtu >= LEAST_MTU.min(most), "{mtu} of {most}");
            }
            // At worst three rounds in each period.
            let most_sent = 8 * 3600 / 15 * 3 * (SIZES.len() + 2);
            prop_assert!(line.sent.len() <= most_sent);
            prop_assert!(line.sent.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        }
    }
}
