//! The heads of sidecars kept in memory, least recently used first out, within a number of bytes for all tenants together.
//!
//! Nothing here is ever stale: a head belongs to a segment's digest, and what that digest names never changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::segment::Segment;
use crate::sidecar::Head;

type Key = [u8; 32];

/// The cache; shared by all commits.
pub(crate) struct SidecarCache {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    heads: HashMap<Key, (Arc<Head>, u64)>,
    /// When each was last used, oldest first.
    uses: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

impl SidecarCache {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::default() }
    }

    /// Bytes that the heads of one commit may hold beside the cache.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The head of a segment, if it is here.
    pub(crate) fn find(&self, segment: &Segment) -> Option<Arc<Head>> {
        let state = &mut *self.lock();
        let (head, used) = state.heads.get_mut(&segment.digest)?;
        state.clock += 1;
        state.uses.remove(used);
        *used = state.clock;
        state.uses.insert(state.clock, segment.digest);
        Some(Arc::clone(head))
    }

    /// Keeps a head, and lets go of the least recently used ones beyond the limit; perhaps of this one too.
    pub(crate) fn keep(&self, segment: &Segment, head: &Arc<Head>) {
        let state = &mut *self.lock();
        state.remove(&segment.digest);
        state.clock += 1;
        state.bytes += head.memory_bytes();
        state.uses.insert(state.clock, segment.digest);
        state.heads.insert(segment.digest, (Arc::clone(head), state.clock));
        while state.bytes > self.limit_bytes {
            let Some((_, oldest)) = state.uses.first_key_value() else { break };
            let oldest = *oldest;
            state.remove(&oldest);
        }
    }

    /// Lets go of the head of a segment that is no more.
    pub(crate) fn forget(&self, segment: &Segment) {
        self.lock().remove(&segment.digest);
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere while it was locked leaves at worst a head that is counted wrongly.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some((head, used)) = self.heads.remove(key) {
            self.uses.remove(&used);
            self.bytes = self.bytes.saturating_sub(head.memory_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RecordKey;

    fn segment(number: u8) -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: "2026-03-04".parse().unwrap(),
            commit: u64::from(number),
            part: 0,
            rows: 1,
            bytes: 1,
            second_min: None,
            second_max: None,
            untimed_rows: 0,
            digest: [number; 32],
        }
    }

    fn head() -> Arc<Head> {
        let key = RecordKey::new(Some("a"), None, b"{}");
        Arc::new(Head::build(&[key]))
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_limit_holds() {
        let one = head().memory_bytes();
        let cache = SidecarCache::new(2 * one);
        cache.keep(&segment(1), &head());
        cache.keep(&segment(2), &head());
        assert!(cache.find(&segment(1)).is_some());
        cache.keep(&segment(3), &head());
        assert!(cache.find(&segment(2)).is_none());
        assert!(cache.find(&segment(1)).is_some() && cache.find(&segment(3)).is_some());
        assert_eq!(cache.bytes(), 2 * one);
        cache.forget(&segment(1));
        cache.forget(&segment(1));
        assert_eq!(cache.bytes(), one);
    }

    #[test]
    fn a_head_larger_than_the_limit_is_not_kept() {
        let cache = SidecarCache::new(head().memory_bytes() - 1);
        cache.keep(&segment(1), &head());
        assert!(cache.find(&segment(1)).is_none());
        assert_eq!(cache.bytes(), 0);
    }
}
