//! Whose archive this is: its mark names the ledger that says which of its files are visible.
//!
//! Never guesses: under another ledger the same files would look like what a crash has left, and they may be the only
//! copy of their records.

use std::path::Path;

use crate::segment::parse_file_name;
use crate::store::{FORMAT, mark_path, read_mark, write_mark};
use crate::{Archive, ArchiveError, files};

/// What an archive says to a ledger that opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// It belongs to this ledger.
    Ours,
    /// It belongs to none, and has no segment in it.
    Vacant,
    /// It has segments and names no ledger: an earlier version wrote it, or its mark was lost. It belongs to a ledger that
    /// knows some of its segments.
    Unmarked,
}

impl Archive {
    /// Whether this archive belongs to the ledger of that id.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::OtherLedger`] when it belongs to another one.
    pub fn ownership(&self, ledger: &str) -> Result<Ownership, ArchiveError> {
        match owner_of(self.root())? {
            Some(owner) if owner == ledger => Ok(Ownership::Ours),
            Some(owner) => Err(self.other_ledger(Some(owner), ledger)),
            None if holds_segments(self.root())? => Ok(Ownership::Unmarked),
            None => Ok(Ownership::Vacant),
        }
    }

    /// Names the ledger in the mark, synced.
    pub fn set_owner(&self, ledger: &str) -> Result<(), ArchiveError> {
        write_mark(self.root(), &serde_json::json!({ "archive_format": FORMAT, "ledger": ledger }))
    }

    /// The refusal of an archive that is not this ledger's.
    pub fn other_ledger(&self, owner: Option<String>, ledger: &str) -> ArchiveError {
        ArchiveError::OtherLedger { root: self.root().to_owned(), owner, ledger: Some(ledger.to_owned()) }
    }
}

/// Whether a folder holds an archive that some ledger has filled or marked, so that no new ledger may be begun beside it.
///
/// # Errors
///
/// [`ArchiveError::OtherLedger`] when it does.
pub fn refuse_new_ledger(root: &Path) -> Result<(), ArchiveError> {
    if !holds_segments(root)? {
        return Ok(());
    }
    Err(ArchiveError::OtherLedger { root: root.to_owned(), owner: owner_of(root)?, ledger: None })
}

fn owner_of(root: &Path) -> Result<Option<String>, ArchiveError> {
    let mark = read_mark(&mark_path(root))?;
    Ok(mark.and_then(|mark| Some(mark.get("ledger")?.as_str()?.to_owned())))
}

/// Whether any tenant's folder has a segment in it. Stops at the first.
fn holds_segments(root: &Path) -> Result<bool, ArchiveError> {
    for tenant in files::names_in(root)?.iter().filter(|name| name.starts_with("tenant=")) {
        for date in files::names_in(&root.join(tenant))?.iter().filter(|name| name.starts_with("date=")) {
            if files::names_in(&root.join(tenant).join(date))?.iter().any(|name| parse_file_name(name).is_some()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
