//! What the collector is doing, for progress bars, the console and the demo; and what a run did, when it ends.
//!
//! Never the truth about what is archived: that is the ledger's. These are counts since this process began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine::model::Problem;
use protocol::ids::{ContentType, TenantId};
use tokio::sync::watch;

use crate::credential::CredentialStatus;

/// What was counted for one tenant since this process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Listings of tiles completed.
    pub listings: u64,
    /// Contents seen for the first time.
    pub listed: u64,
    /// Contents archived.
    pub archived: u64,
    /// Contents given up, with a cause in the coverage.
    pub lost: u64,
    /// Records in the blobs archived.
    pub records: u64,
    /// Of those, repeats that were not stored again.
    pub duplicates: u64,
    /// Of those, other bodies of a known record id.
    pub variants: u64,
    /// Elements in quarantine.
    pub quarantined: u64,
    /// Bytes of the blobs archived, decompressed.
    pub bytes: u64,
    /// Attempts at blobs that failed and are repeated.
    pub failed_attempts: u64,
    /// Commits.
    pub commits: u64,
}

impl Counts {
    /// Adds another tenant's.
    pub fn add(&mut self, other: &Counts) {
        self.listings += other.listings;
        self.listed += other.listed;
        self.archived += other.archived;
        self.lost += other.lost;
        self.records += other.records;
        self.duplicates += other.duplicates;
        self.variants += other.variants;
        self.quarantined += other.quarantined;
        self.bytes += other.bytes;
        self.failed_attempts += other.failed_attempts;
        self.commits += other.commits;
    }
}

/// What a tenant's worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing is due, or it waits for its turn.
    Idle,
    /// Under way.
    Working,
    /// Waiting for the next attempt of what failed (`collect --once` only).
    Retrying,
    /// Done for this run (`collect --once` only).
    Done,
}

/// One tenant, as the collector sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantProgress {
    /// Which.
    pub tenant: TenantId,
    /// What the operator calls it; may be empty.
    pub label: String,
    /// What its worker is doing.
    pub activity: Activity,
    /// What was counted since this process began.
    pub counts: Counts,
    /// Contents known, not yet archived and not given up.
    pub pending: u64,
    /// Segments whose files are damaged; the ledger names them.
    pub damaged_segments: u64,
    /// What stands in the way of the whole tenant.
    pub problem: Option<Problem>,
    /// What stands in the way of single content types.
    pub type_problems: BTreeMap<ContentType, Problem>,
}

impl TenantProgress {
    /// Whether anything at all stands in the way of collecting.
    pub fn is_held_up(&self) -> bool {
        self.problem.is_some() || !self.type_problems.is_empty()
    }

    /// Whether there is anything that somebody should look at.
    pub fn has_problem(&self) -> bool {
        self.is_held_up() || self.damaged_segments > 0
    }
}

/// All tenants at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// By tenant id.
    pub tenants: Vec<TenantProgress>,
    /// What stands in the way of everybody: a refused app credential, a full disk, a ledger that does not answer.
    pub problem: Option<Problem>,
    /// The app's credentials, in the order of the configuration.
    pub credentials: Vec<CredentialStatus>,
}

impl Progress {
    /// The sum over all tenants.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for tenant in &self.tenants {
            total.add(&tenant.counts);
        }
        total
    }

    /// Damaged segments over all tenants.
    pub fn damaged_segments(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.damaged_segments).sum()
    }

    /// Contents pending over all tenants.
    pub fn pending(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.pending).sum()
    }
}

/// Where workers write their progress and readers take it from; cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    tenants: BTreeMap<TenantId, TenantProgress>,
    problem: Option<Problem>,
    credentials: Vec<CredentialStatus>,
}

impl Default for Board {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { state: Mutex::default(), version: watch::Sender::new(0) }) }
    }
}

impl Board {
    /// A copy of everything, consistent in itself.
    pub fn snapshot(&self) -> Progress {
        let state = self.lock();
        Progress {
            tenants: state.tenants.values().cloned().collect(),
            problem: state.problem.clone(),
            credentials: state.credentials.clone(),
        }
    }

    /// What stands in everybody's way, without copying the rest.
    pub fn snapshot_problem(&self) -> Option<Problem> {
        self.lock().problem.clone()
    }

    /// One tenant.
    pub fn tenant(&self, tenant: TenantId) -> Option<TenantProgress> {
        self.lock().tenants.get(&tenant).cloned()
    }

    /// Changes its number whenever anything on the board changes; a reader that draws waits for it, then takes a snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// Puts a tenant on the board, or renames it.
    pub(crate) fn enrol(&self, tenant: TenantId, label: &str, problem: Option<Problem>) {
        {
            let mut state = self.lock();
            let entry = state.tenants.entry(tenant).or_insert_with(|| TenantProgress {
                tenant,
                label: String::new(),
                activity: Activity::Idle,
                counts: Counts::default(),
                pending: 0,
                damaged_segments: 0,
                problem: None,
                type_problems: BTreeMap::new(),
            });
            label.clone_into(&mut entry.label);
            entry.problem = problem;
        }
        self.changed();
    }

    /// Takes a tenant off the board: paused or removed.
    pub(crate) fn dismiss(&self, tenant: TenantId) {
        self.lock().tenants.remove(&tenant);
        self.changed();
    }

    /// Changes one tenant's line; a tenant that is not on the board is left alone.
    pub(crate) fn update(&self, tenant: TenantId, change: impl FnOnce(&mut TenantProgress)) {
        if let Some(entry) = self.lock().tenants.get_mut(&tenant) {
            change(entry);
        }
        self.changed();
    }

    /// Says what stands in everybody's way, or that nothing does any more.
    pub(crate) fn set_problem(&self, problem: Option<Problem>) {
        self.lock().problem = problem;
        self.changed();
    }

    /// Says how the app's credentials are.
    pub(crate) fn set_credentials(&self, credentials: Vec<CredentialStatus>) {
        let mut state = self.lock();
        if state.credentials == credentials {
            return;
        }
        state.credentials = credentials;
        drop(state);
        self.changed();
    }

    fn changed(&self) {
        self.inner.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way through a change that matters.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run did, tenant by tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// Whether everything available was caught up with, or the run was told to stop.
    pub ended: Ended,
    /// By tenant id.
    pub tenants: Vec<TenantReport>,
    /// What stood in everybody's way when it ended.
    pub problem: Option<Problem>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing was left to do now (`collect --once`).
    CaughtUp,
    /// It was told to stop.
    Stopped,
}

/// What a run did for one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantReport {
    /// Its line on the board when the run ended.
    pub progress: TenantProgress,
    /// Contents that kept failing and are left for the next run.
    pub unfinished: u64,
    /// Contents that this run has given up for good; the coverage names them.
    pub lost: u64,
    /// The last failure among those, in words.
    pub last_failure: Option<String>,
    /// Content types whose listing could not be completed in this run.
    pub unlisted: Vec<ContentType>,
}

impl RunReport {
    /// Whether everything the feed has to give now is archived, or named as lost in the coverage.
    pub fn is_complete(&self) -> bool {
        self.ended == Ended::CaughtUp && self.problem.is_none() && self.tenants.iter().all(TenantReport::is_complete)
    }

    /// The sum over all tenants.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for tenant in &self.tenants {
            total.add(&tenant.progress.counts);
        }
        total
    }
}

impl TenantReport {
    /// Whether everything the feed has to give of this tenant now is archived, or named as lost.
    pub fn is_complete(&self) -> bool {
        self.unfinished == 0 && self.unlisted.is_empty() && !self.progress.is_held_up()
    }
}
