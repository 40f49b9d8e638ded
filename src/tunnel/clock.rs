//! The time that a tunnel lives by.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Counts on while the machine is suspended, unlike [`Instant`](std::time::Instant), because the
/// peers count on: a session that they have ended must have ended here too. Nobody can set it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Duration,
}

impl Clock {
    /// A clock that begins at zero.
    pub(super) fn start() -> Self {
        Self {
            began: since_boot(),
        }
    }

    /// The time since it was started.
    pub(super) fn now(self) -> Duration {
        since_boot().saturating_sub(self.began)
    }
}

fn since_boot() -> Duration {
    // It fails for a clock that the kernel has not; this one is older (2.6.39) than all we need.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}
