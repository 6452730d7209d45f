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
    /// The same ledger for who works on this tenant: every write of a tenant is refused with
    /// [`crate::LedgerError::LeaseLost`] unless it is this one, and held under this lease.
    fn under(&self, lease: Lease) -> Arc<dyn Ledger>;
}
