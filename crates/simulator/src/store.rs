//! The ledger as the collector sees it: a real SQLite file whose calls are steps, may fail, and may be cut off by the crash.
//!
//! The fault model. A call may be refused because somebody else holds the file or the disk is full; it may be carried out
//! and fail all the same. A crash before or after a call leaves what the file holds; a crash within one leaves a beginning
//! of what the call appended to the log, or, when it had committed already, some of the pages it was folding into the file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use engine::consent::{
    Acceptance, ConsentEntry, ConsentFlow, Digest, Invitation, InvitationNumber, NewInvitation, Taken, Visit,
};
use engine::evidence::{ActivityEntry, ActivityFilter, ActivityKind, Deleted, Purge};
use engine::hindrance::History;
use engine::lease::{Epoch, WorkerRow};
use engine::model::{
    Commit, CommitNumber, ContentState, Coverage, DamagedSegment, Expired, FailingContent, FeedNotes, LedgerId, Listed,
    Loss, LostContent, Pending, Problem, QuarantineRow, RefusedEntry, Retained, SegmentRow, Subscription, Tenant,
    TenantState, Tile,
};
use engine::retention::Expiry;
use engine::webhook::Webhook;
use ledger::sqlite::SqliteLedger;
use ledger::{Ledger, LedgerError, LedgerFuture};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use crate::disk::Disk;
use crate::fate::Fate;
use crate::plan::Spells;
use crate::plant::{Bug, Memory};
use crate::tally::Tally;
use crate::witness::Witness;

/// One life's ledger.
pub(crate) struct Store {
    pub(crate) inner: SqliteLedger,
    pub(crate) fate: Arc<Fate>,
    pub(crate) spells: Arc<Spells>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) bug: Option<Bug>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) tally: Arc<Tally>,
    /// What the crash left, if it came within a call.
    pub(crate) wreck: Mutex<Option<Files>>,
}

/// The ledger's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    main: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    pub(crate) fn read(path: &Path) -> Self {
        Self { main: fs::read(path).unwrap_or_default(), log: fs::read(log_of(path)).unwrap_or_default() }
    }

    /// Puts them in the place of what is there.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let _ = fs::remove_file(path.with_extension("db-shm"));
        fs::write(path, &self.main)?;
        fs::write(log_of(path), &self.log)
    }

    /// Bytes of both.
    pub(crate) fn bytes(&self) -> u64 {
        (self.main.len() + self.log.len()) as u64
    }
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// What becomes of a call.
enum Turn {
    Works,
    WorksAndFails,
    Fails(LedgerError),
    /// The crash comes before it, or within it.
    Crash,
}

impl Store {
    /// The files as the crash left them, or as they are.
    pub(crate) fn files(&self) -> Files {
        self.lock(&self.wreck).take().unwrap_or_else(|| Files::read(self.inner.path()))
    }

    fn turn(&self, name: &str, writes: bool) -> Turn {
        self.tally.called(writes);
        // A crash at a reading call is the same crash as one at the next step: nothing was done in between.
        if self.fate.is_dead() || (writes && !self.fate.step(format_args!("ledger: {name}"))) {
            return Turn::Crash;
        }
        let place = || Path::new("ledger.db").into();
        if writes && self.spells.ledger_full() {
            self.fate.note("the disk is full");
            return Turn::Fails(LedgerError::DiskFull { place: place() });
        }
        if !self.fate.chance(self.spells.ledger_errors()) {
            return Turn::Works;
        }
        if writes && self.fate.chance(0.3) {
            self.fate.note("carried out, and fails");
            return Turn::WorksAndFails;
        }
        self.fate.note("somebody else holds it");
        Turn::Fails(LedgerError::Busy { place: place() })
    }

    /// Whether the crash comes in the midst of this call.
    fn may_be_cut_off(&self) -> bool {
        self.lock(&self.wreck).is_none() && self.fate.draw(fastrand::Rng::bool)
    }

    /// The crash came in the midst of a call that has been carried out since, on files that looked like this before it.
    fn cut_off(&self, before: &Files) {
        let mut after = Files::read(self.inner.path());
        let cut = |length: usize| self.fate.draw(|rng| rng.usize(0..=length));
        if after.main != before.main {
            // It has committed: the log was synced before any page of the file is written.
            for page in 0..after.main.len() / 4096 {
                let range = page * 4096..(page + 1) * 4096;
                if let (Some(new), Some(old)) = (after.main.get_mut(range.clone()), before.main.get(range))
                    && self.fate.draw(fastrand::Rng::bool)
                {
                    new.copy_from_slice(old);
                }
            }
            self.fate.note("the crash comes while the ledger's log is folded in");
        } else {
            let keeps = cut(after.log.len());
            let rest = before.log.get(keeps..).unwrap_or_default();
            after.log.truncate(keeps);
            after.log.extend_from_slice(rest);
            self.fate.note(&format!("the crash comes when the ledger's log is written up to {keeps}"));
        }
        *self.lock(&self.wreck) = Some(after);
    }

    fn lock<'l, T>(&self, of: &'l Mutex<T>) -> MutexGuard<'l, T> {
        of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the bugs make of a call that has worked, and what the witness sees.
    fn was_listed(&self, tenant: TenantId, mut contents: Vec<Listed>) -> Vec<Listed> {
        if self.bug == Some(Bug::TiesSkipped) {
            let mut memory = self.lock(&self.memory);
            contents.retain(|content| {
                !memory.is_tie(tenant, &content.content_type, content.created, content.content_id.as_str())
            });
        }
        contents
    }

    fn handed_out(&self, tenant: TenantId, pending: &mut Vec<Pending>) {
        self.tally.handed_out(tenant, pending);
        if self.bug != Some(Bug::EndsWhileFetching) {
            return;
        }
        let mut memory = self.lock(&self.memory);
        pending.retain(|content| !memory.forgotten.contains(&(tenant, content.row)));
        memory.fetching.extend(pending.iter().map(|content| (tenant, content.row)));
    }

    fn has_ended(&self, tenant: TenantId, row: i64) {
        self.lock(&self.memory).fetching.remove(&(tenant, row));
    }

    /// The bug would not wait for what it has forgotten.
    async fn next_of_those_not_forgotten(&self, tenant: TenantId, next: &mut Option<Timestamp>) {
        if self.lock(&self.memory).forgotten.is_empty() {
            return;
        }
        // Beyond every attempt, and a day before the end of time, which the ledger looks ahead.
        let far = Timestamp::MAX_UTC - TimeDelta::days(400);
        let waiting = self.inner.pending(tenant, far, 10_000, Vec::new()).await.unwrap_or_default();
        let memory = self.lock(&self.memory);
        let remembered = waiting.iter().filter(|content| !memory.forgotten.contains(&(tenant, content.row)));
        *next = remembered.map(|content| content.next_attempt_at).min();
    }

    fn has_merged(&self, tenant: TenantId, number: CommitNumber) {
        self.disk.store_at_last();
        self.witness.committed(tenant, number);
    }

    fn has_committed(&self, commit: &Commit) {
        self.tally.committed(commit);
        for content in &commit.contents {
            self.has_ended(commit.tenant, content.row);
        }
        for (row, _) in &commit.lost {
            self.has_ended(commit.tenant, *row);
        }
        self.disk.store_at_last();
        self.witness.committed(commit.tenant, commit.number);
    }
}

macro_rules! delegate {
    ($($writes:literal fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty
        $(, with $changed:ident = |$self_b:ident| $before:expr)?
        $(, after |$self_a:ident, $value:ident| $after:expr)?;)*) => {
        impl Ledger for Store {
            $(fn $name(&self, $($argument: $kind),*) -> LedgerFuture<'_, $result> {
                Box::pin(async move {
                    let turn = self.turn(stringify!($name), $writes);
                    match turn {
                        Turn::Works | Turn::WorksAndFails => {}
                        Turn::Fails(error) => return Err(error),
                        Turn::Crash => {
                            if $writes && self.may_be_cut_off() {
                                let before = Files::read(self.inner.path());
                                let _ = self.inner.$name($($argument),*).await;
                                self.cut_off(&before);
                            }
                            return std::future::pending().await;
                        }
                    }
                    $(let $changed = { let $self_b = self; $before };)?
                    // It never waits, and must not be made to: with many tenants a task has often had its turn by now.
                    let call = self.inner.$name($(Clone::clone(&$argument)),*);
                    let result = tokio::task::coop::unconstrained(call).await?;
                    $(let result = { let $self_a = self; let mut value = result; let $value = &mut value; $after; value };)?
                    if $writes && !self.fate.step("ledger: done") {
                        return std::future::pending().await;
                    }
                    if matches!(turn, Turn::WorksAndFails) {
                        let source = Arc::new(io::Error::other("the disk answered too late"));
                        return Err(LedgerError::Io { place: Path::new("ledger.db").into(), source });
                    }
                    Ok(result)
                })
            })*
        }
    };
}

delegate! {
    false fn id() -> LedgerId;
    true fn add_tenant(id: TenantId, label: String, collect_from: Timestamp, now: Timestamp) -> bool;
    false fn tenant(id: TenantId) -> Option<Tenant>;
    false fn tenants_since(revision: u64) -> (u64, Vec<Tenant>);
    true fn set_tenant_state(id: TenantId, state: TenantState, now: Timestamp) -> bool;
    true fn purge_tenant(id: TenantId, now: Timestamp) -> Purge;
    false fn purge(id: TenantId) -> Option<Purge>;
    false fn purges(done_since: Timestamp, limit: u32) -> Vec<Purge>;
    true fn files_purged(id: TenantId, through: Epoch, deleted: Deleted, is_done: bool, now: Timestamp) -> ();
    true fn hold_tenant(id: TenantId, reason: String, now: Timestamp) -> bool;
    true fn release_tenant(id: TenantId, now: Timestamp) -> bool;
    true fn note_activity(kind: ActivityKind, tenant: Option<TenantId>, details: String, now: Timestamp) -> ();
    false fn activity(filter: ActivityFilter, limit: u32) -> Vec<ActivityEntry>;
    true fn set_problem(
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
        now: Timestamp
    ) -> ();
    true fn add_invitation(invitation: NewInvitation, now: Timestamp) -> InvitationNumber;
    false fn invitations(before: Option<InvitationNumber>, limit: u32) -> Vec<Invitation>;
    false fn invitation(number: InvitationNumber) -> Option<Invitation>;
    false fn invitation_by_secret(secret: Digest) -> Option<Invitation>;
    true fn revoke_invitation(number: InvitationNumber, now: Timestamp) -> bool;
    true fn revoke_invitations_for(tenant: TenantId, now: Timestamp) -> u64;
    true fn begin_consent(flow: ConsentFlow, now: Timestamp) -> ();
    true fn take_consent(state: Digest, browser: Digest, now: Timestamp) -> Taken;
    true fn prove_consent(visit: Visit, now: Timestamp) -> ();
    false fn consent_visit(browser: Digest, tenant: TenantId, now: Timestamp) -> Option<Visit>;
    true fn accept_consent(browser: Digest, tenant: TenantId, collect_from: Timestamp, now: Timestamp) -> Acceptance;
    false fn consents(tenant: Option<TenantId>, limit: u32) -> Vec<ConsentEntry>;
    false fn sealed(name: String) -> Option<Vec<u8>>;
    false fn all_sealed(after: Option<String>, limit: u32) -> Vec<(String, Vec<u8>)>;
    true fn put_sealed(name: String, was: Option<Vec<u8>>, now: Option<Vec<u8>>) -> bool;
    false fn webhooks(tenant: TenantId) -> Vec<Webhook>;
    false fn webhook_at(path_key: [u8; 16]) -> Option<(Tenant, Webhook)>;
    true fn write_webhooks(tenant: TenantId, webhooks: Vec<Webhook>, now: Timestamp) -> ();
    true fn notified(tenant: TenantId, content_types: Vec<ContentType>, now: Timestamp) -> ();
    false fn subscriptions(tenant: TenantId) -> Vec<Subscription>;
    true fn subscriptions_listed(tenant: TenantId, listed: Vec<(ContentType, Option<bool>)>, now: Timestamp) -> ();
    true fn start_requested(tenant: TenantId, content_type: ContentType, now: Timestamp) -> ();
    true fn was_enabled(tenant: TenantId, content_type: ContentType, now: Timestamp) -> ();
    false fn tiles(tenant: TenantId, content_type: ContentType) -> Vec<Tile>;
    true fn contents_listed(tenant: TenantId, contents: Vec<Listed>, now: Timestamp) -> u64,
        with contents = |this| this.was_listed(tenant, contents);
    true fn entries_refused(tenant: TenantId, entries: Vec<RefusedEntry>, now: Timestamp) -> u64;
    true fn tile_listed(tenant: TenantId, content_type: ContentType, tile: Tile) -> (),
        after |this, _done| this.witness.tile_listed(tenant, &content_type, &tile);
    false fn pending(tenant: TenantId, now: Timestamp, limit: u32, in_flight: Vec<i64>) -> Vec<Pending>,
        after |this, pending| this.handed_out(tenant, pending);
    false fn next_attempt_at(tenant: TenantId) -> Option<Timestamp>,
        after |this, next| this.next_of_those_not_forgotten(tenant, next).await;
    true fn content_failed(tenant: TenantId, row: i64, message: String, next_attempt_at: Timestamp) -> (),
        after |this, _done| this.has_ended(tenant, row);
    true fn content_lost(tenant: TenantId, row: i64, loss: Loss, now: Timestamp) -> (),
        after |this, _done| this.has_ended(tenant, row);
    false fn content_state(tenant: TenantId, content_type: ContentType, content_id: String) -> Option<ContentState>;
    true fn commit(commit: Commit) -> (),
        after |this, _done| this.has_committed(&commit);
    true fn expire_segments(tenant: TenantId, expiry: Expiry, now: Timestamp) -> Expired;
    false fn retained(tenant: TenantId) -> Retained;
    false fn segments(tenant: TenantId) -> Vec<SegmentRow>;
    false fn segments_within(tenants: Option<BTreeSet<TenantId>>, seconds: Option<RangeInclusive<i64>>) -> Vec<(TenantId, Vec<SegmentRow>)>;
    true fn replace_segments(
        tenant: TenantId,
        number: CommitNumber,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
        now: Timestamp
    ) -> (),
        after |this, _done| this.has_merged(tenant, number);
    false fn obsolete(tenant: TenantId) -> Vec<(SegmentRow, Timestamp)>;
    false fn deletable(tenant: TenantId) -> Vec<(SegmentRow, Timestamp)>;
    true fn obsolete_deleted(tenant: TenantId, segments: Vec<SegmentRow>) -> ();
    true fn set_segment_problem(
        tenant: TenantId,
        segment: SegmentRow,
        problem: Option<String>,
        now: Timestamp
    ) -> ();
    false fn damaged_segments(tenant: TenantId) -> Vec<DamagedSegment>;
    false fn workers() -> Vec<WorkerRow>;
    false fn holders(tenants: Vec<TenantId>) -> Vec<(TenantId, String)>;
    false fn quarantine(tenant: TenantId, limit: u32) -> Vec<QuarantineRow>;
    false fn losses(tenant: TenantId, limit: u32) -> Vec<LostContent>;
    false fn feed_notes(tenant: TenantId) -> Vec<FeedNotes>;
    false fn history(tenant: TenantId) -> Vec<(ContentType, History)>;
    true fn at_work(now: Timestamp) -> ();
    false fn failing(tenant: TenantId, limit: u32) -> Vec<FailingContent>;
    true fn retry_lost(tenant: TenantId, now: Timestamp) -> u64;
    true fn relisted(tenant: TenantId, content_type: ContentType, requests: u64, found: u64, now: Timestamp) -> ();
    false fn coverage(tenant: TenantId) -> Vec<Coverage>;
    true fn fold(tenant: TenantId, before: Timestamp, limit: u32) -> u64,
        after |this, _done| this.witness.folded(before);
}
