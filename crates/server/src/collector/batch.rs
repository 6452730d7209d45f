//! One commit's worth of pieces: the only place where records meet the archive.
//!
//! Never waits for anything: each call is CPU and disk work for a blocking thread, and between two calls no thread is held.
//! Not a record is visible until [`super::committer`] has told the ledger; a batch that is dropped leaves nothing behind.

use std::collections::HashMap;
use std::sync::Arc;

use archive::{Appended, Archive, ArchiveError, CommitWriter, Committed, ContentRef, NewCommit};
use bytes::Bytes;
use engine::model::{Loss, Pending};
use record::Item;
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
                    Item::Record(bytes) | Item::NotARecord { bytes, .. } => bytes.len() as u64,
                })
                .sum(),
            Self::Ended { .. } => 0,
            Self::Lost { kept, .. } => kept.len() as u64,
        }
    }
}

/// What became of the elements of one content.
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

/// A batch that is complete and synced on disk.
pub(super) struct Sealed {
    pub(super) committed: Committed,
    /// By row, of every content that has a piece in this batch.
    pub(super) tallies: HashMap<i64, Tally>,
    /// Rows that ended in it, with the size of their blobs.
    pub(super) ended: Vec<(i64, u64)>,
    /// Rows given up in it.
    pub(super) lost: Vec<(i64, Loss)>,
}

/// A commit being written.
pub(super) struct Batch {
    writer: CommitWriter,
    tallies: HashMap<i64, Tally>,
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
            tallies: HashMap::new(),
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
                self.tallies.entry(content.row).or_default().add(tally);
                drop(permit);
            }
            Piece::Ended { content, bytes } => self.ended.push((content.row, bytes)),
            Piece::Lost { content, loss, kept } => {
                if !kept.is_empty() {
                    self.writer.quarantine(&reference(&content), &kept, &loss.message)?;
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
            let appended = writer.append(&reference(content), raw)?;
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
