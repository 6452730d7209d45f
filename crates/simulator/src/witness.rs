//! What was seen to happen, kept through every crash: who was promised what, and since when each listing can be held to it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use engine::model::{CommitNumber, Tile};
use engine::skew::NOTICEABLE;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use crate::clock::WrongClock;

/// The feed, the tile's start, and when the collector's clock said that the listing began.
type Listing = (TenantId, String, Timestamp, Timestamp);

/// A clock that is set right by `Date` is right to this.
const SET_RIGHT_TO: TimeDelta = TimeDelta::seconds(2);

/// When a listing really began that was begun at `listed_at` by a collector's clock; `None` when that was set meanwhile and
/// nobody can say.
pub(crate) fn really_began(clock: &WrongClock, listed_at: Timestamp) -> Option<Timestamp> {
    let now = clock.world.now();
    let (error, since) = clock.error_at(now);
    // What is written down by a clock that is noticeably ahead has been set right by the service's, once that was heard.
    let set_right = error > NOTICEABLE + SET_RIGHT_TO && listed_at <= now;
    let began = listed_at - if set_right { SET_RIGHT_TO } else { error };
    (since < began).then_some(began)
}

/// One run's witness.
pub(crate) struct Witness {
    clock: std::sync::Arc<WrongClock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When each listing really began; `None` when the clock was set meanwhile and nobody can say.
    listings: BTreeMap<Listing, Option<Timestamp>>,
    commits: BTreeMap<TenantId, u64>,
    folded_before: Option<Timestamp>,
    wrong: Option<String>,
}

impl Witness {
    pub(crate) fn new(clock: std::sync::Arc<WrongClock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    pub(crate) fn tile_listed(&self, tenant: TenantId, kind: &ContentType, tile: &Tile) {
        let Some(listed_at) = tile.listed_at else { return };
        let began = really_began(&self.clock, listed_at);
        self.tile_seen(tenant, kind, tile, began);
    }

    /// The same by whose clock it is known when the listing really began.
    pub(crate) fn tile_seen(&self, tenant: TenantId, kind: &ContentType, tile: &Tile, began: Option<Timestamp>) {
        let Some(listed_at) = tile.listed_at else { return };
        let key = (tenant, kind.as_str().to_owned(), tile.start, listed_at);
        self.lock().listings.entry(key).or_insert(began);
    }

    /// When the listing that the tile stands for really began.
    pub(crate) fn listing_began(&self, tenant: TenantId, kind: &ContentType, tile: &Tile) -> Option<Timestamp> {
        let key = (tenant, kind.as_str().to_owned(), tile.start, tile.listed_at?);
        self.lock().listings.get(&key).copied().flatten()
    }

    pub(crate) fn committed(&self, tenant: TenantId, number: CommitNumber) {
        let mut seen = self.lock();
        let last = seen.commits.insert(tenant, number.0).unwrap_or(0);
        if number.0 != last + 1 {
            seen.wrong = Some(format!("commit {number} of tenant {tenant} came after {last}"));
        }
    }

    /// The ledger was opened again, with this as a tenant's last commit.
    pub(crate) fn reopened(&self, tenant: TenantId, last: CommitNumber) {
        let mut seen = self.lock();
        let known = seen.commits.insert(tenant, last.0).unwrap_or(0);
        if last.0 < known || last.0 > known + 1 {
            seen.wrong =
                Some(format!("tenant {tenant} was at commit {known} before a restart, and is at {last} after it"));
        }
    }

    pub(crate) fn folded(&self, before: Timestamp) {
        let mut seen = self.lock();
        seen.folded_before = seen.folded_before.max(Some(before));
    }

    /// Rows of contents that had expired before this may be gone from the ledger.
    pub(crate) fn folded_before(&self) -> Timestamp {
        self.lock().folded_before.unwrap_or(Timestamp::MIN_UTC)
    }

    /// What was seen that must not be.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
