//! Who holds which tenant, where several workers share one ledger.
//!
//! Guarantees: what is written under a lease ([`Workers::under`]) is written while that lease holds, checked in the same
//! transaction; so whoever was paused, cut off or taken for dead writes nothing more of a tenant once another has taken it.
//! Whether a worker is alive is judged by the ledger's own clock, never by a worker's.
//!
//! Never decides who is to have what: `engine::lease` does.

use std::sync::Arc;
use std::time::Duration;

use engine::lease::{Fleet, Lease, WorkerId};
use protocol::ids::TenantId;
use tokio::sync::broadcast;

use crate::{Ledger, LedgerFuture};

/// A ledger whose tenants are shared out among workers. Operators, consent pages and webhook listeners hold nothing: they
/// write on a handle without a lease, whoever has the tenant.
pub trait Workers: Ledger {
    /// This worker is alive, and will be for at least `lease_time` from now; says how things stand. A worker that had been
    /// silent for too long keeps what nobody has taken meanwhile: its own count in the answer tells.
    fn alive(&self, worker: WorkerId, name: String, lease_time: Duration) -> LedgerFuture<'_, Fleet>;
    /// Takes tenants that nobody alive holds, at most `limit`, each under its next epoch; by tenant. A worker that is not
    /// alive takes none. A tenant that is being written this moment is passed over.
    fn take(&self, worker: WorkerId, limit: u32) -> LedgerFuture<'_, Vec<Lease>>;
    /// Gives tenants back; says how many of the leases still held.
    fn give_back(&self, leases: Vec<Lease>) -> LedgerFuture<'_, u64>;
    /// What this worker holds, by tenant.
    fn held(&self, worker: WorkerId) -> LedgerFuture<'_, Vec<Lease>>;
    /// This worker ends, and gives everything back; says how much.
    fn leave(&self, worker: WorkerId) -> LedgerFuture<'_, u64>;
    /// No other worker is at work any more, of which the caller has proof: all that others hold may be taken from them at once.
    fn bury_others(&self, worker: WorkerId) -> LedgerFuture<'_, ()>;
    /// What other processes write from now on that workers have to look at, as far as it is heard.
    fn hints(&self) -> Hints;
    /// The same ledger for who works on this tenant: every write of a tenant is refused with
    /// [`crate::LedgerError::LeaseLost`] unless it is this one, and held under this lease.
    fn under(&self, lease: Lease) -> Arc<dyn Ledger>;
}

/// Something was written by another process. A hint: whoever misses it finds by its timer what it was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// So many contents wait that were not known before, in the ledger by somebody who does not hold the tenant.
    Listed {
        /// Whose.
        tenant: TenantId,
        /// How many.
        new: u64,
    },
    /// A tenant was added, paused, resumed, removed or purged.
    Changed {
        /// Which.
        tenant: TenantId,
    },
    /// A tenant has consented, for the first time or anew.
    Consented {
        /// Which.
        tenant: TenantId,
    },
    /// Tenants were given back.
    Free,
}

/// Hints, one after the other.
#[derive(Debug)]
pub struct Hints(Option<broadcast::Receiver<Hint>>);

impl Hints {
    /// Of a ledger that says nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Of those that are sent there.
    pub fn of(heard: broadcast::Receiver<Hint>) -> Self {
        Self(Some(heard))
    }

    /// The next one; waits for ever where there will be none. Dropping the wait loses nothing.
    pub async fn next(&mut self) -> Hint {
        while let Some(heard) = &mut self.0 {
            match heard.recv().await {
                Ok(hint) => return hint,
                // Some were pushed out; those after them are there.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => self.0 = None,
            }
        }
        std::future::pending().await
    }
}
