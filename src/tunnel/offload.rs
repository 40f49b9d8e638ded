//! What the kernel does for many packets in one call, and where it refused to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whether the kernel is asked to take and give many packets in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Wherever it can; elsewhere packets go one by one.
    #[default]
    Auto,
    /// Never: packets go one by one.
    None,
}

impl Offload {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Auto, Self::None];

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
        }
    }
}

/// Datagrams this long, and longer ones, are refused in one call for now. Any thread may ask.
pub(super) struct Refusal(AtomicU64);

/// The path may take them again after this long.
const HOLD: Duration = Duration::from_secs(10);

impl Refusal {
    pub(super) fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a run of datagrams of this length is to be tried.
    pub(super) fn allows(&self, now: Duration, segment: usize) -> bool {
        let held = self.0.load(Ordering::Relaxed);
        held == 0 || segment < (held & 0xffff) as usize || now.as_secs() >= held >> 16
    }

    /// Datagrams of this length were refused; true for the first time.
    pub(super) fn note(&self, now: Duration, segment: usize) -> bool {
        let until = (now + HOLD).as_secs();
        let segment = segment.min(0xffff) as u64;
        self.0.swap(until << 16 | segment, Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_length_is_tried_again_after_a_while_and_shorter_ones_at_once() {
        let refusal = Refusal::none();
        let at = Duration::from_secs;
        assert!(refusal.allows(at(0), 65535));
        assert!(refusal.note(at(5), 1452));
        assert!(!refusal.allows(at(14), 1452));
        assert!(!refusal.allows(at(14), 1453));
        assert!(refusal.allows(at(14), 1451));
        assert!(refusal.allows(at(15), 1452));
        assert!(!refusal.note(at(15), 1452), "it is told once");
    }
}
