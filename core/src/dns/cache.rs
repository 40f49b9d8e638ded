//! A cache of answers, bounded in entries and bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Cache as Bounds;

use super::answer::Answer;

/// What an entry takes beside its key and its answer: the slot, the map's share, two allocations'
/// overhead each.
const OVERHEAD: usize = 192;

struct Slot {
    key: Arc<[u8]>,
    answer: Answer,
    stored: Instant,
    expires: Instant,
    /// Asked for since the hand last passed.
    used: bool,
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

    /// The answer for `key` and its age in whole seconds, while it holds.
    pub(super) fn get(&mut self, key: &[u8], now: Instant) -> Option<(&Answer, u32)> {
        let at = *self.index.get(key)? as usize;
        if self.slots[at].expires <= now {
            self.remove(at);
            return None;
        }
        let slot = &mut self.slots[at];
        slot.used = true;
        let age = now.saturating_duration_since(slot.stored).as_secs() as u32;
        Some((&slot.answer, age))
    }

    /// Keeps `answer` as long as it allows and the bounds do; one that may not be kept takes
    /// nothing away.
    pub(super) fn put(&mut self, key: &Arc<[u8]>, answer: Answer, now: Instant) {
        let longest = if answer.is_negative {
            self.bounds.max_negative_ttl.min(self.bounds.max_ttl)
        } else {
            self.bounds.max_ttl
        };
        let lifetime = Duration::from_secs(u64::from(answer.lifetime)).min(longest);
        let size = size_of(key, &answer);
        if lifetime.is_zero() || self.bounds.max_entries == 0 || !self.fits(size) {
            return;
        }
        if let Some(at) = self.index.get(key) {
            self.remove(*at as usize);
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
            if slot.used && slot.expires > now {
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
