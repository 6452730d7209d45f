//! Deletes all there is of a tenant, up to the epoch that its purge was ordered for, and says whether anything is left.
//!
//! Never touches what bears a later epoch in its name: the tenant has returned, and somebody else is its owner. What bears none
//! (pieces of the quarantine, the table's log) is left alone where anything later lies beside it. A purge that was stopped in
//! the middle is simply made again.
//!
//! One who listed before the tenant returned and deletes only now can still hit a name without an epoch that was given anew:
//! an entry of the table's log, which the next publication finds damaged and writes anew, or the same piece of the quarantine,
//! which verification names.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use protocol::ids::TenantId;

use crate::epoch::epoch_of;
use crate::segment::{slashed, tenant_folder};
use crate::workspace::Workspace;
use crate::{Archive, ArchiveError, disk, files};

/// Below the root, what lies there in a folder of each tenant: segments and table, keys, checksums, quarantine, what was set
/// aside.
const FOLDERS: [&str; 5] = ["", "_dedup", "_sums", "_quarantine", "_aside"];

/// Objects removed in one go: between two of them it is known how many have gone.
const AT_ONCE: usize = 1_000;

/// What became of a purge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Files that were deleted; of a remote archive, objects.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were to go and are still there: somebody is writing them, or they bear no epoch and lie beside later ones.
    pub left: u64,
    /// Files of a later epoch, which stay.
    pub later: u64,
}

/// A file of the tenant.
struct Found {
    path: PathBuf,
    bytes: u64,
    /// `None` where the name says nothing.
    epoch: Option<u64>,
}

/// Those that are to go, and how the others are counted.
struct Sorted {
    going: Vec<Found>,
    /// Without an epoch, beside later ones.
    unclear: u64,
    later: u64,
}

impl Archive {
    /// Deletes everything of a tenant that was written under the epoch `through` or an earlier one: segments, table, sidecars,
    /// quarantine, what was set aside, and copies here. What has been done until an error is in `purged`. Nothing is left when
    /// [`Purged::left`] is 0 after it.
    ///
    /// # Errors
    ///
    /// When a folder or the store cannot be listed, or something in it not deleted. Making it again goes on from there.
    pub fn purge_tenant(&self, tenant: TenantId, through: u64, purged: &mut Purged) -> Result<(), ArchiveError> {
        self.0.tables.purge(tenant, || self.remove_tenant(tenant, through, purged))
    }

    /// How many files lie in the archive of a tenant, and their bytes; of a remote archive, objects.
    ///
    /// # Errors
    ///
    /// When a folder or the store cannot be listed.
    pub fn held_of(&self, tenant: TenantId) -> Result<(u64, u64), ArchiveError> {
        let found = match self.workspace() {
            Some(workspace) => objects_of(workspace, tenant)?,
            None => files_of(self.root(), tenant)?,
        };
        Ok((found.len() as u64, found.iter().map(|found| found.bytes).sum()))
    }

    /// Every tenant that anything lies in the archive of, by the names of folders. Lists the archive's upper folders: for who
    /// asks for it, never on a timer.
    ///
    /// # Errors
    ///
    /// When a folder or the store cannot be listed.
    pub fn tenants(&self) -> Result<BTreeSet<TenantId>, ArchiveError> {
        let mut tenants = BTreeSet::new();
        for folder in FOLDERS {
            let names = match self.workspace() {
                Some(workspace) => workspace.depot().folders(folder)?,
                None => files::names_in(&self.root().join(folder))?,
            };
            tenants.extend(names.iter().filter_map(|name| name.strip_prefix("tenant=")?.parse::<TenantId>().ok()));
        }
        Ok(tenants)
    }

    fn remove_tenant(&self, tenant: TenantId, through: u64, purged: &mut Purged) -> Result<(), ArchiveError> {
        (purged.left, purged.later) = (0, 0);
        match self.workspace() {
            Some(workspace) => {
                remove_remote(workspace, tenant, through, purged)?;
                // Copies are not counted.
                self.remove_local(tenant, through, &mut Purged::default())
            }
            None => self.remove_local(tenant, through, purged),
        }
    }

    fn remove_local(&self, tenant: TenantId, through: u64, purged: &mut Purged) -> Result<(), ArchiveError> {
        for Found { path, bytes, .. } in sort(files_of(self.root(), tenant)?, through).going {
            if files::remove_file(&path)? {
                (purged.files, purged.bytes) = (purged.files + 1, purged.bytes + bytes);
            }
        }
        for folder in &folders_of(self.root(), tenant) {
            remove_empty(folder)?;
            match folder.parent().filter(|_| !folder.exists()) {
                Some(parent) if parent.exists() => files::sync_folder(parent)?,
                Some(_) => {}
                None => files::sync_folder(folder)?,
            }
        }
        purged.note(&sort(files_of(self.root(), tenant)?, through));
        Ok(())
    }
}

impl Purged {
    fn note(&mut self, after: &Sorted) {
        self.left = after.going.len() as u64 + after.unclear;
        self.later = after.later;
    }
}

fn remove_remote(
    workspace: &Workspace,
    tenant: TenantId,
    through: u64,
    purged: &mut Purged,
) -> Result<(), ArchiveError> {
    for some in sort(objects_of(workspace, tenant)?, through).going.chunks(AT_ONCE) {
        workspace.remove(some.iter().map(|found| slashed(&found.path)).collect(), &[])?;
        purged.files += some.len() as u64;
        purged.bytes += some.iter().map(|found| found.bytes).sum::<u64>();
    }
    purged.note(&sort(objects_of(workspace, tenant)?, through));
    Ok(())
}

fn folders_of(root: &Path, tenant: TenantId) -> [PathBuf; FOLDERS.len()] {
    FOLDERS.map(|folder| tenant_folder(&root.join(folder), tenant))
}

fn files_of(root: &Path, tenant: TenantId) -> Result<Vec<Found>, ArchiveError> {
    let mut found = Vec::new();
    folders_of(root, tenant).iter().try_for_each(|folder| walk(folder, &mut found))?;
    Ok(found)
}

fn objects_of(workspace: &Workspace, tenant: TenantId) -> Result<Vec<Found>, ArchiveError> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let objects = workspace.depot().sizes(&slashed(&tenant_folder(Path::new(folder), tenant)))?;
        found.extend(objects.into_iter().map(|(name, bytes)| Found {
            epoch: epoch_of(name.rsplit('/').next().unwrap_or_default()),
            path: PathBuf::from(name),
            bytes,
        }));
    }
    Ok(found)
}

fn sort(found: Vec<Found>, through: u64) -> Sorted {
    let (later, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| found.epoch.is_some_and(|epoch| epoch > through));
    let (going, unclear): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|found| later.is_empty() || found.epoch.is_some());
    Sorted { going, unclear: unclear.len() as u64, later: later.len() as u64 }
}

/// Every file below a folder, whatever it is called.
fn walk(folder: &Path, found: &mut Vec<Found>) -> Result<(), ArchiveError> {
    for path in entries(folder)? {
        // One that has just gone is as good as deleted.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            walk(&path, found)?;
        } else {
            let epoch = path.file_name().and_then(|name| name.to_str()).and_then(epoch_of);
            found.push(Found { path, bytes: metadata.len(), epoch });
        }
    }
    Ok(())
}

/// Removes the folders that are empty, from within.
fn remove_empty(folder: &Path) -> Result<(), ArchiveError> {
    for path in entries(folder)? {
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            remove_empty(&path)?;
        }
    }
    files::remove_empty_folder(folder);
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    match disk::list(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(ArchiveError::io("list folder", folder)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ArchiveError::io("list folder", folder)(error)),
    }
}
