//! Clears away what a crash left: files of a tenant that no visible segment names.
//!
//! Never touches a file that is not spelled as ours, and refuses when there is more than a crash can have left: then it
//! is the ledger that is wrong, and the files are the only copy of the records.

use std::collections::BTreeSet;
use std::path::Path;

use protocol::ids::TenantId;

use crate::part::is_temporary;
use crate::segment::{SegmentSet, parse_date_folder, parse_file_name, tenant_folder};
use crate::{Archive, ArchiveError, files, quarantine, sidecar};

/// Commit numbers beyond the ledger's last that a crash can leave behind: of one commit and one merge under way.
const COMMITS_OF_ONE_CRASH: usize = 2;

/// What was cleared away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Complete segments of commits that never became visible, or that were merged away.
    pub segments: u64,
    /// Files that were being written.
    pub temporary: u64,
    /// Sidecars of segments that are no more.
    pub sidecars: u64,
}

impl Archive {
    /// Removes the files of a tenant that `known` does not name: at start, when no commit or merge of the tenant is under
    /// way. `known` are the visible segments and those a merge replaced whose files are still to be deleted by the
    /// ledger's list; `last_commit` is the last commit or merge the ledger knows, 0 for none.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::LedgerBehind`], with nothing removed, when complete segments of more than two commits lie beyond
    /// `last_commit`: no crash leaves that, a ledger restored from an old copy or started anew does.
    pub fn remove_orphans(
        &self,
        tenant: TenantId,
        known: &SegmentSet,
        last_commit: u64,
    ) -> Result<Removed, ArchiveError> {
        let folder = tenant_folder(self.root(), tenant);
        let mut orphans = Vec::new();
        let mut beyond = BTreeSet::new();
        for date_name in files::names_in(&folder)? {
            let Some(date) = parse_date_folder(&date_name) else { continue };
            let folder = folder.join(&date_name);
            for name in files::names_in(&folder)? {
                if is_temporary(&name) {
                    orphans.push((folder.join(name), true));
                    continue;
                }
                let Some((commit, part)) = parse_file_name(&name) else { continue };
                if !known.names(date, commit, part) {
                    orphans.push((folder.join(name), false));
                    if commit > last_commit {
                        beyond.insert(commit);
                    }
                }
            }
        }
        if beyond.len() > COMMITS_OF_ONE_CRASH {
            let highest = beyond.last().copied().unwrap_or_default();
            return Err(ArchiveError::LedgerBehind { tenant, commits: beyond.len(), highest, last_commit });
        }
        if folder.is_dir() {
            // The folders of its dates: as for those above, whoever made them may not have come to this.
            files::sync_folder(&folder)?;
        }
        let mut removed = Removed::default();
        for (path, temporary) in orphans {
            let count = if temporary { &mut removed.temporary } else { &mut removed.segments };
            *count += u64::from(files::remove_file(&path)?);
            path.parent().map(files::remove_empty_folder);
        }
        removed.sidecars = self.remove_orphaned_sidecars(tenant, known)?;
        removed.temporary += remove_temporary(&quarantine::tenant_folder(self.root(), tenant))?;
        Ok(removed)
    }

    fn remove_orphaned_sidecars(&self, tenant: TenantId, known: &SegmentSet) -> Result<u64, ArchiveError> {
        let folder = sidecar::tenant_folder(self.root(), tenant);
        let mut removed = 0;
        for date_name in files::names_in(&folder)? {
            let Some(date) = parse_date_folder(&date_name) else { continue };
            let folder = folder.join(&date_name);
            for name in files::names_in(&folder)? {
                let segment = name.strip_suffix(".keys").map(|stem| format!("{stem}.parquet"));
                let of = segment.as_deref().and_then(parse_file_name);
                let orphaned = match of {
                    Some((commit, part)) => !known.names(date, commit, part),
                    None => name.ends_with(".keys.tmp"),
                };
                if orphaned {
                    removed += u64::from(files::remove_file(&folder.join(name))?);
                }
            }
            files::remove_empty_folder(&folder);
        }
        Ok(removed)
    }
}

fn remove_temporary(folder: &Path) -> Result<u64, ArchiveError> {
    let mut removed = 0;
    for name in files::names_in(folder)? {
        if name.ends_with(".tmp") {
            removed += u64::from(files::remove_file(&folder.join(name))?);
        }
    }
    Ok(removed)
}
