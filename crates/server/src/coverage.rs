//! What an operator is told about completeness: one report, for the command line and the console alike.
//!
//! Never says more than the ledger can defend, and never leaves out what is missing: each gap and each loss is named with
//! its span and cause, each piece in quarantine and each damaged file with its place. Long lists are cut, and the counts
//! beside them say by how much.

mod unconfirmed;

use chrono::{NaiveTime, SecondsFormat};
use engine::hindrance::{Explained, GapCause, History};
use engine::model::{
    Coverage, DamagedSegment, FailingContent, FeedNotes, LostContent, Problem, QuarantineRow, Relisting, Retained,
};
use engine::webhook::Webhook;
use ledger::{Ledger, LedgerError};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use serde::{Serialize, Serializer};

pub use self::unconfirmed::{UnconfirmedItem, UnconfirmedWindow};
use crate::collector::segments::segment_of;

/// A time as RFC 3339 text in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

/// Everything that is to be said of some tenants.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CoverageReport {
    /// One item a tenant and content type.
    pub items: Vec<FeedCoverage>,
    /// Archive files that are not what was written.
    pub damaged_segments: Vec<DamagedFile>,
    /// What went because it was past its retention, of tenants of which anything went.
    pub expired: Vec<ExpiredItem>,
}

/// What a tenant's retention took away. No gap: it was complete, and is not wanted any more.
#[derive(Debug, Clone, Serialize)]
pub struct ExpiredItem {
    /// Whose.
    pub tenant_id: TenantId,
    /// Everything of this time and later is kept.
    pub kept_since: Time,
    /// Segments that went, all in all.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
}

/// What is to be said of one tenant and content type.
#[derive(Debug, Clone, Serialize)]
pub struct FeedCoverage {
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which type.
    pub content_type: ContentType,
    /// Where collection began.
    pub from: Time,
    /// Everything the feed listed before this is archived, or named here as lost or in a gap.
    pub complete_through: Option<Time>,
    /// The windows after that which are not confirmed yet, and why.
    pub unconfirmed: UnconfirmedItem,
    /// Contents archived.
    pub archived: u64,
    /// Contents waiting for their first or next attempt.
    pub pending: u64,
    /// Of those, contents whose last attempt failed.
    pub failing: u64,
    /// The last failure among those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Contents given up, by cause.
    pub lost: Vec<LostCount>,
    /// Those contents, the latest first; not all of them when there are many.
    pub losses: Vec<LostItem>,
    /// Time that was never listed and cannot be any more, or of which Microsoft kept nothing because the subscription was
    /// stopped.
    pub gaps: Vec<GapItem>,
    /// The time before the first subscription, of which there was never anything to be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<GapItem>,
    /// Records in the blobs archived.
    pub records: u64,
    /// Of those, repeats that were not stored again.
    pub duplicates: u64,
    /// Records stored beside another body of the same `Id`.
    pub variants: u64,
    /// Pieces in quarantine.
    pub quarantined: u64,
    /// Those pieces; not all of them when there are many.
    pub quarantine: Vec<QuarantinedItem>,
    /// Contents whose attempts keep failing; not all of them when there are many.
    pub failures: Vec<FailingItem>,
    /// It has been silent for longer than it ever is at this hour of the week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence: Option<SilenceItem>,
    /// What listing closed windows again has cost and found.
    pub relisting: RelistingItem,
    /// How its webhook stands, if there was ever one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookItem>,
    /// What stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemItem>,
}

/// A content whose attempts keep failing.
#[derive(Debug, Clone, Serialize)]
pub struct FailingItem {
    /// The feed's name for it.
    pub content_id: String,
    /// When it became available, by the feed's word.
    pub from: Time,
    /// When it stops being available.
    pub to: Time,
    /// Failures so far.
    pub attempts: u32,
    /// The last one, in words.
    pub cause: String,
    /// When it is tried again.
    pub next_attempt_at: Time,
}

/// A silence that is longer than this feed's ever are.
#[derive(Debug, Clone, Serialize)]
pub struct SilenceItem {
    /// Since the last content.
    pub since: Time,
    /// The longest silence that would be usual at this hour of the week.
    pub usual_seconds: i64,
}

/// What listing closed windows again has cost and found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RelistingItem {
    /// Listings.
    pub listings: u64,
    /// Requests for them.
    pub requests: u64,
    /// Contents nobody had named before.
    pub found: u64,
}

/// How a webhook stands.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookItem {
    /// A stable word.
    pub state: &'static str,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: Time,
    /// How often it was found otherwise than it was set.
    pub drifts: u64,
    /// When the last notification came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<Time>,
}

/// Contents given up for one cause.
#[derive(Debug, Clone, Serialize)]
pub struct LostCount {
    /// `expired`, `missing`, `unreadable` or `refused_url`.
    pub cause: &'static str,
    /// How many.
    pub contents: u64,
}

/// A content that was given up.
#[derive(Debug, Clone, Serialize)]
pub struct LostItem {
    /// The feed's name for it, or what stands for it.
    pub content_id: String,
    /// When it became available, by the feed's word.
    pub from: Time,
    /// When it stops being available.
    pub to: Time,
    /// `expired`, `missing`, `unreadable` or `refused_url`.
    pub cause: &'static str,
    /// One sentence, with the last error.
    pub message: String,
    /// When it was given up.
    pub lost_at: Time,
}

/// A span `[from, to)` that was never listed, or of which Microsoft kept nothing for us.
#[derive(Debug, Clone, Serialize)]
pub struct GapItem {
    /// Inclusive.
    pub from: Time,
    /// Exclusive.
    pub to: Time,
    /// A stable word: [`engine::hindrance::GapCause::as_str`].
    pub cause: &'static str,
    /// One sentence: what stood in the way, and when.
    pub message: String,
}

/// A piece that is kept as delivered because it is no record.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantinedItem {
    /// Of which content.
    pub content_id: String,
    /// Its file, relative to the archive's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Why it is there.
    pub reason: String,
}

/// An archive file that is not what was written.
#[derive(Debug, Clone, Serialize)]
pub struct DamagedFile {
    /// Whose records are in it.
    pub tenant_id: TenantId,
    /// Its file, relative to the archive's root.
    pub path: String,
    /// How many records cannot be read until it is restored.
    pub records: u64,
    /// What is wrong with it.
    pub problem: String,
    /// When that was first found.
    pub found_at: Time,
}

/// What stands in the way, and the step that mends it.
#[derive(Debug, Clone, Serialize)]
pub struct ProblemItem {
    /// A stable word.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: Time,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
}

impl CoverageReport {
    /// Reads what the ledger knows of `tenants` at `now`; `details` limits the losses and the pieces in quarantine that are
    /// named of each tenant.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn read(
        ledger: &dyn Ledger,
        tenants: &[TenantId],
        details: u32,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let mut report = Self::default();
        for tenant in tenants {
            let rows = ledger.coverage(*tenant).await?;
            // Most tenants have none of either, and need not be asked.
            let (lost, quarantined) = rows.iter().fold((false, false), |(lost, quarantined), row| {
                (lost || !row.lost.is_empty(), quarantined || row.quarantined > 0)
            });
            let losses = if lost { ledger.losses(*tenant, details).await? } else { Vec::new() };
            let quarantine = if quarantined { ledger.quarantine(*tenant, details).await? } else { Vec::new() };
            let failing = rows.iter().any(|row| row.failing > 0);
            let failing = if failing { ledger.failing(*tenant, details).await? } else { Vec::new() };
            let (notes, webhooks) = (ledger.feed_notes(*tenant).await?, ledger.webhooks(*tenant).await?);
            let history = ledger.history(*tenant).await?;
            let pending = unconfirmed::pending_of(ledger, *tenant, &rows, now).await?;
            for row in rows {
                let of_feed = history.iter().find(|(content_type, _)| *content_type == row.content_type);
                let gaps = of_feed.map_or_else(Vec::new, |(_, history)| gaps_of(&row, history));
                let (before, gaps): (Vec<GapItem>, Vec<GapItem>) =
                    gaps.into_iter().partition(|gap| gap.cause == GapCause::BeforeSubscription.as_str());
                let unavailable = before.into_iter().next();
                let unconfirmed = UnconfirmedItem::read(ledger, &row, &pending, now).await?;
                let mut item =
                    FeedCoverage { gaps, unavailable, unconfirmed, ..FeedCoverage::new(row, &losses, &quarantine) };
                item.annotate(&failing, &notes, &webhooks);
                report.items.push(item);
            }
            let damaged = ledger.damaged_segments(*tenant).await?;
            report.damaged_segments.extend(damaged.into_iter().map(|damaged| DamagedFile::new(*tenant, damaged)));
            report.expired.extend(ExpiredItem::new(*tenant, ledger.retained(*tenant).await?));
        }
        Ok(report)
    }
}

impl FeedCoverage {
    fn new(row: Coverage, losses: &[LostContent], quarantine: &[QuarantineRow]) -> Self {
        let losses = losses.iter().filter(|lost| lost.content_type == row.content_type);
        let quarantine = quarantine.iter().filter(|piece| piece.content_type == row.content_type);
        Self {
            losses: losses.map(LostItem::from).collect(),
            quarantine: quarantine.map(QuarantinedItem::from).collect(),
            tenant_id: row.tenant,
            from: Time(row.from),
            complete_through: row.complete_through.map(Time),
            unconfirmed: UnconfirmedItem::default(),
            archived: row.archived,
            pending: row.pending,
            failing: row.failing,
            last_failure: row.last_failure,
            lost: row
                .lost
                .iter()
                .map(|(kind, contents)| LostCount { cause: kind.as_str(), contents: *contents })
                .collect(),
            gaps: Vec::new(),
            unavailable: None,
            records: row.records,
            duplicates: row.duplicates,
            variants: row.variants,
            quarantined: row.quarantined,
            failures: Vec::new(),
            silence: None,
            relisting: RelistingItem::default(),
            webhook: None,
            problem: row.problem.as_ref().map(ProblemItem::from),
            content_type: row.content_type,
        }
    }

    fn annotate(&mut self, failing: &[FailingContent], notes: &[FeedNotes], webhooks: &[Webhook]) {
        let failing = failing.iter().filter(|failing| failing.content_type == self.content_type);
        self.failures = failing.map(FailingItem::from).collect();
        if let Some(notes) = notes.iter().find(|notes| notes.content_type == self.content_type) {
            self.silence = notes
                .silence
                .map(|silence| SilenceItem { since: Time(silence.since), usual_seconds: silence.usual.num_seconds() });
            let Relisting { listings, requests, found } = notes.relisting;
            self.relisting = RelistingItem { listings, requests, found };
        }
        let webhook = webhooks.iter().find(|webhook| webhook.content_type == self.content_type);
        self.webhook = webhook.map(WebhookItem::from);
    }

    /// Contents given up, whatever the cause.
    pub fn lost_contents(&self) -> u64 {
        self.lost.iter().map(|lost| lost.contents).sum()
    }
}

impl ExpiredItem {
    fn new(tenant: TenantId, retained: Retained) -> Option<Self> {
        let Retained { kept_since, expired } = retained;
        let kept_since = Time(kept_since?.and_time(NaiveTime::MIN).and_utc());
        Some(Self { tenant_id: tenant, kept_since, segments: expired.segments, records: expired.records })
    }
}

impl DamagedFile {
    fn new(tenant: TenantId, damaged: DamagedSegment) -> Self {
        let DamagedSegment { segment: row, problem, found_at } = damaged;
        let path = segment_of(tenant, &row).map(|segment| segment.path().display().to_string());
        Self {
            tenant_id: tenant,
            path: path.unwrap_or_else(|| format!("{}/{}-{}", row.date, row.commit, row.part)),
            records: row.rows,
            problem,
            found_at: Time(found_at),
        }
    }
}

impl From<&FailingContent> for FailingItem {
    fn from(failing: &FailingContent) -> Self {
        Self {
            content_id: failing.content_id.clone(),
            from: Time(failing.created),
            to: Time(failing.expires),
            attempts: failing.attempts,
            cause: failing.failure.clone(),
            next_attempt_at: Time(failing.next_attempt_at),
        }
    }
}

impl From<&Webhook> for WebhookItem {
    fn from(webhook: &Webhook) -> Self {
        let says = webhook.state.says();
        let message = match &webhook.refusal {
            Some(refusal) => format!("{says} ({refusal})"),
            None => says.to_owned(),
        };
        Self {
            state: webhook.state.as_str(),
            message,
            since: Time(webhook.since),
            drifts: webhook.drifts,
            notified_at: webhook.notified_at.map(Time),
        }
    }
}

impl From<&LostContent> for LostItem {
    fn from(lost: &LostContent) -> Self {
        Self {
            content_id: lost.content_id.clone(),
            from: Time(lost.created),
            to: Time(lost.expires),
            cause: lost.loss.kind.as_str(),
            message: lost.loss.message.clone(),
            lost_at: Time(lost.lost_at),
        }
    }
}

/// What was never listed and what was never kept, by time.
fn gaps_of(row: &Coverage, history: &History) -> Vec<GapItem> {
    let unlisted = row.gaps.iter().map(|gap| history.explain(*gap));
    let unkept = history.unkept().into_iter().filter(|unkept| unkept.gap.until > row.from);
    let mut gaps: Vec<GapItem> = unlisted.chain(unkept).map(|gap| GapItem::from(&gap)).collect();
    gaps.sort_by_key(|gap| (gap.from, gap.to));
    gaps
}

impl From<&Explained> for GapItem {
    fn from(explained: &Explained) -> Self {
        let gap = explained.gap;
        Self { from: Time(gap.start), to: Time(gap.until), cause: explained.cause.as_str(), message: explained.says() }
    }
}

impl From<&QuarantineRow> for QuarantinedItem {
    fn from(row: &QuarantineRow) -> Self {
        Self {
            content_id: row.content_id.to_string(),
            path: row.path.clone(),
            bytes: row.bytes,
            reason: row.reason.clone(),
        }
    }
}

impl From<&Problem> for ProblemItem {
    fn from(problem: &Problem) -> Self {
        Self {
            kind: problem.kind.clone(),
            message: problem.message.clone(),
            since: Time(problem.since),
            next_attempt_at: problem.next_attempt_at.map(Time),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}
