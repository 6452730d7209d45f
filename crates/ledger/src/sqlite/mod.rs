//! The embedded ledger: one SQLite file, one thread that writes it, one that reads it.
//!
//! Guarantees: a call that returned `Ok` survives the loss of power (write-ahead log, synced at every commit); a call that
//! failed left nothing behind. Several processes may have the file open: they take turns writing, and readers never wait.
//! The file must be on a local disk: network file systems do not keep SQLite's locks.
//!
//! Never holds a lock while it waits for a caller, and never more than one transaction at a time.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use engine::consent::{
    Acceptance, ConsentEntry, ConsentFlow, Digest, Invitation, InvitationNumber, NewInvitation, Taken, Visit,
};
use engine::evidence::{ActivityEntry, ActivityFilter, ActivityKind, Deleted, Purge};
use engine::hindrance::History;
use engine::lease::{Epoch, Lease, WorkerRow};
use engine::model::{
    Commit, CommitNumber, ContentState, Coverage, DamagedSegment, Expired, FailingContent, FeedNotes, LedgerId, Listed,
    Loss, LostContent, Pending, Problem, QuarantineRow, RefusedEntry, Retained, SegmentRow, Subscription, Tenant,
    TenantState, Tile,
};
use engine::retention::Expiry;
use engine::webhook::Webhook;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::Connection;

use self::fault::Done;
use self::schema::Access;
use self::worker::{Kind, Worker};
use crate::{Ledger, LedgerError, LedgerFuture};

mod check;
mod commits;
mod consents;
mod contents;
mod coverage;
mod evidence;
mod fault;
mod hindrances;
mod identity;
mod leases;
mod notes;
mod rows;
mod schema;
mod sealed;
mod tenants;
mod webhooks;
mod worker;

#[cfg(test)]
mod tests;

/// How to open a ledger.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Nothing is created or changed, and every write is refused. Works while another process writes.
    pub read_only: bool,
    /// How long a call waits for another process that is writing. Smaller: a long merge elsewhere makes calls fail.
    /// Larger: a process that hangs in a transaction is noticed later.
    pub busy_timeout: Duration,
    /// Calls are carried out by whoever polls them instead of by threads: for simulations whose virtual time must not run
    /// on while a thread works.
    pub in_place: bool,
    /// The time that leases go by, in Unix milliseconds, instead of the machine's: for simulations, whose database has a
    /// clock of its own.
    pub lease_clock: Option<Arc<AtomicI64>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { read_only: false, busy_timeout: Duration::from_secs(10), in_place: false, lease_clock: None }
    }
}

/// A handle to the ledger in one file. Clones share the threads; when the last one is dropped, what is queued is carried
/// out and the file is closed before the drop returns.
#[derive(Clone)]
pub struct SqliteLedger {
    shared: Arc<Shared>,
    /// Who writes, as the log of activity has it.
    actor: Arc<str>,
    /// What a write of a tenant must hold, if anything.
    lease: Option<Lease>,
}

struct Shared {
    path: Arc<Path>,
    lease_clock: Option<Arc<AtomicI64>>,
    /// Before the writer, and so closed before it: only the last connection folds the log into the file, and only one that
    /// may write can.
    reader: Worker,
    /// `None` when opened for reading only.
    writer: Option<Worker>,
}

impl SqliteLedger {
    /// Opens the ledger at `path`; unless for reading only, creates it and its folder when they are not there, and brings
    /// an older one up to this program's version.
    ///
    /// # Errors
    /// When the file cannot be opened, is no ledger, is damaged at its head, is of a newer version, or stays locked.
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self, LedgerError> {
        let path: Arc<Path> = Arc::from(path.as_ref());
        let worker = if options.in_place { in_place } else { Worker::thread };
        let writer = if options.read_only {
            None
        } else {
            create_folder(&path)?;
            let connection = schema::connect(&path, Access::Write, options.busy_timeout)?;
            Some(worker(path.clone(), connection, Kind::Write)?)
        };
        let connection = schema::connect(&path, Access::Read, options.busy_timeout)?;
        let reader = worker(path.clone(), connection, Kind::Read)?;
        let lease_clock = options.lease_clock;
        Ok(Self {
            shared: Arc::new(Shared { path, lease_clock, writer, reader }),
            actor: crate::UNNAMED.into(),
            lease: None,
        })
    }

    /// The same, for who is called so in the log of activity.
    #[must_use]
    pub fn acting_as(self, actor: &str) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Reads the whole file and says what is wrong with it, at most a hundred lines; empty when nothing is. Takes time in
    /// proportion to the file, during which reads wait: for an operator who asks, never at start or on a timer.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub fn check(&self) -> LedgerFuture<'_, Vec<String>> {
        self.read(check::check)
    }

    fn read<T, W>(&self, work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Done<T> + Send + 'static,
    {
        Box::pin(self.shared.reader.call(work))
    }

    fn write<T, W>(&self, work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Done<T> + Send + 'static,
    {
        match &self.shared.writer {
            Some(writer) => Box::pin(writer.call(work)),
            None => {
                let refused = LedgerError::ReadOnly { place: (&*self.shared.path).into() };
                Box::pin(std::future::ready(Err(refused)))
            }
        }
    }

    /// A write of one tenant: under this handle's lease, if it has one.
    fn write_of<T, W>(&self, tenant: TenantId, mut work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Done<T> + Send + 'static,
    {
        let Some(lease) = self.lease else { return self.write(work) };
        self.write(move |connection| {
            leases::check(connection, &lease, tenant)?;
            work(connection)
        })
    }
}

/// A connection that may write, to a file that is a ledger of this program's version by now.
pub(crate) fn connect_for_migration(path: &Path) -> Result<Connection, LedgerError> {
    schema::connect(path, Access::Write, OpenOptions::default().busy_timeout)
}

#[expect(clippy::unnecessary_wraps, reason = "stands in for Worker::thread, which can fail")]
fn in_place(path: Arc<Path>, connection: Connection, kind: Kind) -> Result<Worker, LedgerError> {
    Ok(Worker::caller(path, connection, kind))
}

fn create_folder(path: &Path) -> Result<(), LedgerError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .map_err(|error| LedgerError::CannotOpen { place: path.into(), source: Arc::new(error) })
}

impl std::fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read_only = self.shared.writer.is_none();
        f.debug_struct("SqliteLedger").field("path", &self.shared.path).field("read_only", &read_only).finish()
    }
}

impl Ledger for SqliteLedger {
    fn id(&self) -> LedgerFuture<'_, LedgerId> {
        self.read(identity::id)
    }

    fn add_tenant(
        &self,
        id: TenantId,
        label: String,
        collect_from: Timestamp,
        now: Timestamp,
    ) -> LedgerFuture<'_, bool> {
        let actor = Arc::clone(&self.actor);
        self.write(move |connection| tenants::add(connection, &actor, id, &label, collect_from, now))
    }

    fn tenant(&self, id: TenantId) -> LedgerFuture<'_, Option<Tenant>> {
        self.read(move |connection| tenants::one(connection, id))
    }

    fn tenants_since(&self, revision: u64) -> LedgerFuture<'_, (u64, Vec<Tenant>)> {
        self.read(move |connection| tenants::since(connection, revision))
    }

    fn set_tenant_state(&self, id: TenantId, state: TenantState, now: Timestamp) -> LedgerFuture<'_, bool> {
        let actor = Arc::clone(&self.actor);
        self.write_of(id, move |connection| tenants::set_state(connection, &actor, id, state, now))
    }

    fn purge_tenant(&self, id: TenantId, now: Timestamp) -> LedgerFuture<'_, Purge> {
        let actor = Arc::clone(&self.actor);
        self.write_of(id, move |connection| evidence::order_purge(connection, &actor, id, now))
    }

    fn purge(&self, id: TenantId) -> LedgerFuture<'_, Option<Purge>> {
        self.read(move |connection| evidence::purge(connection, id))
    }

    fn purges(&self, done_since: Timestamp, limit: u32) -> LedgerFuture<'_, Vec<Purge>> {
        self.read(move |connection| evidence::purges(connection, done_since, limit))
    }

    fn files_purged(
        &self,
        id: TenantId,
        through: Epoch,
        deleted: Deleted,
        is_done: bool,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        let actor = Arc::clone(&self.actor);
        self.write(move |connection| evidence::files_purged(connection, &actor, (id, through), deleted, is_done, now))
    }

    fn hold_tenant(&self, id: TenantId, reason: String, now: Timestamp) -> LedgerFuture<'_, bool> {
        let actor = Arc::clone(&self.actor);
        self.write_of(id, move |connection| evidence::hold(connection, &actor, id, &reason, now))
    }

    fn release_tenant(&self, id: TenantId, now: Timestamp) -> LedgerFuture<'_, bool> {
        let actor = Arc::clone(&self.actor);
        self.write_of(id, move |connection| evidence::release(connection, &actor, id, now))
    }

    fn note_activity(
        &self,
        kind: ActivityKind,
        tenant: Option<TenantId>,
        details: String,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        let actor = Arc::clone(&self.actor);
        let details = crate::values::details(&details);
        self.write(move |connection| evidence::note(connection, &actor, kind, tenant, &details, now))
    }

    fn activity(&self, filter: ActivityFilter, limit: u32) -> LedgerFuture<'_, Vec<ActivityEntry>> {
        self.read(move |connection| evidence::entries(connection, &filter, limit))
    }

    fn set_problem(
        &self,
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(id, move |connection| {
            tenants::set_problem(connection, id, content_type.as_ref(), problem.as_ref(), now)
        })
    }

    fn add_invitation(&self, invitation: NewInvitation, now: Timestamp) -> LedgerFuture<'_, InvitationNumber> {
        self.write(move |connection| consents::add_invitation(connection, &invitation, now))
    }

    fn invitations(&self, before: Option<InvitationNumber>, limit: u32) -> LedgerFuture<'_, Vec<Invitation>> {
        self.read(move |connection| consents::invitations(connection, before, limit))
    }

    fn invitation(&self, number: InvitationNumber) -> LedgerFuture<'_, Option<Invitation>> {
        self.read(move |connection| consents::invitation(connection, number))
    }

    fn invitation_by_secret(&self, secret: Digest) -> LedgerFuture<'_, Option<Invitation>> {
        self.read(move |connection| consents::invitation_by_secret(connection, &secret))
    }

    fn revoke_invitation(&self, number: InvitationNumber, now: Timestamp) -> LedgerFuture<'_, bool> {
        self.write(move |connection| consents::revoke_invitation(connection, number, now))
    }

    fn revoke_invitations_for(&self, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write(move |connection| consents::revoke_for(connection, tenant, now))
    }

    fn begin_consent(&self, flow: ConsentFlow, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write(move |connection| consents::begin(connection, &flow, now))
    }

    fn take_consent(&self, state: Digest, browser: Digest, now: Timestamp) -> LedgerFuture<'_, Taken> {
        self.write(move |connection| consents::take(connection, &state, &browser, now))
    }

    fn prove_consent(&self, visit: Visit, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write(move |connection| consents::prove(connection, &visit, now))
    }

    fn consent_visit(&self, browser: Digest, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, Option<Visit>> {
        self.read(move |connection| consents::visit(connection, &browser, tenant, now))
    }

    fn accept_consent(
        &self,
        browser: Digest,
        tenant: TenantId,
        collect_from: Timestamp,
        now: Timestamp,
    ) -> LedgerFuture<'_, Acceptance> {
        let actor = Arc::clone(&self.actor);
        self.write(move |connection| consents::accept(connection, &actor, &browser, tenant, collect_from, now))
    }

    fn consents(&self, tenant: Option<TenantId>, limit: u32) -> LedgerFuture<'_, Vec<ConsentEntry>> {
        self.read(move |connection| consents::entries(connection, tenant, limit))
    }

    fn sealed(&self, name: String) -> LedgerFuture<'_, Option<Vec<u8>>> {
        self.read(move |connection| sealed::one(connection, &name))
    }

    fn all_sealed(&self, after: Option<String>, limit: u32) -> LedgerFuture<'_, Vec<(String, Vec<u8>)>> {
        self.read(move |connection| sealed::all(connection, after.as_deref(), limit))
    }

    fn put_sealed(&self, name: String, was: Option<Vec<u8>>, now: Option<Vec<u8>>) -> LedgerFuture<'_, bool> {
        self.write(move |connection| sealed::put(connection, &name, was.as_deref(), now.as_deref()))
    }

    fn subscriptions(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Subscription>> {
        self.read(move |connection| tenants::subscriptions(connection, tenant))
    }

    fn subscriptions_listed(
        &self,
        tenant: TenantId,
        listed: Vec<(ContentType, Option<bool>)>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| tenants::subscriptions_listed(connection, tenant, &listed, now))
    }

    fn start_requested(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| tenants::start_requested(connection, tenant, &content_type, now))
    }

    fn was_enabled(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| hindrances::seen_enabled(connection, tenant, &content_type, now))
    }

    fn webhooks(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Webhook>> {
        self.read(move |connection| webhooks::of_tenant(connection, tenant))
    }

    fn webhook_at(&self, path_key: [u8; 16]) -> LedgerFuture<'_, Option<(Tenant, Webhook)>> {
        self.read(move |connection| webhooks::at(connection, path_key))
    }

    fn write_webhooks(&self, tenant: TenantId, webhooks: Vec<Webhook>, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| webhooks::write(connection, tenant, &webhooks, now))
    }

    fn notified(&self, tenant: TenantId, content_types: Vec<ContentType>, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| webhooks::notified(connection, tenant, &content_types, now))
    }

    fn tiles(&self, tenant: TenantId, content_type: ContentType) -> LedgerFuture<'_, Vec<Tile>> {
        self.read(move |connection| coverage::tiles(connection, tenant, &content_type))
    }

    fn contents_listed(&self, tenant: TenantId, contents: Vec<Listed>, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, move |connection| contents::listed(connection, tenant, &contents, now))
    }

    fn entries_refused(&self, tenant: TenantId, entries: Vec<RefusedEntry>, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, move |connection| contents::refused(connection, tenant, &entries, now))
    }

    fn tile_listed(&self, tenant: TenantId, content_type: ContentType, tile: Tile) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| coverage::tile_listed(connection, tenant, &content_type, &tile))
    }

    fn pending(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
        in_flight: Vec<i64>,
    ) -> LedgerFuture<'_, Vec<Pending>> {
        self.read(move |connection| contents::pending(connection, tenant, now, limit, &in_flight))
    }

    fn next_attempt_at(&self, tenant: TenantId) -> LedgerFuture<'_, Option<Timestamp>> {
        self.read(move |connection| contents::next_attempt_at(connection, tenant))
    }

    fn content_failed(
        &self,
        tenant: TenantId,
        row: i64,
        message: String,
        next_attempt_at: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| contents::failed(connection, tenant, row, &message, next_attempt_at))
    }

    fn content_lost(&self, tenant: TenantId, row: i64, loss: Loss, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| contents::lost(connection, tenant, row, &loss, now))
    }

    fn content_state(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        content_id: String,
    ) -> LedgerFuture<'_, Option<ContentState>> {
        self.read(move |connection| contents::state(connection, tenant, &content_type, &content_id))
    }

    fn commit(&self, commit: Commit) -> LedgerFuture<'_, ()> {
        self.write_of(commit.tenant, move |connection| commits::commit(connection, &commit))
    }

    fn expire_segments(&self, tenant: TenantId, expiry: Expiry, now: Timestamp) -> LedgerFuture<'_, Expired> {
        let actor = Arc::clone(&self.actor);
        self.write_of(tenant, move |connection| commits::expire_segments(connection, &actor, tenant, &expiry, now))
    }

    fn retained(&self, tenant: TenantId) -> LedgerFuture<'_, Retained> {
        self.read(move |connection| commits::retained(connection, tenant))
    }

    fn segments(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<SegmentRow>> {
        self.read(move |connection| commits::segments(connection, tenant))
    }

    fn segments_within(
        &self,
        tenants: Option<BTreeSet<TenantId>>,
        seconds: Option<RangeInclusive<i64>>,
    ) -> LedgerFuture<'_, Vec<(TenantId, Vec<SegmentRow>)>> {
        self.read(move |connection| commits::segments_within(connection, tenants.as_ref(), seconds.as_ref()))
    }

    fn replace_segments(
        &self,
        tenant: TenantId,
        number: CommitNumber,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| {
            commits::replace_segments(connection, tenant, number, &removed, &added, now)
        })
    }

    fn obsolete(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(SegmentRow, Timestamp)>> {
        self.read(move |connection| commits::obsolete(connection, tenant))
    }

    fn deletable(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(SegmentRow, Timestamp)>> {
        self.read(move |connection| commits::deletable(connection, tenant))
    }

    fn obsolete_deleted(&self, tenant: TenantId, segments: Vec<SegmentRow>) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| commits::obsolete_deleted(connection, tenant, &segments))
    }

    fn set_segment_problem(
        &self,
        tenant: TenantId,
        segment: SegmentRow,
        problem: Option<String>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| {
            commits::set_segment_problem(connection, tenant, &segment, problem.as_deref(), now)
        })
    }

    fn damaged_segments(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<DamagedSegment>> {
        self.read(move |connection| commits::damaged_segments(connection, tenant))
    }

    fn workers(&self) -> LedgerFuture<'_, Vec<WorkerRow>> {
        let clock = self.shared.lease_clock.clone();
        self.read(move |connection| leases::workers(connection, clock.as_deref()))
    }

    fn holders(&self, tenants: Vec<TenantId>) -> LedgerFuture<'_, Vec<(TenantId, String)>> {
        self.read(move |connection| leases::holders(connection, &tenants))
    }

    fn quarantine(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<QuarantineRow>> {
        self.read(move |connection| commits::quarantined(connection, tenant, limit))
    }

    fn losses(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<LostContent>> {
        self.read(move |connection| contents::losses(connection, tenant, limit))
    }

    fn coverage(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Coverage>> {
        self.read(move |connection| coverage::coverage(connection, tenant))
    }

    fn feed_notes(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<FeedNotes>> {
        self.read(move |connection| coverage::notes(connection, tenant))
    }

    fn history(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(ContentType, History)>> {
        self.read(move |connection| hindrances::history(connection, tenant))
    }

    fn at_work(&self, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write(move |connection| hindrances::at_work(connection, now))
    }

    fn failing(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<FailingContent>> {
        self.read(move |connection| notes::failing(connection, tenant, limit))
    }

    fn retry_lost(&self, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, move |connection| notes::retry_lost(connection, tenant, now))
    }

    fn relisted(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        requests: u64,
        found: u64,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, move |connection| {
            notes::relisted(connection, tenant, &content_type, requests, found, now)
        })
    }

    fn fold(&self, tenant: TenantId, before: Timestamp, limit: u32) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, move |connection| coverage::fold(connection, tenant, before, limit))
    }
}
