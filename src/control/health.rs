//! Whether the instance is alive, ready and started.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::snapshot::Reason;

/// The loops of the instance that must not stand still.
///
/// Clones are the same register.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    since: Instant,
    loops: Arc<Mutex<BTreeMap<String, Arc<Pulse>>>>,
}

#[derive(Debug)]
struct Pulse {
    /// Milliseconds from the register's creation to the last beat.
    last: AtomicU64,
    stale_after: Duration,
    dead: AtomicBool,
}

/// The pulse of one loop, for the loop to beat.
///
/// When it is dropped, the loop has ended as it should and is no longer looked at, except when
/// its thread panics: then it is dead at once.
#[derive(Debug)]
pub struct Heartbeat {
    name: String,
    pulse: Arc<Pulse>,
    register: Heartbeats,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            loops: Arc::default(),
        }
    }
}

impl Heartbeats {
    /// Adds a loop that is dead when it did not beat for longer than `stale_after`. The
    /// registration is its first beat; one of the same name is replaced.
    pub fn register(&self, name: impl Into<String>, stale_after: Duration) -> Heartbeat {
        let name = name.into();
        let pulse = Arc::new(Pulse {
            last: AtomicU64::new(self.since_start(Instant::now())),
            stale_after,
            dead: AtomicBool::new(false),
        });
        self.lock().insert(name.clone(), pulse.clone());
        Heartbeat {
            name,
            pulse,
            register: self.clone(),
        }
    }

    /// The loops that are dead at `now`, each with the reason in words.
    pub fn dead(&self, now: Instant) -> Vec<String> {
        let now = self.since_start(now);
        let mut dead = Vec::new();
        for (name, pulse) in self.lock().iter() {
            let silence =
                Duration::from_millis(now.saturating_sub(pulse.last.load(Ordering::Relaxed)));
            if pulse.dead.load(Ordering::Relaxed) {
                dead.push(format!("{name} has panicked"));
            } else if silence > pulse.stale_after {
                dead.push(format!("{name} stands still since {} s", silence.as_secs()));
            }
        }
        dead
    }

    fn since_start(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.since);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pulse>>> {
        // The map is whole after every statement that holds the lock.
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    /// Says that the loop is alive. Cheap: one atomic store and one clock.
    pub fn beat(&self) {
        let now = self.register.since_start(Instant::now());
        self.pulse.last.store(now, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.pulse.dead.store(true, Ordering::Relaxed);
            return;
        }
        let mut loops = self.register.lock();
        if loops
            .get(&self.name)
            .is_some_and(|pulse| Arc::ptr_eq(pulse, &self.pulse))
        {
            loops.remove(&self.name);
        }
    }
}

/// What outlives a reload of what is known about the instance's health.
#[derive(Debug)]
pub struct Health {
    heartbeats: Heartbeats,
    started: tokio::time::Instant,
    startup: AtomicBool,
    /// The reasons when last looked at; `None` before that.
    last: Mutex<Option<Vec<Reason>>>,
}

/// The answer to a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// 200 rather than 503.
    pub(super) good: bool,
    /// `ok`, or one reason a line.
    pub(super) text: String,
}

impl Verdict {
    fn of<T: std::fmt::Display>(reasons: impl IntoIterator<Item = T>) -> Self {
        let mut text = String::new();
        for reason in reasons {
            // A String takes everything.
            let _ = writeln!(text, "{reason}");
        }
        if text.is_empty() {
            Self::good("ok\n")
        } else {
            Self { good: false, text }
        }
    }

    fn good(text: &str) -> Self {
        Self {
            good: true,
            text: text.to_owned(),
        }
    }
}

impl Health {
    /// The health of an instance that starts now; one for the life of the process.
    pub fn new(heartbeats: Heartbeats) -> Arc<Self> {
        Arc::new(Self {
            heartbeats,
            started: tokio::time::Instant::now(),
            startup: AtomicBool::new(false),
            last: Mutex::new(None),
        })
    }

    /// The register of loops that `/livez` looks at.
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    pub(super) fn live(&self) -> Verdict {
        Verdict::of(self.heartbeats.dead(Instant::now()))
    }

    pub(super) fn ready(&self, reasons: Vec<Reason>) -> Verdict {
        let reasons = self.observe(reasons);
        Verdict::of(
            reasons
                .iter()
                .map(|r| format!("{}: {}", r.kind.as_str(), r.text)),
        )
    }

    /// Good once the instance was ready, or after `wait` if there is one, and good from then on.
    pub(super) fn startup(&self, reasons: Vec<Reason>, wait: Option<Duration>) -> Verdict {
        let ready = self.ready(reasons);
        if ready.good || self.startup.load(Ordering::Relaxed) {
            return Verdict::good("ok\n");
        }
        if wait.is_some_and(|wait| self.started.elapsed() >= wait) {
            self.startup.store(true, Ordering::Relaxed);
            return Verdict::good("ok: startupWait is over\n");
        }
        ready
    }

    /// Takes note of whether the instance is ready and logs a change of it.
    pub(super) fn observe(&self, reasons: Vec<Reason>) -> Vec<Reason> {
        if reasons.is_empty() {
            self.startup.store(true, Ordering::Relaxed);
        }
        // The value is whole after every statement that holds the lock.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&reasons) {
            log_change(last.as_deref(), &reasons);
            *last = Some(reasons.clone());
        }
        reasons
    }
}

/// The state that is logged is ready or not; another reason while not ready is for finding faults.
fn log_change(before: Option<&[Reason]>, now: &[Reason]) {
    let why = || {
        let texts: Vec<_> = now.iter().map(|r| r.text.as_str()).collect();
        texts.join("; ")
    };
    match (before.is_some_and(<[_]>::is_empty), now.is_empty()) {
        (_, true) => tracing::info!("ready"),
        (true, false) => tracing::warn!(why = why(), "not ready any more"),
        (false, false) if before.is_none() => tracing::info!(why = why(), "not ready yet"),
        (false, false) => tracing::debug!(why = why(), "not ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stops_beating_is_dead_until_it_beats_again() {
        let heartbeats = Heartbeats::default();
        let pulse = heartbeats.register("tunnel", Duration::from_secs(10));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(heartbeats.dead(later(9)), Vec::<String>::new());
        let dead = heartbeats.dead(later(3600));
        assert!(
            dead[0].starts_with("tunnel stands still since 3"),
            "{dead:?}"
        );
        pulse.beat();
        assert_eq!(heartbeats.dead(later(9)), Vec::<String>::new());
    }

    #[test]
    fn a_loop_that_ended_is_not_looked_at() {
        let heartbeats = Heartbeats::default();
        let old = heartbeats.register("dns", Duration::from_secs(1));
        let new = heartbeats.register("dns", Duration::from_secs(1));
        let later = Instant::now() + Duration::from_secs(60);
        drop(old);
        assert_eq!(
            heartbeats.dead(later).len(),
            1,
            "the new one is still there"
        );
        drop(new);
        assert_eq!(heartbeats.dead(later), Vec::<String>::new());
    }

    #[test]
    fn a_loop_that_panics_is_dead_at_once() {
        let heartbeats = Heartbeats::default();
        let pulse = heartbeats.register("dns", Duration::from_secs(3600));
        let thread = std::thread::spawn(move || {
            let _pulse = pulse;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(heartbeats.dead(Instant::now()), ["dns has panicked"]);
    }
}
