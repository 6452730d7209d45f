//! The nouns that the ledger keeps and the engine decides about, as plain values.
//!
//! Never holds behaviour of a store: how they persist is the ledger's business. The path of a content is
//! listed → archived, or listed → lost with a cause; nothing else ends it.

use std::fmt;
use std::time::Duration;

use chrono::NaiveDate;
use protocol::ids::{ContentId, ContentType, ContentUri, TenantId};
use protocol::time::Timestamp;

use crate::evidence::Hold;
use crate::lease::Epoch;
use crate::silence::Silence;

/// The number of one commit of one tenant: 1, 2, 3, … without a hole, given by the tenant's single owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(pub u64);

/// Whether the operator wants a tenant collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TenantState {
    /// Collected.
    Active,
    /// Kept, not asked for anything.
    Paused,
    /// Offboarded: not asked for anything, its archive kept until it is purged.
    Removed,
}

/// A tenant as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What the operator calls it; may be empty.
    pub label: String,
    /// Whether it is to be collected.
    pub state: TenantState,
    /// When it was added.
    pub added_at: Timestamp,
    /// Where its first windows start: content created before is not asked for. Truncated to the tile grid.
    pub collect_from: Timestamp,
    /// The last commit; 0 before the first.
    pub last_commit: CommitNumber,
    /// What stands in the way of the whole tenant, if anything does.
    pub problem: Option<Problem>,
    /// Nothing of it is deleted while this stands.
    pub hold: Option<Hold>,
    /// The how manieth taking of it the last one was; where tenants are never taken, it grows only when one comes back after a
    /// purge. Files are written under it.
    pub epoch: Epoch,
    /// Grows with each change of what an operator sets or is told (added, label, state, problem, hold) in any tenant row: a
    /// reader that remembers the greatest one it saw finds what changed since. A commit alone does not move it.
    pub revision: u64,
}

/// Something that keeps a tenant, or one of its content types, from being collected, in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word for machines, such as `auditing_off`: [`crate::problem::ProblemKind::as_str`].
    pub kind: String,
    /// One sentence: what is wrong, and the step that mends it. Never a secret or token.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
}

/// The actual state of one subscription, as last listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Of which content type.
    pub content_type: ContentType,
    /// As the service last said; `None` when it has never been seen in a listing.
    pub enabled: Option<bool>,
    /// When it was last listed.
    pub listed_at: Option<Timestamp>,
    /// When we last asked to start it: the next start waits 15 minutes (activity-api.md §2.1). Of a start that failed,
    /// earlier than it was: [`crate::subscription::noted_of_failed`].
    pub start_requested_at: Option<Timestamp>,
    /// What stands in the way of this content type, if anything does.
    pub problem: Option<Problem>,
}

/// One tile: a fixed span of UTC time of one (tenant, content type), half-open `[start, until)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Inclusive; every listing of this tile asks with this same start. On the grid, except in a tile that was cut
    /// because its beginning was out of the feed's reach when it was first listed, or that fills up to a new grid.
    pub start: Timestamp,
    /// Exclusive, on the grid.
    pub until: Timestamp,
    /// Through when the last complete listing reached: its `endTime`, or the second it was begun in if that is earlier; at
    /// most `until`. `None` before the first.
    pub listed_until: Option<Timestamp>,
    /// When that listing was made.
    pub listed_at: Option<Timestamp>,
    /// Complete listings made after the tile had closed.
    pub closed_listings: u32,
    /// When to list it again; `None` when there will be no further listing.
    pub next_listing_at: Option<Timestamp>,
    /// Content first seen in a listing made after the tile's first closed listing: proof that late content exists.
    pub late_contents: u64,
}

/// Where a content is on its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentState {
    /// Seen in a listing or notification, not yet archived.
    Listed,
    /// Its records are in a visible segment (or were there already).
    Archived,
    /// Given up, with the cause in the coverage report.
    Lost,
}

/// A content as the feed listed it; the identity is (tenant, content type, content id).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its type.
    pub content_type: ContentType,
    /// The feed's name for it.
    pub content_id: ContentId,
    /// Where to fetch it, verbatim.
    pub content_uri: ContentUri,
    /// When it became available, by the feed's word. Milliseconds.
    pub created: Timestamp,
    /// When it stops being available: created + 7 days.
    pub expires: Timestamp,
}

/// A content that waits to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The ledger's short name for the row, stable while it lives; unique within the ledger.
    pub row: i64,
    /// What was listed.
    pub content: Listed,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not before this moment.
    pub next_attempt_at: Timestamp,
}

/// Why a content's records could not be had. Each is a line of the coverage report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// A stable word: `expired`, `missing`, `unreadable`, `refused_url`.
    pub kind: LossKind,
    /// One sentence, with the last error.
    pub message: String,
}

/// The kinds of [`Loss`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Its seven days were over before it could be fetched.
    Expired,
    /// The service says it does not exist, listing after listing.
    Missing,
    /// Its bytes are no blob; they are kept as delivered in quarantine.
    Unreadable,
    /// Its URL points outside the configured cloud or the tenant.
    RefusedUrl,
}

/// What became of a content that is now archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedContent {
    /// The row of [`Pending`].
    pub row: i64,
    /// Records in the blob.
    pub records: u64,
    /// Of those, repeats of records the archive already had (or of the same commit).
    pub duplicates: u64,
    /// Of those stored, records whose `Id` the archive had with another body.
    pub variants: u64,
    /// Elements that are no records, kept in quarantine.
    pub quarantined: u64,
    /// Bytes of the blob after decompression.
    pub bytes: u64,
}

/// One archive file, as the ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRow {
    /// The UTC date of its records (`YYYY-MM-DD`), as the folder says.
    pub date: String,
    /// The commit in the file's name.
    pub commit: CommitNumber,
    /// The part in the file's name.
    pub part: u64,
    /// Records.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// First second of its records' dedup time, inclusive, Unix seconds. `None` when it holds no timed record.
    pub second_min: Option<i64>,
    /// Last second, inclusive.
    pub second_max: Option<i64>,
    /// Rows without a readable time, which dedup has to ask for separately.
    pub untimed_rows: u64,
    /// BLAKE3 of the file.
    pub digest: [u8; 32],
}

/// Which ledger it is: 128 random bits. An archive names the ledger that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerId(pub [u8; 16]);

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A visible segment whose file is not what was written: its records cannot be read until it is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSegment {
    /// Which.
    pub segment: SegmentRow,
    /// What is wrong with its file, as a sentence's fragment.
    pub problem: String,
    /// When that was first found.
    pub found_at: Timestamp,
}

/// What one run of a retention took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Segments.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
}

/// What a tenant's retention has left. A segment goes whole; what has no readable time goes by its content's date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// The first date of which nothing was taken away for its age; `None` while nothing was.
    pub kept_since: Option<NaiveDate>,
    /// All that went so far.
    pub expired: Expired,
}

/// Something kept as delivered because it is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// Of which content.
    pub content_type: ContentType,
    /// Of which content.
    pub content_id: ContentId,
    /// Where the archive keeps it, relative to its root.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the bytes.
    pub digest: [u8; 32],
    /// Why it is there.
    pub reason: String,
}

/// A commit: everything that becomes visible at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Whose.
    pub tenant: TenantId,
    /// Must be the tenant's last commit + 1.
    pub number: CommitNumber,
    /// When.
    pub at: Timestamp,
    /// The contents that are archived by it. May be empty: records of a blob that broke off midway are kept all the same.
    pub contents: Vec<ArchivedContent>,
    /// Contents given up by it, with what was kept of them in quarantine.
    pub lost: Vec<(i64, Loss)>,
    /// The segments it makes visible.
    pub segments: Vec<SegmentRow>,
    /// What it put into quarantine.
    pub quarantined: Vec<QuarantineRow>,
}

/// What coverage says of one tenant and content type at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Whose.
    pub tenant: TenantId,
    /// Of which type.
    pub content_type: ContentType,
    /// Where collection began.
    pub from: Timestamp,
    /// Everything the feed listed with a creation time in `[from, complete_through)` is archived or named as lost, and
    /// every span of it that no listing covered is named in `gaps`; the last listing that proves it was made after that
    /// time had passed. `None`: nothing is proven yet.
    pub complete_through: Option<Timestamp>,
    /// Spans after `from` that were never listed and can not be any more, oldest first, at most [`Coverage::GAPS_MAX`].
    pub gaps: Vec<Gap>,
    /// Contents archived.
    pub archived: u64,
    /// Contents waiting for their first or next attempt.
    pub pending: u64,
    /// Of those, contents whose last attempt failed.
    pub failing: u64,
    /// The last failure among those, if any.
    pub last_failure: Option<String>,
    /// Contents given up, by cause.
    pub lost: Vec<(LossKind, u64)>,
    /// Records in the blobs archived.
    pub records: u64,
    /// Of those, repeats that were not stored again.
    pub duplicates: u64,
    /// Records stored beside another body of the same `Id`.
    pub variants: u64,
    /// Elements in quarantine.
    pub quarantined: u64,
    /// What stands in the way, of the tenant or of the type.
    pub problem: Option<Problem>,
}

/// A half-open span `[start, until)` that was never listed while the feed still would have answered for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gap {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub until: Timestamp,
}

/// A content that was given up, as the coverage report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostContent {
    /// Its type.
    pub content_type: ContentType,
    /// The feed's name for it, or what stands for it when the feed's entry had none that could be read.
    pub content_id: String,
    /// When it became available, by the feed's word.
    pub created: Timestamp,
    /// When it stops being available.
    pub expires: Timestamp,
    /// Why it could not be had.
    pub loss: Loss,
    /// When it was given up.
    pub lost_at: Timestamp,
}

/// An entry of a listing that names no blob we may fetch: lost from the start, and accounted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Its type, or the one that was asked for.
    pub content_type: ContentType,
    /// The feed's name for it, when that much could be read.
    pub content_id: Option<ContentId>,
    /// When it became available, when that much could be read.
    pub created: Option<Timestamp>,
    /// The entry as it came, cut to some KiB: it tells one nameless entry from another.
    pub raw: String,
    /// Why it can not be fetched.
    pub loss: Loss,
}

/// A content whose attempts keep failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingContent {
    /// Its type.
    pub content_type: ContentType,
    /// The feed's name for it.
    pub content_id: String,
    /// When it became available, by the feed's word.
    pub created: Timestamp,
    /// When it stops being available.
    pub expires: Timestamp,
    /// Failures so far.
    pub attempts: u32,
    /// The last one, in words.
    pub failure: String,
    /// When it is tried again.
    pub next_attempt_at: Timestamp,
}

/// What is noted of a feed beside its completeness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedNotes {
    /// Its type.
    pub content_type: ContentType,
    /// It has been silent for longer than it ever is.
    pub silence: Option<Silence>,
    /// What listing closed windows again has cost and found.
    pub relisting: Relisting,
}

/// What it has cost to list closed windows again, and what that has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relisting {
    /// Listings.
    pub listings: u64,
    /// Requests for them, one a page.
    pub requests: u64,
    /// Contents found by them that no earlier listing had named.
    pub found: u64,
}

/// A span with a seed's worth of spread, for schedules that must not beat in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter {
    /// A number that differs from tenant to tenant and try to try.
    pub seed: u64,
    /// The largest share of the span to add or take, in per cent, 0 to 100.
    pub percent: u32,
}

impl Jitter {
    /// `span`, moved by at most `percent` either way, the same for the same seed.
    pub fn spread(self, span: Duration) -> Duration {
        // SplitMix64's finaliser: every bit of the seed moves every bit of the result.
        let mut mixed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let percent = f64::from(self.percent.min(100)) / 100.0;
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        span.mul_f64(1.0 + percent * (2.0 * unit - 1.0))
    }
}

impl fmt::Display for CommitNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Coverage {
    /// The most gaps one coverage row names (the newest): a year of daily outages, and no unbounded report after a decade.
    pub const GAPS_MAX: u32 = 400;
}

impl LossKind {
    /// Every kind, in the order reports show them.
    pub const ALL: [LossKind; 4] = [Self::Expired, Self::Missing, Self::Unreadable, Self::RefusedUrl];

    /// The word the ledger and the reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::RefusedUrl => "refused_url",
        }
    }
}

impl TenantState {
    /// The word the ledger and the reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Removed => "removed",
        }
    }
}
