//! The ledger that many share: a PostgreSQL database, spoken to from one thread over a few connections.
//!
//! Guarantees: a call that returned `Ok` survives the loss of power (as far as the server is not told otherwise by its own
//! settings); a call that failed left nothing behind, also when the connection broke while it was being committed. Any
//! number of processes may use it at once: whatever writes locks its tenant's row first, so that a tenant's writes have an
//! order, and commit numbers and revisions become visible in it. Who collects claims the database ([`PgLedger::claim`]), alone
//! or as one of several workers that hold tenants under leases.
//!
//! Never holds a lock while it waits for a caller. Needs sessions of its own: a pooler between must not share one session
//! among transactions.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

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
use futures_util::future::join;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use self::fault::Done;
use self::session::Session;
use self::worker::{Kind, Worker};
use crate::error::Place;
use crate::{Hint, Hints, Ledger, LedgerError, LedgerFuture};

mod address;
mod check;
mod claim;
mod commits;
mod connect;
mod consents;
mod contents;
mod coverage;
mod evidence;
mod fault;
mod hindrances;
mod hints;
mod identity;
mod last_write;
mod leases;
mod notes;
mod options;
mod rows;
mod schema;
mod sealed;
mod session;
mod tenants;
mod tls;
mod webhooks;
mod worker;

#[cfg(test)]
mod tests;

pub use self::address::{PgAddress, PgAddressError, PgPassword};
pub use self::claim::{Claim, ClaimError, Company};
pub use self::options::PgOptions;
pub(crate) use self::worker::Engine;

/// A handle to the ledger in one database. Clones share the thread and its connections; when the last one is dropped, what
/// is queued is carried out and the connections are closed before the drop returns.
#[derive(Clone)]
pub struct PgLedger {
    worker: Arc<Worker>,
    read_only: bool,
    /// Who writes, as the log of activity has it.
    actor: Arc<str>,
    /// What a write of a tenant must hold, if anything.
    lease: Option<Lease>,
}

impl PgLedger {
    /// Opens the ledger; unless for reading only, makes its tables when there are none, and brings older ones up to this
    /// program's version. Waits until the server has answered.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses us, when the database is no ledger, or is of a newer version.
    pub fn open(options: PgOptions) -> Result<Self, LedgerError> {
        let read_only = options.read_only;
        Ok(Self { worker: Arc::new(Worker::start(options)?), read_only, actor: crate::UNNAMED.into(), lease: None })
    }

    /// The same, for who is called so in the log of activity.
    #[must_use]
    pub fn acting_as(self, actor: &str) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// Where it is, without the password.
    pub fn place(&self) -> &Place {
        self.worker.place()
    }

    /// Makes this process a collector of the database, for as long as the claim lives.
    ///
    /// # Errors
    /// When another process is that must not be beside it, or the server does not answer.
    pub async fn claim(&self, company: Company) -> Result<Claim, ClaimError> {
        self.worker.claim(company).await
    }

    /// This handle among others.
    fn me(&self) -> uuid::Uuid {
        self.worker.ear().me()
    }

    fn heard(&self) -> Hints {
        self.worker.ear().hints()
    }

    /// Reads the whole ledger and says what is wrong with it, at most a hundred lines; empty when nothing is. For an
    /// operator who asks, never at start or on a timer.
    ///
    /// # Errors
    /// When the database cannot be read at all.
    pub fn check(&self) -> LedgerFuture<'_, Vec<String>> {
        self.long_read(async |session| check::check(session).await)
    }

    /// Runs something on the thread, with a connection of its own.
    pub(crate) async fn on_thread<T, W>(&self, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: AsyncFnOnce(std::rc::Rc<Engine>) -> Result<T, LedgerError> + Send + 'static,
    {
        self.worker.on_thread(work).await
    }

    fn read<T, W>(&self, work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: for<'s> AsyncFn(&'s Session<'s>) -> Done<T> + Send + 'static,
    {
        Box::pin(self.worker.call(Kind::Read, work))
    }

    fn long_read<T, W>(&self, work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: for<'s> AsyncFn(&'s Session<'s>) -> Done<T> + Send + 'static,
    {
        Box::pin(self.worker.call(Kind::LongRead, work))
    }

    fn write<T, W>(&self, work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: for<'s> AsyncFn(&'s Session<'s>) -> Done<T> + Send + 'static,
    {
        if self.read_only {
            let refused = LedgerError::ReadOnly { place: self.worker.place().clone() };
            return Box::pin(std::future::ready(Err(refused)));
        }
        Box::pin(self.worker.call(Kind::Write, work))
    }

    /// A write of one tenant: under this handle's lease, if it has one. Asking for that costs no round trip of its own.
    fn write_of<T, W>(&self, tenant: TenantId, work: W) -> LedgerFuture<'_, T>
    where
        T: Send + 'static,
        W: for<'s> AsyncFn(&'s Session<'s>) -> Done<T> + Send + 'static,
    {
        let Some(lease) = self.lease else { return self.write(work) };
        self.write(async move |session| {
            let (held, done) = join(leases::check(session, &lease, tenant), work(session)).await;
            held.and(done)
        })
    }
}

impl std::fmt::Debug for PgLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgLedger").field("place", self.worker.place()).field("read_only", &self.read_only).finish()
    }
}

impl Ledger for PgLedger {
    fn id(&self) -> LedgerFuture<'_, LedgerId> {
        self.read(async |session| identity::id(session).await)
    }

    fn add_tenant(
        &self,
        id: TenantId,
        label: String,
        collect_from: Timestamp,
        now: Timestamp,
    ) -> LedgerFuture<'_, bool> {
        let (me, actor) = (self.me(), Arc::clone(&self.actor));
        self.write(async move |session| {
            let added = tenants::add(session, &actor, id, &label, collect_from, now).await?;
            if added {
                hints::tell(session, me, Hint::Changed { tenant: id }).await?;
            }
            Ok(added)
        })
    }

    fn tenant(&self, id: TenantId) -> LedgerFuture<'_, Option<Tenant>> {
        self.read(async move |session| tenants::one(session, id).await)
    }

    fn tenants_since(&self, revision: u64) -> LedgerFuture<'_, (u64, Vec<Tenant>)> {
        self.read(async move |session| tenants::since(session, revision).await)
    }

    fn set_tenant_state(&self, id: TenantId, state: TenantState, now: Timestamp) -> LedgerFuture<'_, bool> {
        let (me, actor) = (self.me(), Arc::clone(&self.actor));
        self.write_of(id, async move |session| {
            let known = tenants::set_state(session, &actor, id, state, now).await?;
            if known {
                hints::tell(session, me, Hint::Changed { tenant: id }).await?;
            }
            Ok(known)
        })
    }

    fn purge_tenant(&self, id: TenantId, now: Timestamp) -> LedgerFuture<'_, Purge> {
        let (me, actor) = (self.me(), Arc::clone(&self.actor));
        self.write_of(id, async move |session| {
            let purge = evidence::order_purge(session, &actor, id, now).await?;
            hints::tell(session, me, Hint::Changed { tenant: id }).await?;
            Ok(purge)
        })
    }

    fn purge(&self, id: TenantId) -> LedgerFuture<'_, Option<Purge>> {
        self.read(async move |session| evidence::purge(session, id).await)
    }

    fn purges(&self, done_since: Timestamp, limit: u32) -> LedgerFuture<'_, Vec<Purge>> {
        self.read(async move |session| evidence::purges(session, done_since, limit).await)
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
        self.write(async move |session| {
            evidence::files_purged(session, &actor, (id, through), deleted, is_done, now).await
        })
    }

    fn hold_tenant(&self, id: TenantId, reason: String, now: Timestamp) -> LedgerFuture<'_, bool> {
        let actor = Arc::clone(&self.actor);
        self.write_of(id, async move |session| evidence::hold(session, &actor, id, &reason, now).await)
    }

    fn release_tenant(&self, id: TenantId, now: Timestamp) -> LedgerFuture<'_, bool> {
        let actor = Arc::clone(&self.actor);
        self.write_of(id, async move |session| evidence::release(session, &actor, id, now).await)
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
        self.write(async move |session| evidence::note(session, &actor, kind, tenant, &details, now).await)
    }

    fn activity(&self, filter: ActivityFilter, limit: u32) -> LedgerFuture<'_, Vec<ActivityEntry>> {
        self.read(async move |session| evidence::entries(session, &filter, limit).await)
    }

    fn set_problem(
        &self,
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(id, async move |session| {
            tenants::set_problem(session, id, content_type.as_ref(), problem.as_ref(), now).await
        })
    }

    fn add_invitation(&self, invitation: NewInvitation, now: Timestamp) -> LedgerFuture<'_, InvitationNumber> {
        self.write(async move |session| consents::add_invitation(session, &invitation, now).await)
    }

    fn invitations(&self, before: Option<InvitationNumber>, limit: u32) -> LedgerFuture<'_, Vec<Invitation>> {
        self.read(async move |session| consents::invitations(session, before, limit).await)
    }

    fn invitation(&self, number: InvitationNumber) -> LedgerFuture<'_, Option<Invitation>> {
        self.read(async move |session| consents::invitation(session, number).await)
    }

    fn invitation_by_secret(&self, secret: Digest) -> LedgerFuture<'_, Option<Invitation>> {
        self.read(async move |session| consents::invitation_by_secret(session, &secret).await)
    }

    fn revoke_invitation(&self, number: InvitationNumber, now: Timestamp) -> LedgerFuture<'_, bool> {
        self.write(async move |session| consents::revoke_invitation(session, number, now).await)
    }

    fn revoke_invitations_for(&self, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write(async move |session| consents::revoke_for(session, tenant, now).await)
    }

    fn begin_consent(&self, flow: ConsentFlow, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write(async move |session| consents::begin(session, &flow, now).await)
    }

    fn take_consent(&self, state: Digest, browser: Digest, now: Timestamp) -> LedgerFuture<'_, Taken> {
        self.write(async move |session| consents::take(session, &state, &browser, now).await)
    }

    fn prove_consent(&self, visit: Visit, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write(async move |session| consents::prove(session, &visit, now).await)
    }

    fn consent_visit(&self, browser: Digest, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, Option<Visit>> {
        self.read(async move |session| consents::visit(session, &browser, tenant, now).await)
    }

    fn accept_consent(
        &self,
        browser: Digest,
        tenant: TenantId,
        collect_from: Timestamp,
        now: Timestamp,
    ) -> LedgerFuture<'_, Acceptance> {
        let (me, actor) = (self.me(), Arc::clone(&self.actor));
        self.write(async move |session| {
            let acceptance = consents::accept(session, &actor, &browser, tenant, collect_from, now).await?;
            hints::tell(session, me, Hint::Consented { tenant }).await?;
            Ok(acceptance)
        })
    }

    fn consents(&self, tenant: Option<TenantId>, limit: u32) -> LedgerFuture<'_, Vec<ConsentEntry>> {
        self.read(async move |session| consents::entries(session, tenant, limit).await)
    }

    fn sealed(&self, name: String) -> LedgerFuture<'_, Option<Vec<u8>>> {
        self.read(async move |session| sealed::one(session, &name).await)
    }

    fn all_sealed(&self, after: Option<String>, limit: u32) -> LedgerFuture<'_, Vec<(String, Vec<u8>)>> {
        self.read(async move |session| sealed::all(session, after.as_deref(), limit).await)
    }

    fn put_sealed(&self, name: String, was: Option<Vec<u8>>, now: Option<Vec<u8>>) -> LedgerFuture<'_, bool> {
        self.write(async move |session| sealed::put(session, &name, was.as_deref(), now.as_deref()).await)
    }

    fn subscriptions(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Subscription>> {
        self.read(async move |session| tenants::subscriptions(session, tenant).await)
    }

    fn subscriptions_listed(
        &self,
        tenant: TenantId,
        listed: Vec<(ContentType, Option<bool>)>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| tenants::subscriptions_listed(session, tenant, &listed, now).await)
    }

    fn start_requested(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| tenants::start_requested(session, tenant, &content_type, now).await)
    }

    fn was_enabled(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| hindrances::seen_enabled(session, tenant, &content_type, now).await)
    }

    fn webhooks(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Webhook>> {
        self.read(async move |session| webhooks::of_tenant(session, tenant).await)
    }

    fn webhook_at(&self, path_key: [u8; 16]) -> LedgerFuture<'_, Option<(Tenant, Webhook)>> {
        self.read(async move |session| webhooks::at(session, path_key).await)
    }

    fn write_webhooks(&self, tenant: TenantId, webhooks: Vec<Webhook>, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| webhooks::write(session, tenant, &webhooks, now).await)
    }

    fn notified(&self, tenant: TenantId, content_types: Vec<ContentType>, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| webhooks::notified(session, tenant, &content_types, now).await)
    }

    fn tiles(&self, tenant: TenantId, content_type: ContentType) -> LedgerFuture<'_, Vec<Tile>> {
        self.read(async move |session| coverage::tiles(session, tenant, &content_type).await)
    }

    fn contents_listed(&self, tenant: TenantId, contents: Vec<Listed>, now: Timestamp) -> LedgerFuture<'_, u64> {
        let (me, by_its_holder) = (self.me(), self.lease.is_some());
        self.write_of(tenant, async move |session| {
            let new = contents::listed(session, tenant, &contents, now).await?;
            if new > 0 && !by_its_holder {
                hints::tell(session, me, Hint::Listed { tenant, new }).await?;
            }
            Ok(new)
        })
    }

    fn entries_refused(&self, tenant: TenantId, entries: Vec<RefusedEntry>, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, async move |session| contents::refused(session, tenant, &entries, now).await)
    }

    fn tile_listed(&self, tenant: TenantId, content_type: ContentType, tile: Tile) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| coverage::tile_listed(session, tenant, &content_type, &tile).await)
    }

    fn pending(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
        in_flight: Vec<i64>,
    ) -> LedgerFuture<'_, Vec<Pending>> {
        self.read(async move |session| contents::pending(session, tenant, now, limit, &in_flight).await)
    }

    fn next_attempt_at(&self, tenant: TenantId) -> LedgerFuture<'_, Option<Timestamp>> {
        self.read(async move |session| contents::next_attempt_at(session, tenant).await)
    }

    fn content_failed(
        &self,
        tenant: TenantId,
        row: i64,
        message: String,
        next_attempt_at: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| {
            contents::failed(session, tenant, row, &message, next_attempt_at).await
        })
    }

    fn content_lost(&self, tenant: TenantId, row: i64, loss: Loss, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| contents::lost(session, tenant, row, &loss, now).await)
    }

    fn content_state(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        content_id: String,
    ) -> LedgerFuture<'_, Option<ContentState>> {
        self.read(async move |session| contents::state(session, tenant, &content_type, &content_id).await)
    }

    fn commit(&self, commit: Commit) -> LedgerFuture<'_, ()> {
        self.write_of(commit.tenant, async move |session| commits::commit(session, &commit).await)
    }

    fn expire_segments(&self, tenant: TenantId, expiry: Expiry, now: Timestamp) -> LedgerFuture<'_, Expired> {
        let actor = Arc::clone(&self.actor);
        self.write_of(tenant, async move |session| {
            commits::expire_segments(session, &actor, tenant, &expiry, now).await
        })
    }

    fn retained(&self, tenant: TenantId) -> LedgerFuture<'_, Retained> {
        self.read(async move |session| commits::retained(session, tenant).await)
    }

    fn segments(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<SegmentRow>> {
        self.read(async move |session| commits::segments(session, tenant).await)
    }

    fn segments_within(
        &self,
        tenants: Option<BTreeSet<TenantId>>,
        seconds: Option<RangeInclusive<i64>>,
    ) -> LedgerFuture<'_, Vec<(TenantId, Vec<SegmentRow>)>> {
        self.long_read(async move |session| commits::segments_within(session, tenants.as_ref(), seconds.as_ref()).await)
    }

    fn replace_segments(
        &self,
        tenant: TenantId,
        number: CommitNumber,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| {
            commits::replace_segments(session, tenant, number, &removed, &added, now).await
        })
    }

    fn obsolete(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(SegmentRow, Timestamp)>> {
        self.read(async move |session| commits::obsolete(session, tenant).await)
    }

    fn deletable(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(SegmentRow, Timestamp)>> {
        self.read(async move |session| commits::deletable(session, tenant).await)
    }

    fn obsolete_deleted(&self, tenant: TenantId, segments: Vec<SegmentRow>) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| commits::obsolete_deleted(session, tenant, &segments).await)
    }

    fn set_segment_problem(
        &self,
        tenant: TenantId,
        segment: SegmentRow,
        problem: Option<String>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| {
            commits::set_segment_problem(session, tenant, &segment, problem.as_deref(), now).await
        })
    }

    fn damaged_segments(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<DamagedSegment>> {
        self.read(async move |session| commits::damaged_segments(session, tenant).await)
    }

    fn workers(&self) -> LedgerFuture<'_, Vec<WorkerRow>> {
        self.read(async |session| leases::workers(session).await)
    }

    fn holders(&self, tenants: Vec<TenantId>) -> LedgerFuture<'_, Vec<(TenantId, String)>> {
        self.read(async move |session| leases::holders(session, &tenants).await)
    }

    fn quarantine(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<QuarantineRow>> {
        self.read(async move |session| commits::quarantined(session, tenant, limit).await)
    }

    fn losses(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<LostContent>> {
        self.read(async move |session| contents::losses(session, tenant, limit).await)
    }

    fn coverage(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Coverage>> {
        self.read(async move |session| coverage::coverage(session, tenant).await)
    }

    fn feed_notes(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<FeedNotes>> {
        self.read(async move |session| coverage::notes(session, tenant).await)
    }

    fn history(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(ContentType, History)>> {
        self.read(async move |session| hindrances::history(session, tenant).await)
    }

    fn at_work(&self, now: Timestamp) -> LedgerFuture<'_, ()> {
        self.write(async move |session| hindrances::at_work(session, now).await)
    }

    fn failing(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<FailingContent>> {
        self.read(async move |session| notes::failing(session, tenant, limit).await)
    }

    fn retry_lost(&self, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, async move |session| notes::retry_lost(session, tenant, now).await)
    }

    fn relisted(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        requests: u64,
        found: u64,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()> {
        self.write_of(tenant, async move |session| {
            notes::relisted(session, tenant, &content_type, requests, found, now).await
        })
    }

    fn fold(&self, tenant: TenantId, before: Timestamp, limit: u32) -> LedgerFuture<'_, u64> {
        self.write_of(tenant, async move |session| coverage::fold(session, tenant, before, limit).await)
    }
}
