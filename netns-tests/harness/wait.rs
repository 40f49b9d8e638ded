//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// The longest time that a condition may take to become true. A case that asserts how long
/// something takes would fail on a busy machine: this is only where it stops hoping.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within 30 s; `what` says what was hoped for.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until there is a value, and returns it.
///
/// # Panics
/// When there is none within 30 s; `what` says what was hoped for.
#[track_caller]
pub fn wait_for<T>(what: &str, value: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, value)
}

/// Waits until there is a value, and returns it.
///
/// # Panics
/// When there is none within the time; `what` says what was hoped for.
#[track_caller]
pub fn wait_within<T>(limit: Duration, what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        let waited = started.elapsed();
        assert!(waited < limit, "waited {} s for {what}", waited.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
