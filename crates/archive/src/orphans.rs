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

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use chrono::{NaiveDate, TimeDelta};
use protocol::ids::TenantId;
use protocol::time::Timestamp;

use crate::keys::{RecordKey, second_of_micros};
use crate::lookup::Lookup;
use crate::part::is_temporary;
use crate::read::{Batches, micros, texts};
use crate::schema::position;
use crate::segment::{SegmentSet, date_folder, file_name, parse_date_folder, parse_file_name, tenant_folder};
use crate::sidecar::Found;
use crate::verify::check_digest;
use crate::{Archive, ArchiveError, disk, files, quarantine, sidecar, sums};

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

/// What lies set aside in the archive at `root`, tenant by tenant. Looks at names and sizes only, and writes nothing.
///
/// # Errors
///
/// When a folder cannot be listed.
pub fn set_aside(root: &Path) -> Result<Vec<SetAside>, ArchiveError> {
    let root = root.join("_aside");
    let mut all = Vec::new();
    for name in files::names_in(&root)? {
        let Some(tenant) = name.strip_prefix("tenant=").and_then(|id| id.parse().ok()) else { continue };
        let mut of_tenant = SetAside { tenant, files: 0, bytes: 0 };
        for date in files::names_in(&root.join(&name))? {
            let folder = root.join(&name).join(date);
            for file in files::names_in(&folder)? {
                // One that is taken away meanwhile is not there any more.
                of_tenant.bytes += std::fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len());
                of_tenant.files += 1;
            }
        }
        if of_tenant.files > 0 {
            all.push(of_tenant);
        }
    }
    Ok(all)
}

/// A complete segment that the ledger does not know.
struct Orphan {
    path: PathBuf,
    date: NaiveDate,
    commit: u64,
    part: u32,
}

impl Archive {
    /// Clears away the files of a tenant that `known` does not name: at start, when no commit or merge of the tenant is
    /// under way. `known` are the visible segments and those a merge replaced whose files are still to be deleted by the
    /// ledger's list; `last_commit` is the last commit or merge the ledger knows, 0 for none.
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
        let folder = tenant_folder(self.root(), tenant);
        let (mut orphans, mut temporary) = (Vec::new(), Vec::new());
        for date_name in files::names_in(&folder)? {
            let Some(date) = parse_date_folder(&date_name) else { continue };
            let folder = folder.join(&date_name);
            for name in files::names_in(&folder)? {
                let path = folder.join(&name);
                if is_temporary(&name) {
                    temporary.push(path);
                } else if let Some((commit, part)) = parse_file_name(&name)
                    && !known.names(date, commit, part)
                {
                    orphans.push(Orphan { path, date, commit, part });
                }
            }
        }
        if folder.is_dir() {
            // The folders of its dates: as for those above, whoever made them may not have come to this.
            files::sync_folder(&folder)?;
        }
        let mut removed = Removed::default();
        for path in temporary {
            removed.temporary += u64::from(files::remove_file(&path)?);
            path.parent().map(files::remove_empty_folder);
        }
        let beyond: BTreeSet<u64> =
            orphans.iter().map(|orphan| orphan.commit).filter(|commit| *commit > last_commit).collect();
        let of_one_crash = beyond.len() <= COMMITS_OF_ONE_CRASH;
        for orphan in orphans {
            let comes_again =
                of_one_crash && is_recent(orphan.date, now) && self.is_newer_than(&orphan, last_commit)?;
            if comes_again || self.is_repeated(&orphan, known)? {
                removed.segments += u64::from(files::remove_file(&orphan.path)?);
            } else {
                self.set_aside(tenant, &orphan)?;
                removed.aside += 1;
            }
            orphan.path.parent().map(files::remove_empty_folder);
        }
        removed.sidecars = remove_beside(&sidecar::tenant_folder(self.root(), tenant), "keys", known)?;
        remove_beside(&sums::tenant_folder(self.root(), tenant), sums::EXTENSION, known)?;
        removed.temporary += remove_temporary(&quarantine::tenant_folder(self.root(), tenant))?;
        Ok(removed)
    }

    /// Where what was set aside of a tenant lies.
    pub fn aside_folder(&self, tenant: TenantId) -> PathBuf {
        aside_folder(self.root(), tenant)
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
        Ok(found && others.iter().all(|other| check_digest(self, other).is_ok()))
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
        files::create_folder(&folder)?;
        let (commit, part) = (orphan.commit, orphan.part);
        let numbered = (2..).map(|number: u32| folder.join(format!("{commit}-{part}.{number}.parquet")));
        let names = std::iter::once(folder.join(file_name(commit, part))).chain(numbered);
        let Some(to) = names.into_iter().find(|name| !name.exists()) else { return Ok(()) };
        disk::rename(&orphan.path, &to).map_err(ArchiveError::io("set aside", &orphan.path))?;
        files::sync_folder(&folder)?;
        orphan.path.parent().map_or(Ok(()), files::sync_folder)
    }
}

/// Removes the files of that extension, in a folder that is laid out like the tenant's, whose segment is not known.
fn remove_beside(folder: &Path, extension: &str, known: &SegmentSet) -> Result<u64, ArchiveError> {
    let mut removed = 0;
    for date_name in files::names_in(folder)? {
        let Some(date) = parse_date_folder(&date_name) else { continue };
        let folder = folder.join(&date_name);
        for name in files::names_in(&folder)? {
            let stem = name.strip_suffix(extension).and_then(|name| name.strip_suffix('.'));
            let of = stem.and_then(|stem| parse_file_name(&format!("{stem}.parquet")));
            let orphaned = match of {
                Some((commit, part)) => !known.names(date, commit, part),
                None => name.ends_with(&format!(".{extension}.tmp")),
            };
            if orphaned {
                removed += u64::from(files::remove_file(&folder.join(name))?);
            }
        }
        files::remove_empty_folder(&folder);
    }
    Ok(removed)
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

fn remove_temporary(folder: &Path) -> Result<u64, ArchiveError> {
    let mut removed = 0;
    for name in files::names_in(folder)? {
        if name.ends_with(".tmp") {
            removed += u64::from(files::remove_file(&folder.join(name))?);
        }
    }
    Ok(removed)
}
