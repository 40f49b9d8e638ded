//! Random numbers from the kernel, many in one call.

/// Unused random bytes.
pub(super) struct Random {
    bytes: [u8; 256],
    used: usize,
}

impl Random {
    pub(super) fn new() -> Self {
        let bytes = [0; 256];
        let used = bytes.len();
        Self { bytes, used }
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
