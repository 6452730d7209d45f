//! What keeps a tenant's files and rows few: clearing what a crash left, merging small segments, deleting what was merged
//! away, folding what has expired.
//!
//! Never deletes a file the ledger still shows, and never runs beside a commit of the same tenant: both work on its files.

use std::sync::Arc;
use std::time::Duration;

use archive::{Archive, ArchiveError, MergePolicy, Segment, plan_merge};
use chrono::TimeDelta;
use engine::model::{CommitNumber, SegmentRow};
use protocol::ids::TenantId;
use tokio::sync::watch;

use super::committer::CommitFailure;
use super::context::Context;
use super::segments::{row_of, segment_of, set_of};

/// Content rows folded in one go; more would keep the ledger's writer from others for too long.
const FOLD_ROWS: u32 = 5_000;

/// How often a tenant's rows are folded. They live a week, so an hour more is nothing.
pub(super) const FOLD_EVERY: Duration = Duration::from_secs(60 * 60);

/// A date gets hardly any more records this long after it began: events arrive within hours, and content is listed late
/// within days.
const SETTLED_AFTER: TimeDelta = TimeDelta::days(3);

/// When obsolete files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grace {
    /// At once: nobody reads while `collect --once` ends.
    None,
    /// After so long: a query may have them open.
    For(Duration),
}

/// Removes what a crash left of the tenant's files. Before the first commit of a process, and after a failed one.
pub(super) async fn clear_orphans(
    context: &Context,
    tenant: TenantId,
    last_commit: CommitNumber,
    files: &Arc<tokio::sync::Mutex<()>>,
) -> Result<(), CommitFailure> {
    let turn = Arc::clone(files).lock_owned().await;
    let mut rows = context.ledger.segments(tenant).await?;
    rows.extend(context.ledger.obsolete(tenant).await?.into_iter().map(|(row, _)| row));
    let known = set_of(tenant, &rows);
    let archive = context.archive.clone();
    let removed = blocking(move || {
        let _turn = turn;
        archive.remove_orphans(tenant, &known, last_commit.0)
    })
    .await?;
    if removed.segments + removed.temporary > 0 {
        tracing::info!(%tenant, segments = removed.segments, temporary = removed.temporary, "removed what a crash had left");
    }
    Ok(())
}

/// Merges what is worth merging, then deletes what was merged away and has had its grace.
pub(super) async fn merge(
    context: &Context,
    tenant: TenantId,
    files: &Arc<tokio::sync::Mutex<()>>,
    grace: Grace,
    stop: &watch::Receiver<bool>,
) -> Result<(), CommitFailure> {
    let rows = context.ledger.segments(tenant).await?;
    let segments: Vec<Segment> = rows.iter().filter_map(|row| segment_of(tenant, row)).collect();
    let settled = context.clock.now().checked_sub_signed(SETTLED_AFTER).map(|time| time.date_naive());
    for plan in plan_merge(&segments, MergePolicy::DEFAULT, settled) {
        if *stop.borrow() {
            return Ok(());
        }
        merge_one(context, tenant, files, plan.inputs, stop).await?;
    }
    delete_obsolete(context, tenant, files, grace).await
}

async fn merge_one(
    context: &Context,
    tenant: TenantId,
    files: &Arc<tokio::sync::Mutex<()>>,
    inputs: Vec<Segment>,
    stop: &watch::Receiver<bool>,
) -> Result<(), CommitFailure> {
    let turn = Arc::clone(files).lock_owned().await;
    let Some(row) = context.ledger.tenant(tenant).await? else { return Ok(()) };
    let number = CommitNumber(row.last_commit.0 + 1);
    let removed: Vec<SegmentRow> = inputs.iter().map(row_of).collect();
    let slot = context.commit_slots.acquire().await.expect("the semaphore is never closed");
    let (archive, stop) = (context.archive.clone(), stop.clone());
    let merged = blocking(move || archive.merge(&inputs, number.0, &|| *stop.borrow())).await;
    drop(slot);
    let merged = match merged {
        Ok(merged) => merged,
        Err(CommitFailure::Archive(ArchiveError::Stopped)) => return Ok(()),
        // Merging is never worth a loss: a damaged input stays as it is, and verification names it.
        Err(CommitFailure::Archive(error @ ArchiveError::Damaged { .. })) => {
            tracing::error!(%tenant, error = %crate::chain(&error), "a merge found a damaged segment and left everything as it is");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let added: Vec<SegmentRow> = merged.iter().map(row_of).collect();
    let (from, to) = (removed.len(), added.len());
    // Stopping before this leaves files that nobody sees, and after it files that nobody needs: both are cleared away.
    context.ledger.replace_segments(tenant, number, removed, added, context.clock.now()).await?;
    drop(turn);
    context.metrics.merge();
    tracing::debug!(%tenant, commit = number.0, from, to, "merged segments");
    Ok(())
}

async fn delete_obsolete(
    context: &Context,
    tenant: TenantId,
    files: &Arc<tokio::sync::Mutex<()>>,
    grace: Grace,
) -> Result<(), CommitFailure> {
    let now = context.clock.now();
    let ripe = |since: protocol::time::Timestamp| match grace {
        Grace::None => true,
        Grace::For(grace) => (now - since).to_std().is_ok_and(|age| age >= grace),
    };
    let obsolete = context.ledger.obsolete(tenant).await?;
    let rows: Vec<SegmentRow> = obsolete.into_iter().filter(|(_, since)| ripe(*since)).map(|(row, _)| row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let segments: Vec<Segment> = rows.iter().filter_map(|row| segment_of(tenant, row)).collect();
    let archive: Archive = context.archive.clone();
    let turn = Arc::clone(files).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        archive.delete_segments(&segments)
    })
    .await?;
    // Files first: a row without its file is deleted again and found gone, a file without its row would be an orphan.
    context.ledger.obsolete_deleted(tenant, rows).await?;
    Ok(())
}

/// Folds away what has expired, and settles what can not be listed any more.
pub(super) async fn fold(
    context: &Context,
    tenant: TenantId,
    stop: &watch::Receiver<bool>,
) -> Result<(), CommitFailure> {
    // A day after their expiry rows have nothing left to say: the feed does not name that content any more.
    let Some(before) = context.clock.now().checked_sub_signed(TimeDelta::days(1)) else { return Ok(()) };
    while !*stop.borrow() {
        if context.ledger.fold(tenant, before, FOLD_ROWS).await? < u64::from(FOLD_ROWS) {
            break;
        }
    }
    Ok(())
}

/// Runs work on the archive's files on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, CommitFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(CommitFailure::Thread(error.to_string())),
    }
}
