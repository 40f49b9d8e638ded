//! Random numbers from the kernel, many in one call.

use std::time::Duration;

/// Unused random bytes.
pub(super) struct Random {
    bytes: [u8; 256],
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

impl Random {
    pub(super) fn new() -> Self {
        let bytes = [0; 256];
        let used = bytes.len();
        Self { bytes, used }
    }

    /// Three quarters to all of a time, so that what began together does not end together.
    pub(super) fn most_of(&mut self, longest: Duration) -> Duration {
        let quarter = longest / 4;
        quarter * 3 + quarter.mul_f64(f64::from(self.next()) / f64::from(u32::MAX))
    }

    pub(super) fn next(&mut self) -> u32 {
        if self.used == self.bytes.len() {
            getrandom::fill(&mut self.bytes).expect("invariant: Linux has getrandom(2)");
            self.used = 0;
        }
        let word = &self.bytes[self.used..self.used + 4];
        let number = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        self.used += 4;
        number
    }
}
