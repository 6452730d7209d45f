//! Whose archive this is: its mark names the ledger that says which of its files are visible.
//!
//! Never guesses: under another ledger the same files would look like what a crash has left, and they may be the only
//! copy of their records.

use std::path::Path;

use crate::depot::Depot;
use crate::segment::parse_file_name;
use crate::store::{FORMAT, MARK, read_mark, write_mark};
use crate::workspace::Workspace;
use crate::{Archive, ArchiveError, ArchiveOptions, files};

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
        let depot = self.workspace().map(Workspace::depot);
        match owner_of(self.root(), depot)? {
            Some(owner) if owner == ledger => Ok(Ownership::Ours),
            Some(owner) => Err(self.other_ledger(Some(owner), ledger)),
            None if holds_segments(self.root(), depot)? => Ok(Ownership::Unmarked),
            None => Ok(Ownership::Vacant),
        }
    }

    /// Names the ledger in the mark, synced.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::OtherLedger`] when another one was named in a remote archive's since it was asked.
    pub fn set_owner(&self, ledger: &str) -> Result<(), ArchiveError> {
        let says = serde_json::json!({ "archive_format": FORMAT, "ledger": ledger });
        let Some(depot) = self.workspace().map(Workspace::depot) else { return write_mark(self.root(), &says) };
        let version = read_mark(self.root(), Some(depot))?.and_then(|mark| mark.version);
        if depot.put_if(MARK, says.to_string().into(), version)? {
            return Ok(());
        }
        match owner_of(self.root(), Some(depot))? {
            Some(owner) if owner == ledger => Ok(()),
            owner => Err(self.other_ledger(owner, ledger)),
        }
    }

    /// The refusal of an archive that is not this ledger's.
    pub fn other_ledger(&self, owner: Option<String>, ledger: &str) -> ArchiveError {
        let root = match self.workspace() {
            Some(workspace) => workspace.depot().url().to_owned(),
            None => self.root().display().to_string(),
        };
        ArchiveError::OtherLedger { root, owner, ledger: Some(ledger.to_owned()) }
    }
}

/// Whether a folder or store holds an archive that some ledger has filled or marked, so that no new ledger may be begun beside it.
///
/// # Errors
///
/// [`ArchiveError::OtherLedger`] when it does.
pub fn refuse_new_ledger(options: &ArchiveOptions) -> Result<(), ArchiveError> {
    let (root, depot) = (&options.root, options.depot()?);
    if !holds_segments(root, depot.as_deref())? {
        return Ok(());
    }
    let owner = owner_of(root, depot.as_deref())?;
    let root = depot.map_or_else(|| root.display().to_string(), |depot| depot.url().to_owned());
    Err(ArchiveError::OtherLedger { root, owner, ledger: None })
}

fn owner_of(root: &Path, depot: Option<&dyn Depot>) -> Result<Option<String>, ArchiveError> {
    let mark = read_mark(root, depot)?;
    Ok(mark.and_then(|mark| Some(mark.says.get("ledger")?.as_str()?.to_owned())))
}

/// Whether any tenant's folder has a segment in it. Stops at the first.
fn holds_segments(root: &Path, depot: Option<&dyn Depot>) -> Result<bool, ArchiveError> {
    if let Some(depot) = depot {
        return depot.holds_any(|name| name.rsplit('/').next().is_some_and(|name| parse_file_name(name).is_some()));
    }
    for tenant in files::names_in(root)?.iter().filter(|name| name.starts_with("tenant=")) {
        for date in files::names_in(&root.join(tenant))?.iter().filter(|name| name.starts_with("date=")) {
            if files::names_in(&root.join(tenant).join(date))?.iter().any(|name| parse_file_name(name).is_some()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
