//! Ground truth: what was published to whom, told without HTTP and without holding it in memory.
//!
//! Never looks at what a client did: it goes through the plan, so it also knows what nobody has read yet.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use protocol::ids::{ContentType, TenantId};
use serde::Serialize;

use super::content::{Content, RecordRef};
use super::feed::Feed;
use super::tenant::Tenant;
use super::{World, time};

/// One content, as it really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContentTruth {
    /// Whose.
    pub tenant: TenantId,
    /// In which feed.
    pub content_type: ContentType,
    /// The id of the whole; a window that cuts it gives other ids.
    pub content_id: String,
    /// `contentCreated`.
    #[serde(serialize_with = "super::serialize_time")]
    pub created: DateTime<Utc>,
    /// From when it can be listed.
    #[serde(serialize_with = "super::serialize_time")]
    pub available: DateTime<Utc>,
    /// From when it cannot be read any more.
    #[serde(serialize_with = "super::serialize_time")]
    pub expires: DateTime<Utc>,
    /// Records in it, repeats included.
    pub records: u64,
    /// Whether it can be or could have been listed by now.
    pub published: bool,
    /// Whether it can never be read, by the fault plan.
    pub poison: bool,
}

/// What one feed has published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedTruth {
    /// Whose.
    pub tenant: TenantId,
    /// Which feed.
    pub content_type: ContentType,
    /// Contents that can be or could have been listed by now.
    pub contents: u64,
    /// Distinct (Id, body) pairs in those that can be read.
    pub records: u64,
    /// Of these, second bodies of an Id.
    pub variants: u64,
    /// Records delivered beyond the first time.
    pub duplicates: u64,
    /// Elements of blobs that are no records.
    pub not_records: u64,
    /// Contents that can never be read.
    pub poison_contents: u64,
    /// Distinct records that are in nothing but such contents.
    pub poison_records: u64,
    /// Contents that have been created and cannot be listed yet.
    pub pending: u64,
}

/// What the world has published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TruthSummary {
    /// The time it was told at.
    #[serde(serialize_with = "super::serialize_time")]
    pub now: DateTime<Utc>,
    /// Whether everything there will ever be can be listed now: no live content, nothing late outstanding.
    pub complete: bool,
    /// From when on `complete` holds, if it ever does.
    #[serde(serialize_with = "super::serialize_time_or_null")]
    pub complete_at: Option<DateTime<Utc>>,
    /// Distinct records in all feeds.
    pub records: u64,
    /// Of these, second bodies of an Id.
    pub variants: u64,
    /// Records delivered beyond the first time.
    pub duplicates: u64,
    /// Contents published.
    pub contents: u64,
    /// Elements of blobs that are no records.
    pub not_records: u64,
    /// Contents that can never be read.
    pub poison_contents: u64,
    /// Distinct records that are in nothing but such contents.
    pub poison_records: u64,
    /// Feed by feed.
    pub feeds: Vec<FeedTruth>,
}

/// Which records of a feed are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordSet {
    /// In at least one content that can be read.
    Readable,
    /// In nothing but contents that can never be read.
    PoisonOnly,
}

/// A set of records: numbers run densely, so a bit for each.
#[derive(Debug, Default)]
struct Seen {
    /// The feed's ordinary records.
    ordinary: Vec<u64>,
    huge: Vec<u64>,
    variants: BTreeSet<u64>,
}

impl Seen {
    /// `true` when it was not in yet.
    fn insert(&mut self, record: RecordRef) -> bool {
        if record.variant {
            return self.variants.insert(record.number);
        }
        let (bits, number) = match record.number.checked_sub(RecordRef::HUGE) {
            Some(number) => (&mut self.huge, number),
            None => (&mut self.ordinary, record.number),
        };
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if word >= bits.len() {
            bits.resize(word + 1, 0);
        }
        let Some(word) = bits.get_mut(word) else { return false };
        let bit = 1 << (number % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    fn contains(&self, record: RecordRef) -> bool {
        if record.variant {
            return self.variants.contains(&record.number);
        }
        let (bits, number) = match record.number.checked_sub(RecordRef::HUGE) {
            Some(number) => (&self.huge, number),
            None => (&self.ordinary, record.number),
        };
        let word = usize::try_from(number / 64).ok().and_then(|word| bits.get(word));
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Its records: the ordinary ones by number, then those of the huge blob, then second bodies.
    fn into_records(self) -> impl Iterator<Item = RecordRef> + Send {
        let numbers = dense(self.ordinary, 0).chain(dense(self.huge, RecordRef::HUGE));
        let variants = self.variants.into_iter().map(|number| RecordRef { number, variant: true });
        numbers.map(RecordRef::original).chain(variants)
    }
}

fn dense(words: Vec<u64>, base: u64) -> impl Iterator<Item = u64> + Send {
    let bits = |word: u64| (0..64).filter(move |bit| word & (1 << bit) != 0);
    words
        .into_iter()
        .enumerate()
        .flat_map(move |(place, word)| bits(word).map(move |bit| base + place as u64 * 64 + bit))
}

impl World {
    /// Every content created by now, tenant by tenant and feed by feed, in order of creation.
    pub fn contents(&self) -> impl Iterator<Item = ContentTruth> + '_ {
        let now = self.now_millis();
        self.tenants().into_iter().flat_map(move |tenant| {
            let kinds: Vec<ContentType> = tenant.feeds.iter().map(|feed| feed.kind.clone()).collect();
            kinds.into_iter().flat_map(move |kind| self.feed_contents(&tenant, &kind, now))
        })
    }

    pub(crate) fn feed_contents(&self, tenant: &Tenant, kind: &ContentType, now: i64) -> Vec<ContentTruth> {
        let Some(feed) = tenant.feed(kind) else { return Vec::new() };
        let mut told = Vec::new();
        self.each_content(tenant, feed, now, |content, published| {
            let content_id = self.content_id(tenant, kind, content);
            told.push(ContentTruth {
                tenant: tenant.id(),
                content_type: kind.clone(),
                created: time(content.created()),
                available: time(content.available),
                expires: time(content.expires()),
                records: content.len(),
                published,
                poison: self.poison(tenant, kind, &content_id).is_some(),
                content_id,
            });
        });
        told
    }

    /// Calls `tell` with every content of a feed created by `now`, and whether it can be or could have been listed.
    fn each_content(&self, tenant: &Tenant, feed: &Feed, now: i64, mut tell: impl FnMut(&Content, bool)) {
        let history = self.options.history_before_subscription;
        let audience = self.subscriptions().audience(tenant.id(), &feed.kind, history);
        let state = tenant.state().clone();
        for slot in 0..=feed.slot_of(&self.timeline, now) {
            for content in self.slot_contents(feed, slot) {
                let created = content.created();
                if created <= now && !state.silent_at(created) {
                    tell(&content, content.available <= now && audience.sees(created));
                }
            }
        }
    }

    /// Counts what was published.
    pub fn truth(&self) -> TruthSummary {
        let now = self.now_millis();
        let mut summary = TruthSummary {
            now: time(now),
            complete: false,
            complete_at: self.complete_at().map(time),
            records: 0,
            variants: 0,
            duplicates: 0,
            contents: 0,
            not_records: 0,
            poison_contents: 0,
            poison_records: 0,
            feeds: Vec::new(),
        };
        summary.complete = summary.complete_at.is_some_and(|at| at.timestamp_millis() <= now);
        for tenant in self.tenants() {
            for feed in &tenant.feeds {
                let counted = self.count_feed(&tenant, feed, now);
                summary.records += counted.records;
                summary.variants += counted.variants;
                summary.duplicates += counted.duplicates;
                summary.contents += counted.contents;
                summary.not_records += counted.not_records;
                summary.poison_contents += counted.poison_contents;
                summary.poison_records += counted.poison_records;
                summary.feeds.push(counted);
            }
        }
        summary
    }

    fn count_feed(&self, tenant: &Tenant, feed: &Feed, now: i64) -> FeedTruth {
        let mut counted = FeedTruth {
            tenant: tenant.id(),
            content_type: feed.kind.clone(),
            contents: 0,
            records: 0,
            variants: 0,
            duplicates: 0,
            not_records: 0,
            poison_contents: 0,
            poison_records: 0,
            pending: 0,
        };
        let (mut readable, mut poisoned) = (Seen::default(), Seen::default());
        self.each_content(tenant, feed, now, |content, published| {
            if !published {
                counted.pending += u64::from(content.available > now);
                return;
            }
            counted.contents += 1;
            let id = self.content_id(tenant, &feed.kind, content);
            if self.poison(tenant, &feed.kind, &id).is_some() {
                counted.poison_contents += 1;
                content.records().for_each(|record| {
                    poisoned.insert(record);
                });
                return;
            }
            counted.not_records += u64::from(self.garbage(tenant, &feed.kind, &id).is_some());
            for record in content.records() {
                if readable.insert(record) {
                    counted.records += 1;
                    counted.variants += u64::from(record.variant);
                } else {
                    counted.duplicates += 1;
                }
            }
        });
        counted.poison_records = poisoned.into_records().filter(|record| !readable.contains(*record)).count() as u64;
        counted
    }

    /// Calls `tell` with the bytes of every distinct record a tenant has published by now, once each.
    /// Stops when `tell` answers `false`.
    pub fn each_record(&self, tenant: TenantId, set: RecordSet, mut tell: impl FnMut(&ContentType, &[u8]) -> bool) {
        let Some(tenant) = self.tenant(tenant) else { return };
        let now = self.now_millis();
        let mut text = Vec::new();
        for feed in &tenant.feeds {
            for record in self.published_records(&tenant, feed, set, now) {
                text.clear();
                self.render(&tenant, feed, record, &mut text);
                if !tell(&feed.kind, &text) {
                    return;
                }
            }
        }
    }

    /// The contents published by now that hold exactly this record. Renders every record of the tenant until then: for
    /// finding out why one is missing.
    pub fn contents_of(&self, tenant: TenantId, raw: &[u8]) -> Vec<String> {
        let Some(tenant) = self.tenant(tenant) else { return Vec::new() };
        let now = self.now_millis();
        let (mut found, mut text) = (Vec::new(), Vec::new());
        for feed in &tenant.feeds {
            self.each_content(&tenant, feed, now, |content, published| {
                let holds = published
                    && content.records().any(|record| {
                        text.clear();
                        self.render(&tenant, feed, record, &mut text);
                        text == raw
                    });
                if holds {
                    found.push(self.content_id(&tenant, &feed.kind, content));
                }
            });
        }
        found
    }

    /// The distinct records of a feed that were published by `now`. Holds a bit for each, not the records.
    pub(crate) fn published_records(
        &self,
        tenant: &Tenant,
        feed: &Feed,
        set: RecordSet,
        now: i64,
    ) -> Box<dyn Iterator<Item = RecordRef> + Send> {
        let (mut readable, mut poisoned) = (Seen::default(), Seen::default());
        self.each_content(tenant, feed, now, |content, published| {
            if !published {
                return;
            }
            let id = self.content_id(tenant, &feed.kind, content);
            let seen = if self.poison(tenant, &feed.kind, &id).is_some() { &mut poisoned } else { &mut readable };
            content.records().for_each(|record| {
                seen.insert(record);
            });
        });
        match set {
            RecordSet::Readable => Box::new(readable.into_records()),
            RecordSet::PoisonOnly => {
                Box::new(poisoned.into_records().filter(move |record| !readable.contains(*record)))
            }
        }
    }

    /// When the last content of the history becomes available; `None` when content goes on being made.
    fn complete_at(&self) -> Option<i64> {
        let mut last = self.timeline.start();
        for tenant in self.tenants() {
            for feed in &tenant.feeds {
                if feed.live > 0.0 {
                    return None;
                }
                let end = feed.slot_of(&self.timeline, self.timeline.start());
                for slot in 0..=end {
                    for content in self.slot_contents(feed, slot) {
                        last = last.max(content.available);
                    }
                }
            }
        }
        Some(last)
    }
}
