//! Gathers what fetches hand over into batches and makes each visible: files complete and synced first, then one ledger
//! transaction, then it is told to everybody.
//!
//! Never skips: a batch that cannot be written or committed ends the activation, and its contents are fetched again, since
//! for the ledger they still wait. Stopping is safe before and after every ledger call: what has no commit in the ledger
//! does not exist, and its files are removed at the next start.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use archive::{ArchiveError, Committed, Damage, NewCommit, SegmentSet};
use engine::model::{ArchivedContent, Commit, CommitNumber};
use engine::problem::ProblemKind;
use ledger::LedgerError;
use protocol::ids::TenantId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::{Batch, Piece, Sealed, Tallies, Tally};
use super::context::{Context, Proof};
use super::housekeeping::blocking;
use super::judge;
use super::segments::{quarantine_row_of, row_of, set_of};
use crate::metrics::CommitCounts;

/// Pieces that may wait between a fetch and the thread that writes. Each is about 256 KiB; fewer would let the writer
/// starve between two polls of the fetches, more is memory for nothing.
pub(super) const PIECES: usize = 4;

/// How long a commit that the ledger cannot take now is repeated before the activation gives it up and starts over.
const LEDGER_PATIENCE: Duration = Duration::from_secs(60);

/// Why a commit did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitFailure {
    /// The files could not be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The work on the files panicked: a bug, shown as one.
    #[error("the work on the archive's files ended by itself: {0}")]
    Thread(String),
}

/// Rows that are being fetched, or fetched and not yet committed: not to be fetched again meanwhile.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<BTreeSet<i64>>);

impl InFlight {
    pub(super) fn insert(&self, row: i64) {
        self.lock().insert(row);
    }

    pub(super) fn remove(&self, row: i64) {
        self.lock().remove(&row);
    }

    pub(super) fn rows(&self) -> Vec<i64> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits for one activation of one tenant.
pub(super) struct Committer<'a> {
    pub(super) context: &'a Context,
    pub(super) tenant: TenantId,
    pub(super) in_flight: &'a InFlight,
    pub(super) last_commit: CommitNumber,
    /// Whoever works on the tenant's files holds this.
    files: Arc<tokio::sync::Mutex<()>>,
    /// The visible segments; read when the first batch opens, and kept up to date by our own commits.
    pub(super) visible: Option<Arc<SegmentSet>>,
    /// Of contents whose blob spans several commits: what earlier ones took.
    tallies: Tallies,
}

impl<'a> Committer<'a> {
    pub(super) fn new(
        context: &'a Context,
        tenant: TenantId,
        in_flight: &'a InFlight,
        last_commit: CommitNumber,
        files: Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        Self { context, tenant, in_flight, last_commit, files, visible: None, tallies: Tallies::default() }
    }

    /// Commits batch after batch until the channel of pieces closes.
    pub(super) async fn run(&mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), CommitFailure> {
        while let Some(first) = pieces.recv().await {
            // One slow tenant holds this for a commit interval at most, however slowly its pieces come.
            let slot = self.context.commit_slots.acquire().await.expect("the semaphore is never closed");
            self.batch(first, &mut pieces).await?;
            drop(slot);
        }
        Ok(())
    }

    async fn batch(&mut self, first: Piece, pieces: &mut mpsc::Receiver<Piece>) -> Result<(), CommitFailure> {
        let number = CommitNumber(self.last_commit.0 + 1);
        let commit = NewCommit {
            tenant: self.tenant,
            number: number.0,
            visible: self.visible().await?,
            ingested_at: self.context.clock.now(),
        };
        let turn = Arc::clone(&self.files).lock_owned().await;
        let archive = self.context.archive.clone();
        let batch = blocking(&self.context.archive, move || Batch::begin(&archive, commit, turn)).await?;
        let batch = self.gather(batch, first, pieces).await?;
        let sealing = Instant::now();
        let mut sealed = blocking(&self.context.archive, move || batch.seal()).await?;
        let (commit, counts) = self.commit_of(number, &mut sealed);
        self.commit(commit.clone(), &sealed.committed).await?;
        // Stopping here is safe: the ledger has it.
        let damaged = std::mem::take(&mut sealed.committed.damaged);
        self.committed(&commit, sealed, &counts, sealing.elapsed());
        self.note_damage(damaged).await
    }

    async fn visible(&mut self) -> Result<Arc<SegmentSet>, CommitFailure> {
        if let Some(visible) = &self.visible {
            return Ok(Arc::clone(visible));
        }
        let rows = self.context.ledger.segments(self.tenant).await?;
        Ok(Arc::clone(self.visible.insert(Arc::new(set_of(self.tenant, &rows)))))
    }

    /// Writes pieces until the batch is full, its time is over, or there are no more.
    async fn gather(
        &self,
        mut batch: Batch,
        first: Piece,
        pieces: &mut mpsc::Receiver<Piece>,
    ) -> Result<Batch, CommitFailure> {
        let limits = &self.context.settings.limits;
        let deadline = Instant::now() + self.context.settings.collect.commit_interval;
        let (mut bytes, mut contents) = (0, 0);
        let mut ready = vec![first];
        loop {
            bytes += ready.iter().map(Piece::bytes).sum::<u64>();
            contents += ready.iter().filter(|piece| !matches!(piece, Piece::Items { .. })).count();
            let some = std::mem::take(&mut ready);
            // One hand-over of the batch to a thread and back for all that has gathered meanwhile.
            batch = blocking(&self.context.archive, move || batch.take_all(some).map(|()| batch)).await?;
            if bytes >= limits.commit_bytes || contents >= limits.commit_contents {
                return Ok(batch);
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => return Ok(batch),
                count = pieces.recv_many(&mut ready, PIECES) => if count == 0 { return Ok(batch) },
            }
        }
    }

    /// What the ledger is to write down, and what that comes to.
    fn commit_of(&mut self, number: CommitNumber, sealed: &mut Sealed) -> (Commit, CommitCounts) {
        self.tallies.add_all(std::mem::take(&mut sealed.tallies));
        let mut counts = CommitCounts::default();
        let mut contents = Vec::with_capacity(sealed.ended.len());
        for (row, bytes) in &sealed.ended {
            let Tally { records, duplicates, variants, quarantined } = self.tallies.take(*row);
            counts.blobs += 1;
            counts.records += records;
            counts.duplicates += duplicates;
            counts.variants += variants;
            counts.quarantined += quarantined;
            counts.bytes += bytes;
            contents.push(ArchivedContent { row: *row, records, duplicates, variants, quarantined, bytes: *bytes });
        }
        let mut lost = Vec::with_capacity(sealed.lost.len());
        for (row, loss) in &sealed.lost {
            let tally = self.tallies.take(*row);
            counts.lost += 1;
            counts.quarantined += tally.quarantined;
            let mut loss = loss.clone();
            if tally.records > 0 {
                loss.message.push_str(&format!("; {} records of it came whole and are archived", tally.records));
            }
            lost.push((*row, loss));
        }
        let commit = Commit {
            tenant: self.tenant,
            number,
            at: self.context.clock.now(),
            contents,
            lost,
            segments: sealed.committed.segments.iter().map(row_of).collect(),
            quarantined: sealed.committed.quarantined.iter().map(quarantine_row_of).collect(),
        };
        (commit, counts)
    }

    /// Tells the ledger, again and again while it cannot answer.
    async fn commit(&self, commit: Commit, committed: &Committed) -> Result<(), CommitFailure> {
        let ledger = &self.context.ledger;
        let started = Instant::now();
        let mut wait = Duration::from_millis(100);
        let mut uncertain = false;
        loop {
            let error = match ledger.commit(commit.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.is_refusal() {
                return self.refused(commit.number, committed, error, uncertain).await;
            }
            // An earlier try may have been written although it was answered with an error.
            uncertain = true;
            let kind = judge::kind_of_ledger_error(&error).unwrap_or(ProblemKind::LedgerUnusable);
            self.context.everybody_waits(kind.as_str(), &error);
            if !error.is_passing() || started.elapsed() >= LEDGER_PATIENCE {
                return Err(error.into());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    async fn refused(
        &self,
        number: CommitNumber,
        committed: &Committed,
        error: LedgerError,
        uncertain: bool,
    ) -> Result<(), CommitFailure> {
        if error.is_lost_lease() {
            // An earlier try may have been written before the lease was lost, and a commit of this number may be another's:
            // whoever has the tenant knows which files are nobody's, and clears them away.
            return Err(error.into());
        }
        if uncertain {
            let tenant = self.context.ledger.tenant(self.tenant).await?;
            // There is one owner, so a commit of this number is ours.
            if tenant.is_some_and(|tenant| tenant.last_commit == number) {
                return Ok(());
            }
        }
        let (archive, committed) = (self.context.archive.clone(), committed.clone());
        // What cannot be removed now is removed at the tenant's next start.
        let _ = blocking(&self.context.archive, move || archive.discard(&committed)).await;
        Err(error.into())
    }

    /// Segments that dedup could not ask: noted, so that an operator is told until they are restored.
    async fn note_damage(&self, damaged: Vec<Damage>) -> Result<(), CommitFailure> {
        for damage in damaged {
            let Damage { segment, path, problem } = damage;
            tracing::error!(tenant = %self.tenant, path = %path.display(), problem, "damaged segment; restore it from a backup");
            let now = self.context.clock.now();
            self.context.ledger.set_segment_problem(self.tenant, row_of(&segment), Some(problem), now).await?;
        }
        Ok(())
    }

    /// Everybody is told: dedup of the next commit, the board, the counters.
    fn committed(&mut self, commit: &Commit, sealed: Sealed, counts: &CommitCounts, took: Duration) {
        self.last_commit = commit.number;
        if !sealed.committed.segments.is_empty()
            && let Some(visible) = &mut self.visible
        {
            // The writer's share of the set is gone by now, so this changes it in place.
            let set = Arc::make_mut(visible);
            sealed.committed.segments.into_iter().for_each(|segment| set.insert(segment));
        }
        let rows = commit.contents.iter().map(|content| content.row).chain(commit.lost.iter().map(|(row, _)| *row));
        rows.for_each(|row| self.in_flight.remove(row));
        self.context.metrics.commit(counts, took);
        self.context.everybody_goes_on(Proof::Commit);
        self.context.board.update(self.tenant, |line| {
            line.counts.commits += 1;
            line.counts.archived += counts.blobs;
            line.counts.lost += counts.lost;
            line.counts.records += counts.records;
            line.counts.duplicates += counts.duplicates;
            line.counts.variants += counts.variants;
            line.counts.quarantined += counts.quarantined;
            line.counts.bytes += counts.bytes;
            line.pending = line.pending.saturating_sub(counts.blobs + counts.lost);
        });
        tracing::debug!(
            tenant = %self.tenant,
            commit = commit.number.0,
            contents = counts.blobs,
            records = counts.records,
            duplicates = counts.duplicates,
            segments = commit.segments.len(),
            took_ms = took.as_millis(),
            "committed"
        );
    }
}
