//! What a world is made of: how many tenants, how much content, how unruly, and which limits Microsoft's side enforces.
//!
//! Never reads a file: `options_file` fills this in from TOML, tests fill it in by hand.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::cloud::CloudName;
use protocol::ids::{ContentType, TenantId};

use crate::entra::EntraPolicy;

/// One tenant of the world, where the caller cares which.
#[derive(Debug, Clone)]
pub struct TenantSpec {
    /// The directory id; drawn from the seed when `None`.
    pub id: Option<TenantId>,
    /// The display name; drawn from the seed when `None`.
    pub name: Option<String>,
    /// The initial domain, such as `contoso.onmicrosoft.com`; derived from the name when `None`.
    pub domain: Option<String>,
    /// Users in the directory; also how much of the world's records this tenant makes, relative to the others.
    pub seats: Option<u32>,
    /// The cloud it lives in.
    pub cloud: CloudName,
    /// Whether unified audit logging is on at the start.
    pub auditing: bool,
    /// Whether the directory has been deleted (AF20011).
    pub deleted: bool,
    /// Whether every known application is consented to from the start.
    pub consented: bool,
    /// The content types that can be subscribed to; all five when empty.
    pub content_types: Vec<ContentType>,
}

impl Default for TenantSpec {
    fn default() -> Self {
        Self {
            id: None,
            name: None,
            domain: None,
            seats: None,
            cloud: CloudName::Commercial,
            auditing: true,
            deleted: false,
            consented: true,
            content_types: Vec::new(),
        }
    }
}

/// How far apart start requests of one subscriber must be (activity-api.md §2.1: the scope is not documented).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartThrottleScope {
    /// One wait for each tenant, application and content type: five starts in a row at onboarding succeed.
    ContentType,
    /// One wait for each tenant and application: the strictest reading.
    Application,
}

/// The limits of the service that are not fixed by its documentation.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Contents per page of a listing, and notifications per page of theirs.
    pub page_size: usize,
    /// How long a `nextPage` token is accepted.
    pub page_token_lifetime: Duration,
    /// Requests per minute and tenant; also the size of the pool all anonymous callers share. `None`: no quota.
    pub requests_per_minute: Option<u32>,
    /// The wait after a start request. Zero: starts are not throttled.
    pub start_wait: Duration,
    /// For whom that wait is counted.
    pub start_scope: StartThrottleScope,
    /// How soon a stop followed by a start leaves a phantom: `enabled` in the answer, absent from the list. Zero:
    /// never.
    pub phantom_within: Duration,
    /// How long a listing may reach back before AF20055 (seven days by the reference, an hour more in practice).
    pub list_reach: Duration,
    /// The share of subscriptions whose `status` is left out of the list, as in Microsoft's sample.
    pub list_status_missing: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            page_size: 200,
            page_token_lifetime: Duration::from_secs(10 * 60),
            requests_per_minute: Some(2000),
            start_wait: Duration::from_secs(15 * 60),
            start_scope: StartThrottleScope::ContentType,
            phantom_within: Duration::from_secs(15 * 60),
            list_reach: Duration::from_secs(7 * 86_400 + 3600),
            list_status_missing: 0.05,
        }
    }
}

/// How often records come again; each a probability per record, unless it says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Duplicates {
    /// Again inside the same blob.
    pub within_blob: f64,
    /// Again in a blob soon after.
    pub later_blob: f64,
    /// Again days later.
    pub redelivered: f64,
    /// The same `Id` with another body, in a later blob.
    pub variant: f64,
    /// Per blob: a further blob that holds records of two neighbouring ones, cut differently.
    pub recut: f64,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self { within_blob: 0.004, later_blob: 0.01, redelivered: 0.002, variant: 0.001, recut: 0.02 }
    }
}

impl Duplicates {
    /// Every record exactly once.
    pub fn none() -> Self {
        Self { within_blob: 0.0, later_blob: 0.0, redelivered: 0.0, variant: 0.0, recut: 0.0 }
    }
}

/// Content that can be listed long after it was created.
#[derive(Debug, Clone, PartialEq)]
pub struct Lateness {
    /// The share of contents that are late.
    pub share: f64,
    /// The least delay of a late content.
    pub min: Duration,
    /// The greatest delay of a late content.
    pub max: Duration,
    /// The greatest delay of an ordinary one. Content of the history is never delayed past the start by it.
    pub ordinary: Duration,
    /// Late content of the history that would come after the start comes within this time of it instead, so that a demo
    /// or a test sees late content without waiting for hours. `None`: it comes when it comes.
    pub after_start: Option<Duration>,
}

impl Default for Lateness {
    fn default() -> Self {
        Self {
            share: 0.02,
            min: Duration::from_secs(30 * 60),
            max: Duration::from_secs(6 * 3600),
            ordinary: Duration::from_secs(45),
            after_start: None,
        }
    }
}

/// How records are cut into blobs.
#[derive(Debug, Clone, PartialEq)]
pub struct BlobSizes {
    /// Records in a middling blob; sizes scatter around it, many smaller, few much larger.
    pub median: u32,
    /// Records in the largest ordinary blob.
    pub max: u32,
    /// The share of blobs that aggregate several pieces, and of which a window can get a part (activity-api.md §6).
    pub aggregated: f64,
    /// The share of blobs that were created in the same millisecond as the one before them: servers publish side by side.
    pub ties: f64,
}

impl Default for BlobSizes {
    fn default() -> Self {
        Self { median: 60, max: 2000, aggregated: 0.3, ties: 0.0 }
    }
}

/// Everything a [`World`](crate::world::World) is made from. The same options make the same world, byte for byte.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// What every draw starts from.
    pub seed: u64,
    /// How many tenants there are; further ones than `specs` names are drawn from the seed.
    pub tenants: usize,
    /// The tenants the caller cares about, in order.
    pub specs: Vec<TenantSpec>,
    /// How unevenly records are spread over tenants: 0 evenly, 1 as by Zipf's law.
    pub skew: f64,
    /// The time the world starts at; the clock's time when `None`.
    pub start: Option<DateTime<Utc>>,
    /// How much content there is already at the start.
    pub history: Duration,
    /// Distinct records in that history, in all tenants together. `None`: 600 per tenant, or with `records_files` each
    /// recorded record once per tenant.
    pub records_total: Option<u64>,
    /// Records per minute, in all tenants together, that go on being made as the clock goes.
    pub live_rate: f64,
    /// Files of recorded records to replay instead of generating: NDJSON, plain, `.gz` or `.zst`.
    pub records_files: Vec<PathBuf>,
    /// The most memory recorded records may take, in bytes of text.
    pub records_memory: u64,
    /// Records that come again.
    pub duplicates: Duplicates,
    /// Content that comes late.
    pub lateness: Lateness,
    /// Blob sizes.
    pub blobs: BlobSizes,
    /// One blob of at least this many bytes (to within the spread of record sizes), in the first tenant's
    /// `Audit.General`.
    pub huge_blob: Option<u64>,
    /// True: content made before a subscription was started is listed once it is. False, as in Microsoft's service:
    /// only content created while the subscription is enabled.
    pub history_before_subscription: bool,
    /// Bytes of gzip bodies kept for being asked again. Zero: none.
    pub gzip_cache: usize,
    /// The level (0 to 9) blobs are compressed with.
    pub gzip_level: u32,
    /// The service's limits.
    pub limits: Limits,
    /// How the login service behaves where Microsoft's varies.
    pub entra: EntraPolicy,
    /// True: webhooks may be plain http, for tests on loopback. False: AF20021 for anything but https.
    pub webhook_plain_http: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            tenants: 3,
            specs: Vec::new(),
            skew: 0.8,
            start: None,
            history: Duration::from_secs(6 * 86_400),
            records_total: None,
            live_rate: 0.0,
            records_files: Vec::new(),
            records_memory: 512 << 20,
            duplicates: Duplicates::default(),
            lateness: Lateness::default(),
            blobs: BlobSizes::default(),
            huge_blob: None,
            history_before_subscription: true,
            gzip_cache: 16 << 20,
            gzip_level: 1,
            limits: Limits::default(),
            entra: EntraPolicy::default(),
            webhook_plain_http: false,
        }
    }
}

/// Why a world cannot be made from its options.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A number is outside what makes sense.
    #[error("{key} must be {expected}, not {found}")]
    OutOfRange {
        /// The option.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Two tenants have the same id.
    #[error("tenant {0} is described twice; give each tenant its own id")]
    TenantTwice(TenantId),
    /// A file of recorded records cannot be used.
    #[error("the records in {path} cannot be replayed")]
    Records {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: crate::records::ReplayError,
    },
}

impl WorldOptions {
    /// Checks every number.
    ///
    /// # Errors
    /// Names the first option that is out of range.
    pub fn check(&self) -> Result<(), WorldError> {
        let out = |key, expected, found: String| Err(WorldError::OutOfRange { key, expected, found });
        let tenants = self.tenants.max(self.specs.len());
        if tenants == 0 || tenants > MAX_TENANTS {
            return out("tenants", "between 1 and 100000", tenants.to_string());
        }
        for (key, share) in [
            ("duplicates.within_blob", self.duplicates.within_blob),
            ("duplicates.later_blob", self.duplicates.later_blob),
            ("duplicates.redelivered", self.duplicates.redelivered),
            ("duplicates.variant", self.duplicates.variant),
            ("duplicates.recut", self.duplicates.recut),
            ("lateness.share", self.lateness.share),
            ("blobs.aggregated", self.blobs.aggregated),
            ("blobs.ties", self.blobs.ties),
            ("limits.list_status_missing", self.limits.list_status_missing),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return out(key, "a share between 0.0 and 1.0", share.to_string());
            }
        }
        if !(0.0..=3.0).contains(&self.skew) {
            return out("skew", "between 0.0 and 3.0", self.skew.to_string());
        }
        if !(0.0..=MAX_LIVE_RATE).contains(&self.live_rate) {
            return out("live_rate", "between 0 and 100000 records per minute", self.live_rate.to_string());
        }
        if self.records_total.is_some_and(|total| total > MAX_RECORDS) {
            return out("records_total", "at most 1000000000", format!("{:?}", self.records_total));
        }
        if self.history > Duration::from_secs(60 * 86_400) {
            return out("history", "at most 60 days", format!("{:?}", self.history));
        }
        if self.lateness.min > self.lateness.max || self.lateness.max > Duration::from_secs(7 * 86_400) {
            return out("lateness.max", "at least lateness.min and at most 7 days", format!("{:?}", self.lateness.max));
        }
        if self.blobs.median == 0 || self.blobs.max < self.blobs.median || self.blobs.max > 1_000_000 {
            return out(
                "blobs.max",
                "at least blobs.median (itself at least 1), at most 1000000",
                self.blobs.max.to_string(),
            );
        }
        if self.limits.page_size == 0 || self.limits.page_size > 10_000 {
            return out("limits.page_size", "between 1 and 10000", self.limits.page_size.to_string());
        }
        if self.gzip_level > 9 {
            return out("gzip_level", "between 0 and 9", self.gzip_level.to_string());
        }
        Ok(())
    }
}

const MAX_TENANTS: usize = 100_000;
/// Records per minute. A slot of an hour is planned as a whole, so this bounds the work of answering any request.
pub(crate) const MAX_LIVE_RATE: f64 = 100_000.0;
const MAX_RECORDS: u64 = 1_000_000_000;
