//! One commit of one tenant: records go in one by one, complete and synced segments come out.
//!
//! Guarantees: a record that is in a visible segment or came earlier in this commit is not stored again; every other one
//! is, byte for byte, in a file that is on disk when [`CommitWriter::finish`] returns. Until the ledger has made those
//! files visible they do not exist for anybody, and the same records brought again are stored again.
//! Never in memory: more than a few batches of records, whatever the size of a blob.

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::sync::Arc;

use protocol::ids::{ContentId, ContentType, TenantId};
use protocol::time::Timestamp;
use record::{RecordText, View};

use crate::columns::Row;
use crate::days::Days;
use crate::keys::{RecordKey, usable_time};
use crate::lookup::Lookup;
use crate::part;
use crate::pending::Pending;
use crate::quarantine::{self, Quarantined};
use crate::segment::{Segment, SegmentSet};
use crate::sidecar::Found;
use crate::verify::Damage;
use crate::{Archive, ArchiveError};

/// The largest record that is stored as a row. A larger one is kept in quarantine: readers have to hold a row whole.
pub(crate) const RECORD_BYTES_MAX: usize = 32 << 20;

/// What a commit is begun with.
#[derive(Debug, Clone)]
pub struct NewCommit {
    /// Whose records.
    pub tenant: TenantId,
    /// Its number, from 1; every row carries it, and its files are named by it.
    pub number: u64,
    /// The segments a repeat may be in. Must not change until the commit is finished or abandoned: no merge of the same
    /// tenant may delete files meanwhile.
    pub visible: Arc<SegmentSet>,
    /// The time for the column `ingested_at`.
    pub ingested_at: Timestamp,
}

/// The content that records come from.
#[derive(Debug, Clone, Copy)]
pub struct ContentRef<'a> {
    /// Its type.
    pub content_type: &'a ContentType,
    /// Its id.
    pub content_id: &'a ContentId,
    /// When it was created; its date files the records that have no readable `CreationTime`.
    pub created: Timestamp,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Appended {
    /// Stored.
    New,
    /// In the archive already, or earlier in this commit; not stored again.
    Duplicate,
    /// Stored beside another body of the same second and `Id`, and marked in its column.
    Variant,
    /// Kept in quarantine: not UTF-8, or too large to be a row.
    Quarantined,
}

/// Sums of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitStats {
    /// Records stored, variants among them.
    pub stored: u64,
    /// Repeats not stored again.
    pub duplicates: u64,
    /// Of those stored, records beside another body of the same second and `Id`.
    pub variants: u64,
    /// Pieces put into quarantine.
    pub quarantined: u64,
    /// Bytes of the records stored.
    pub stored_bytes: u64,
}

/// A finished commit: on disk, and waiting for the ledger to make it visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its segments; none when everything was a repeat.
    pub segments: Vec<Segment>,
    /// What it put into quarantine.
    pub quarantined: Vec<Quarantined>,
    /// Its sums.
    pub stats: CommitStats,
    /// Visible segments that dedup could not ask, because they are damaged: repeats of their records were stored again.
    pub damaged: Vec<Damage>,
}

/// The writer of one commit. Synchronous and CPU-bound: belongs on a blocking thread. Dropped without
/// [`Self::finish`], it removes its segments.
pub struct CommitWriter {
    archive: Archive,
    commit: NewCommit,
    lookup: Lookup,
    pending: Pending,
    days: Days,
    quarantined: Vec<Quarantined>,
    stats: CommitStats,
    failed: bool,
}

impl CommitWriter {
    pub(crate) fn begin(archive: Archive, commit: NewCommit) -> Result<Self, ArchiveError> {
        if let Some(segment) = commit.visible.iter().find(|segment| segment.commit == commit.number) {
            let path = archive.segment_place(segment);
            return Err(ArchiveError::CommitInUse { tenant: commit.tenant, commit: commit.number, path });
        }
        let NewCommit { tenant, number, ingested_at, .. } = commit;
        Ok(Self {
            lookup: Lookup::new(archive.clone(), Arc::clone(&commit.visible)),
            days: Days::new(archive.clone(), tenant, number, ingested_at)?,
            archive,
            commit,
            pending: Pending::default(),
            quarantined: Vec::new(),
            stats: CommitStats::default(),
            failed: false,
        })
    }

    /// Stores a record unless it is a repeat. `raw` is the record exactly as delivered, from `{` to `}`.
    ///
    /// # Errors
    ///
    /// After an error the commit can only be abandoned: every further call fails.
    pub fn append(&mut self, content: &ContentRef<'_>, raw: &[u8]) -> Result<Appended, ArchiveError> {
        self.guarded(|commit| {
            if std::str::from_utf8(raw).is_err() {
                commit.try_quarantine(content, &mut Cursor::new(raw), "the record is not valid UTF-8")?;
                return Ok(Appended::Quarantined);
            }
            commit.try_append(content, raw)
        })
    }

    /// The same for a record that is known to be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn append_text(&mut self, content: &ContentRef<'_>, raw: &RecordText) -> Result<Appended, ArchiveError> {
        self.guarded(|commit| commit.try_append(content, raw.as_bytes()))
    }

    /// Keeps bytes that are no record as they were delivered, synced, with the reason why they are not one.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn quarantine(&mut self, content: &ContentRef<'_>, piece: &[u8], reason: &str) -> Result<(), ArchiveError> {
        self.guarded(|commit| commit.try_quarantine(content, &mut Cursor::new(piece), reason))
    }

    /// The same for a piece that is too large for memory: all of `file`, from its beginning.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn quarantine_file(
        &mut self,
        content: &ContentRef<'_>,
        file: &mut File,
        reason: &str,
    ) -> Result<(), ArchiveError> {
        self.guarded(|commit| commit.try_quarantine(content, file, reason))
    }

    /// Sums so far.
    pub fn stats(&self) -> CommitStats {
        self.stats
    }

    /// Completes and syncs every file. The commit is then for the ledger to make visible; if it cannot,
    /// [`Archive::discard`] removes the files, or [`Archive::remove_orphans`] does at the next start.
    ///
    /// # Errors
    ///
    /// Nothing is visible and what was written is removed.
    pub fn finish(mut self) -> Result<Committed, ArchiveError> {
        self.guarded(Self::try_finish)?;
        // Taken, so that the drop of `self` finds nothing to remove.
        Ok(Committed {
            segments: self.days.take_finished(),
            quarantined: std::mem::take(&mut self.quarantined),
            stats: self.stats,
            damaged: self.lookup.damaged(),
        })
    }

    /// Removes the segments that were written; what was put into quarantine stays. The records are not stored; brought
    /// again, they are new.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed; it stays until [`Archive::remove_orphans`].
    pub fn abandon(mut self) -> Result<(), ArchiveError> {
        self.remove_all()
    }

    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        if self.failed {
            return Err(ArchiveError::Failed { tenant: self.commit.tenant, commit: self.commit.number });
        }
        work(self).inspect_err(|_| self.failed = true)
    }

    /// `raw` is UTF-8: who calls has made sure of it.
    fn try_append(&mut self, content: &ContentRef<'_>, raw: &[u8]) -> Result<Appended, ArchiveError> {
        if raw.len() > RECORD_BYTES_MAX {
            self.try_quarantine(content, &mut Cursor::new(raw), "the record is larger than 32 MiB")?;
            return Ok(Appended::Quarantined);
        }
        let view = View::read(raw);
        let creation_time = usable_time(view.creation_time);
        let date = creation_time.or(usable_time(Some(content.created))).unwrap_or(self.commit.ingested_at).date_naive();
        let second = creation_time.map(|time| time.timestamp());
        let key = RecordKey::new(view.id.as_deref(), second, raw);
        let mut found = self.pending.find(&key);
        if found != Found::Same {
            found = found.or(self.lookup.find(date, second, &key)?);
        }
        let appended = match found {
            Found::Same => {
                self.stats.duplicates += 1;
                return Ok(Appended::Duplicate);
            }
            Found::SameId => {
                self.stats.variants += 1;
                Appended::Variant
            }
            Found::No => Appended::New,
        };
        let is_variant = appended == Appended::Variant;
        self.pending.insert(&key);
        self.days.push(date, key, raw, &Row { content, view: &view, creation_time, is_variant })?;
        self.stats.stored += 1;
        self.stats.stored_bytes += raw.len() as u64;
        Ok(appended)
    }

    fn try_quarantine(
        &mut self,
        content: &ContentRef<'_>,
        piece: &mut (impl Read + Seek),
        reason: &str,
    ) -> Result<(), ArchiveError> {
        let NewCommit { tenant, ingested_at, .. } = self.commit;
        self.quarantined.push(quarantine::keep(&self.archive, tenant, content, piece, reason, ingested_at)?);
        self.stats.quarantined += 1;
        Ok(())
    }

    fn try_finish(&mut self) -> Result<(), ArchiveError> {
        self.days.finish()?;
        part::sync_folders_of(&self.archive, self.days.finished())
    }

    fn remove_all(&mut self) -> Result<(), ArchiveError> {
        self.days.clear();
        self.archive.delete_segments(&self.days.take_finished()).map(|_| ())
    }
}

impl Drop for CommitWriter {
    fn drop(&mut self) {
        if let Err(error) = self.remove_all() {
            tracing::warn!(%error, "files of a dropped commit stay until orphans are removed");
        }
    }
}

impl Archive {
    /// Removes the files of a finished commit that the ledger has refused. Not to be called when it is unknown whether
    /// the ledger took it: then the files may be visible.
    pub fn discard(&self, committed: &Committed) -> Result<(), ArchiveError> {
        self.delete_segments(&committed.segments)?;
        Ok(())
    }
}
