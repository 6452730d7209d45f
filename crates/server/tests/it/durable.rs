//! Ledger and disk in trouble: the collector waits, says so, goes on, and neither loses nor doubles a record.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use emulator::FaultPlan;
use engine::consent::{
    Acceptance, ConsentEntry, ConsentFlow, Digest, Invitation, InvitationNumber, NewInvitation, Taken, Visit,
};
use engine::evidence::{ActivityEntry, ActivityFilter, ActivityKind, Deleted, Purge};
use engine::hindrance::History;
use engine::lease::{Epoch, Fleet, Lease, WorkerId, WorkerRow};
use engine::model::{
    Commit, CommitNumber, ContentState, Coverage, DamagedSegment, Expired, FailingContent, FeedNotes, LedgerId, Listed,
    Loss, LostContent, Pending, Problem, QuarantineRow, RefusedEntry, Retained, SegmentRow, Subscription, Tenant,
    TenantState, Tile,
};
use engine::retention::Expiry;
use engine::webhook::Webhook;
use ledger::sqlite::SqliteLedger;
use ledger::{Hints, Ledger, LedgerError, LedgerFuture, Workers};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use server::collector::Ended;
use tokio::sync::oneshot;

use crate::rig::{Rig, small_world};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Works,
    /// There is no room on the disk: nothing is written.
    Full,
    /// Somebody else holds the ledger: nothing is written.
    Busy,
    /// It is done after some looks for tenants.
    Slow,
    /// It is written, and the answer is an error all the same.
    WrittenAndFails,
    /// Nothing is written, and no answer ever comes.
    Hangs,
}

/// Asks before every call what is to become of it: by the method's name and how often it was called before.
pub(crate) struct FaultyLedger {
    inner: SqliteLedger,
    fate: Box<dyn Fn(&'static str, u32) -> Fate + Send + Sync>,
    calls: Mutex<BTreeMap<&'static str, u32>>,
}

impl FaultyLedger {
    pub(crate) fn new(rig: &Rig, fate: impl Fn(&'static str, u32) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { inner: rig.ledger.clone(), fate: Box::new(fate), calls: Mutex::default() })
    }

    fn fate_of(&self, method: &'static str) -> Fate {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(method).or_default();
        *count += 1;
        (self.fate)(method, *count - 1)
    }
}

macro_rules! delegate {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        impl Ledger for FaultyLedger {
            $(fn $name(&self, $($argument: $kind),*) -> LedgerFuture<'_, $result> {
                Box::pin(async move {
                    let place = Path::new("ledger.db").into();
                    let fate = self.fate_of(stringify!($name));
                    match fate {
                        Fate::Busy => return Err(LedgerError::Busy { place }),
                        Fate::Full => return Err(LedgerError::DiskFull { place }),
                        Fate::Hangs => std::future::pending::<()>().await,
                        Fate::Slow => tokio::time::sleep(Duration::from_millis(450)).await,
                        Fate::Works | Fate::WrittenAndFails => {}
                    }
                    let result = self.inner.$name($($argument),*).await?;
                    if fate == Fate::WrittenAndFails {
                        let source = Arc::new(io::Error::other("the disk answered too late"));
                        return Err(LedgerError::Io { place, source });
                    }
                    Ok(result)
                })
            })*
        }
    };
}

delegate! {
    fn id() -> LedgerId;
    fn add_tenant(id: TenantId, label: String, collect_from: Timestamp, now: Timestamp) -> bool;
    fn tenant(id: TenantId) -> Option<Tenant>;
    fn tenants_since(revision: u64) -> (u64, Vec<Tenant>);
    fn set_tenant_state(id: TenantId, state: TenantState, now: Timestamp) -> bool;
    fn purge_tenant(id: TenantId, now: Timestamp) -> Purge;
    fn purge(id: TenantId) -> Option<Purge>;
    fn purges(done_since: Timestamp, limit: u32) -> Vec<Purge>;
    fn files_purged(id: TenantId, through: Epoch, deleted: Deleted, is_done: bool, now: Timestamp) -> ();
    fn hold_tenant(id: TenantId, reason: String, now: Timestamp) -> bool;
    fn release_tenant(id: TenantId, now: Timestamp) -> bool;
    fn note_activity(kind: ActivityKind, tenant: Option<TenantId>, details: String, now: Timestamp) -> ();
    fn activity(filter: ActivityFilter, limit: u32) -> Vec<ActivityEntry>;
    fn set_problem(id: TenantId, content_type: Option<ContentType>, problem: Option<Problem>, now: Timestamp) -> ();
    fn add_invitation(invitation: NewInvitation, now: Timestamp) -> InvitationNumber;
    fn invitations(before: Option<InvitationNumber>, limit: u32) -> Vec<Invitation>;
    fn invitation(number: InvitationNumber) -> Option<Invitation>;
    fn invitation_by_secret(secret: Digest) -> Option<Invitation>;
    fn revoke_invitation(number: InvitationNumber, now: Timestamp) -> bool;
    fn revoke_invitations_for(tenant: TenantId, now: Timestamp) -> u64;
    fn begin_consent(flow: ConsentFlow, now: Timestamp) -> ();
    fn take_consent(state: Digest, browser: Digest, now: Timestamp) -> Taken;
    fn prove_consent(visit: Visit, now: Timestamp) -> ();
    fn consent_visit(browser: Digest, tenant: TenantId, now: Timestamp) -> Option<Visit>;
    fn accept_consent(browser: Digest, tenant: TenantId, collect_from: Timestamp, now: Timestamp) -> Acceptance;
    fn consents(tenant: Option<TenantId>, limit: u32) -> Vec<ConsentEntry>;
    fn sealed(name: String) -> Option<Vec<u8>>;
    fn all_sealed(after: Option<String>, limit: u32) -> Vec<(String, Vec<u8>)>;
    fn put_sealed(name: String, was: Option<Vec<u8>>, now: Option<Vec<u8>>) -> bool;
    fn subscriptions(tenant: TenantId) -> Vec<Subscription>;
    fn subscriptions_listed(tenant: TenantId, listed: Vec<(ContentType, Option<bool>)>, now: Timestamp) -> ();
    fn start_requested(tenant: TenantId, content_type: ContentType, now: Timestamp) -> ();
    fn was_enabled(tenant: TenantId, content_type: ContentType, now: Timestamp) -> ();
    fn webhooks(tenant: TenantId) -> Vec<Webhook>;
    fn webhook_at(path_key: [u8; 16]) -> Option<(Tenant, Webhook)>;
    fn write_webhooks(tenant: TenantId, webhooks: Vec<Webhook>, now: Timestamp) -> ();
    fn notified(tenant: TenantId, content_types: Vec<ContentType>, now: Timestamp) -> ();
    fn tiles(tenant: TenantId, content_type: ContentType) -> Vec<Tile>;
    fn contents_listed(tenant: TenantId, contents: Vec<Listed>, now: Timestamp) -> u64;
    fn entries_refused(tenant: TenantId, entries: Vec<RefusedEntry>, now: Timestamp) -> u64;
    fn tile_listed(tenant: TenantId, content_type: ContentType, tile: Tile) -> ();
    fn pending(tenant: TenantId, now: Timestamp, limit: u32, in_flight: Vec<i64>) -> Vec<Pending>;
    fn next_attempt_at(tenant: TenantId) -> Option<Timestamp>;
    fn content_failed(tenant: TenantId, row: i64, message: String, next_attempt_at: Timestamp) -> ();
    fn content_lost(tenant: TenantId, row: i64, loss: Loss, now: Timestamp) -> ();
    fn content_state(tenant: TenantId, content_type: ContentType, content_id: String) -> Option<ContentState>;
    fn commit(commit: Commit) -> ();
    fn segments(tenant: TenantId) -> Vec<SegmentRow>;
    fn segments_within(tenants: Option<BTreeSet<TenantId>>, seconds: Option<RangeInclusive<i64>>) -> Vec<(TenantId, Vec<SegmentRow>)>;
    fn replace_segments(
        tenant: TenantId,
        number: CommitNumber,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
        now: Timestamp
    ) -> ();
    fn expire_segments(tenant: TenantId, expiry: Expiry, now: Timestamp) -> Expired;
    fn retained(tenant: TenantId) -> Retained;
    fn obsolete(tenant: TenantId) -> Vec<(SegmentRow, Timestamp)>;
    fn deletable(tenant: TenantId) -> Vec<(SegmentRow, Timestamp)>;
    fn obsolete_deleted(tenant: TenantId, segments: Vec<SegmentRow>) -> ();
    fn set_segment_problem(tenant: TenantId, segment: SegmentRow, problem: Option<String>, now: Timestamp) -> ();
    fn damaged_segments(tenant: TenantId) -> Vec<DamagedSegment>;
    fn workers() -> Vec<WorkerRow>;
    fn holders(tenants: Vec<TenantId>) -> Vec<(TenantId, String)>;
    fn quarantine(tenant: TenantId, limit: u32) -> Vec<QuarantineRow>;
    fn losses(tenant: TenantId, limit: u32) -> Vec<LostContent>;
    fn coverage(tenant: TenantId) -> Vec<Coverage>;
    fn feed_notes(tenant: TenantId) -> Vec<FeedNotes>;
    fn history(tenant: TenantId) -> Vec<(ContentType, History)>;
    fn at_work(now: Timestamp) -> ();
    fn failing(tenant: TenantId, limit: u32) -> Vec<FailingContent>;
    fn retry_lost(tenant: TenantId, now: Timestamp) -> u64;
    fn relisted(tenant: TenantId, content_type: ContentType, requests: u64, found: u64, now: Timestamp) -> ();
    fn fold(tenant: TenantId, before: Timestamp, limit: u32) -> u64;
}

/// What a lease is about is asked of the file itself; of what it is for, only a worker's word that it is alive can fail.
impl Workers for FaultyLedger {
    fn alive(&self, worker: WorkerId, name: String, lease_time: Duration) -> LedgerFuture<'_, Fleet> {
        match self.fate_of("alive") {
            Fate::Works => self.inner.alive(worker, name, lease_time),
            _ => Box::pin(async { Err(LedgerError::Busy { place: Path::new("ledger.db").into() }) }),
        }
    }

    fn take(&self, worker: WorkerId, limit: u32) -> LedgerFuture<'_, Vec<Lease>> {
        self.inner.take(worker, limit)
    }

    fn give_back(&self, leases: Vec<Lease>) -> LedgerFuture<'_, u64> {
        self.inner.give_back(leases)
    }

    fn held(&self, worker: WorkerId) -> LedgerFuture<'_, Vec<Lease>> {
        self.inner.held(worker)
    }

    fn leave(&self, worker: WorkerId) -> LedgerFuture<'_, u64> {
        self.inner.leave(worker)
    }

    fn bury_others(&self, worker: WorkerId) -> LedgerFuture<'_, ()> {
        self.inner.bury_others(worker)
    }

    fn hints(&self) -> Hints {
        self.inner.hints()
    }

    fn under(&self, lease: Lease) -> Arc<dyn Ledger> {
        self.inner.under(lease)
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_written_although_it_failed_is_not_made_twice() {
    let rig = Rig::new(small_world(1, 2, 300), FaultPlan::default()).await;
    let ledger = FaultyLedger::new(&rig, |method, call| match method {
        "commit" | "replace_segments" if call % 2 == 0 => Fate::WrittenAndFails,
        _ => Fate::Works,
    });
    let collector = rig.collector_with(ledger);
    let report = collector.collect_once(&[], std::future::pending()).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
    rig.collect_once().await;
    rig.check_no_orphans().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_busy_now_and_then_is_waited_for() {
    for seed in 1..=3 {
        let rig = Rig::new(small_world(seed, 2, 200), FaultPlan::default()).await;
        let ledger = FaultyLedger::new(&rig, move |method, call| {
            let mut rng = fastrand::Rng::with_seed(seed ^ u64::from(call) << 32 ^ method.len() as u64);
            // The very first look for tenants has nobody to wait for it. And a run's last round, which brings nothing, makes
            // dozens of calls: more of them must not fail than leave it one good round in a few.
            if rng.u32(..100) < 1 && (method, call) != ("tenants_since", 0) { Fate::Busy } else { Fate::Works }
        });
        let collector = rig.collector_with(ledger);
        let report = collector.collect_once(&[], std::future::pending()).await.unwrap();
        assert!(report.is_complete(), "seed {seed}: {report:#?}");
        rig.check_all_there().await;
        rig.collect_once().await;
        rig.check_no_orphans().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_as_long_as_each_of_its_rounds_brings_something() {
    // Long after everything has been listed, each round fails once it has brought some contents, twice as often as a
    // run bears in a row.
    const CALLS: u32 = 4 * engine::retry::ONCE_ATTEMPTS;
    let rig = Rig::new(small_world(4, 1, 2_000), FaultPlan::default()).await;
    let failures = Arc::new(AtomicU32::new(0));
    let failed = Arc::clone(&failures);
    let ledger = FaultyLedger::new(&rig, move |method, call| match method {
        "pending" if call % 2 == 1 && call < CALLS => {
            failed.fetch_add(1, Ordering::Relaxed);
            Fate::Busy
        }
        _ => Fate::Works,
    });
    let report = rig.collector_with(ledger).collect_once(&[], std::future::pending()).await.unwrap();
    let failures = failures.load(Ordering::Relaxed);
    assert!(report.is_complete(), "after {failures} failures: {report:#?}");
    assert_eq!(failures, CALLS / 2, "fewer prove nothing");
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_could_not_say_who_is_there_is_asked_again_before_a_run_ends() {
    // Whichever look it is that finds the ledger busy: the last of a run has nobody's work after it. The first run finds it
    // busy at none, and says how many looks there are.
    let looks = Arc::new(AtomicU32::new(0));
    let (mut busy_at, mut last) = (u32::MAX, 0);
    loop {
        let mut rig = Rig::new(small_world(9, 1, 20), FaultPlan::default()).await;
        rig.latency = Some(Duration::from_millis(20)..Duration::from_millis(21));
        rig.settings.limits.tenants_interval = Duration::from_millis(100);
        let most = Arc::clone(&looks);
        most.store(0, Ordering::Relaxed);
        let ledger = FaultyLedger::new(&rig, move |method, call| {
            match method {
                "tenants_since" => {}
                // Comes after a tenant's work has shown that the ledger works.
                "damaged_segments" => return Fate::Slow,
                _ => return Fate::Works,
            }
            most.fetch_max(call, Ordering::Relaxed);
            if call == busy_at { Fate::Busy } else { Fate::Works }
        });
        let report = rig.collector_with(ledger).collect_once(&[], std::future::pending()).await.unwrap();
        assert!(report.is_complete(), "look {busy_at}: {report:#?}");
        match busy_at {
            u32::MAX => (busy_at, last) = (1, looks.load(Ordering::Relaxed)),
            _ if busy_at == last => break,
            _ => busy_at += 1,
        }
    }
    assert!(last > 3, "a run of {last} looks proves nothing");
}

#[tokio::test(start_paused = true)]
async fn that_the_ledger_is_held_is_taken_back_as_soon_as_it_is_not() {
    let mut rig = Rig::new(small_world(10, 1, 20), FaultPlan::default()).await;
    // No tenant's work comes along to prove it.
    rig.settings.collect.poll_interval = Duration::from_secs(3600);
    let (reads, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let held = (Arc::clone(&reads), Arc::clone(&writes));
    let ledger = FaultyLedger::new(&rig, move |method, _| match method {
        "tenants_since" if held.0.load(Ordering::Relaxed) => Fate::Busy,
        "at_work" if held.1.load(Ordering::Relaxed) => Fate::Busy,
        _ => Fate::Works,
    });
    let collector = Arc::new(rig.collector_with(ledger));
    let running = Arc::clone(&collector);
    let task = tokio::spawn(async move { running.run(std::future::pending()).await });
    let shown = async || {
        tokio::time::sleep(Duration::from_secs(60)).await;
        collector.board().snapshot_problem().map(|problem| problem.kind)
    };
    assert_eq!(shown().await, None);
    reads.store(true, Ordering::Relaxed);
    writes.store(true, Ordering::Relaxed);
    assert_eq!(shown().await.as_deref(), Some("ledger_locked"));
    // Somebody who writes keeps nobody from reading.
    reads.store(false, Ordering::Relaxed);
    assert_eq!(shown().await.as_deref(), Some("ledger_locked"));
    writes.store(false, Ordering::Relaxed);
    assert_eq!(shown().await, None);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn killed_between_the_files_and_the_ledger_nothing_is_left_behind() {
    for method in ["commit", "replace_segments", "obsolete_deleted", "tile_listed", "contents_listed", "fold"] {
        for call in [0, 3] {
            let mut rig = Rig::new(small_world(4, 1, 200), FaultPlan::default()).await;
            rig.settings.limits.commit_contents = 2;
            let (hangs, hung) = oneshot::channel();
            let hangs = Mutex::new(Some(hangs));
            let ledger = FaultyLedger::new(&rig, move |called, count| {
                if called == method && count == call {
                    hangs.lock().unwrap().take().map(|hangs| hangs.send(()));
                    return Fate::Hangs;
                }
                Fate::Works
            });
            let collector = rig.collector_with(ledger);
            tokio::select! {
                // Dropped where it stands, as a process that is killed.
                Ok(()) = hung => {}
                report = collector.collect_once(&[], std::future::pending()) => {
                    // It was never called so often.
                    assert!(report.unwrap().is_complete() && call > 0, "{method} is never called");
                }
            }
            drop(collector);
            rig.archived().await;
            assert!(rig.collect_once().await.is_complete(), "{method}, call {call}");
            rig.check_all_there().await;
            rig.check_no_orphans().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_while_records_go_for_their_age_no_other_goes_and_no_file_stays() {
    let day = Duration::from_secs(86_400);
    for (method, written) in [("expire_segments", false), ("expire_segments", true), ("obsolete_deleted", false)] {
        let mut rig = Rig::new(small_world(8, 1, 200), FaultPlan::default()).await;
        rig.collect_once().await;
        let tenant = rig.tenants()[0];
        // Half of the dates are past their retention then.
        rig.settings.retention = Some(30 * day);
        tokio::time::sleep(30 * day).await;
        let dates = |rows: Vec<SegmentRow>| rows.into_iter().map(|row| row.date).collect::<BTreeSet<_>>();
        let before = dates(rig.ledger.segments(tenant).await.unwrap());
        let (hangs, hung) = oneshot::channel();
        let hangs = Mutex::new(Some(hangs));
        let expired = AtomicBool::new(false);
        let ledger = FaultyLedger::new(&rig, move |called, _| {
            // With `written`, whatever comes after the transaction is never done.
            let is_next = expired.swap(called == "expire_segments", Ordering::Relaxed);
            if (called == method && !written) || (is_next && written) {
                hangs.lock().unwrap().take().map(|hangs| hangs.send(()));
                return Fate::Hangs;
            }
            Fate::Works
        });
        let collector = rig.collector_with(ledger);
        tokio::select! {
            Ok(()) = hung => {}
            _ = collector.collect_once(&[], std::future::pending()) => panic!("{method} is never called"),
        }
        drop(collector);
        // Whoever reads now finds every file that he is told of.
        rig.archived().await;
        assert!(rig.collect_once().await.is_complete(), "{method}");
        let after = dates(rig.ledger.segments(tenant).await.unwrap());
        let expected: Vec<_> = before.iter().filter(|date| ***date >= *"2026-03-10").cloned().collect();
        assert!(!expected.is_empty() && expected.len() < before.len(), "{before:?}");
        assert_eq!(after.into_iter().collect::<Vec<_>>(), expected, "{method}");
        rig.check_no_orphans().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_cannot_be_written_is_waited_for_and_named() {
    let rig = Rig::new(small_world(5, 1, 200), FaultPlan::default()).await;
    // Root may write anywhere, so permissions would prove nothing: a file stands where the tenant's folder should be.
    let folder = rig.archive.root().join(format!("tenant={}", rig.tenants()[0]));
    std::fs::write(&folder, "in the way").unwrap();
    let collector = rig.collector();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = async {
        let stopped = async {
            let _ = stopped.await;
        };
        collector.run(stopped).await.unwrap()
    };
    let story = async {
        tokio::time::sleep(Duration::from_secs(90)).await;
        let problem = collector.board().snapshot().problem.expect("everybody waits");
        assert_eq!(problem.kind, "archive_unavailable");
        assert!(problem.message.contains("set [archive] url to a folder"), "{problem:?}");
        assert!(rig.archived().await.is_empty());
        std::fs::remove_file(&folder).unwrap();
        tokio::time::sleep(Duration::from_secs(180)).await;
        assert_eq!(collector.board().snapshot().problem, None);
        stop.send(()).unwrap();
    };
    let (report, ()) = tokio::join!(run, story);
    assert_eq!(report.ended, Ended::Stopped);
    rig.check_all_there().await;
    rig.collect_once().await;
    rig.check_no_orphans().await;
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_cannot_be_written_ends_a_run_that_somebody_waits_for() {
    let rig = Rig::new(small_world(6, 1, 50), FaultPlan::default()).await;
    let folder = rig.archive.root().join(format!("tenant={}", rig.tenants()[0]));
    std::fs::write(&folder, "in the way").unwrap();
    let report = rig.collect_once().await;
    assert!(!report.is_complete());
    assert_eq!(report.problem.map(|problem| problem.kind).as_deref(), Some("archive_unavailable"));
    std::fs::remove_file(&folder).unwrap();
    assert!(rig.collect_once().await.is_complete());
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn small_segments_are_merged_and_their_files_go() {
    let mut rig = Rig::new(small_world(7, 1, 400), FaultPlan::default()).await;
    rig.settings.limits.commit_contents = 1;
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(report.total().commits > 100, "{}", report.total().commits);
    let segments = rig.ledger.segments(rig.tenants()[0]).await.unwrap();
    assert!(segments.len() < 60, "{} segments", segments.len());
    rig.check_all_there().await;
    rig.check_no_orphans().await;
}
