//! A cache of answers, bounded in entries and bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Cache as Bounds, Lifetimes};

use super::answer::Answer;
use super::wire::Rcode;

/// What an entry takes beside its key and its answer: the slot, the map's share, two allocations'
/// overhead each.
const OVERHEAD: usize = 224;
/// Questions in a lifetime from which an answer is popular: it is asked for again before its end.
const POPULAR: u8 = 2;
/// The part of its lifetime that an answer still has then.
const LAST_PART: u32 = 10;

struct Slot {
    key: Arc<[u8]>,
    answer: Answer,
    stored: Instant,
    expires: Instant,
    /// From when on it is asked for again if it is popular.
    refresh_at: Instant,
    /// How long after its end it may still be of use.
    afterlife: Duration,
    /// How often it was asked for.
    hits: u8,
    /// Asked for since the hand last passed.
    used: bool,
}

impl Slot {
    /// Whether it is of no use any more.
    fn has_gone(&self, now: Instant) -> bool {
        self.expires + self.afterlife <= now
    }
}

/// An answer that holds.
pub(super) struct Hit<'a> {
    pub(super) answer: &'a Answer,
    /// In whole seconds.
    pub(super) age: u32,
    /// It is popular and near its end; told once.
    pub(super) is_due: bool,
}

/// Answers by the whole of what they depend on.
///
/// Makes room as a clock does: a hand goes round and takes the first entry that was not asked for
/// since its last round. New entries count as not asked for, so a flood of names that are asked
/// once pushes out itself and not what is in use.
pub(super) struct Cache {
    bounds: Bounds,
    index: HashMap<Arc<[u8]>, u32>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    evictions: u64,
}

impl Cache {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            index: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            bytes: 0,
            evictions: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The answer for `key` while it holds.
    pub(super) fn get(&mut self, key: &[u8], now: Instant) -> Option<Hit<'_>> {
        let at = *self.index.get(key)? as usize;
        if self.slots[at].expires <= now {
            if self.slots[at].has_gone(now) {
                self.remove(at);
            }
            return None;
        }
        let slot = &mut self.slots[at];
        slot.used = true;
        slot.hits = slot.hits.saturating_add(1);
        let is_due = now >= slot.refresh_at && slot.hits > POPULAR;
        if is_due {
            slot.refresh_at = slot.expires;
        }
        Some(Hit {
            answer: &slot.answer,
            age: now.saturating_duration_since(slot.stored).as_secs() as u32,
            is_due,
        })
    }

    /// The answer for `key` until `afterlife` after its end.
    pub(super) fn stale(
        &mut self,
        key: &[u8],
        afterlife: Duration,
        now: Instant,
    ) -> Option<&Answer> {
        let slot = &mut self.slots[*self.index.get(key)? as usize];
        if slot.expires + afterlife <= now || afterlife.is_zero() {
            return None;
        }
        slot.used = true;
        Some(&slot.answer)
    }

    /// Keeps `answer` as long as it allows and the bounds do. One that may not be kept takes the
    /// older one away only if it says for sure what is true now.
    pub(super) fn put(
        &mut self,
        key: &Arc<[u8]>,
        answer: Answer,
        lifetimes: &Lifetimes,
        now: Instant,
    ) {
        let is_final = matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN);
        let longest = if answer.is_negative {
            lifetimes.max_negative_ttl.min(lifetimes.max_ttl)
        } else {
            lifetimes.max_ttl
        };
        let lifetime = Duration::from_secs(u64::from(answer.lifetime)).min(longest);
        let size = size_of(key, &answer);
        let is_kept = !lifetime.is_zero() && self.bounds.max_entries > 0 && self.fits(size);
        if !is_kept && !is_final {
            return;
        }
        if let Some(at) = self.index.get(key) {
            self.remove(*at as usize);
        }
        if !is_kept {
            return;
        }
        while self.slots.len() >= self.bounds.max_entries as usize || !self.fits(self.bytes + size)
        {
            self.evict(now);
        }
        self.bytes += size;
        self.index.insert(Arc::clone(key), self.slots.len() as u32);
        self.slots.push(Slot {
            key: Arc::clone(key),
            answer: answer.into_cached(),
            stored: now,
            expires: now + lifetime,
            refresh_at: now + (lifetime - lifetime / LAST_PART),
            afterlife: lifetimes.stale.max(lifetimes.stale_on_nxdomain),
            hits: 0,
            used: false,
        });
    }

    /// Takes other bounds and drops the entries for whose keys `keep` is false.
    pub(super) fn reconfigure(&mut self, bounds: Bounds, keep: impl Fn(&[u8]) -> bool) {
        let entries = std::mem::replace(self, Self::new(bounds));
        self.evictions = entries.evictions;
        for slot in entries.slots {
            let size = size_of(&slot.key, &slot.answer);
            let has_room =
                self.slots.len() < self.bounds.max_entries as usize && self.fits(self.bytes + size);
            if keep(&slot.key) && has_room {
                self.bytes += size;
                self.index
                    .insert(Arc::clone(&slot.key), self.slots.len() as u32);
                self.slots.push(slot);
            }
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes as u64 <= self.bounds.max_bytes
    }

    fn evict(&mut self, now: Instant) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            if slot.used && !slot.has_gone(now) {
                slot.used = false;
                self.hand += 1;
            } else {
                self.remove(self.hand);
                self.evictions += 1;
                return;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let slot = self.slots.swap_remove(at);
        self.index.remove(&slot.key);
        self.bytes -= size_of(&slot.key, &slot.answer);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(Arc::clone(&moved.key), at as u32);
        }
    }
}

fn size_of(key: &[u8], answer: &Answer) -> usize {
    OVERHEAD + key.len() + answer.size()
}
