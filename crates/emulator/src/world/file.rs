//! World options as a TOML file.
//!
//! Never passes over a key it does not know. What a file leaves out keeps its default; what it says is checked with
//! the rest
//! by [`WorldOptions::check`].

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::cloud::CloudName;
use protocol::ids::{ContentType, TenantId};
use serde::{Deserialize, Deserializer};

use super::options::{StartThrottleScope, TenantSpec, WorldOptions};
use crate::entra::Interaction;
use crate::units::{parse_duration, parse_size, toml_problem};

/// Why a file of world options cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the world's options cannot be read: {0}")]
pub struct OptionsError(String);

impl WorldOptions {
    /// Reads options from TOML text.
    ///
    /// # Errors
    /// When it is no TOML, or has keys, types or units that options have not.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let file: OptionsFile = toml::from_str(text).map_err(|error| OptionsError(toml_problem(text, &error)))?;
        let mut options = Self::default();
        file.apply(&mut options);
        Ok(options)
    }
}

/// Replaces a value, if there is a new one.
fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsFile {
    seed: Option<u64>,
    tenants: Option<usize>,
    skew: Option<f64>,
    #[serde(default, deserialize_with = "time")]
    start: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "duration")]
    history: Option<Duration>,
    records_total: Option<u64>,
    live_rate: Option<f64>,
    records_files: Option<Vec<PathBuf>>,
    #[serde(default, deserialize_with = "size")]
    records_memory: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    huge_blob: Option<u64>,
    history_before_subscription: Option<bool>,
    #[serde(default, deserialize_with = "size")]
    gzip_cache: Option<u64>,
    gzip_level: Option<u32>,
    webhook_plain_http: Option<bool>,
    duplicates: Option<DuplicatesFile>,
    lateness: Option<LatenessFile>,
    blobs: Option<BlobsFile>,
    limits: Option<LimitsFile>,
    entra: Option<EntraFile>,
    #[serde(default)]
    tenant: Vec<TenantFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DuplicatesFile {
    within_blob: Option<f64>,
    later_blob: Option<f64>,
    redelivered: Option<f64>,
    variant: Option<f64>,
    recut: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LatenessFile {
    share: Option<f64>,
    #[serde(default, deserialize_with = "duration")]
    min: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    max: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    ordinary: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobsFile {
    median: Option<u32>,
    max: Option<u32>,
    aggregated: Option<f64>,
    ties: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    page_size: Option<usize>,
    #[serde(default, deserialize_with = "duration")]
    page_token_lifetime: Option<Duration>,
    /// Zero: no quota.
    requests_per_minute: Option<u32>,
    #[serde(default, deserialize_with = "duration")]
    start_wait: Option<Duration>,
    start_scope: Option<ScopeFile>,
    #[serde(default, deserialize_with = "duration")]
    phantom_within: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    list_reach: Option<Duration>,
    list_status_missing: Option<f64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum ScopeFile {
    ContentType,
    Application,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntraFile {
    /// Every access token lives this long.
    #[serde(default, deserialize_with = "duration")]
    token_lifetime: Option<Duration>,
    refuse_assertion_reuse: Option<bool>,
    interaction: Option<InteractionFile>,
    unsigned_v1_id_token: Option<bool>,
    extra_resources: Option<Vec<String>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum InteractionFile {
    Ask,
    Accept,
    Decline,
    WrongUser,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantFile {
    id: Option<TenantId>,
    name: Option<String>,
    domain: Option<String>,
    seats: Option<u32>,
    cloud: Option<CloudFile>,
    auditing: Option<bool>,
    deleted: Option<bool>,
    consented: Option<bool>,
    content_types: Option<Vec<ContentType>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum CloudFile {
    Commercial,
    Gcc,
    GccHigh,
    Dod,
    China,
}

impl OptionsFile {
    fn apply(self, to: &mut WorldOptions) {
        set(&mut to.seed, self.seed);
        set(&mut to.tenants, self.tenants);
        set(&mut to.skew, self.skew);
        to.start = self.start.or(to.start);
        set(&mut to.history, self.history);
        to.records_total = self.records_total.or(to.records_total);
        set(&mut to.live_rate, self.live_rate);
        set(&mut to.records_files, self.records_files);
        set(&mut to.records_memory, self.records_memory);
        to.huge_blob = self.huge_blob.or(to.huge_blob);
        set(&mut to.history_before_subscription, self.history_before_subscription);
        set(&mut to.gzip_cache, self.gzip_cache.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)));
        set(&mut to.gzip_level, self.gzip_level);
        set(&mut to.webhook_plain_http, self.webhook_plain_http);
        if let Some(file) = self.duplicates {
            set(&mut to.duplicates.within_blob, file.within_blob);
            set(&mut to.duplicates.later_blob, file.later_blob);
            set(&mut to.duplicates.redelivered, file.redelivered);
            set(&mut to.duplicates.variant, file.variant);
            set(&mut to.duplicates.recut, file.recut);
        }
        if let Some(file) = self.lateness {
            set(&mut to.lateness.share, file.share);
            set(&mut to.lateness.min, file.min);
            set(&mut to.lateness.max, file.max);
            set(&mut to.lateness.ordinary, file.ordinary);
        }
        if let Some(file) = self.blobs {
            set(&mut to.blobs.median, file.median);
            set(&mut to.blobs.max, file.max);
            set(&mut to.blobs.aggregated, file.aggregated);
            set(&mut to.blobs.ties, file.ties);
        }
        if let Some(file) = self.limits {
            file.apply(to);
        }
        if let Some(file) = self.entra {
            file.apply(to);
        }
        to.specs.extend(self.tenant.into_iter().map(TenantFile::into_spec));
        // A file that describes its tenants and names no number means these.
        if self.tenants.is_none() && !to.specs.is_empty() {
            to.tenants = to.specs.len();
        }
    }
}

impl LimitsFile {
    fn apply(self, to: &mut WorldOptions) {
        let limits = &mut to.limits;
        set(&mut limits.page_size, self.page_size);
        set(&mut limits.page_token_lifetime, self.page_token_lifetime);
        set(&mut limits.requests_per_minute, self.requests_per_minute.map(|count| (count > 0).then_some(count)));
        set(&mut limits.start_wait, self.start_wait);
        let scope = self.start_scope.map(|scope| match scope {
            ScopeFile::ContentType => StartThrottleScope::ContentType,
            ScopeFile::Application => StartThrottleScope::Application,
        });
        set(&mut limits.start_scope, scope);
        set(&mut limits.phantom_within, self.phantom_within);
        set(&mut limits.list_reach, self.list_reach);
        set(&mut limits.list_status_missing, self.list_status_missing);
    }
}

impl EntraFile {
    fn apply(self, to: &mut WorldOptions) {
        if let Some(lifetime) = self.token_lifetime {
            let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
            to.entra.token_lifetime = seconds..=seconds;
        }
        set(&mut to.entra.refuse_assertion_reuse, self.refuse_assertion_reuse);
        let interaction = self.interaction.map(|interaction| match interaction {
            InteractionFile::Ask => Interaction::Ask,
            InteractionFile::Accept => Interaction::Accept,
            InteractionFile::Decline => Interaction::Decline,
            InteractionFile::WrongUser => Interaction::WrongUser,
        });
        set(&mut to.entra.interaction, interaction);
        set(&mut to.entra.unsigned_v1_id_token, self.unsigned_v1_id_token);
        set(&mut to.entra.extra_resources, self.extra_resources);
    }
}

impl TenantFile {
    fn into_spec(self) -> TenantSpec {
        let drawn = TenantSpec::default();
        let cloud = self.cloud.map(|cloud| match cloud {
            CloudFile::Commercial => CloudName::Commercial,
            CloudFile::Gcc => CloudName::Gcc,
            CloudFile::GccHigh => CloudName::GccHigh,
            CloudFile::Dod => CloudName::Dod,
            CloudFile::China => CloudName::China,
        });
        TenantSpec {
            id: self.id,
            name: self.name,
            domain: self.domain,
            seats: self.seats,
            cloud: cloud.unwrap_or(drawn.cloud),
            auditing: self.auditing.unwrap_or(drawn.auditing),
            deleted: self.deleted.unwrap_or(drawn.deleted),
            consented: self.consented.unwrap_or(drawn.consented),
            content_types: self.content_types.unwrap_or(drawn.content_types),
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size(&text).map(Some).map_err(serde::de::Error::custom)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = DateTime::parse_from_rfc3339(&text);
    let expected = || serde::de::Error::custom(format!("{text:?} is no time such as 2026-01-31T12:00:00Z"));
    time.map(|time| Some(time.with_timezone(&Utc))).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let options = WorldOptions::parse(
            r#"
            seed = 9
            start = "2026-01-31T12:00:00Z"
            history = "2d"
            huge_blob = "100MiB"
            [duplicates]
            recut = 0.5
            [limits]
            requests_per_minute = 0
            start_scope = "application"
            [entra]
            token_lifetime = "5m"
            interaction = "accept"
            [[tenant]]
            name = "Contoso"
            cloud = "gcc_high"
            auditing = false
            content_types = ["Audit.Exchange"]
            "#,
        )
        .unwrap();
        let plain = WorldOptions::default();
        assert_eq!((options.seed, options.tenants), (9, 1));
        assert_eq!(options.history, Duration::from_secs(2 * 86_400));
        assert_eq!(options.huge_blob, Some(100 << 20));
        assert_eq!(options.duplicates.recut, 0.5);
        assert_eq!(options.duplicates.later_blob, plain.duplicates.later_blob);
        assert_eq!(options.limits.requests_per_minute, None);
        assert_eq!(options.limits.start_scope, StartThrottleScope::Application);
        assert_eq!(options.entra.token_lifetime, 300..=300);
        assert_eq!(options.entra.interaction, Interaction::Accept);
        assert!(!options.specs[0].auditing && options.specs[0].cloud == CloudName::GccHigh);
        assert!(options.check().is_ok());
    }

    #[test]
    fn unknown_keys_and_bare_numbers_for_durations_are_refused() {
        for text in ["sed = 1", "history = 6", "[limits]\npages = 1", "history = \"6 weeks\"", "start = \"now\""] {
            assert!(WorldOptions::parse(text).is_err(), "{text}");
        }
    }
}
