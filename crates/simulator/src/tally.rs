//! What a collector costs its ledger, and how soon what it is offered is committed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::model::{Commit, Pending};
use protocol::ids::TenantId;
use protocol::time::Timestamp;

use crate::clock::WorldClock;

/// Counted from the beginning.
#[derive(Default)]
pub(crate) struct Tally {
    reads: AtomicU64,
    writes: AtomicU64,
    watched: Option<Watched>,
}

/// One tenant, whose contents are followed.
struct Watched {
    tenant: TenantId,
    clock: WorldClock,
    arrivals: Mutex<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    /// By the ledger's number, what is not committed yet.
    pending: BTreeMap<i64, String>,
    committed: BTreeMap<String, Timestamp>,
}

impl Tally {
    pub(crate) fn watching(tenant: TenantId, clock: WorldClock) -> Self {
        Self { watched: Some(Watched { tenant, clock, arrivals: Mutex::default() }), ..Self::default() }
    }

    pub(crate) fn called(&self, writes: bool) {
        let count = if writes { &self.writes } else { &self.reads };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handed_out(&self, tenant: TenantId, pending: &[Pending]) {
        let Some(watched) = self.watched.as_ref().filter(|watched| watched.tenant == tenant) else { return };
        let mut arrivals = watched.lock();
        for content in pending {
            arrivals.pending.insert(content.row, content.content.content_id.to_string());
        }
    }

    pub(crate) fn committed(&self, commit: &Commit) {
        let Some(watched) = self.watched.as_ref().filter(|watched| watched.tenant == commit.tenant) else { return };
        let (mut arrivals, now) = (watched.lock(), watched.clock.now());
        for content in &commit.contents {
            if let Some(id) = arrivals.pending.remove(&content.row) {
                arrivals.committed.insert(id, now);
            }
        }
    }

    /// Calls that read, and calls that write.
    pub(crate) fn calls(&self) -> (u64, u64) {
        (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }

    /// When each content of the watched tenant was committed, by its id.
    pub(crate) fn committed_at(&self) -> BTreeMap<String, Timestamp> {
        self.watched.as_ref().map(|watched| watched.lock().committed.clone()).unwrap_or_default()
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
