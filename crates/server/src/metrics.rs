//! What is counted, in the Prometheus format; one registry per instance.
//!
//! Never has a label per tenant (ten thousand tenants would be ten thousand series each) and never a URL in one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::collector::Progress;

/// Which request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Asking Entra for a token.
    Token,
    /// Listing subscriptions.
    ListSubscriptions,
    /// Starting one.
    StartSubscription,
    /// Stopping one.
    StopSubscription,
    /// One page of a listing of content.
    ListContent,
    /// One blob.
    Blob,
}

impl Operation {
    /// The word in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ListSubscriptions => "list_subscriptions",
            Self::StartSubscription => "start_subscription",
            Self::StopSubscription => "stop_subscription",
            Self::ListContent => "list_content",
            Self::Blob => "blob",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    credential: u32,
    kind: &'static str,
}

/// Every number the collector counts.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    errors: Family<KindLabels, Counter>,
    blobs: Counter,
    lost: Counter,
    records: Counter,
    duplicates: Counter,
    variants: Counter,
    quarantined: Counter,
    blob_bytes: Counter,
    commits: Counter,
    commit_seconds: Histogram,
    merges: Counter,
    expired: Counter,
    published: Counter,
    tables_behind: Gauge,
    tokens: Counter,
    pending: Gauge,
    tenants: Gauge,
    tenants_with_problem: Gauge,
    tenants_working: Gauge,
    fetching: Gauge,
    damaged_segments: Gauge,
    relisting_requests: Counter,
    relisting_found: Counter,
    webhook_calls: Family<KindLabels, Counter>,
    webhook_entries: Family<KindLabels, Counter>,
    webhook_drifts: Family<KindLabels, Counter>,
    credential_expires: Family<CredentialLabels, Gauge>,
    credential_usable: Family<CredentialLabels, Gauge>,
    clock_ahead: Gauge,
    clock_seen: AtomicBool,
    consents: Family<OutcomeLabels, Counter>,
    consents_begun: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(…)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What one commit adds to the counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CommitCounts {
    pub(crate) blobs: u64,
    pub(crate) lost: u64,
    pub(crate) records: u64,
    pub(crate) duplicates: u64,
    pub(crate) variants: u64,
    pub(crate) quarantined: u64,
    pub(crate) bytes: u64,
}

/// A tenant is counted among those whose table is behind.
#[derive(Debug)]
pub(crate) struct Behind(Gauge);

impl Drop for Behind {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A registry with every metric at zero.
    pub fn new() -> Self {
        // From a commit of one small segment to one that waits for a slow disk.
        let buckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let mut metrics = Self {
            registry: Registry::with_prefix("tenantry"),
            requests: Family::default(),
            errors: Family::default(),
            blobs: Counter::default(),
            lost: Counter::default(),
            records: Counter::default(),
            duplicates: Counter::default(),
            variants: Counter::default(),
            quarantined: Counter::default(),
            blob_bytes: Counter::default(),
            commits: Counter::default(),
            commit_seconds: Histogram::new(buckets),
            merges: Counter::default(),
            expired: Counter::default(),
            published: Counter::default(),
            tables_behind: Gauge::default(),
            tokens: Counter::default(),
            pending: Gauge::default(),
            tenants: Gauge::default(),
            tenants_with_problem: Gauge::default(),
            tenants_working: Gauge::default(),
            fetching: Gauge::default(),
            damaged_segments: Gauge::default(),
            relisting_requests: Counter::default(),
            relisting_found: Counter::default(),
            webhook_calls: Family::default(),
            webhook_entries: Family::default(),
            webhook_drifts: Family::default(),
            credential_expires: Family::default(),
            credential_usable: Family::default(),
            clock_ahead: Gauge::default(),
            clock_seen: AtomicBool::new(false),
            consents: Family::default(),
            consents_begun: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests answered, by operation and HTTP status", self.requests.clone());
        registry.register("errors", "Failures by kind of what is done about them", self.errors.clone());
        registry.register("blobs_archived", "Blobs whose records are in the archive", self.blobs.clone());
        registry.register("contents_lost", "Contents given up, each with a cause in the coverage", self.lost.clone());
        registry.register("records", "Records in the blobs archived", self.records.clone());
        registry.register("duplicates", "Of those, repeats that were not stored again", self.duplicates.clone());
        registry.register("variants", "Of those, other bodies of a known record id", self.variants.clone());
        registry.register(
            "quarantined",
            "Elements kept as delivered because they are no records",
            self.quarantined.clone(),
        );
        registry.register_with_unit(
            "blob",
            "Bytes of blobs archived, decompressed",
            Unit::Bytes,
            self.blob_bytes.clone(),
        );
        registry.register("commits", "Commits", self.commits.clone());
        registry.register_with_unit(
            "commit_duration",
            "From the end of a batch to its commit in the ledger",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register("merges", "Merges of small segments", self.merges.clone());
        registry.register(
            "records_expired",
            "Records removed because they were past their retention",
            self.expired.clone(),
        );
        registry.register("table_entries", "Entries added to the logs of tables", self.published.clone());
        registry.register(
            "tables_behind",
            "Tenants whose last publication of their table has failed",
            self.tables_behind.clone(),
        );
        registry.register("tokens_issued", "Tokens received from Entra", self.tokens.clone());
        registry.register("contents_pending", "Contents listed and not yet archived", self.pending.clone());
        registry.register("tenants", "Tenants collected", self.tenants.clone());
        registry.register(
            "tenants_with_problem",
            "Of those, tenants with a problem",
            self.tenants_with_problem.clone(),
        );
        registry.register("tenants_working", "Of those, tenants being worked on", self.tenants_working.clone());
        registry.register(
            "segments_damaged",
            "Archive files that are not what was written; the coverage names them",
            self.damaged_segments.clone(),
        );
        registry.register("blobs_fetching", "Blobs being fetched", self.fetching.clone());
        registry.register(
            "credential_expires_timestamp_seconds",
            "Unix time at which a credential of the app expires, for those that say",
            self.credential_expires.clone(),
        );
        registry.register(
            "credential_usable",
            "1 while a credential of the app can be used, 0 while it is refused, expired or unreadable",
            self.credential_usable.clone(),
        );
        registry.register_with_unit(
            "server_clock_ahead",
            "How far Entra ID's clock is ahead of this machine's",
            Unit::Seconds,
            self.clock_ahead.clone(),
        );
        registry.register(
            "consents_begun",
            "People sent to Microsoft with a consent link",
            self.consents_begun.clone(),
        );
        registry.register(
            "consents",
            "Consents by how they ended: a tenant added, come back or here already, or the reason why not",
            self.consents.clone(),
        );
        self.register_webhook();
    }

    fn register_webhook(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "relisting_requests",
            "Requests to list closed windows again",
            self.relisting_requests.clone(),
        );
        registry.register(
            "relisting_found",
            "Contents that only listing a closed window again has found",
            self.relisting_found.clone(),
        );
        registry.register("webhook_calls", "Calls of the webhook, by what became of them", self.webhook_calls.clone());
        registry.register(
            "webhook_entries",
            "Contents in notifications: new, known, or refused and why",
            self.webhook_entries.clone(),
        );
        registry.register(
            "webhook_drifts",
            "Webhooks found otherwise than they were set, or refused by the service",
            self.webhook_drifts.clone(),
        );
    }

    /// Everything, as text for a scraper.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A request was answered with `status`, or not at all.
    pub(crate) fn request(&self, operation: Operation, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.requests.get_or_create(&RequestLabels { operation: operation.as_str(), status }).inc();
    }

    /// Something failed; `kind` is one of a fixed set of words.
    pub(crate) fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&KindLabels { kind }).inc();
    }

    pub(crate) fn commit(&self, counts: &CommitCounts, took: Duration) {
        self.commits.inc();
        self.commit_seconds.observe(took.as_secs_f64());
        self.blobs.inc_by(counts.blobs);
        self.lost.inc_by(counts.lost);
        self.records.inc_by(counts.records);
        self.duplicates.inc_by(counts.duplicates);
        self.variants.inc_by(counts.variants);
        self.quarantined.inc_by(counts.quarantined);
        self.blob_bytes.inc_by(counts.bytes);
    }

    pub(crate) fn lost(&self) {
        self.lost.inc();
    }

    pub(crate) fn merge(&self) {
        self.merges.inc();
    }

    pub(crate) fn expired(&self, records: u64) {
        self.expired.inc_by(records);
    }

    /// A tenant's table was published.
    pub(crate) fn published(&self, entries: u64) {
        self.published.inc_by(entries);
    }

    /// One more tenant has a table that could not be published, for as long as what comes back is kept.
    pub(crate) fn table_behind(&self) -> Behind {
        self.tables_behind.inc();
        Behind(self.tables_behind.clone())
    }

    pub(crate) fn token(&self) {
        self.tokens.inc();
    }

    pub(crate) fn fetching(&self, change: i64) {
        self.fetching.inc_by(change);
    }

    /// How the `number`-th credential is, and when it expires (Unix time), if that is known.
    pub(crate) fn credential(&self, number: usize, kind: &'static str, usable: bool, expires: Option<i64>) {
        let labels = CredentialLabels { credential: u32::try_from(number).unwrap_or(u32::MAX), kind };
        self.credential_usable.get_or_create(&labels).set(i64::from(usable));
        if let Some(expires) = expires {
            self.credential_expires.get_or_create(&labels).set(expires);
        }
    }

    pub(crate) fn clock_ahead(&self, seconds: i64) {
        self.clock_ahead.set(seconds);
        self.clock_seen.store(true, Ordering::Relaxed);
    }

    /// How many seconds Entra ID's clock was ahead of ours by its last answer; `None` before the first.
    pub(crate) fn clock_seen_ahead(&self) -> Option<i64> {
        self.clock_seen.load(Ordering::Relaxed).then(|| self.clock_ahead.get())
    }

    /// Somebody was sent to Microsoft with a link.
    pub(crate) fn consent_begun(&self) {
        self.consents_begun.inc();
    }

    /// A consent ended; `outcome` is one of a fixed set of words.
    pub(crate) fn consent(&self, outcome: &'static str) {
        self.consents.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A closed window was listed again.
    pub(crate) fn relisted(&self, requests: u64, found: u64) {
        self.relisting_requests.inc_by(requests);
        self.relisting_found.inc_by(found);
    }

    /// A call of the webhook; `kind` is one of a fixed set of words.
    pub(crate) fn webhook_call(&self, kind: &'static str) {
        self.webhook_calls.get_or_create(&KindLabels { kind }).inc();
    }

    /// Contents in a notification; `kind` is one of a fixed set of words.
    pub(crate) fn webhook_entries(&self, kind: &'static str, entries: u64) {
        if entries > 0 {
            self.webhook_entries.get_or_create(&KindLabels { kind }).inc_by(entries);
        }
    }

    /// A webhook was found otherwise than it was set.
    pub(crate) fn webhook_drift(&self, kind: &'static str) {
        self.webhook_drifts.get_or_create(&KindLabels { kind }).inc();
    }

    pub(crate) fn tenants(&self, progress: &Progress, working: usize) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let with_problem = progress.tenants.iter().filter(|tenant| tenant.has_problem()).count();
        self.tenants.set(signed(progress.tenants.len() as u64));
        self.tenants_working.set(signed(working as u64));
        self.tenants_with_problem.set(signed(with_problem as u64));
        self.pending.set(signed(progress.pending()));
        self.damaged_segments.set(signed(progress.damaged_segments()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.request(Operation::Blob, Some(200));
        metrics.request(Operation::Blob, Some(200));
        metrics.request(Operation::Token, None);
        metrics.commit(
            &CommitCounts { blobs: 2, records: 30, duplicates: 4, bytes: 1000, ..CommitCounts::default() },
            Duration::from_millis(20),
        );
        let text = metrics.encode();
        for line in [
            r#"tenantry_requests_total{operation="blob",status="200"} 2"#,
            r#"tenantry_requests_total{operation="token",status="none"} 1"#,
            "tenantry_records_total 30",
            "tenantry_duplicates_total 4",
            "tenantry_blob_bytes_total 1000",
            "tenantry_commit_duration_seconds_count 1",
            "tenantry_contents_lost_total 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
