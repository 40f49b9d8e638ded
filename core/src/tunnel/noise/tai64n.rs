use std::time::Duration;

/// The label of the first second of 1970 (TAI64, with the 10 s that TAI was ahead then).
const EPOCH: u64 = (1 << 62) + 10;

/// Nanoseconds are cut to 2^24, 17 ms, so that the wire does not tell how exact the clock is.
const STEP: u32 = 1 << 24;

/// A moment, as a handshake initiation states it: TAI64N, the greater the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tai64n([u8; 12]);

impl Tai64n {
    /// The moment so long after the first second of 1970.
    pub(super) fn at(since_1970: Duration) -> Self {
        let nanos = since_1970.subsec_nanos() / STEP * STEP;
        Self::new(EPOCH.wrapping_add(since_1970.as_secs()), nanos)
    }

    pub(super) fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The next later one.
    pub(super) fn next(self) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        let seconds = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let nanos = u32::from_be_bytes([i, j, k, l]).saturating_add(STEP);
        if nanos < 1_000_000_000 {
            Self::new(seconds, nanos)
        } else {
            Self::new(seconds.wrapping_add(1), 0)
        }
    }

    fn new(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_the_paper_and_grow() {
        let stamp = Tai64n::at(Duration::new(1, 40_000_000));
        let expected = [0x40, 0, 0, 0, 0, 0, 0, 11, 2, 0, 0, 0];
        assert_eq!(stamp.as_bytes(), &expected);
        let mut before = stamp;
        for _ in 0..200 {
            assert!(before.next() > before);
            before = before.next();
        }
        assert!(before > Tai64n::at(Duration::from_secs(4)));
        assert!(before < Tai64n::at(Duration::from_secs(5)));
    }
}
