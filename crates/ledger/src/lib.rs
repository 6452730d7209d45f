#![doc = include_str!("../README.md")]

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;

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
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod error;
pub mod location;
pub mod migrate;
pub mod postgres;
pub mod sqlite;
mod values;
pub mod workers;

pub use error::{LedgerError, Place};
pub use location::{Location, OpenLedger};
pub use workers::{Hint, Hints, Workers};

/// Who writes, in the log of activity, on a handle that nobody has given a name.
pub const UNNAMED: &str = "unnamed";

/// What every method of [`Ledger`] returns.
pub type LedgerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send + 'a>>;

/// The durable state of the collector. Each method is one transaction: it happens whole and durably, or not at all.
///
/// No method reads all tenants' contents or all content rows; what runs on a timer is indexed by tenant.
pub trait Ledger: Send + Sync {
    /// Which ledger this is: drawn at random when it is made, the same for every handle, every copy, and in every back end
    /// it is carried over to.
    fn id(&self) -> LedgerFuture<'_, LedgerId>;

    /// Adds a tenant, or says that it was there: `false`. One that had been removed becomes active again (`true`),
    /// keeping its history and its `collect_from`, and its label when the new one is empty. Refused while a purge of it is not
    /// done.
    fn add_tenant(
        &self,
        id: TenantId,
        label: String,
        collect_from: Timestamp,
        now: Timestamp,
    ) -> LedgerFuture<'_, bool>;
    /// One tenant, or `None`.
    fn tenant(&self, id: TenantId) -> LedgerFuture<'_, Option<Tenant>>;
    /// The tenants whose row changed after `revision` (0: all), and the greatest revision there is.
    fn tenants_since(&self, revision: u64) -> LedgerFuture<'_, (u64, Vec<Tenant>)>;
    /// Pauses, resumes, removes, and notes that for [`Ledger::history`]; `false` when the tenant is unknown.
    fn set_tenant_state(&self, id: TenantId, state: TenantState, now: Timestamp) -> LedgerFuture<'_, bool>;
    /// Forgets everything about a removed tenant and orders its files deleted, in one transaction. Refused when it is active or
    /// paused, and while a hold stands. Until [`Ledger::files_purged`] has said that it is done, the tenant cannot return.
    fn purge_tenant(&self, id: TenantId, now: Timestamp) -> LedgerFuture<'_, Purge>;
    /// The last order to purge this tenant, or `None`: of a tenant that is not known here either, nobody ever ordered
    /// anything to be deleted.
    fn purge(&self, id: TenantId) -> LedgerFuture<'_, Option<Purge>>;
    /// Orders to purge that are not done, and those that were done at `done_since` or later; the oldest of each first, at most
    /// `limit` of each.
    fn purges(&self, done_since: Timestamp, limit: u32) -> LedgerFuture<'_, Vec<Purge>>;
    /// So many files of a purged tenant, of epochs up to `through`, were deleted; with `is_done`, the archive has confirmed
    /// that none of them is left. Passed over when the last order is another one.
    fn files_purged(
        &self,
        id: TenantId,
        through: Epoch,
        deleted: Deleted,
        is_done: bool,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// Lets nothing of a tenant be deleted any more, neither by its retention nor by a purge; one that stands already takes the
    /// new reason. `false` when the tenant is unknown.
    fn hold_tenant(&self, id: TenantId, reason: String, now: Timestamp) -> LedgerFuture<'_, bool>;
    /// Takes a hold away; `false` when there was none.
    fn release_tenant(&self, id: TenantId, now: Timestamp) -> LedgerFuture<'_, bool>;
    /// Adds a line to the log of activity, for what is done outside of the ledger; what the ledger does it notes itself, in the
    /// same transaction. `details` is a JSON object.
    fn note_activity(
        &self,
        kind: ActivityKind,
        tenant: Option<TenantId>,
        details: String,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// Lines of the log of activity, the latest first, at most `limit`. They are never deleted.
    fn activity(&self, filter: ActivityFilter, limit: u32) -> LedgerFuture<'_, Vec<ActivityEntry>>;
    /// Notes (or clears) what stands in the way of a tenant, or of one of its content types, and keeps that for
    /// [`Ledger::history`].
    fn set_problem(
        &self,
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;

    /// Writes an invitation and gives it its number. When there are too many, the one that has been over for longest makes
    /// room; while all are good, this is refused.
    fn add_invitation(&self, invitation: NewInvitation, now: Timestamp) -> LedgerFuture<'_, InvitationNumber>;
    /// Invitations, the latest first: those before `before` (all when `None`), at most `limit`.
    fn invitations(&self, before: Option<InvitationNumber>, limit: u32) -> LedgerFuture<'_, Vec<Invitation>>;
    /// One invitation, or `None`.
    fn invitation(&self, number: InvitationNumber) -> LedgerFuture<'_, Option<Invitation>>;
    /// The invitation that a link's secret belongs to, good or not.
    fn invitation_by_secret(&self, secret: Digest) -> LedgerFuture<'_, Option<Invitation>>;
    /// Takes an invitation back, and everybody who is on the way with it; `false` when there is none of that number.
    fn revoke_invitation(&self, number: InvitationNumber, now: Timestamp) -> LedgerFuture<'_, bool>;
    /// A tenant goes: takes back the invitations that are for it alone, and forgets who has proven it. Says how many
    /// invitations were open.
    fn revoke_invitations_for(&self, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, u64>;
    /// Notes, before a person is sent to Microsoft, that an answer may come back. What is over is deleted, and of one
    /// invitation only the latest few hundred are kept. Refused when there is no such invitation.
    fn begin_consent(&self, flow: ConsentFlow, now: Timestamp) -> LedgerFuture<'_, ()>;
    /// Takes a flow back for the browser that began it. It can be taken once.
    fn take_consent(&self, state: Digest, browser: Digest, now: Timestamp) -> LedgerFuture<'_, Taken>;
    /// Notes that a browser has proven its tenant; nothing is collected for that. Refused when there is no such invitation.
    fn prove_consent(&self, visit: Visit, now: Timestamp) -> LedgerFuture<'_, ()>;
    /// A browser's visit, while it lasts.
    fn consent_visit(&self, browser: Digest, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, Option<Visit>>;
    /// Takes a proven tenant on as [`Ledger::add_tenant`] does, with the invitation's label, counts the invitation's use
    /// and logs both: all of it, or, when the invitation was no longer good at the time of the proof, nothing.
    fn accept_consent(
        &self,
        browser: Digest,
        tenant: TenantId,
        collect_from: Timestamp,
        now: Timestamp,
    ) -> LedgerFuture<'_, Acceptance>;
    /// Who connected this tenant (any tenant when `None`), the latest first, at most `limit`; of each tenant, the last
    /// hundred are kept.
    fn consents(&self, tenant: Option<TenantId>, limit: u32) -> LedgerFuture<'_, Vec<ConsentEntry>>;

    /// What is kept sealed under a name; `None` when nothing is. The ledger knows no key and opens nothing.
    fn sealed(&self, name: String) -> LedgerFuture<'_, Option<Vec<u8>>>;
    /// Sealed values by name, those after `after` (all when `None`), at most `limit`.
    fn all_sealed(&self, after: Option<String>, limit: u32) -> LedgerFuture<'_, Vec<(String, Vec<u8>)>>;
    /// Puts `now` under a name (`None`: forgets it) if what is there is `was` (`None`: nothing); `false` when it is not.
    /// Refused when the name is empty or longer than 200 characters, or the value is empty or larger than 64 KiB.
    fn put_sealed(&self, name: String, was: Option<Vec<u8>>, now: Option<Vec<u8>>) -> LedgerFuture<'_, bool>;

    /// The tenant's subscriptions as last seen.
    fn subscriptions(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Subscription>>;
    /// Writes what a listing of subscriptions said: known types it does not name become `enabled: Some(false)`. One that is
    /// enabled now and was not before, after a start of ours, had nothing kept for it meanwhile: [`Ledger::history`] says so.
    fn subscriptions_listed(
        &self,
        tenant: TenantId,
        listed: Vec<(ContentType, Option<bool>)>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// Notes, before the request is sent, that a start is being asked for.
    fn start_requested(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) -> LedgerFuture<'_, ()>;
    /// The answer to a start was that it has been enabled all along; a type that is not known is passed over.
    fn was_enabled(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) -> LedgerFuture<'_, ()>;

    /// The tenant's webhooks.
    fn webhooks(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Webhook>>;
    /// The webhook whose address ends in what has this key, with its tenant; `None` when there is none.
    fn webhook_at(&self, path_key: [u8; 16]) -> LedgerFuture<'_, Option<(Tenant, Webhook)>>;
    /// Writes webhooks as they stand (inserting them when new), all but `notified_at`: that is [`Ledger::notified`]'s.
    fn write_webhooks(&self, tenant: TenantId, webhooks: Vec<Webhook>, now: Timestamp) -> LedgerFuture<'_, ()>;
    /// Notes that a notification came at `now` for these content types; a type without a webhook is passed over.
    fn notified(&self, tenant: TenantId, content_types: Vec<ContentType>, now: Timestamp) -> LedgerFuture<'_, ()>;

    /// The tiles that may still be listed (not yet folded away), by start.
    fn tiles(&self, tenant: TenantId, content_type: ContentType) -> LedgerFuture<'_, Vec<Tile>>;
    /// Writes content rows that are not there yet (one page of a listing, or a notification); says how many were new.
    /// Content that is already known, in whatever state, is left as it is and does not count as new, except:
    /// * what was lost waits again when it is still listed before it expires and there is reason for hope: when its loss
    ///   was `missing`, or was `refused_url` and now comes with another URL;
    /// * what waits after a failure takes another URL it comes with, and is tried at once.
    ///
    /// A forged notification, if one got that far, can so not spoil a content for good.
    fn contents_listed(&self, tenant: TenantId, contents: Vec<Listed>, now: Timestamp) -> LedgerFuture<'_, u64>;
    /// Writes down entries of a listing that name no blob we may fetch: each is lost from the start, unless it is known
    /// already; says how many were new. A later listing that names the blob as it should makes it wait after all.
    fn entries_refused(&self, tenant: TenantId, entries: Vec<RefusedEntry>, now: Timestamp) -> LedgerFuture<'_, u64>;
    /// Writes the tile after all pages of one listing are in (inserting it when new). Refused when it is empty, claims
    /// more than it spans, or overlaps another tile; but one that begins where an earlier one has been listed to, or later,
    /// cuts that one short (`engine::tile` lists the rest of a tile that was left behind as a tile of its own).
    fn tile_listed(&self, tenant: TenantId, content_type: ContentType, tile: Tile) -> LedgerFuture<'_, ()>;

    /// Contents that may be fetched at `now`: by urgency (those expiring within a day first, by expiry; then the newest,
    /// which expire last, first), at most `limit`, without the rows in `in_flight`. What has expired by our clock is
    /// among the urgent: only the feed's answer says that it is gone.
    fn pending(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
        in_flight: Vec<i64>,
    ) -> LedgerFuture<'_, Vec<Pending>>;
    /// When the next pending content of the tenant may be tried (those in flight included); `None` when none is pending.
    fn next_attempt_at(&self, tenant: TenantId) -> LedgerFuture<'_, Option<Timestamp>>;
    /// An attempt failed; it is tried again at `next_attempt_at`.
    fn content_failed(
        &self,
        tenant: TenantId,
        row: i64,
        message: String,
        next_attempt_at: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// Gives a content up, with the cause.
    fn content_lost(&self, tenant: TenantId, row: i64, loss: Loss, now: Timestamp) -> LedgerFuture<'_, ()>;
    /// The state of one content, or `None`; for tests and diagnosis.
    fn content_state(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        content_id: String,
    ) -> LedgerFuture<'_, Option<ContentState>>;

    /// The one transaction that makes records visible. Refused as a whole when the number is not the next one, when a
    /// content is not `listed` any more, or when a segment does not carry this commit's number or is named twice.
    fn commit(&self, commit: Commit) -> LedgerFuture<'_, ()>;
    /// Takes the segments out of sight that are past their retention: those of dates before `expiry.before` whose last
    /// record was stored before `expiry.stored_before`. They stand as obsolete until [`Ledger::obsolete_deleted`]. Says how
    /// many they were, and how many records went with them; both are added to [`Ledger::retained`]. None while a hold stands.
    fn expire_segments(&self, tenant: TenantId, expiry: Expiry, now: Timestamp) -> LedgerFuture<'_, Expired>;
    /// What the tenant's retention has left.
    fn retained(&self, tenant: TenantId) -> LedgerFuture<'_, Retained>;
    /// The tenant's visible segments.
    fn segments(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<SegmentRow>>;
    /// The visible segments of these tenants, or of all, that hold a record of these Unix seconds, or whatever they hold:
    /// each tenant that has any, with them. For a query or a verification; never on a timer.
    fn segments_within(
        &self,
        tenants: Option<BTreeSet<TenantId>>,
        seconds: Option<RangeInclusive<i64>>,
    ) -> LedgerFuture<'_, Vec<(TenantId, Vec<SegmentRow>)>>;
    /// Puts `added` in the place of `removed` (a merge) under the next commit number; the removed ones stand as obsolete
    /// until [`Ledger::obsolete_deleted`]. Refused as a whole when one of `removed` is not visible.
    fn replace_segments(
        &self,
        tenant: TenantId,
        number: CommitNumber,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// Segments that a merge replaced or a retention took away and whose files may still be there, with the time since when.
    fn obsolete(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(SegmentRow, Timestamp)>>;
    /// Those of them whose files may go: while a hold stands, not those that a retention took away.
    fn deletable(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(SegmentRow, Timestamp)>>;
    /// The files of these obsolete segments are gone.
    fn obsolete_deleted(&self, tenant: TenantId, segments: Vec<SegmentRow>) -> LedgerFuture<'_, ()>;
    /// Notes what is wrong with a visible segment's file, or (`None`) that it is sound; when that was first found stays.
    /// A segment that is not visible is left alone.
    fn set_segment_problem(
        &self,
        tenant: TenantId,
        segment: SegmentRow,
        problem: Option<String>,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// The tenant's visible segments with something wrong, by date and name.
    fn damaged_segments(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<DamagedSegment>>;
    /// The workers that share the tenants out among themselves, by name; none where there is one collector.
    fn workers(&self) -> LedgerFuture<'_, Vec<WorkerRow>>;
    /// Which of these tenants is held, and the name of the worker that holds it; in the order they were asked for.
    fn holders(&self, tenants: Vec<TenantId>) -> LedgerFuture<'_, Vec<(TenantId, String)>>;
    /// What the tenant has in quarantine, by path, at most `limit`.
    fn quarantine(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<QuarantineRow>>;
    /// What was given up, the latest first, at most `limit`.
    fn losses(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<LostContent>>;

    /// The coverage of one tenant, one row a content type it has a subscription, tile or content of.
    fn coverage(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<Coverage>>;
    /// What is noted of each feed beside its completeness: unusual silence, what listing again has cost. In the order of
    /// [`Ledger::coverage`].
    fn feed_notes(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<FeedNotes>>;
    /// What stood in the way of each feed and when, as far as it is kept, and when a collector was at work; in the order of
    /// [`Ledger::coverage`].
    fn history(&self, tenant: TenantId) -> LedgerFuture<'_, Vec<(ContentType, History)>>;
    /// Notes that a collector is at work at this moment (`engine::hindrance::AT_WORK_EVERY`).
    fn at_work(&self, now: Timestamp) -> LedgerFuture<'_, ()>;
    /// Contents whose last attempt failed, feed by feed, the latest failure of each first, at most `limit`.
    fn failing(&self, tenant: TenantId, limit: u32) -> LedgerFuture<'_, Vec<FailingContent>>;
    /// Lets everything that was given up as missing or unreadable, and has not expired, wait again at once; says how much.
    fn retry_lost(&self, tenant: TenantId, now: Timestamp) -> LedgerFuture<'_, u64>;
    /// Counts one more listing of a closed window: its requests, and the contents nobody had named before.
    fn relisted(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        requests: u64,
        found: u64,
        now: Timestamp,
    ) -> LedgerFuture<'_, ()>;
    /// Folds away tiles and archived contents that expired before `before`, keeping their sums for coverage; at most
    /// `limit` content rows, says how many were folded. Lost contents stay. What was never listed and has expired before
    /// `before` is written down as a gap, as far as a later listing bears that out (`engine::coverage`); so this must run
    /// now and then for every active tenant.
    fn fold(&self, tenant: TenantId, before: Timestamp, limit: u32) -> LedgerFuture<'_, u64>;
}
