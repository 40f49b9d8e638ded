//! What is put back at once, and what is left alone for a while because others keep changing it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Object, Step};

/// An object may be put back this often in a row before it counts as contested.
const FREE_REPAIRS: u32 = 5;
/// How long a contested object is left alone at first; it doubles with each repair.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);
/// An object that stays as it is for this long is contested no more.
const PEACE: Duration = Duration::from_secs(60);

/// Which objects were put back lately, and how often.
#[derive(Debug, Default)]
pub struct Contests(HashMap<Object, Contest>);

#[derive(Debug)]
struct Contest {
    repairs: u32,
    /// It is left alone until then.
    rests_until: Instant,
}

/// A step that does not run yet, because others keep taking it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The step.
    pub step: Step,
    /// How often it was run already.
    pub repairs: u32,
    /// When it may run again.
    pub until: Instant,
}

impl Contests {
    /// Divides the steps into those that may run now, which counts as done, and those that must
    /// wait, each in order.
    pub fn admit(&mut self, steps: Vec<Step>, now: Instant) -> (Vec<Step>, Vec<Held>) {
        self.0
            .retain(|_, contest| now < contest.rests_until + PEACE);
        let (mut admitted, mut held) = (Vec::new(), Vec::new());
        for step in steps {
            let contest = self.0.entry(step.object()).or_insert(Contest {
                repairs: 0,
                rests_until: now,
            });
            if now < contest.rests_until {
                held.push(Held {
                    step,
                    repairs: contest.repairs,
                    until: contest.rests_until,
                });
                continue;
            }
            contest.repairs += 1;
            contest.rests_until = now + rest(contest.repairs);
            admitted.push(step);
        }
        (admitted, held)
    }
}

/// How long an object is left alone after so many repairs.
fn rest(repairs: u32) -> Duration {
    let Some(doublings) = repairs.checked_sub(FREE_REPAIRS) else {
        return Duration::ZERO;
    };
    FIRST_REST
        .saturating_mul(1 << doublings.min(16))
        .min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
    fn start_of_time() -> Instant {
        Instant::now()
    }

    fn step(path: &str) -> Step {
        Step::Sysctl {
            path: path.to_owned(),
            from: "0".to_owned(),
            to: "1".to_owned(),
        }
    }

    fn runs(contests: &mut Contests, path: &str, now: Instant) -> bool {
        contests.admit(vec![step(path)], now).1.is_empty()
    }

    #[test]
    fn an_object_that_others_keep_changing_is_put_back_ever_less_often() {
        let mut contests = Contests::default();
        let start = start_of_time();
        for _ in 0..FREE_REPAIRS {
            assert!(runs(&mut contests, "a", start));
        }
        assert!(!runs(&mut contests, "a", start), "it rests");
        assert!(runs(&mut contests, "b", start), "others do not");
        // An opponent that never rests, for a day.
        let seconds = (1..86_400).map(Duration::from_secs);
        let times: Vec<Duration> = seconds
            .filter(|after| runs(&mut contests, "a", start + *after))
            .collect();
        assert_eq!(times[..3], [10, 30, 70].map(Duration::from_secs));
        let gaps: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(gaps.is_sorted());
        assert_eq!(gaps.last(), Some(&LONGEST_REST));
    }

    #[test]
    fn an_object_that_is_left_in_peace_is_contested_no_more() {
        let mut contests = Contests::default();
        let start = start_of_time();
        for _ in 0..FREE_REPAIRS {
            assert!(runs(&mut contests, "a", start));
        }
        let later = start + FIRST_REST + PEACE;
        for _ in 0..FREE_REPAIRS {
            assert!(runs(&mut contests, "a", later));
        }
        assert!(!runs(&mut contests, "a", later));
    }

    #[test]
    fn a_held_step_says_when_it_may_run() {
        let mut contests = Contests::default();
        let start = start_of_time();
        for _ in 0..FREE_REPAIRS {
            contests.admit(vec![step("a")], start);
        }
        let (admitted, held) = contests.admit(vec![step("a"), step("b")], start);
        assert_eq!(admitted, [step("b")]);
        assert_eq!(
            held,
            [Held {
                step: step("a"),
                repairs: FREE_REPAIRS,
                until: start + FIRST_REST,
            }]
        );
    }
}
