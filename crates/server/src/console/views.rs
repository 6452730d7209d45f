//! What the console's JSON looks like: one struct an object, apart from the nouns it is made from, so that a change inside
//! the program cannot change what other people's scripts read.
//!
//! Never shows a secret: there is none in the nouns.

use chrono::SecondsFormat;
use engine::model::{Coverage, Gap, Problem, Tenant};
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use serde::{Serialize, Serializer};

use crate::collector::{Board, Counts};

/// A time as RFC 3339 text in UTC with milliseconds.
pub(super) struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

#[derive(Serialize)]
pub(super) struct Paged<T> {
    pub(super) items: Vec<T>,
    /// Ask with `after` set to this for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<TenantId>,
}

#[derive(Serialize)]
pub(super) struct StatusView {
    pub(super) tenants: usize,
    pub(super) tenants_with_problem: usize,
    pub(super) pending: u64,
    pub(super) since_start: CountsView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<ProblemView>,
}

#[derive(Serialize)]
pub(super) struct CountsView {
    pub(super) listings: u64,
    pub(super) listed: u64,
    pub(super) archived: u64,
    pub(super) lost: u64,
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) variants: u64,
    pub(super) quarantined: u64,
    pub(super) bytes: u64,
    pub(super) failed_attempts: u64,
    pub(super) commits: u64,
}

impl From<&Counts> for CountsView {
    fn from(counts: &Counts) -> Self {
        let Counts {
            listings,
            listed,
            archived,
            lost,
            records,
            duplicates,
            variants,
            quarantined,
            bytes,
            failed_attempts,
            commits,
        } = *counts;
        Self {
            listings,
            listed,
            archived,
            lost,
            records,
            duplicates,
            variants,
            quarantined,
            bytes,
            failed_attempts,
            commits,
        }
    }
}

#[derive(Serialize)]
pub(super) struct TenantView {
    pub(super) tenant_id: TenantId,
    pub(super) label: String,
    pub(super) state: &'static str,
    pub(super) added_at: Time,
    pub(super) collect_from: Time,
    pub(super) last_commit: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<ProblemView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since_start: Option<CountsView>,
}

impl TenantView {
    pub(super) fn new(tenant: &Tenant, board: &Board) -> Self {
        let progress = board.tenant(tenant.id);
        Self {
            tenant_id: tenant.id,
            label: tenant.label.clone(),
            state: tenant.state.as_str(),
            added_at: Time(tenant.added_at),
            collect_from: Time(tenant.collect_from),
            last_commit: tenant.last_commit.0,
            problem: tenant.problem.as_ref().map(ProblemView::from),
            pending: progress.as_ref().map(|progress| progress.pending),
            since_start: progress.as_ref().map(|progress| CountsView::from(&progress.counts)),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ProblemView {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) since: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_attempt_at: Option<Time>,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self {
            kind: problem.kind.clone(),
            message: problem.message.clone(),
            since: Time(problem.since),
            next_attempt_at: problem.next_attempt_at.map(Time),
        }
    }
}

#[derive(Serialize)]
pub(super) struct CoverageView {
    pub(super) tenant_id: TenantId,
    pub(super) content_type: String,
    pub(super) from: Time,
    /// Everything the feed listed before this is archived or named below as lost.
    pub(super) complete_through: Option<Time>,
    pub(super) archived: u64,
    pub(super) pending: u64,
    pub(super) failing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_failure: Option<String>,
    pub(super) lost: Vec<LostView>,
    pub(super) gaps: Vec<GapView>,
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) variants: u64,
    pub(super) quarantined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<ProblemView>,
}

#[derive(Serialize)]
pub(super) struct LostView {
    pub(super) cause: &'static str,
    pub(super) contents: u64,
}

#[derive(Serialize)]
pub(super) struct GapView {
    pub(super) start: Time,
    pub(super) until: Time,
}

impl From<&Coverage> for CoverageView {
    fn from(coverage: &Coverage) -> Self {
        let gap = |gap: &Gap| GapView { start: Time(gap.start), until: Time(gap.until) };
        Self {
            tenant_id: coverage.tenant,
            content_type: coverage.content_type.to_string(),
            from: Time(coverage.from),
            complete_through: coverage.complete_through.map(Time),
            archived: coverage.archived,
            pending: coverage.pending,
            failing: coverage.failing,
            last_failure: coverage.last_failure.clone(),
            lost: coverage
                .lost
                .iter()
                .map(|(kind, contents)| LostView { cause: kind.as_str(), contents: *contents })
                .collect(),
            gaps: coverage.gaps.iter().map(gap).collect(),
            records: coverage.records,
            duplicates: coverage.duplicates,
            variants: coverage.variants,
            quarantined: coverage.quarantined,
            problem: coverage.problem.as_ref().map(ProblemView::from),
        }
    }
}
