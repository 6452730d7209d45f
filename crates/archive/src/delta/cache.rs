//! Tables that were published a moment ago, least recently used first out, within a number of bytes for all tenants together.
//!
//! Never shared: whoever takes one out has it alone, and puts back what he made of it. One that somebody else has made old is
//! found out when an entry is added to it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::ids::TenantId;

use super::Table;

/// Bytes of tables kept in memory: those of some thousand tenants of middling size. Others are read from their logs again.
const LIMIT_BYTES: usize = 32 << 20;

/// Tables that are written at a time, at most. Two tenants that have the same turn wait for each other, which is seldom.
const TURNS: usize = 64;

/// See the file's head.
pub(crate) struct TableCache {
    state: Mutex<State>,
    turns: [Mutex<()>; TURNS],
    purges: AtomicU64,
}

impl Default for TableCache {
    fn default() -> Self {
        Self { state: Mutex::default(), turns: std::array::from_fn(|_| Mutex::default()), purges: AtomicU64::default() }
    }
}

#[derive(Default)]
struct State {
    tables: HashMap<TenantId, (Table, u64)>,
    /// When each was put here, oldest first.
    uses: BTreeMap<u64, TenantId>,
    clock: u64,
    bytes: usize,
}

impl TableCache {
    /// Takes it out, if it is here.
    pub(super) fn take(&self, tenant: TenantId) -> Option<Table> {
        self.lock().remove(tenant)
    }

    /// Waits until nobody else in this process writes the tenant's log.
    pub(super) fn turn(&self, tenant: TenantId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        tenant.hash(&mut hasher);
        // The remainder is smaller than the length.
        let turn = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        let turn = self.turns.get(turn).unwrap_or(&self.turns[0]);
        turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere while it was locked leaves at worst a table that is counted wrongly.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it here.
    pub(super) fn keep(&self, table: Table) {
        let state = &mut *self.lock();
        state.remove(table.tenant());
        state.clock += 1;
        state.bytes += table.memory_bytes();
        state.uses.insert(state.clock, table.tenant());
        state.tables.insert(table.tenant(), (table, state.clock));
        while state.bytes > LIMIT_BYTES {
            let Some((_, oldest)) = state.uses.first_key_value() else { break };
            let oldest = *oldest;
            state.remove(oldest);
        }
    }

    /// Lets go of one that somebody else may have written meanwhile.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.take(tenant);
    }

    /// Removes all there is of a tenant: a publication that is under way is waited for, and one that was begun before and
    /// writes only now finds out, by [`Self::purges`].
    pub(crate) fn purge<T>(&self, tenant: TenantId, remove: impl FnOnce() -> T) -> T {
        let _turn = self.turn(tenant);
        self.purges.fetch_add(1, Ordering::SeqCst);
        self.forget(tenant);
        remove()
    }

    /// How many tenants were purged here. They are few: whoever finds another number than before simply looks again.
    pub(super) fn purges(&self) -> u64 {
        self.purges.load(Ordering::SeqCst)
    }
}

impl State {
    fn remove(&mut self, tenant: TenantId) -> Option<Table> {
        let (table, used) = self.tables.remove(&tenant)?;
        self.uses.remove(&used);
        self.bytes = self.bytes.saturating_sub(table.memory_bytes());
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::{self, Action};
    use super::*;

    fn table(number: u8, files: usize) -> Table {
        let mut table = Table::new(format!("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a{number:02}").parse().unwrap());
        let line = r#"{"add":{"path":"PATH","partitionValues":{},"size":7,"dataChange":true}}"#;
        let adds = |n: usize| action::parse(line.replace("PATH", &n.to_string()).as_bytes()).unwrap();
        let actions: Vec<Action> = (0..files).flat_map(adds).collect();
        table.apply(0, &actions);
        table
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_limit_holds() {
        let files = LIMIT_BYTES / 220 / 2;
        let cache = TableCache::default();
        cache.keep(table(1, files - 10));
        cache.keep(table(2, files - 10));
        let first = cache.take(table(1, 0).tenant()).unwrap();
        cache.keep(first);
        cache.keep(table(3, 100));
        assert!(cache.take(table(2, 0).tenant()).is_none());
        assert!(cache.take(table(1, 0).tenant()).is_some() && cache.take(table(3, 0).tenant()).is_some());
        assert_eq!(cache.lock().bytes, 0);
    }
}
