//! What keeps a tenant's files and rows few and sound: clearing what a crash left, merging small segments, deleting what was
//! merged away or is past its retention, folding what has expired, looking again at what was found damaged.
//!
//! Never deletes a file the ledger still shows, and never runs beside a commit of the same tenant: both work on its files.

use std::sync::Arc;
use std::time::Duration;

use archive::{Archive, ArchiveError, Depth, MergePolicy, Segment, plan_merge};
use chrono::{NaiveDate, TimeDelta};
use engine::model::{CommitNumber, Expired, SegmentRow};
use engine::retention::expiry;
use ledger::Ledger;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::committer::CommitFailure;
use super::operator::Compacted;
use super::segments::{row_of, segment_of, set_of};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::TableSettings;

/// Content rows folded in one go; more would keep the ledger's writer from others for too long.
const FOLD_ROWS: u32 = 5_000;

/// How often a tenant's rows are folded. They live a week, so an hour more is nothing.
pub(super) const FOLD_EVERY: Duration = Duration::from_secs(60 * 60);

/// A date gets hardly any more records this long after it began: events arrive within hours, and content is listed late
/// within days.
const SETTLED_AFTER: TimeDelta = TimeDelta::days(3);

/// The keys of records this old are not kept beside their segments any more. A repeat comes in a blob that can still be
/// had, seven days at most, and the oldest event ever seen in a fresh one was five days old (activity-api.md §6). Shorter: a
/// late repeat makes the keys be read from the segments again. Longer: a sixth more disk for nothing.
const SIDECARS_KEPT: TimeDelta = TimeDelta::days(30);

/// Somebody who reads here for longer than this finds files gone that were replaced meanwhile. Shorter: long queries fail.
/// Longer: one that hangs fills the disk.
const READ_AT_MOST: Duration = Duration::from_secs(86_400);

/// When obsolete files go, if nobody on this machine is reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grace {
    /// At once: everybody who may be reading is seen.
    None,
    /// After so long: somebody elsewhere may be reading, or a program that is not ours.
    For(Duration),
}

/// One tenant's files and rows, and what it takes to keep them.
pub(super) struct House<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) archive: &'a Archive,
    /// By which what is kept grows old: one that was set ahead must not make it so.
    pub(super) clock: &'a dyn Clock,
    pub(super) metrics: &'a Metrics,
    /// Whoever merges holds this, whichever tenant it is.
    pub(super) slot: &'a Semaphore,
    pub(super) tenant: TenantId,
    /// Whoever works on the tenant's files holds this.
    pub(super) files: &'a Arc<tokio::sync::Mutex<()>>,
    /// How long records are kept; `None`: for ever.
    pub(super) retention: Option<Duration>,
    /// How the tenant's table is published; `None`: there is none.
    pub(super) tables: Option<TableSettings>,
}

impl House<'_> {
    /// Clears away what a crash left of the tenant's files. Before the first commit of a process, and after a failed one.
    pub(super) async fn clear_orphans(&self, last_commit: CommitNumber) -> Result<(), CommitFailure> {
        let tenant = self.tenant;
        let turn = Arc::clone(self.files).lock_owned().await;
        let mut rows = self.ledger.segments(tenant).await?;
        rows.extend(self.ledger.obsolete(tenant).await?.into_iter().map(|(row, _)| row));
        let known = set_of(tenant, &rows);
        let archive = self.archive.clone();
        let now = self.clock.now();
        let removed = blocking(self.archive, move || {
            let _turn = turn;
            archive.remove_orphans(tenant, &known, last_commit.0, now)
        })
        .await?;
        if removed.segments + removed.temporary > 0 {
            let (segments, temporary) = (removed.segments, removed.temporary);
            tracing::info!(%tenant, segments, temporary, "removed what a crash had left");
        }
        if removed.left > 0 {
            tracing::warn!(
                %tenant, segments = removed.left, archive = %self.archive.place().display(),
                "left segments that the ledger does not know and that another took this tenant later to write: if no other \
                 collector works on it, the ledger was restored from an older copy, and they hold what was collected since"
            );
        }
        if removed.aside > 0 {
            let (segments, folder) = (removed.aside, self.archive.aside_folder(tenant));
            tracing::warn!(
                %tenant, segments, folder = %folder.display(),
                "set aside segments that the ledger does not know and whose records may not come again: queries do not \
                 read them; if the ledger was restored from an older copy, they hold what was collected since"
            );
        }
        Ok(())
    }

    /// Merges what is worth merging, then deletes what was merged away and has had its grace.
    pub(super) async fn merge(&self, grace: Grace, stop: &watch::Receiver<bool>) -> Result<Compacted, CommitFailure> {
        let rows = self.ledger.segments(self.tenant).await?;
        let damaged = self.ledger.damaged_segments(self.tenant).await?;
        let sound = rows.iter().filter(|row| !damaged.iter().any(|damaged| damaged.segment == **row));
        let segments: Vec<Segment> = sound.filter_map(|row| segment_of(self.tenant, row)).collect();
        let settled = self.clock.now().checked_sub_signed(SETTLED_AFTER).map(|time| time.date_naive());
        let mut compacted = Compacted::default();
        for plan in plan_merge(&segments, MergePolicy::DEFAULT, settled) {
            if *stop.borrow() {
                return Ok(compacted);
            }
            let one = self.merge_one(plan.inputs, stop).await?;
            compacted.removed += one.removed;
            compacted.added += one.added;
        }
        self.delete_obsolete(grace).await?;
        Ok(compacted)
    }

    async fn merge_one(&self, inputs: Vec<Segment>, stop: &watch::Receiver<bool>) -> Result<Compacted, CommitFailure> {
        let tenant = self.tenant;
        // Before the tenant's files, which must not wait for other tenants' merges.
        let slot = self.slot.acquire().await.expect("the semaphore is never closed");
        let turn = Arc::clone(self.files).lock_owned().await;
        let Some(row) = self.ledger.tenant(tenant).await? else { return Ok(Compacted::default()) };
        let number = CommitNumber(row.last_commit.0 + 1);
        let removed: Vec<SegmentRow> = inputs.iter().map(row_of).collect();
        let (archive, stop, again) = (self.archive.clone(), stop.clone(), inputs.clone());
        // The turn goes with the work: were we dropped here, nobody else may touch the files until it has ended.
        let (merged, turn) = blocking(self.archive, move || {
            let merged = archive.merge(&inputs, number.0, &|| *stop.borrow());
            Ok((merged, turn))
        })
        .await?;
        drop(slot);
        let merged = match merged {
            Ok(merged) => merged,
            Err(ArchiveError::Stopped) => return Ok(Compacted::default()),
            // Merging is never worth a loss: a damaged input stays as it is, and is noted.
            Err(error @ ArchiveError::Damaged { .. }) => {
                let error = crate::chain(&error);
                tracing::error!(%tenant, error, "a merge found a damaged segment and left everything as it is");
                drop(turn);
                self.look_at(again).await?;
                return Ok(Compacted::default());
            }
            Err(error) => return Err(error.into()),
        };
        let added: Vec<SegmentRow> = merged.iter().map(row_of).collect();
        let compacted = Compacted { removed: removed.len(), added: added.len(), ..Compacted::default() };
        // Stopping before this leaves files that nobody sees, and after it files that nobody needs: both are cleared away.
        self.ledger.replace_segments(tenant, number, removed, added, self.clock.now()).await?;
        drop(turn);
        self.metrics.merge();
        tracing::debug!(%tenant, commit = number.0, from = compacted.removed, to = compacted.added, "merged segments");
        Ok(compacted)
    }

    /// Takes out of sight what is past its retention. Its files go with those of merges, by [`Self::delete_obsolete`].
    pub(super) async fn expire(&self) -> Result<Expired, CommitFailure> {
        let now = self.clock.now();
        let Some(expiry) = self.retention.and_then(|retention| expiry(now, retention)) else {
            return Ok(Expired::default());
        };
        // No commit of the tenant is asking a segment for repeats meanwhile.
        let _turn = self.files.lock().await;
        // Stopping before this changes nothing, and after it leaves files that nobody sees and a later run deletes.
        let expired = self.ledger.expire_segments(self.tenant, expiry, now).await?;
        if expired.segments > 0 {
            let Expired { segments, records } = expired;
            self.metrics.expired(records);
            tracing::info!(tenant = %self.tenant, segments, records, before = %expiry.before, "past their retention");
        }
        Ok(expired)
    }

    /// Deletes the files that nobody sees any more and that have had their grace. Where there is a table, its readers have
    /// theirs: none goes that the table names, or has let go of more lately than was said. While somebody reads here, none goes
    /// at all, for a day.
    pub(super) async fn delete_obsolete(&self, grace: Grace) -> Result<(), CommitFailure> {
        let now = self.clock.now();
        let grace = match (self.tables, grace) {
            (None, grace) => grace,
            (Some(tables), Grace::None) => Grace::For(tables.kept),
            (Some(tables), Grace::For(grace)) => Grace::For(grace.max(tables.kept)),
        };
        let is_older = |since: Timestamp, age: Duration| (now - since).to_std().is_ok_and(|is| is >= age);
        let ripe = |since: Timestamp| match grace {
            Grace::None => true,
            Grace::For(grace) => is_older(since, grace),
        };
        let mut obsolete = self.ledger.deletable(self.tenant).await?;
        obsolete.retain(|(_, since)| ripe(*since));
        // Asked after the ledger: who begins to read now is told of none of them.
        if !obsolete.is_empty() && self.archive.is_read() {
            obsolete.retain(|(_, since)| is_older(*since, READ_AT_MOST));
        }
        if obsolete.is_empty() {
            return Ok(());
        }
        let rows: Vec<SegmentRow> = obsolete.into_iter().map(|(row, _)| row).collect();
        let segments: Vec<Segment> = rows.iter().filter_map(|row| segment_of(self.tenant, row)).collect();
        let (archive, tenant, tables) = (self.archive.clone(), self.tenant, self.tables);
        let turn = Arc::clone(self.files).lock_owned().await;
        let deleted = blocking(self.archive, move || {
            let _turn = turn;
            let segments = match tables {
                // What the table wants is not known then: they stay, and nothing else waits for that.
                Some(tables) => archive.not_wanted(tenant, segments, now, tables.kept).unwrap_or_else(|error| {
                    let error = crate::chain(&error);
                    tracing::warn!(%tenant, error, "files that nobody sees stay: the tenant's table cannot be read");
                    Vec::new()
                }),
                None => segments,
            };
            archive.delete_segments(&segments)?;
            Ok(segments)
        })
        .await?;
        // Files first: a row without its file is deleted again and found gone, a file without its row would be an orphan.
        self.ledger.obsolete_deleted(tenant, deleted.iter().map(row_of).collect()).await?;
        Ok(())
    }

    /// Looks at segments that may be damaged, and notes what is wrong with each, or that nothing is any more.
    pub(super) async fn look_at(&self, segments: Vec<Segment>) -> Result<(), CommitFailure> {
        let (tenant, archive, looked_at) = (self.tenant, self.archive.clone(), segments.clone());
        let turn = Arc::clone(self.files).lock_owned().await;
        let verified = blocking(self.archive, move || {
            let _turn = turn;
            archive.verify(&segments, Depth::Records, |_| ())
        })
        .await?;
        for segment in looked_at {
            let damage = verified.damaged.iter().find(|damage| damage.segment == segment);
            let problem = damage.map(|damage| damage.problem.clone());
            if problem.is_none() {
                tracing::info!(%tenant, segment = %segment.path().display(), "the segment is sound");
            }
            self.ledger.set_segment_problem(tenant, row_of(&segment), problem, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Looks again at what was found damaged: it may have been restored.
    pub(super) async fn look_again(&self) -> Result<(), CommitFailure> {
        let damaged = self.ledger.damaged_segments(self.tenant).await?;
        if damaged.is_empty() {
            return Ok(());
        }
        self.look_at(damaged.iter().filter_map(|damaged| segment_of(self.tenant, &damaged.segment)).collect()).await
    }

    /// Removes the keys that lie beside old segments, of dates from `done` on; returns through which date that is done.
    pub(super) async fn drop_old_sidecars(&self, done: Option<NaiveDate>) -> Result<Option<NaiveDate>, CommitFailure> {
        let Some(before) = self.clock.now().checked_sub_signed(SIDECARS_KEPT).map(|time| time.date_naive()) else {
            return Ok(done);
        };
        if done.is_some_and(|done| done >= before) {
            return Ok(done);
        }
        let rows = self.ledger.segments(self.tenant).await?;
        let mut old: Vec<Segment> = rows.iter().filter_map(|row| segment_of(self.tenant, row)).collect();
        old.retain(|segment| segment.date < before && done.is_none_or(|done| segment.date >= done));
        if !old.is_empty() {
            let (tenant, archive) = (self.tenant, self.archive.clone());
            let turn = Arc::clone(self.files).lock_owned().await;
            let removed = blocking(self.archive, move || {
                let _turn = turn;
                archive.delete_sidecars(&old)
            })
            .await?;
            tracing::debug!(%tenant, removed, %before, "removed the keys beside old segments");
        }
        Ok(Some(before))
    }

    /// Folds away what has expired, and settles what can not be listed any more.
    pub(super) async fn fold(&self, stop: &watch::Receiver<bool>) -> Result<(), CommitFailure> {
        // A day after their expiry rows have nothing left to say: the feed does not name that content any more.
        let Some(before) = self.clock.now().checked_sub_signed(TimeDelta::days(1)) else { return Ok(()) };
        while !*stop.borrow() {
            if self.ledger.fold(self.tenant, before, FOLD_ROWS).await? < u64::from(FOLD_ROWS) {
                break;
            }
        }
        Ok(())
    }
}

/// Runs work on the archive's files on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    archive: &Archive,
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, CommitFailure> {
    if archive.works_in_place() {
        return Ok(work()?);
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(CommitFailure::Thread(error.to_string())),
    }
}
