//! What a tenant's worker remembers between its activations, and may forget: a restart begins without it.
//!
//! Never holds what must survive: that is in the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::NaiveDate;
use engine::model::CommitNumber;
use engine::problem::ProblemKind;
use engine::retry::{InARow, ONCE_ATTEMPTS};
use protocol::error::DisabledBy;
use protocol::ids::ContentType;
use protocol::time::Timestamp;
use tokio::time::Instant;

use super::book::Book;

/// Throttling within this span is one: requests that were under way together are answered together.
const ONE_THROTTLING: Duration = Duration::from_secs(5);

/// What holds the whole tenant up.
#[derive(Debug, Clone, Copy)]
pub(super) struct TenantHold {
    pub(super) kind: ProblemKind,
    pub(super) until: Instant,
    /// Holds in a row, this one included.
    pub(super) in_a_row: u32,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The tenant's files are what the ledger says: orphans were removed, and no commit has failed since.
    pub(super) is_clean: bool,
    /// The ledger has had this tenant, active, since this process began.
    pub(super) was_here: bool,
    /// The book was read from the ledger.
    pub(super) is_read: bool,
    pub(super) book: Book,
    pub(super) hold: Option<TenantHold>,
    /// How many times in a row the tenant was held up without an answer in between.
    pub(super) held_in_a_row: u32,
    /// The tenant was held up, and nothing has been asked since that was not.
    pub(super) was_held: bool,
    throttled_at: Option<Instant>,
    type_failures: BTreeMap<ContentType, u32>,
    type_holds: BTreeMap<ContentType, Instant>,
    /// When each type brought something the last time, or this process asked for it the first time.
    heard_at: BTreeMap<ContentType, Instant>,
    /// Something is to be done by then, whatever else is due.
    pub(super) wake_by: Option<Instant>,
    /// The service's own wait before any start of this tenant.
    pub(super) start_not_before: Option<Timestamp>,
    /// Types whose content was refused for lack of a subscription, since they were last looked at.
    pub(super) refused_types: BTreeMap<ContentType, Option<DisabledBy>>,
    pub(super) subscription_failures: u32,
    /// How many times in a row work failed for the ledger's or the archive's sake, with nothing listed or committed in
    /// between.
    pub(super) commit_failures: u32,
    /// The tenant's last commit when its row was read last.
    last_commit: Option<CommitNumber>,
    pub(super) folded_at: Option<Instant>,
    /// Through which date the keys beside old segments were removed.
    pub(super) sidecars_dropped: Option<NaiveDate>,
    pub(super) once: Once,
}

/// What a run that ends by itself remembers.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// Failures of each content within this run.
    failures: HashMap<i64, u32>,
    /// Contents that are tried again within this run, and when.
    retries: BTreeMap<i64, Instant>,
    /// Contents left for the next run.
    unfinished: BTreeSet<i64>,
    pub(super) last_failure: Option<String>,
    /// Contents given up.
    pub(super) lost: u64,
    /// The run ends for this tenant with what it has.
    pub(super) gives_up: bool,
    /// Types whose listing could not be completed.
    pub(super) unlisted: BTreeSet<ContentType>,
    /// Of those, the ones whose start is asked for again within this run, and when.
    pub(super) start_again: BTreeMap<ContentType, Instant>,
    /// How often the run has waited for that.
    starts_awaited: u32,
}

impl Memory {
    pub(super) fn is_held(&self) -> bool {
        self.held_until().is_some()
    }

    /// Until when the tenant is held up; `None` when it is not.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until).filter(|until| Instant::now() < *until)
    }

    /// The tenant's row says that this was its last commit. What was committed since it was read last was progress, and
    /// failures around it are not in a row; but there was one.
    pub(super) fn has_committed(&mut self, last: CommitNumber) {
        if self.last_commit.replace(last).is_some_and(|known| known != last) {
            self.commit_failures = self.commit_failures.min(1);
        }
    }

    /// What was in the tenant's way may be gone: everything is tried again.
    pub(super) fn release(&mut self) {
        self.hold = None;
        self.held_in_a_row = 0;
        self.was_held = false;
        self.type_holds.clear();
    }

    /// How many times in a row the tenant is held up, if it is by what has just failed.
    pub(super) fn holds_with_this(&self) -> u32 {
        // Requests that were under way together fail together.
        self.held_in_a_row.saturating_add(u32::from(!self.is_held()))
    }

    /// `request` failures of one kind of request, and what they would make of the tenant.
    pub(super) fn in_a_row(&self, request: u32) -> InARow {
        InARow { request, tenant: self.holds_with_this() }
    }

    /// Something was asked to its end. Unless that held the tenant up, it is not.
    pub(super) fn has_asked(&mut self) {
        self.was_held &= self.is_held();
    }

    /// Holds the tenant up, and says how many times in a row that makes.
    pub(super) fn hold(&mut self, kind: ProblemKind, until: Instant) -> u32 {
        self.held_in_a_row = self.holds_with_this();
        self.was_held = true;
        let until = self.hold.map_or(until, |hold| hold.until.max(until));
        self.hold = Some(TenantHold { kind, until, in_a_row: self.held_in_a_row });
        self.held_in_a_row
    }

    /// The service throttled the tenant; says how many times in a row that makes.
    pub(super) fn throttled(&mut self) -> u32 {
        let now = Instant::now();
        if self.throttled_at.is_none_or(|at| now.saturating_duration_since(at) >= ONE_THROTTLING) {
            self.held_in_a_row += 1;
            self.throttled_at = Some(now);
        }
        self.held_in_a_row
    }

    pub(super) fn type_failed(&mut self, content_type: &ContentType) -> u32 {
        let failures = self.type_failures.entry(content_type.clone()).or_default();
        *failures += 1;
        *failures
    }

    pub(super) fn type_answered(&mut self, content_type: &ContentType) {
        self.type_failures.remove(content_type);
        self.type_holds.remove(content_type);
    }

    /// The type has brought something.
    pub(super) fn heard(&mut self, content_type: &ContentType) {
        self.heard_at.insert(content_type.clone(), Instant::now());
    }

    /// For how long the type has brought nothing, as far as this process knows.
    pub(super) fn silent_for(&mut self, content_type: &ContentType) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(*self.heard_at.entry(content_type.clone()).or_insert(now))
    }

    pub(super) fn hold_type(&mut self, content_type: &ContentType, until: Instant) {
        self.type_holds.insert(content_type.clone(), until);
        self.wake_by(until);
    }

    pub(super) fn is_type_held(&self, content_type: &ContentType) -> bool {
        self.type_holds.get(content_type).is_some_and(|until| Instant::now() < *until)
    }

    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake_by = Some(self.wake_by.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Once {
    pub(super) fn failures(&self, row: i64) -> u32 {
        self.failures.get(&row).copied().unwrap_or(0)
    }

    pub(super) fn failed(&mut self, row: i64, message: String, retry_at: Option<Instant>) {
        *self.failures.entry(row).or_default() += 1;
        self.last_failure = Some(message);
        match retry_at {
            Some(at) => {
                self.retries.insert(row, at);
            }
            None => {
                self.unfinished.insert(row);
            }
        }
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.values().min().copied()
    }

    /// Lets go of those whose time has come; says whether there were any.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let before = self.retries.len();
        self.retries.retain(|_, at| *at > now);
        self.retries.len() < before
    }

    /// Rows that are not to be fetched now.
    pub(super) fn excluded(&self) -> impl Iterator<Item = i64> {
        self.retries.keys().chain(&self.unfinished).copied()
    }

    /// When a start is to be asked for again; `None` when there is none, or the run has waited for that often enough.
    pub(super) fn await_start(&mut self) -> Option<Instant> {
        let at = self.start_again.values().min().copied()?;
        self.starts_awaited += 1;
        (self.starts_awaited < ONCE_ATTEMPTS).then_some(at)
    }

    /// Another round begins: what it cannot list is found out anew.
    pub(super) fn begin_again(&mut self) {
        self.unlisted.clear();
        self.start_again.clear();
    }

    /// Contents left for the next run.
    pub(super) fn unfinished(&self) -> u64 {
        (self.unfinished.len() + self.retries.len()) as u64
    }
}
