//! The emulated Microsoft: its tenants, what each has published, who subscribed to it, and its clock.
//!
//! Never speaks HTTP, and never keeps a record: contents are planned slot by slot from the seed, and a record is made
//! when
//! somebody reads it. `activity` and `control` turn requests into calls of what is here; tests call it directly.

pub(crate) mod blob;
pub(crate) mod content;
pub(crate) mod directory;
pub(crate) mod feed;
mod file;
pub(crate) mod options;
pub(crate) mod subscription;
pub(crate) mod tenant;
#[cfg(test)]
mod tests;
pub(crate) mod timeline;
pub(crate) mod truth;
pub(crate) mod volume;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use protocol::ids::{ClientId, ContentType, TenantId};

pub use content::RecordRef;
pub use file::OptionsError;
pub use options::{BlobSizes, Duplicates, Lateness, Limits, StartThrottleScope, TenantSpec, WorldError, WorldOptions};
pub use subscription::{SubscriptionKey, Webhook, WebhookStatus};
pub use truth::{ContentTruth, FeedTruth, RecordSet, TruthSummary};

use crate::clock::EmulatorClock;
use crate::faults::{Effect, FaultPlan, Faults, NOT_RECORDS, PoisonForm};
use crate::records::{Corpus, Source, Wanted};
use crate::seed::Seed;
use blob::Garbage;
use content::{Content, content_id, parse_content_id};
use feed::Feed;
use subscription::Subscriptions;
use tenant::Tenant;
use timeline::{Millis, Timeline};

/// The world. Shared by everything that serves it.
#[derive(Debug)]
pub struct World {
    options: WorldOptions,
    seed: Seed,
    clock: EmulatorClock,
    timeline: Timeline,
    source: Source,
    tenants: RwLock<Tenants>,
    subscriptions: Mutex<Subscriptions>,
    faults: RwLock<Arc<Faults>>,
    bodies: blob::Cache,
}

#[derive(Debug, Default)]
struct Tenants {
    list: Vec<Arc<Tenant>>,
    /// By id and by domain, lower case.
    by_name: HashMap<String, Arc<Tenant>>,
}

impl Tenants {
    fn insert(&mut self, tenant: Arc<Tenant>) -> Result<(), WorldError> {
        let id = tenant.profile.id_text.clone();
        if self.by_name.contains_key(&id) {
            return Err(WorldError::TenantTwice(tenant.id()));
        }
        self.by_name.insert(id, Arc::clone(&tenant));
        self.by_name.insert(tenant.profile.domain.to_ascii_lowercase(), Arc::clone(&tenant));
        self.list.push(tenant);
        Ok(())
    }
}

/// What a content id leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole content, or a part of one; `created` is the whole one's.
    Content { kind: ContentType, whole: Content, part: Content },
    /// The id has the right shape, and there is no such content, or not yet.
    Unknown,
    /// The id is not of this tenant's region, or mangled.
    Malformed,
}

impl World {
    /// Makes a world. Reads `records_files`.
    ///
    /// # Errors
    /// When an option is out of range, two tenants share an id, or recorded records cannot be read.
    pub fn new(options: WorldOptions, clock: EmulatorClock) -> Result<Self, WorldError> {
        options.check()?;
        let seed = Seed::new(options.seed);
        let start = options.start.unwrap_or_else(|| clock.now()).timestamp_millis();
        let timeline = Timeline::new(start, feed::span(options.history));
        let source = if options.records_files.is_empty() {
            Source::Generated
        } else {
            let files = options.records_files.iter().map(PathBuf::as_path);
            let loaded = Corpus::load(files, options.records_memory);
            let corpus = loaded.map_err(|(path, source)| WorldError::Records { path, source })?;
            Source::Replayed(Box::new(corpus))
        };
        let count = options.tenants.max(options.specs.len());
        let drawn = TenantSpec::default();
        let specs = options.specs.iter().chain(std::iter::repeat(&drawn)).take(count);
        let mut made: Vec<Tenant> = specs.enumerate().map(|(place, spec)| Tenant::new(spec, seed, place)).collect();
        volume::distribute(&mut made, &options, &source, &timeline);
        let mut tenants = Tenants::default();
        for tenant in made {
            tenants.insert(Arc::new(tenant))?;
        }
        let bodies = blob::Cache::new(options.gzip_cache);
        Ok(Self {
            options,
            seed,
            clock,
            timeline,
            source,
            tenants: RwLock::new(tenants),
            subscriptions: Mutex::default(),
            faults: RwLock::default(),
            bodies,
        })
    }

    /// The world's clock.
    pub fn clock(&self) -> &EmulatorClock {
        &self.clock
    }

    /// The time in the world.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// What the world was made from.
    pub fn options(&self) -> &WorldOptions {
        &self.options
    }

    /// When the history ends and live content begins.
    pub fn start(&self) -> DateTime<Utc> {
        time(self.timeline.start())
    }

    /// Every tenant's id, in order; deleted ones too.
    pub fn tenant_ids(&self) -> Vec<TenantId> {
        self.tenants().iter().map(|tenant| tenant.id()).collect()
    }

    pub(crate) fn now_millis(&self) -> Millis {
        self.clock.now().timestamp_millis()
    }

    pub(crate) fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).list.clone()
    }

    pub(crate) fn tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.tenant_named(&id.to_string())
    }

    /// By id or domain, in lower case.
    pub(crate) fn tenant_named(&self, name: &str) -> Option<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    /// Adds a tenant while the world runs. It has `history` records of the past, spread over the content types, and
    /// makes
    /// `live_rate` records per minute.
    ///
    /// # Errors
    /// When there is one with its id already.
    pub fn add_tenant(&self, spec: &TenantSpec, history: u64, live_rate: f64) -> Result<TenantId, WorldError> {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let mut tenant = Tenant::new(spec, self.seed, tenants.list.len());
        volume::fill(&mut tenant, history, live_rate, &self.source);
        let id = tenant.id();
        tenants.insert(Arc::new(tenant))?;
        Ok(id)
    }

    /// Switches a tenant's unified audit log on or off. What is created while it is off is lost, as in the real
    /// service.
    /// `false` when there is no such tenant.
    pub fn set_auditing(&self, tenant: TenantId, on: bool) -> bool {
        let now = self.now_millis();
        self.change_tenant(tenant, |state| state.set_auditing(on, now))
    }

    /// Deletes or restores a tenant. `false` when there is no such tenant.
    pub fn set_deleted(&self, tenant: TenantId, deleted: bool) -> bool {
        self.change_tenant(tenant, |state| state.deleted = deleted)
    }

    /// Sets the application permissions a tenant has granted an application; `None` takes the whole consent back.
    /// `false` when there is no such tenant.
    pub fn set_roles(&self, tenant: TenantId, client: ClientId, roles: Option<&[&str]>) -> bool {
        self.change_tenant(tenant, |state| {
            let principal = roles.map(|roles| crate::entra::ServicePrincipal {
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                ..state.principal(client).cloned().unwrap_or_default()
            });
            state.principals.insert(client, principal);
        })
    }

    /// Makes a tenant's webhooks vanish without a word, as the service has been seen to do (D13).
    pub fn lose_webhooks(&self, tenant: TenantId) {
        for (key, subscription) in self.subscriptions().iter_mut() {
            if key.tenant == tenant {
                subscription.webhook = None;
            }
        }
    }

    /// Puts a fault plan into force; its counts begin at zero.
    pub fn set_faults(&self, plan: FaultPlan) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Faults::new(plan));
        // Bodies may have held what the old plan put into them.
        self.bodies.clear();
    }

    /// The fault plan in force.
    pub fn fault_plan(&self) -> FaultPlan {
        self.faults().plan().clone()
    }

    /// How often each rule of the plan has struck, in the plan's order.
    pub fn faults_struck(&self) -> Vec<(String, u64)> {
        self.faults().struck()
    }

    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How a content fails for good, if it does. A part of a content fails with the whole: pass the whole's id.
    pub(crate) fn poison(&self, tenant: &Tenant, kind: &ContentType, content_id: &str) -> Option<PoisonForm> {
        let lasting = self.faults().lasting(tenant.id(), kind, content_id);
        lasting.into_iter().find_map(|(_, effect)| if let Effect::Poison(form) = effect { Some(form) } else { None })
    }

    /// What of a content's blob is no record. Parts of contents have none.
    pub(crate) fn garbage(&self, tenant: &Tenant, kind: &ContentType, content_id: &str) -> Option<Garbage> {
        let lasting = self.faults().lasting(tenant.id(), kind, content_id);
        let (drawn, _) = lasting.into_iter().find(|(_, effect)| *effect == Effect::NotARecord)?;
        let place = usize::try_from(drawn % NOT_RECORDS.len() as u64).ok()?;
        Some(Garbage { before: (drawn >> 8) % 40, text: NOT_RECORDS.get(place)? })
    }

    pub(crate) fn change_tenant(&self, tenant: TenantId, change: impl FnOnce(&mut tenant::TenantState)) -> bool {
        let Some(tenant) = self.tenant(tenant) else { return false };
        change(&mut tenant.state_mut());
        true
    }

    pub(crate) fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slot_contents(&self, feed: &Feed, slot: u64) -> Vec<Content> {
        feed.contents(&self.timeline, &self.options, slot)
    }

    /// The contents with pieces created in `from..until` that can be listed at `now` and pass `visible`, in the order
    /// of
    /// becoming available; those that straddle a border are cut to the pieces inside.
    pub(crate) fn list(
        &self,
        tenant: &Tenant,
        feed: &Feed,
        (from, until): (Millis, Millis),
        now: Millis,
        visible: impl Fn(&Content) -> bool,
    ) -> Vec<Content> {
        // Nothing is available before it was created.
        let until = until.min(now.saturating_add(1));
        if from >= until {
            return Vec::new();
        }
        let slots = feed.slot_of(&self.timeline, from)..=feed.slot_of(&self.timeline, until - 1);
        let state = tenant.state();
        let mut listed: Vec<Content> = slots
            .flat_map(|slot| self.slot_contents(feed, slot))
            .filter(|content| content.available <= now && !state.silent_at(content.created()) && visible(content))
            .filter_map(|content| content.within(from, until))
            .collect();
        listed.sort_by_key(|content| (content.available, content.span().map(|span| span.last)));
        listed
    }

    /// When the next content of a feed becomes available after `now`, if that is by `until`.
    pub(crate) fn next_available(&self, feed: &Feed, now: Millis, until: Millis) -> Option<Millis> {
        let lateness = &self.options.lateness;
        let reach = feed::span(lateness.max.max(lateness.ordinary));
        let slots = feed.slot_of(&self.timeline, now - reach)..=feed.slot_of(&self.timeline, until);
        let contents = slots.flat_map(|slot| self.slot_contents(feed, slot));
        contents.map(|content| content.available).filter(|available| (now + 1..=until).contains(available)).min()
    }

    /// What an id leads to at `now`, whoever asks.
    pub(crate) fn find_content(&self, tenant: &Tenant, id: &str, now: Millis) -> Found {
        let Some((kind, span)) = parse_content_id(id, tenant.region) else { return Found::Malformed };
        let Some(feed) = tenant.feed(&kind) else { return Found::Malformed };
        if span.last.at > now {
            return Found::Unknown;
        }
        let slot = feed.slot_of(&self.timeline, span.last.at);
        let mut contents = self.slot_contents(feed, slot).into_iter();
        let Some((whole, part)) = contents.find_map(|whole| whole.part(span).map(|part| (whole, part))) else {
            return Found::Unknown;
        };
        if whole.available > now || tenant.state().silent_at(whole.created()) {
            return Found::Unknown;
        }
        Found::Content { kind, whole, part }
    }

    /// The id of a content of a feed.
    pub(crate) fn content_id(&self, tenant: &Tenant, kind: &ContentType, content: &Content) -> String {
        content.span().map(|span| content_id(span, kind, tenant.region)).unwrap_or_default()
    }

    /// Appends a record's bytes.
    pub(crate) fn render(&self, tenant: &Tenant, feed: &Feed, record: RecordRef, out: &mut Vec<u8>) {
        self.render_for(tenant, feed, record, false, out);
    }

    /// Appends a record's bytes; with `withheld`, without what only `ActivityFeed.ReadDlp` may see.
    pub(crate) fn render_for(
        &self,
        tenant: &Tenant,
        feed: &Feed,
        record: RecordRef,
        withheld: bool,
        out: &mut Vec<u8>,
    ) {
        let wanted = Wanted {
            tenant: &tenant.profile,
            kind: &feed.kind,
            feed: feed.seed,
            number: record.number,
            variant: record.variant,
            withheld,
            made_at: feed.made_at(&self.timeline, record.number),
        };
        self.source.render(&wanted, out);
    }
}

/// Milliseconds of Unix time as a time.
pub(crate) fn time(millis: Millis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// RFC 3339 with milliseconds and `Z`.
pub(crate) fn format_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn serialize_time<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_time(*time))
}

fn serialize_time_or_null<S: serde::Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_str(&format_time(*time)),
        None => serializer.serialize_none(),
    }
}
