//! One commit's worth of pieces: the only place where records meet the archive.
//!
//! Never waits for anything: each call is CPU and disk work for a blocking thread, and between two calls no thread is held.
//! Not a record is visible until [`super::committer`] has told the ledger; a batch that is dropped leaves nothing behind.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use archive::{Appended, Archive, ArchiveError, CommitWriter, Committed, ContentRef, NewCommit};
use bytes::Bytes;
use engine::model::{Loss, Pending};
use record::{Item, NotARecordReason, Part};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};

/// What fetches hand over, in order for each content.
pub(super) enum Piece {
    /// Some elements of a blob.
    Items {
        /// Of which content.
        content: Arc<Pending>,
        /// The elements, in the blob's order.
        items: Vec<Item>,
        /// Gives their share of the memory back when they are stored.
        permit: OwnedSemaphorePermit,
    },
    /// An element of a blob that is too large to be a record.
    Large {
        /// Of which content.
        content: Arc<Pending>,
        /// All of it, from its beginning; the file has no name.
        file: File,
        /// Its length in bytes.
        length: u64,
        /// Where it starts in the blob, in bytes.
        offset: u64,
    },
    /// The blob is whole, and all its elements were handed over before.
    Ended {
        /// Which content.
        content: Arc<Pending>,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The content is given up, and these bytes of it are kept.
    Lost {
        /// Which content.
        content: Arc<Pending>,
        /// Why.
        loss: Loss,
        /// What was delivered in its place; may be empty.
        kept: Bytes,
    },
}

impl Piece {
    /// Bytes of the records in it.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Items { items, .. } => items
                .iter()
                .map(|item| match item {
                    Item::Record(record) => record.len() as u64,
                    Item::NotARecord { bytes, .. } | Item::Part(Part { bytes, .. }) => bytes.len() as u64,
                })
                .sum(),
            Self::Large { length, .. } => *length,
            Self::Ended { .. } => 0,
            Self::Lost { kept, .. } => kept.len() as u64,
        }
    }
}

/// What became of the elements of one content, in one attempt at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) variants: u64,
    pub(super) quarantined: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.records += other.records;
        self.duplicates += other.duplicates;
        self.variants += other.variants;
        self.quarantined += other.quarantined;
    }
}

/// The tallies of contents, by row. Each attempt at a content reads it anew from the ledger, so that its [`Arc`] tells it
/// from the attempts before it: what one handed over before it broke off is stored, and counted by the one that ends.
#[derive(Debug, Default)]
pub(super) struct Tallies(HashMap<i64, (Arc<Pending>, Tally)>);

impl Tallies {
    /// What this attempt has brought so far.
    pub(super) fn of(&mut self, attempt: &Arc<Pending>) -> &mut Tally {
        let (counted, tally) = self.0.entry(attempt.row).or_insert_with(|| (Arc::clone(attempt), Tally::default()));
        if !Arc::ptr_eq(counted, attempt) {
            (*counted, *tally) = (Arc::clone(attempt), Tally::default());
        }
        tally
    }

    /// Adds those of a later batch.
    pub(super) fn add_all(&mut self, later: Tallies) {
        for (attempt, tally) in later.0.into_values() {
            self.of(&attempt).add(tally);
        }
    }

    /// Those of a content that has ended, which are not needed any more.
    pub(super) fn take(&mut self, row: i64) -> Tally {
        self.0.remove(&row).map(|(_, tally)| tally).unwrap_or_default()
    }
}

/// A batch that is complete and synced on disk.
pub(super) struct Sealed {
    pub(super) committed: Committed,
    /// Of every content that has a piece in this batch.
    pub(super) tallies: Tallies,
    /// Rows that ended in it, with the size of their blobs.
    pub(super) ended: Vec<(i64, u64)>,
    /// Rows given up in it.
    pub(super) lost: Vec<(i64, Loss)>,
}

/// A commit being written.
pub(super) struct Batch {
    writer: CommitWriter,
    tallies: Tallies,
    ended: Vec<(i64, u64)>,
    lost: Vec<(i64, Loss)>,
    /// Nobody else works on the tenant's files meanwhile. Dropped after the writer, which may have files to remove.
    _turn: OwnedMutexGuard<()>,
}

impl Batch {
    /// Opens a commit.
    pub(super) fn begin(archive: &Archive, commit: NewCommit, turn: OwnedMutexGuard<()>) -> Result<Self, ArchiveError> {
        Ok(Self {
            writer: archive.begin(commit)?,
            tallies: Tallies::default(),
            ended: Vec::new(),
            lost: Vec::new(),
            _turn: turn,
        })
    }

    /// Stores what the pieces hold.
    pub(super) fn take_all(&mut self, pieces: Vec<Piece>) -> Result<(), ArchiveError> {
        pieces.into_iter().try_for_each(|piece| self.take(piece))
    }

    /// Completes and syncs the files.
    pub(super) fn seal(self) -> Result<Sealed, ArchiveError> {
        let committed = self.writer.finish()?;
        Ok(Sealed { committed, tallies: self.tallies, ended: self.ended, lost: self.lost })
    }

    fn take(&mut self, piece: Piece) -> Result<(), ArchiveError> {
        match piece {
            Piece::Items { content, items, permit } => {
                let mut tally = Tally::default();
                for item in &items {
                    append(&mut self.writer, &content, item, &mut tally)?;
                }
                self.tallies.of(&content).add(tally);
                drop(permit);
            }
            Piece::Large { content, mut file, length, offset } => {
                let reason = NotARecordReason::TooLarge { length };
                let reason = format!("{reason}, at byte {offset} of the blob");
                self.writer.quarantine_file(&reference(&content), &mut file, &reason)?;
                self.tallies.of(&content).quarantined += 1;
            }
            Piece::Ended { content, bytes } => {
                // Named even when it brought nothing: an attempt before it may have.
                self.tallies.of(&content);
                self.ended.push((content.row, bytes));
            }
            Piece::Lost { content, loss, kept } => {
                let tally = self.tallies.of(&content);
                if !kept.is_empty() {
                    self.writer.quarantine(&reference(&content), &kept, &loss.message)?;
                    tally.quarantined += 1;
                }
                self.lost.push((content.row, loss));
            }
        }
        Ok(())
    }
}

fn append(writer: &mut CommitWriter, content: &Pending, item: &Item, tally: &mut Tally) -> Result<(), ArchiveError> {
    match item {
        Item::Record(raw) => {
            let appended = writer.append_text(&reference(content), raw)?;
            if appended == Appended::Quarantined {
                tally.quarantined += 1;
                return Ok(());
            }
            tally.records += 1;
            match appended {
                Appended::Duplicate => tally.duplicates += 1,
                Appended::Variant => tally.variants += 1,
                Appended::New | Appended::Quarantined => {}
            }
        }
        // A part by itself is nothing to keep: fetches put parts together first.
        Item::Part(_) => {}
        Item::NotARecord { bytes, reason, offset } => {
            writer.quarantine(&reference(content), bytes, &format!("{reason}, at byte {offset} of the blob"))?;
            tally.quarantined += 1;
        }
    }
    Ok(())
}

fn reference(content: &Pending) -> ContentRef<'_> {
    ContentRef {
        content_type: &content.content.content_type,
        content_id: &content.content.content_id,
        created: content.content.created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(row: i64) -> Arc<Pending> {
        let now = protocol::time::parse_timestamp("2026-03-04T12:00:00Z").unwrap();
        Arc::new(Pending {
            row,
            content: engine::model::Listed {
                content_type: protocol::ids::ContentType::General,
                content_id: "a".parse().unwrap(),
                content_uri: "https://manage.office.com/audit/a".parse().unwrap(),
                created: now,
                expires: now,
            },
            seen_at: now,
            attempts: 0,
            next_attempt_at: now,
        })
    }

    #[test]
    fn what_an_attempt_brought_before_it_broke_off_is_counted_by_the_one_that_ends() {
        let (first, second) = (attempt(1), attempt(1));
        let ten = Tally { records: 10, ..Tally::default() };
        let mut earlier = Tallies::default();
        earlier.of(&first).add(ten);
        let mut later = Tallies::default();
        later.of(&first).add(ten);
        later.of(&second).add(Tally { duplicates: 20, ..ten });
        earlier.add_all(later);
        assert_eq!(earlier.take(1), Tally { duplicates: 20, ..ten });
        assert_eq!(earlier.take(1), Tally::default());
    }

    #[test]
    fn a_blob_that_spans_batches_is_counted_once_and_whole() {
        let only = attempt(1);
        let ten = Tally { records: 10, ..Tally::default() };
        let mut sum = Tallies::default();
        for _ in 0..3 {
            let mut batch = Tallies::default();
            batch.of(&only).add(ten);
            batch.of(&attempt(2)).add(ten);
            sum.add_all(batch);
        }
        assert_eq!((sum.take(1).records, sum.take(2).records), (30, 10));
    }
}
