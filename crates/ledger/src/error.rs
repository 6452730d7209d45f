//! Why the ledger could not do what it was asked, with the thing and the remedy.

use engine::model::CommitNumber;
use protocol::ids::TenantId;

/// An error of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The tenant is not in the ledger.
    #[error("tenant {tenant} is not known here: add it with `tenantry tenant add {tenant}`")]
    UnknownTenant {
        /// Which.
        tenant: TenantId,
    },
    /// A commit whose number is not the next one: another worker has committed in between.
    #[error("commit {given} of tenant {tenant} is out of order: the next one is {expected}")]
    CommitOutOfOrder {
        /// Whose.
        tenant: TenantId,
        /// What the caller wanted to write.
        given: CommitNumber,
        /// What the ledger expects.
        expected: CommitNumber,
    },
}
