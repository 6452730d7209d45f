//! What the console's JSON looks like: one struct an object, apart from the nouns it is made from, so that a change inside
//! the program cannot change what other people's scripts read.
//!
//! Never shows a secret: there is none in the nouns.

use engine::lease::WorkerRow;
use engine::model::Tenant;
use protocol::ids::TenantId;
use serde::Serialize;

use crate::collector::{Board, Counts};
use crate::coverage::{CoverageReport, ProblemItem, Time};
use crate::credential::CredentialStatus;

#[derive(Serialize)]
pub(super) struct Paged<T> {
    pub(super) items: Vec<T>,
    /// Ask with `after` set to this for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<TenantId>,
}

#[derive(Serialize)]
pub(super) struct PagedCoverage {
    #[serde(flatten)]
    pub(super) report: CoverageReport,
    /// Ask with `after` set to this for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<TenantId>,
}

#[derive(Serialize)]
pub(super) struct StatusView {
    pub(super) tenants: usize,
    pub(super) tenants_with_problem: usize,
    pub(super) pending: u64,
    /// Archive files that are not what was written; the coverage names them.
    pub(super) damaged_segments: u64,
    pub(super) since_start: CountsView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<ProblemItem>,
    /// Entra ID's clock against this machine's, by its last answer; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock: Option<ClockView>,
    /// The app's credentials, in the order of the configuration.
    pub(super) credentials: Vec<CredentialView>,
    /// Who shares the ledger's tenants; absent where there is one collector. All else here is of this one alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) workers: Vec<WorkerView>,
}

#[derive(Serialize)]
pub(super) struct WorkerView {
    pub(super) name: String,
    pub(super) tenants: u64,
    /// Whether it has said so lately; the tenants of one that has not are taken by others.
    pub(super) alive: bool,
}

impl From<WorkerRow> for WorkerView {
    fn from(row: WorkerRow) -> Self {
        Self { name: row.name, tenants: row.held, alive: row.is_alive }
    }
}

#[derive(Serialize)]
pub(super) struct ClockView {
    /// How many seconds Entra ID's clock is ahead of ours; negative when it is behind.
    pub(super) server_ahead_s: i64,
    /// Whether the difference is small enough to be chance; a larger one is allowed for.
    pub(super) agrees: bool,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<&'static str>,
}

impl ClockView {
    pub(super) fn new(server_ahead_s: i64) -> Self {
        let ahead = chrono::TimeDelta::try_seconds(server_ahead_s).unwrap_or(chrono::TimeDelta::MAX);
        let agrees = engine::skew::allowance(ahead).is_zero();
        let remedy = (!agrees).then_some(engine::problem::ProblemKind::ClockWrong.remedy());
        Self { server_ahead_s, agrees, remedy }
    }
}

#[derive(Serialize)]
pub(super) struct CredentialView {
    pub(super) number: usize,
    pub(super) kind: &'static str,
    pub(super) place: String,
    pub(super) state: &'static str,
    pub(super) in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Time>,
    /// The certificate's SHA-1, as Entra's pages show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thumbprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

impl From<&CredentialStatus> for CredentialView {
    fn from(status: &CredentialStatus) -> Self {
        Self {
            number: status.number,
            kind: status.summary.kind,
            place: status.summary.place.clone(),
            state: status.state,
            in_use: status.in_use,
            expires: status.summary.expires.map(Time),
            thumbprint: status.summary.thumbprint.clone(),
            problem: status.problem.clone(),
        }
    }
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
    pub(super) problem: Option<ProblemItem>,
    /// The worker that has it; absent where there is one collector, and while nobody has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<String>,
    /// From here on: by the worker that is asked, if it has the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) damaged_segments: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since_start: Option<CountsView>,
}

impl TenantView {
    pub(super) fn new(tenant: &Tenant, worker: Option<String>, board: &Board) -> Self {
        let progress = board.tenant(tenant.id);
        Self {
            tenant_id: tenant.id,
            label: tenant.label.clone(),
            state: tenant.state.as_str(),
            added_at: Time(tenant.added_at),
            collect_from: Time(tenant.collect_from),
            last_commit: tenant.last_commit.0,
            problem: tenant.problem.as_ref().map(ProblemItem::from),
            worker,
            pending: progress.as_ref().map(|progress| progress.pending),
            damaged_segments: progress.as_ref().map(|progress| progress.damaged_segments),
            since_start: progress.as_ref().map(|progress| CountsView::from(&progress.counts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_is_shown_with_what_mends_it() {
        for (ahead, agrees) in [(0, true), (29, true), (-29, true), (30, false), (-30, false), (i64::MIN, false)] {
            let view = ClockView::new(ahead);
            assert_eq!((view.server_ahead_s, view.agrees), (ahead, agrees));
            assert_eq!(view.remedy.is_some(), !agrees, "{ahead}");
        }
    }
}
