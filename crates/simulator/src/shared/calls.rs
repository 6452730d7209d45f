//! Every call of the ledger as one process makes it: what it locks, under which lease, and what is seen of it when it is
//! carried out.
//!
//! Never decides anything: the client does about its connection, and the ledger about everything else.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
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
use ledger::{Hint, Hints, Ledger, LedgerFuture, Workers};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use super::client::{Call, Client};
use super::plant::SharingBug;
use super::server::{Executing, Lock, Locks, settled};

/// The ledger as one process has it; under a lease, if it has one.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) client: Arc<Client>,
    pub(crate) lease: Option<Lease>,
}

macro_rules! calls {
    (@read $self:ident $name:ident ($($argument:ident)*)) => {
        Box::pin($self.client.read(move |executing| settled(executing.ledger.$name($(Clone::clone(&$argument)),*))))
    };
    (@free $self:ident $name:ident ($($argument:ident)*)) => {{
        let work = move |executing: &Executing<'_>| settled(executing.ledger.$name($(Clone::clone(&$argument)),*));
        let (name, locks) = (stringify!($name), Locks::These(Vec::new()));
        Box::pin(Arc::clone(&$self.client).write(Call { name, locks, work: Box::new(work), hint: |_| None }))
    }};
    (@own $self:ident $name:ident ($($argument:ident)*) ($tenant:expr)
        $(with $with:ident = |$this:ident| $before:expr)?
        $(, saw |$executing:ident, $lease:ident| $saw:expr)?) => {{
        let (client, lease, owner, name) = (Arc::clone(&$self.client), $self.lease, $tenant, stringify!($name));
        $(let $with = { let $this = $self; $before };)?
        Box::pin(async move {
            let guard = client.guard(name, lease)?;
            let work = move |executing: &Executing<'_>| {
                let result = settled(executing.under(guard).$name($(Clone::clone(&$argument)),*))?;
                executing.leases().wrote(name, lease, owner);
                $({
                    let ($executing, $lease) = (executing, lease);
                    $saw;
                })?
                Ok(result)
            };
            let locks = Locks::These(vec![Lock::Tenant(owner)]);
            client.write(Call { name, locks, work: Box::new(work), hint: |_| None }).await
        })
    }};
    ($($kind:ident $(($tenant:expr))? fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty
        $(, with $with:ident = |$this:ident| $before:expr)?
        $(, saw |$executing:ident, $lease:ident| $saw:expr)?;)*) => {
        impl Ledger for Handle {
            $(fn $name(&self, $($argument: $type),*) -> LedgerFuture<'_, $result> {
                calls!(@$kind self $name ($($argument)*) $(($tenant))?
                    $(with $with = |$this| $before)?
                    $(, saw |$executing, $lease| $saw)?)
            })*
        }
    };
}

calls! {
    read fn id() -> LedgerId;
    free fn add_tenant(id: TenantId, label: String, collect_from: Timestamp, now: Timestamp) -> bool;
    read fn tenant(id: TenantId) -> Option<Tenant>;
    read fn tenants_since(revision: u64) -> (u64, Vec<Tenant>);
    own(id) fn set_tenant_state(id: TenantId, state: TenantState, now: Timestamp) -> bool;
    own(id) fn purge_tenant(id: TenantId, now: Timestamp) -> Purge;
    read fn purge(id: TenantId) -> Option<Purge>;
    read fn purges(done_since: Timestamp, limit: u32) -> Vec<Purge>;
    free fn files_purged(id: TenantId, through: Epoch, deleted: Deleted, is_done: bool, now: Timestamp) -> ();
    own(id) fn hold_tenant(id: TenantId, reason: String, now: Timestamp) -> bool;
    own(id) fn release_tenant(id: TenantId, now: Timestamp) -> bool;
    free fn note_activity(kind: ActivityKind, tenant: Option<TenantId>, details: String, now: Timestamp) -> ();
    read fn activity(filter: ActivityFilter, limit: u32) -> Vec<ActivityEntry>;
    own(id) fn set_problem(
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
        now: Timestamp
    ) -> ();
    free fn add_invitation(invitation: NewInvitation, now: Timestamp) -> InvitationNumber;
    read fn invitations(before: Option<InvitationNumber>, limit: u32) -> Vec<Invitation>;
    read fn invitation(number: InvitationNumber) -> Option<Invitation>;
    read fn invitation_by_secret(secret: Digest) -> Option<Invitation>;
    free fn revoke_invitation(number: InvitationNumber, now: Timestamp) -> bool;
    free fn revoke_invitations_for(tenant: TenantId, now: Timestamp) -> u64;
    free fn begin_consent(flow: ConsentFlow, now: Timestamp) -> ();
    free fn take_consent(state: Digest, browser: Digest, now: Timestamp) -> Taken;
    free fn prove_consent(visit: Visit, now: Timestamp) -> ();
    read fn consent_visit(browser: Digest, tenant: TenantId, now: Timestamp) -> Option<Visit>;
    free fn accept_consent(browser: Digest, tenant: TenantId, collect_from: Timestamp, now: Timestamp) -> Acceptance;
    read fn consents(tenant: Option<TenantId>, limit: u32) -> Vec<ConsentEntry>;
    read fn sealed(name: String) -> Option<Vec<u8>>;
    read fn all_sealed(after: Option<String>, limit: u32) -> Vec<(String, Vec<u8>)>;
    free fn put_sealed(name: String, was: Option<Vec<u8>>, now: Option<Vec<u8>>) -> bool;
    read fn webhooks(tenant: TenantId) -> Vec<Webhook>;
    read fn webhook_at(path_key: [u8; 16]) -> Option<(Tenant, Webhook)>;
    own(tenant) fn write_webhooks(tenant: TenantId, webhooks: Vec<Webhook>, now: Timestamp) -> ();
    own(tenant) fn notified(tenant: TenantId, content_types: Vec<ContentType>, now: Timestamp) -> ();
    read fn subscriptions(tenant: TenantId) -> Vec<Subscription>;
    own(tenant) fn subscriptions_listed(
        tenant: TenantId,
        listed: Vec<(ContentType, Option<bool>)>,
        now: Timestamp
    ) -> ();
    own(tenant) fn start_requested(tenant: TenantId, content_type: ContentType, now: Timestamp) -> ();
    own(tenant) fn was_enabled(tenant: TenantId, content_type: ContentType, now: Timestamp) -> ();
    read fn tiles(tenant: TenantId, content_type: ContentType) -> Vec<Tile>;
    own(tenant) fn contents_listed(tenant: TenantId, contents: Vec<Listed>, now: Timestamp) -> u64;
    own(tenant) fn entries_refused(tenant: TenantId, entries: Vec<RefusedEntry>, now: Timestamp) -> u64;
    own(tenant) fn tile_listed(tenant: TenantId, content_type: ContentType, tile: Tile) -> (),
        with began = |this| this.client.began(&tile),
        saw |executing, _lease| executing.server.witness.tile_seen(tenant, &content_type, &tile, began);
    read fn pending(tenant: TenantId, now: Timestamp, limit: u32, in_flight: Vec<i64>) -> Vec<Pending>;
    read fn next_attempt_at(tenant: TenantId) -> Option<Timestamp>;
    own(tenant) fn content_failed(tenant: TenantId, row: i64, message: String, next_attempt_at: Timestamp) -> ();
    own(tenant) fn content_lost(tenant: TenantId, row: i64, loss: Loss, now: Timestamp) -> ();
    read fn content_state(tenant: TenantId, content_type: ContentType, content_id: String) -> Option<ContentState>;
    own(commit.tenant) fn commit(commit: Commit) -> (),
        saw |executing, lease| executing.committed(commit.tenant, commit.number, lease, &commit.segments);
    own(tenant) fn expire_segments(tenant: TenantId, expiry: Expiry, now: Timestamp) -> Expired;
    read fn retained(tenant: TenantId) -> Retained;
    read fn segments(tenant: TenantId) -> Vec<SegmentRow>;
    read fn segments_within(tenants: Option<BTreeSet<TenantId>>, seconds: Option<RangeInclusive<i64>>) -> Vec<(TenantId, Vec<SegmentRow>)>;
    own(tenant) fn replace_segments(
        tenant: TenantId,
        number: CommitNumber,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
        now: Timestamp
    ) -> (),
        saw |executing, lease| executing.committed(tenant, number, lease, &added);
    read fn obsolete(tenant: TenantId) -> Vec<(SegmentRow, Timestamp)>;
    read fn deletable(tenant: TenantId) -> Vec<(SegmentRow, Timestamp)>;
    own(tenant) fn obsolete_deleted(tenant: TenantId, segments: Vec<SegmentRow>) -> ();
    own(tenant) fn set_segment_problem(
        tenant: TenantId,
        segment: SegmentRow,
        problem: Option<String>,
        now: Timestamp
    ) -> ();
    read fn damaged_segments(tenant: TenantId) -> Vec<DamagedSegment>;
    read fn workers() -> Vec<WorkerRow>;
    read fn holders(tenants: Vec<TenantId>) -> Vec<(TenantId, String)>;
    read fn quarantine(tenant: TenantId, limit: u32) -> Vec<QuarantineRow>;
    read fn losses(tenant: TenantId, limit: u32) -> Vec<LostContent>;
    read fn feed_notes(tenant: TenantId) -> Vec<FeedNotes>;
    read fn history(tenant: TenantId) -> Vec<(ContentType, History)>;
    free fn at_work(now: Timestamp) -> ();
    read fn failing(tenant: TenantId, limit: u32) -> Vec<FailingContent>;
    own(tenant) fn retry_lost(tenant: TenantId, now: Timestamp) -> u64;
    own(tenant) fn relisted(
        tenant: TenantId,
        content_type: ContentType,
        requests: u64,
        found: u64,
        now: Timestamp
    ) -> ();
    read fn coverage(tenant: TenantId) -> Vec<Coverage>;
    own(tenant) fn fold(tenant: TenantId, before: Timestamp, limit: u32) -> u64,
        saw |executing, _lease| executing.server.witness.folded(before);
}

impl Workers for Handle {
    fn alive(&self, worker: WorkerId, name: String, lease_time: Duration) -> LedgerFuture<'_, Fleet> {
        let client = Arc::clone(&self.client);
        Box::pin(async move {
            let sent = client.time_of_trust();
            let work = move |executing: &Executing<'_>| {
                let fleet = settled(executing.ledger.alive(worker, name.clone(), lease_time))?;
                executing.leases().alive(worker, lease_time, executing.now);
                Ok(fleet)
            };
            let locks = Locks::These(vec![Lock::Worker(worker)]);
            let call = Call { name: "alive", locks, work: Box::new(work), hint: |_: &Fleet| None };
            let fleet = Arc::clone(&client).write(call).await?;
            let times = if client.bug == Some(SharingBug::TrustsTooLong) { 10 } else { 1 };
            client.trust(sent + TimeDelta::from_std(lease_time * times).unwrap_or_default());
            Ok(fleet)
        })
    }

    fn take(&self, worker: WorkerId, limit: u32) -> LedgerFuture<'_, Vec<Lease>> {
        let work = move |executing: &Executing<'_>| {
            let leases = settled(executing.ledger.take_but(worker, limit, executing.written.clone()))?;
            executing.leases().took(&leases, executing.now);
            Ok(leases)
        };
        let locks = Locks::These(vec![Lock::Worker(worker)]);
        Box::pin(Arc::clone(&self.client).write(Call { name: "take", locks, work: Box::new(work), hint: |_| None }))
    }

    fn give_back(&self, leases: Vec<Lease>) -> LedgerFuture<'_, u64> {
        let locks = Locks::These(leases.iter().map(|lease| Lock::Tenant(lease.tenant)).collect());
        let work = move |executing: &Executing<'_>| {
            let given = settled(executing.ledger.give_back(leases.clone()))?;
            executing.leases().given_back(&leases, executing.now);
            Ok(given)
        };
        let hint = |given: &u64| (*given > 0).then_some(Hint::Free);
        Box::pin(Arc::clone(&self.client).write(Call { name: "give_back", locks, work: Box::new(work), hint }))
    }

    fn held(&self, worker: WorkerId) -> LedgerFuture<'_, Vec<Lease>> {
        Box::pin(self.client.read(move |executing| settled(executing.ledger.held(worker))))
    }

    fn leave(&self, worker: WorkerId) -> LedgerFuture<'_, u64> {
        let work = move |executing: &Executing<'_>| {
            let given = settled(executing.ledger.leave(worker))?;
            executing.leases().left(worker, executing.now);
            Ok(given)
        };
        let (locks, hint) = (Locks::Leaving(worker), |_: &u64| Some(Hint::Free));
        Box::pin(Arc::clone(&self.client).write(Call { name: "leave", locks, work: Box::new(work), hint }))
    }

    /// Nobody here has proof that there is no other.
    fn bury_others(&self, worker: WorkerId) -> LedgerFuture<'_, ()> {
        let work = move |executing: &Executing<'_>| settled(executing.ledger.bury_others(worker));
        let locks = Locks::These(Vec::new());
        Box::pin(Arc::clone(&self.client).write(Call {
            name: "bury_others",
            locks,
            work: Box::new(work),
            hint: |_| None,
        }))
    }

    fn hints(&self) -> Hints {
        let Client { server, process, troubles, fate, .. } = &*self.client;
        Hints::of(server.listen(*process, troubles, fate))
    }

    fn under(&self, lease: Lease) -> Arc<dyn Ledger> {
        Arc::new(Self { lease: Some(lease), ..self.clone() })
    }
}
