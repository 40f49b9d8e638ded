//! Questions that no upstream could answer lately. They are not asked again at once, however often
//! clients ask (RFC 9520; RFC 8767, 5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::ExtendedError;
use super::wire::Rcode;

/// Questions that are remembered at most.
const MOST: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause where there is a stale answer to give, and where there is none.
const LONGEST_STALE: Duration = Duration::from_secs(30);
const LONGEST_PLAIN: Duration = Duration::from_secs(5);

/// How a question failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) rcode: Rcode,
    pub(super) reason: ExtendedError,
    /// There was an NXDOMAIN that is not believed.
    pub(super) is_distrusted: bool,
}

struct Note {
    verdict: Verdict,
    until: Instant,
    pause: Duration,
}

/// All of them.
#[derive(Default)]
pub(super) struct Failures(HashMap<Arc<[u8]>, Note>);

impl Failures {
    /// How a question failed, while it is not to be asked again.
    pub(super) fn held(&self, key: &[u8], now: Instant) -> Option<Verdict> {
        let note = self.0.get(key)?;
        (now < note.until).then_some(note.verdict)
    }

    /// A question failed: it rests, twice as long each time.
    pub(super) fn failed(
        &mut self,
        key: &Arc<[u8]>,
        verdict: Verdict,
        has_stale: bool,
        now: Instant,
    ) {
        let longest = if has_stale {
            LONGEST_STALE
        } else {
            LONGEST_PLAIN
        };
        self.make_room(now);
        // One that was not asked for as long again after its rest starts afresh.
        let last = self.0.get(key).filter(|note| now < note.until + note.pause);
        let pause = last.map_or(FIRST_PAUSE, |note| (note.pause * 2).min(longest));
        if last.is_none() && self.0.len() >= MOST {
            return;
        }
        let until = now + pause;
        let note = Note {
            verdict,
            until,
            pause,
        };
        self.0.insert(Arc::clone(key), note);
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, note| now < note.until);
        }
    }

    /// A question was answered.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }

    /// What failed may succeed now.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
