//! Ledger and archive belong together: neither is opened with another's.
//!
//! Never deletes or changes a segment. Before anybody collects into an archive, or answers from one, this has been asked;
//! with another ledger all that lies there would look like what a crash has left.

use archive::{Archive, ArchiveError, Ownership};
use ledger::{Ledger, LedgerError};

use crate::collector::segments::segment_of;

/// Why an archive and a ledger cannot be used together.
#[derive(Debug, thiserror::Error)]
pub enum BelongingError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The archive cannot be read, or belongs to another ledger.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Before collecting: an archive that belongs to nobody yet becomes this ledger's, and so does one of an earlier version,
/// which named no ledger, if the ledger knows segments of it.
///
/// # Errors
/// [`ArchiveError::OtherLedger`] when the archive is not this ledger's; [`ArchiveError::Absent`] when nothing lies there and the
/// ledger names segments.
pub async fn bind(ledger: &dyn Ledger, archive: &Archive) -> Result<(), BelongingError> {
    if ask(ledger, archive).await? != Ownership::Ours {
        archive.set_owner(&ledger.id().await?.to_string())?;
    }
    Ok(())
}

/// Before reading: the same, and nothing is written.
///
/// # Errors
/// As [`bind`].
pub async fn check(ledger: &dyn Ledger, archive: &Archive) -> Result<(), BelongingError> {
    ask(ledger, archive).await.map(drop)
}

async fn ask(ledger: &dyn Ledger, archive: &Archive) -> Result<Ownership, BelongingError> {
    let id = ledger.id().await?.to_string();
    let ownership = archive.ownership(&id)?;
    if ownership == Ownership::Vacant {
        // Taken for a new one, it would hide from then on what is not there now.
        let segments = ledger.segments_within(None, None).await?.iter().map(|(_, rows)| rows.len()).sum();
        if segments > 0 {
            return Err(ArchiveError::Absent { root: archive.place(), segments }.into());
        }
    }
    if ownership == Ownership::Unmarked && !knows_any(ledger, archive).await? {
        return Err(archive.other_ledger(None, &id).into());
    }
    Ok(ownership)
}

/// Whether the ledger names a segment that lies in the archive. One is enough: what it does not know is never deleted
/// unless it is there another time.
async fn knows_any(ledger: &dyn Ledger, archive: &Archive) -> Result<bool, BelongingError> {
    let lies_there = |tenant, row: &_| -> Result<bool, ArchiveError> {
        let Some(segment) = segment_of(tenant, row) else { return Ok(false) };
        Ok(archive.size_of(&segment)?.is_some())
    };
    for (tenant, rows) in ledger.segments_within(None, None).await? {
        for row in &rows {
            if lies_there(tenant, row)? {
                return Ok(true);
            }
        }
    }
    for tenant in ledger.tenants_since(0).await?.1 {
        for (row, _) in ledger.obsolete(tenant.id).await? {
            if lies_there(tenant.id, &row)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
