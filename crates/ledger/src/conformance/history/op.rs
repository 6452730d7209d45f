//! The calls of a history, with contents named by what they are: a row is the back end's own business.

use engine::model::{RefusedEntry, TenantState};

use super::super::*;
use super::model::Answer;

/// One call, with contents named by what they are instead of by their row.
#[derive(Debug, Clone)]
pub(super) enum Op {
    AddTenant {
        id: TenantId,
        label: String,
        collect_from: Timestamp,
        now: Timestamp,
    },
    SetState {
        id: TenantId,
        state: TenantState,
    },
    Purge {
        id: TenantId,
    },
    SetProblem {
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
    },
    SubscriptionsListed {
        id: TenantId,
        listed: Vec<(ContentType, Option<bool>)>,
        now: Timestamp,
    },
    StartRequested {
        id: TenantId,
        content_type: ContentType,
        now: Timestamp,
    },
    ContentsListed {
        id: TenantId,
        contents: Vec<Listed>,
        now: Timestamp,
    },
    EntriesRefused {
        id: TenantId,
        entries: Vec<RefusedEntry>,
        now: Timestamp,
    },
    TileListed {
        id: TenantId,
        content_type: ContentType,
        tile: Tile,
    },
    ContentFailed {
        id: TenantId,
        key: Key,
        message: String,
        next: Timestamp,
    },
    ContentLost {
        id: TenantId,
        key: Key,
        loss: Loss,
        now: Timestamp,
    },
    Commit {
        id: TenantId,
        number: u64,
        now: Timestamp,
        archived: Vec<(Key, Sums)>,
        lost: Vec<(Key, Loss)>,
        segments: Vec<SegmentRow>,
        quarantined: Vec<QuarantineRow>,
    },
    Replace {
        id: TenantId,
        number: u64,
        now: Timestamp,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
    },
    Deleted {
        id: TenantId,
        segments: Vec<SegmentRow>,
    },
    Fold {
        id: TenantId,
        before: Timestamp,
    },
}

/// A content's type and id.
pub(super) type Key = (ContentType, String);

#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) variants: u64,
}

impl Op {
    pub(super) fn tenant(&self) -> TenantId {
        match self {
            Self::AddTenant { id, .. }
            | Self::SetState { id, .. }
            | Self::Purge { id }
            | Self::SetProblem { id, .. }
            | Self::SubscriptionsListed { id, .. }
            | Self::StartRequested { id, .. }
            | Self::ContentsListed { id, .. }
            | Self::EntriesRefused { id, .. }
            | Self::TileListed { id, .. }
            | Self::ContentFailed { id, .. }
            | Self::ContentLost { id, .. }
            | Self::Commit { id, .. }
            | Self::Replace { id, .. }
            | Self::Deleted { id, .. }
            | Self::Fold { id, .. } => *id,
        }
    }

    /// Makes the call, and gives its answer as the model does.
    pub(super) async fn call(&self, ledger: &dyn Ledger) -> Answer {
        fn told<T: ToString>(result: Result<T, LedgerError>) -> Answer {
            result.map(|value| value.to_string()).map_err(|error| name_of(&error))
        }
        fn done(result: Result<(), LedgerError>) -> Answer {
            result.map(|()| "()".to_owned()).map_err(|error| name_of(&error))
        }
        match self.clone() {
            Self::AddTenant { id, label, collect_from, now } => {
                told(ledger.add_tenant(id, label, collect_from, now).await)
            }
            Self::SetState { id, state } => told(ledger.set_tenant_state(id, state, noon()).await),
            Self::Purge { id } => done(match ledger.purge_tenant(id, noon()).await {
                Ok(purge) => ledger.files_purged(id, purge.through, purge.deleted, true, noon()).await,
                Err(error) => Err(error),
            }),
            Self::SetProblem { id, content_type, problem } => {
                done(ledger.set_problem(id, content_type, problem, noon()).await)
            }
            Self::SubscriptionsListed { id, listed, now } => done(ledger.subscriptions_listed(id, listed, now).await),
            Self::StartRequested { id, content_type, now } => done(ledger.start_requested(id, content_type, now).await),
            Self::ContentsListed { id, contents, now } => told(ledger.contents_listed(id, contents, now).await),
            Self::EntriesRefused { id, entries, now } => told(ledger.entries_refused(id, entries, now).await),
            Self::TileListed { id, content_type, tile } => done(ledger.tile_listed(id, content_type, tile).await),
            Self::ContentFailed { id, key, message, next } => {
                let row = find(ledger, id, &key).await;
                done(ledger.content_failed(id, row, message, next).await)
            }
            Self::ContentLost { id, key, loss, now } => {
                let row = find(ledger, id, &key).await;
                done(ledger.content_lost(id, row, loss, now).await)
            }
            Self::Commit { id, number, now, archived, lost, segments, quarantined } => {
                let mut commit = Commit {
                    tenant: id,
                    number: CommitNumber(number),
                    at: now,
                    contents: Vec::new(),
                    lost: Vec::new(),
                    segments,
                    quarantined,
                };
                for (key, Sums { records, duplicates, variants }) in archived {
                    let row = find(ledger, id, &key).await;
                    commit.contents.push(ArchivedContent {
                        duplicates,
                        variants,
                        ..super::super::archived(row, records)
                    });
                }
                for (key, loss) in lost {
                    commit.lost.push((find(ledger, id, &key).await, loss));
                }
                done(ledger.commit(commit).await)
            }
            Self::Replace { id, number, now, removed, added } => {
                done(ledger.replace_segments(id, CommitNumber(number), removed, added, now).await)
            }
            Self::Deleted { id, segments } => done(ledger.obsolete_deleted(id, segments).await),
            Self::Fold { id, before } => told(ledger.fold(id, before, u32::MAX).await),
        }
    }
}

/// The row of a content that waits, or one that nothing has.
async fn find(ledger: &dyn Ledger, tenant: TenantId, (content_type, id): &Key) -> i64 {
    let pending = ledger.pending(tenant, noon() + days(3650), u32::MAX, Vec::new()).await.unwrap_or_default();
    let found = pending
        .iter()
        .find(|pending| pending.content.content_type == *content_type && pending.content.content_id.as_str() == id);
    found.map_or(i64::MAX, |pending| pending.row)
}

fn name_of(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::UnknownTenant { .. } => "UnknownTenant",
        LedgerError::NotRemoved { .. } => "NotRemoved",
        LedgerError::CommitOutOfOrder { .. } => "CommitOutOfOrder",
        LedgerError::NotListed { .. } => "NotListed",
        LedgerError::MalformedTile { .. } => "MalformedTile",
        LedgerError::OverlappingTile { .. } => "OverlappingTile",
        LedgerError::SegmentRefused { .. } => "SegmentRefused",
        LedgerError::SegmentNotVisible { .. } => "SegmentNotVisible",
        other => panic!("no call of a history may fail so: {other:?}"),
    }
}
