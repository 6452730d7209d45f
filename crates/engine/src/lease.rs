//! Whose tenant is whose: how tenants are shared out among workers, which go when the shares change, and how long a worker
//! may trust what it holds.
//!
//! Never says that a worker holds a tenant: that is the ledger's word, given under an epoch, and asked again by every write.
//! What is decided here is only what to ask the ledger for.
//!
//! A lease lives as long as its worker does, by the ledger's clock: a worker says that it is alive once in a while, for all
//! its tenants together, so that an idle tenant costs nothing. When it has been silent for the lease time, others may take
//! its tenants, each under the next epoch, and what the silent one still tries to write is refused.

use std::fmt;
use std::time::Duration;

use protocol::ids::TenantId;

/// For how long a worker's word that it is alive counts. Smaller: a pause (a busy database, a full disk) costs it its
/// tenants. Larger: a dead worker's tenants wait longer for another.
pub const LEASE_TIME: Duration = Duration::from_secs(30);

/// One run of one process: drawn at random when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub [u8; 16]);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How often a tenant has been taken. Of two workers that believe to hold it, the one with the greater epoch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A tenant that was taken. That it still holds is the ledger's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Which.
    pub tenant: TenantId,
    /// By whom.
    pub worker: WorkerId,
    /// The how manieth taking this was.
    pub epoch: Epoch,
}

/// A worker that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub worker: WorkerId,
    /// As people call it: the machine's name and the process's number.
    pub name: String,
    /// How many tenants it holds.
    pub held: u64,
}

/// How things stood when a worker last said that it was alive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// Everybody who is alive, that worker too.
    pub workers: Vec<Peer>,
    /// Tenants that nobody alive holds.
    pub free: u64,
}

/// A worker as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// As it calls itself.
    pub name: String,
    /// How many tenants it holds.
    pub held: u64,
    /// By the ledger's clock: whether it has said so lately. What one holds that is not may be taken by others.
    pub is_alive: bool,
}

/// What a worker is to do so that everybody has a fair share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// So many more tenants may be taken.
    pub take: u64,
    /// So many are to be given back.
    pub give_back: u64,
}

impl Fleet {
    /// What `me` is to do. Everybody's share is the same or one more; those who hold most have the one more, so that nothing
    /// moves that need not. Nothing when `me` is not alive.
    pub fn turn(&self, me: WorkerId) -> Turn {
        let mut order: Vec<&Peer> = self.workers.iter().collect();
        order.sort_by_key(|peer| (std::cmp::Reverse(peer.held), peer.worker));
        let Some(place) = order.iter().position(|peer| peer.worker == me) else { return Turn::default() };
        let (workers, place) = (order.len() as u64, place as u64);
        let total = order.iter().fold(self.free, |total, peer| total.saturating_add(peer.held));
        let share = total / workers + u64::from(place < total % workers);
        let held = order.iter().find(|peer| peer.worker == me).map_or(0, |peer| peer.held);
        Turn { take: share.saturating_sub(held).min(self.free), give_back: held.saturating_sub(share) }
    }
}

/// Which leases go when `many` are to be given back: those whose tenants have nothing under way first, so that as little as
/// possible is broken off.
pub fn to_give_back(mut held: Vec<(Lease, bool)>, many: u64) -> Vec<Lease> {
    held.sort_by_key(|(lease, is_busy)| (*is_busy, lease.tenant));
    let many = usize::try_from(many).unwrap_or(usize::MAX);
    held.into_iter().take(many).map(|(lease, _)| lease).collect()
}

/// How often a worker says that it is alive: two of its words in a row may be lost.
pub fn renew_every(lease_time: Duration) -> Duration {
    lease_time / 3
}

/// How long after its last word was *sent* a worker may still act on what it holds, by a clock that no one sets. What is
/// left of the lease time is for stopping: nothing wrong could be written after it, but it would be work for nothing.
pub fn trusted_for(lease_time: Duration) -> Duration {
    lease_time.saturating_sub(lease_time / 6)
}
