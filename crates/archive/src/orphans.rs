//! Clears away what a crash left: files of a tenant that no visible segment names.
//!
//! Never touches a file that is not spelled as ours, and never deletes the only copy of a record. Seen from here, what a
//! crash has left and what a restored older ledger does not know yet look the same; so a complete segment is deleted
//! only when every record of it
//!
//! * is in sound segments that the ledger knows, or
//! * is sure to be fetched again: all its rows are of commits that the ledger has not seen, so that it holds none of their
//!   contents for archived, of so recent a date that the feed still has those, and no more than one crash can leave.
//!
//! Every other one is set aside: moved to a folder that queries do not read and that nothing here ever empties.
//!
//! Nothing is touched that was written under a later epoch than ours ([`Archive::under`]): it is the tenant's owner who wrote
//! it, and what the ledger said before is old. What was written under ours or an earlier one and is not known to the ledger
//! never will be, for the ledger takes no commit of an earlier epoch any more.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use chrono::{NaiveDate, TimeDelta};
use protocol::ids::TenantId;
use protocol::time::Timestamp;

use crate::keys::{RecordKey, second_of_micros};
use crate::lookup::Lookup;
use crate::part::{is_temporary, part_of_temporary};
use crate::read::{Batches, micros, texts};
use crate::schema::position;
use crate::segment::{SegmentSet, date_folder, file_name, parse_date_folder, parse_file_name, slashed, tenant_folder};
use crate::sidecar::Found;
use crate::verify::check_stored;
use crate::workspace::{Unknown, Workspace};
use crate::{Archive, ArchiveError, ArchiveOptions, disk, files, quarantine, sidecar, sums};

/// Commit numbers beyond the ledger's last that a crash can leave behind: of one commit and one merge under way.
const COMMITS_OF_ONE_CRASH: usize = 2;

/// Records of events this old or younger are fetched again. A content is never older than its events and is kept for seven
/// days from its creation (activity-api.md §6), so this leaves two days to fetch it in. Larger: nothing is left for an
/// outage of ours. Smaller: more is set aside that would have come again.
const COMES_AGAIN: TimeDelta = TimeDelta::days(4);

/// Clocks of workloads differ from ours by hours, not by more than this.
const AHEAD: TimeDelta = TimeDelta::days(1);

/// Rows decoded at a time.
const BATCH_ROWS: usize = 256;

/// What was cleared away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Complete segments of commits that never became visible, or that were merged away.
    pub segments: u64,
    /// Complete segments that the ledger does not know and whose records may not come again, set aside.
    pub aside: u64,
    /// Files that were being written.
    pub temporary: u64,
    /// Sidecars of segments that are no more.
    pub sidecars: u64,
    /// Complete segments of a later epoch, left where they lie.
    pub left: u64,
}

/// What was set aside of one tenant, now or ever, and still lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetAside {
    /// Whose.
    pub tenant: TenantId,
    /// How many files.
    pub files: u64,
    /// Their size together.
    pub bytes: u64,
}

/// What lies set aside in the archive, tenant by tenant. Looks at names and sizes only, and writes nothing.
///
/// # Errors
///
/// When a folder, or the store, cannot be listed.
pub fn set_aside(options: &ArchiveOptions) -> Result<Vec<SetAside>, ArchiveError> {
    let mut all: Vec<SetAside> = Vec::new();
    let mut count = |tenant: &str, bytes| {
        let Some(tenant) = tenant.strip_prefix("tenant=").and_then(|id| id.parse().ok()) else { return };
        match all.last_mut().filter(|of| of.tenant == tenant) {
            Some(of) => (of.files, of.bytes) = (of.files + 1, of.bytes + bytes),
            None => all.push(SetAside { tenant, files: 1, bytes }),
        }
    };
    if let Some(depot) = options.depot()? {
        for (name, bytes) in depot.sizes("_aside")? {
            name.split('/').nth(1).into_iter().for_each(|tenant| count(tenant, bytes));
        }
        return Ok(all);
    }
    let root = options.root.join("_aside");
    for tenant in files::names_in(&root)? {
        for date in files::names_in(&root.join(&tenant))? {
            let folder = root.join(&tenant).join(date);
            for file in files::names_in(&folder)? {
                // One that is taken away meanwhile is not there any more.
                count(&tenant, std::fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len()));
            }
        }
    }
    Ok(all)
}

/// A complete segment that the ledger does not know.
struct Orphan {
    date: NaiveDate,
    commit: u64,
    part: u64,
    /// Its file; a remote archive's is a copy that goes with this.
    path: PathBuf,
    _copy: Option<Unknown>,
}

impl Archive {
    /// Clears away the files of a tenant that `known` does not name: at start, when no commit or merge of this owner of the
    /// tenant is under way. `known` are the visible segments and those a merge replaced whose files are still to be deleted by
    /// the ledger's list, asked for under this epoch; `last_commit` is the last commit or merge the ledger knows, 0 for none.
    ///
    /// # Errors
    ///
    /// When a file can be neither read nor moved nor removed; what was done until then stays done.
    pub fn remove_orphans(
        &self,
        tenant: TenantId,
        known: &SegmentSet,
        last_commit: u64,
        now: Timestamp,
    ) -> Result<Removed, ArchiveError> {
        // Somebody else may have had the tenant since it was last published here.
        self.0.tables.forget(tenant);
        let mut removed = Removed::default();
        let lying_here = self.clear_folder(tenant, known, &mut removed)?;
        let orphans: Vec<(NaiveDate, u64, u64)> = match self.workspace() {
            Some(workspace) => {
                let names = workspace.depot().list(&slashed(&tenant_folder(Path::new(""), tenant)))?;
                let segments = names.iter().filter_map(|name| parse_name(name));
                segments.filter(|(date, commit, part)| !known.names(*date, *commit, *part)).collect()
            }
            None => lying_here,
        };
        let found = orphans.len();
        let orphans: Vec<_> = orphans.into_iter().filter(|(_, _, part)| self.may_clear(*part)).collect();
        removed.left = (found - orphans.len()) as u64;
        let beyond: BTreeSet<u64> =
            orphans.iter().map(|(_, commit, _)| *commit).filter(|commit| *commit > last_commit).collect();
        let of_one_crash = beyond.len() <= COMMITS_OF_ONE_CRASH;
        for (date, commit, part) in orphans {
            let Some(orphan) = self.orphan(tenant, date, commit, part)? else { continue };
            let comes_again =
                of_one_crash && is_recent(orphan.date, now) && self.is_newer_than(&orphan, last_commit)?;
            if comes_again || self.is_repeated(&orphan, known)? {
                removed.segments += self.remove_orphan(tenant, &orphan)?;
            } else {
                self.set_aside(tenant, &orphan)?;
                removed.aside += 1;
            }
            if self.workspace().is_none() {
                orphan.path.parent().map(files::remove_empty_folder);
            }
        }
        if let Some(workspace) = self.workspace() {
            removed.sidecars = self.remove_remote_beside(workspace, tenant, known)?;
        }
        removed.sidecars += self.remove_beside(&sidecar::tenant_folder(self.root(), tenant), "keys", known)?;
        self.remove_beside(&sums::tenant_folder(self.root(), tenant), sums::EXTENSION, known)?;
        removed.temporary += self.remove_temporary(&quarantine::tenant_folder(self.root(), tenant))?;
        Ok(removed)
    }

    /// Where what was set aside of a tenant lies: a folder, or a URL.
    pub fn aside_folder(&self, tenant: TenantId) -> PathBuf {
        self.place_of(&aside_folder(Path::new(""), tenant))
    }

    /// Removes what was being written in a tenant's local folder, and says which segments lie there that are not known;
    /// unknown copies of a remote archive's are removed as well.
    fn clear_folder(
        &self,
        tenant: TenantId,
        known: &SegmentSet,
        removed: &mut Removed,
    ) -> Result<Vec<(NaiveDate, u64, u64)>, ArchiveError> {
        let folder = tenant_folder(self.root(), tenant);
        let copies: Option<HashSet<PathBuf>> =
            self.workspace().map(|workspace| known.iter().map(|segment| workspace.copy_of(segment)).collect());
        let (mut orphans, mut temporary, mut unknown_copies) = (Vec::new(), Vec::new(), Vec::new());
        for date_name in files::names_in(&folder)? {
            let Some(date) = parse_date_folder(&date_name) else { continue };
            let folder = folder.join(&date_name);
            for name in files::names_in(&folder)? {
                let path = folder.join(&name);
                if is_temporary(&name) {
                    temporary.extend(self.may_clear(part_of_temporary(&name)).then_some(path));
                } else if let Some(copies) = &copies {
                    unknown_copies.extend((!copies.contains(&path)).then_some(path));
                } else if let Some((commit, part)) = parse_file_name(&name)
                    && !known.names(date, commit, part)
                {
                    orphans.push((date, commit, part));
                }
            }
        }
        if folder.is_dir() {
            // The folders of its dates: as for those above, whoever made them may not have come to this.
            files::sync_folder(&folder)?;
        }
        for path in temporary {
            removed.temporary += u64::from(files::remove_file(&path)?);
            path.parent().map(files::remove_empty_folder);
        }
        for path in unknown_copies {
            files::remove_file(&path)?;
            path.parent().map(files::remove_empty_folder);
        }
        Ok(orphans)
    }

    /// The orphan with its file here; `None` when it has gone.
    fn orphan(
        &self,
        tenant: TenantId,
        date: NaiveDate,
        commit: u64,
        part: u64,
    ) -> Result<Option<Orphan>, ArchiveError> {
        let Some(workspace) = self.workspace() else {
            let path = self.folder_of(tenant, date).join(file_name(commit, part));
            return Ok(Some(Orphan { date, commit, part, path, _copy: None }));
        };
        let copy = workspace.fetch_unknown(&name(tenant, date, commit, part))?;
        Ok(copy.map(|copy| Orphan { date, commit, part, path: copy.path().to_owned(), _copy: Some(copy) }))
    }

    fn remove_orphan(&self, tenant: TenantId, orphan: &Orphan) -> Result<u64, ArchiveError> {
        let Some(workspace) = self.workspace() else { return Ok(u64::from(files::remove_file(&orphan.path)?)) };
        workspace.remove(vec![name(tenant, orphan.date, orphan.commit, orphan.part)], &[])?;
        Ok(1)
    }

    /// Whether all rows are of commits after `last_commit`. A merge's rows are older than its name.
    fn is_newer_than(&self, orphan: &Orphan, last_commit: u64) -> Result<bool, ArchiveError> {
        readable(self.every_row(orphan, &[position::COMMIT], |batch| {
            let commits = batch.column(0).as_primitive::<Int64Type>();
            Ok(commits.values().iter().all(|commit| u64::try_from(*commit).is_ok_and(|commit| commit > last_commit)))
        }))
    }

    /// Whether every record is in a segment of the same date that the ledger knows and that is sound.
    fn is_repeated(&self, orphan: &Orphan, known: &SegmentSet) -> Result<bool, ArchiveError> {
        let others = known.on_date(orphan.date);
        if others.is_empty() {
            return Ok(false);
        }
        let mut lookup = Lookup::new(self.clone(), Arc::new(others.iter().cloned().collect()));
        let columns = [position::ID, position::CREATION_TIME, position::RAW];
        let found = readable(self.every_row(orphan, &columns, |batch| {
            let (ids, raw, created) = (texts(batch, "id"), texts(batch, "raw"), micros(batch, "creation_time"));
            for (row, (id, raw)) in ids.iter().zip(raw.iter()).enumerate() {
                let second = created(row).map(second_of_micros);
                let key = RecordKey::new(id, second, raw.unwrap_or_default().as_bytes());
                if lookup.find(orphan.date, second, &key)? != Found::Same {
                    return Ok(false);
                }
            }
            Ok(true)
        }))?;
        // A sidecar may outlive its segment: what it says counts only while the segment is what was written.
        Ok(found && others.iter().all(|other| check_stored(self, other).is_ok()))
    }

    fn every_row(
        &self,
        orphan: &Orphan,
        columns: &[usize],
        mut holds: impl FnMut(&arrow::array::RecordBatch) -> Result<bool, ArchiveError>,
    ) -> Result<bool, ArchiveError> {
        for batch in Batches::open(&orphan.path, Some(columns), BATCH_ROWS)? {
            if !holds(&batch?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives it a name that nobody reads and that lasts.
    fn set_aside(&self, tenant: TenantId, orphan: &Orphan) -> Result<(), ArchiveError> {
        let folder = date_folder(&aside_folder(self.root(), tenant), orphan.date);
        let (commit, part) = (orphan.commit, orphan.part);
        let numbered = (2..).map(|number: u32| format!("{commit}-{part}.{number}.parquet"));
        let mut names = std::iter::once(file_name(commit, part)).chain(numbered);
        if let Some(workspace) = self.workspace() {
            let folder = slashed(&date_folder(&aside_folder(Path::new(""), tenant), orphan.date));
            let taken = workspace.depot().list(&folder)?;
            let mut names = names.map(|name| format!("{folder}/{name}"));
            let Some(to) = names.find(|name| !taken.contains(name)) else { return Ok(()) };
            workspace.put_file(&to, &orphan.path)?;
            // Stopping before this leaves both, and it is set aside once more.
            return workspace.remove(vec![name(tenant, orphan.date, commit, part)], &[]);
        }
        files::create_folder(&folder)?;
        let mut names = names.by_ref().map(|name| folder.join(name));
        let Some(to) = names.find(|name| !name.exists()) else { return Ok(()) };
        disk::rename(&orphan.path, &to).map_err(ArchiveError::io("set aside", &orphan.path))?;
        files::sync_folder(&folder)?;
        orphan.path.parent().map_or(Ok(()), files::sync_folder)
    }

    /// Removes from a store what lies beside segments that are not known: caches, all of them. Says how many sidecars that were.
    fn remove_remote_beside(
        &self,
        workspace: &Workspace,
        tenant: TenantId,
        known: &SegmentSet,
    ) -> Result<u64, ArchiveError> {
        let mut orphaned = Vec::new();
        for (folder, extension) in [("_dedup", "keys"), ("_sums", sums::EXTENSION)] {
            for name in workspace.depot().list(&format!("{folder}/tenant={tenant}"))? {
                let stem = name.strip_suffix(extension).unwrap_or_default();
                let of = parse_name(&format!("{stem}parquet"));
                let is_orphan = |(date, commit, part)| !known.names(date, commit, part) && self.may_clear(part);
                orphaned.extend(of.is_some_and(is_orphan).then_some(name));
            }
        }
        let sidecars = orphaned.iter().filter(|name| name.starts_with("_dedup")).count() as u64;
        workspace.remove(orphaned, &[])?;
        Ok(sidecars)
    }

    /// Removes the files of that extension, in a folder that is laid out like the tenant's, whose segment is not known.
    fn remove_beside(&self, folder: &Path, extension: &str, known: &SegmentSet) -> Result<u64, ArchiveError> {
        let mut removed = 0;
        for date_name in files::names_in(folder)? {
            let Some(date) = parse_date_folder(&date_name) else { continue };
            let folder = folder.join(&date_name);
            let mut is_empty = true;
            for name in files::names_in(&folder)? {
                let stem = name.strip_suffix(extension).and_then(|name| name.strip_suffix('.'));
                let of = stem.and_then(|stem| parse_file_name(&format!("{stem}.parquet")));
                let orphaned = match of {
                    Some((commit, part)) => !known.names(date, commit, part) && self.may_clear(part),
                    None => name.ends_with(&format!(".{extension}.tmp")),
                };
                is_empty &= orphaned;
                if orphaned {
                    removed += u64::from(files::remove_file(&folder.join(name))?);
                }
            }
            // There is one for each date of years.
            if is_empty {
                files::remove_empty_folder(&folder);
            }
        }
        Ok(removed)
    }

    /// What was being written of the quarantine. Its names end in the epoch of who wrote it; those of earlier versions in none.
    fn remove_temporary(&self, folder: &Path) -> Result<u64, ArchiveError> {
        let mut removed = 0;
        for name in files::names_in(folder)? {
            let Some(stem) = name.strip_suffix(".tmp") else { continue };
            let epoch = stem.rsplit('.').next().and_then(|epoch| epoch.parse::<u64>().ok());
            if epoch.is_none_or(|epoch| epoch <= self.epoch()) {
                removed += u64::from(files::remove_file(&folder.join(name))?);
            }
        }
        Ok(removed)
    }
}

/// `tenant={guid}/date={YYYY-MM-DD}/{commit}-{part}.parquet`
fn name(tenant: TenantId, date: NaiveDate, commit: u64, part: u64) -> String {
    slashed(&date_folder(&tenant_folder(Path::new(""), tenant), date).join(file_name(commit, part)))
}

/// Reads [`name`] back; `None` for what was not written by us.
fn parse_name(name: &str) -> Option<(NaiveDate, u64, u64)> {
    let mut parts = name.rsplit('/');
    let (file, date) = (parts.next()?, parts.next()?);
    let (commit, part) = parse_file_name(file)?;
    Some((parse_date_folder(date)?, commit, part))
}

/// `{root}/_aside/tenant={guid}`
pub(crate) fn aside_folder(root: &Path, tenant: TenantId) -> PathBuf {
    tenant_folder(&root.join("_aside"), tenant)
}

/// Whether the feed still has the contents of events of that date, and will for some time.
fn is_recent(date: NaiveDate, now: Timestamp) -> bool {
    let day = |shift: TimeDelta| now.checked_add_signed(shift).map(|time| time.date_naive());
    day(-COMES_AGAIN).is_some_and(|first| first <= date) && day(AHEAD).is_some_and(|last| date <= last)
}

/// What cannot be read proves nothing; that the disk refuses is an error.
fn readable(answer: Result<bool, ArchiveError>) -> Result<bool, ArchiveError> {
    match answer {
        Err(ArchiveError::Damaged { .. } | ArchiveError::Parquet { .. }) => Ok(false),
        answer => answer,
    }
}
