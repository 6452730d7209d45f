//! Subscriptions: one per tenant, application and content type, with the spans of time it was enabled in.
//!
//! Never decides which error a call gets: it answers what state a subscription is in; `activity` puts it into words.

use std::collections::{BTreeMap, HashMap};

use protocol::ids::{ClientId, ContentType, TenantId};

use super::options::{Limits, StartThrottleScope};
use super::timeline::Millis;

/// Who subscribed to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The application. Two applications do not see each other's subscriptions.
    pub client: ClientId,
    /// The content type.
    pub kind: ContentType,
}

/// The state of a webhook as the list shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookStatus {
    /// Notifications are sent.
    Enabled,
    /// Switched off after continued failure; a start call revives it.
    Disabled,
    /// Its expiration has passed; a start call with a later one revives it.
    Expired,
}

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The https address.
    pub address: String,
    /// Echoed as `Webhook-AuthID`.
    pub auth_id: Option<String>,
    /// In milliseconds of Unix time; `None`: never.
    pub expiration: Option<i64>,
    /// As it was sent, for the list.
    pub expiration_text: Option<String>,
    /// Whether it was switched off.
    pub disabled: bool,
}

impl Webhook {
    /// What the list shows at `now`.
    pub fn status(&self, now: i64) -> WebhookStatus {
        if self.disabled {
            WebhookStatus::Disabled
        } else if self.expiration.is_some_and(|expiration| expiration <= now) {
            WebhookStatus::Expired
        } else {
            WebhookStatus::Enabled
        }
    }

    /// Whether a start call with `other` would change nothing.
    pub(crate) fn same_properties(&self, other: &Self) -> bool {
        self.address == other.address && self.auth_id == other.auth_id && self.expiration == other.expiration
    }
}

/// One subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscription {
    /// When it was enabled: half-open spans of content creation; the last is open-ended while it is enabled.
    pub(crate) spans: Vec<(Millis, Option<Millis>)>,
    pub(crate) webhook: Option<Webhook>,
    /// The content type as the start call wrote it: the service answers with the same letters (#479).
    pub(crate) spelling: String,
    /// What the start call addressed the service as; notifications build their URIs from it.
    pub(crate) origin: String,
    pub(crate) last_stop: Option<Millis>,
    /// Started too soon after a stop: answers said `enabled`, and it is not there (activity-api.md §2.2).
    pub(crate) phantom: bool,
    /// Contents available up to here have been notified.
    pub(crate) notified_until: Millis,
    /// Nothing becomes available before this.
    pub(crate) quiet_until: Millis,
}

impl Subscription {
    pub(crate) fn enabled(&self) -> bool {
        !self.phantom && self.spans.last().is_some_and(|(_, until)| until.is_none())
    }

    pub(crate) fn covers(&self, created: Millis) -> bool {
        self.spans.iter().any(|(from, until)| created >= *from && until.is_none_or(|until| created < until))
    }
}

/// What a start request finds before it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartVerdict {
    /// Too soon after the last one: wait this many milliseconds.
    Throttled(Millis),
    /// Enabled already, nothing would change.
    NoChange,
    Go,
}

/// All subscriptions of the world.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    by_key: BTreeMap<SubscriptionKey, Subscription>,
    /// The last accepted start request, by tenant, application and, as the scope says, content type.
    starts: HashMap<(TenantId, ClientId, Option<ContentType>), Millis>,
}

impl Subscriptions {
    pub(crate) fn find(&self, key: &SubscriptionKey) -> Option<&Subscription> {
        self.by_key.get(key)
    }

    pub(crate) fn find_mut(&mut self, key: &SubscriptionKey) -> Option<&mut Subscription> {
        self.by_key.get_mut(key)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&SubscriptionKey, &mut Subscription)> {
        self.by_key.iter_mut()
    }

    /// Judges a start request, and counts it for the throttle unless the throttle refuses it.
    pub(crate) fn judge_start(
        &mut self,
        key: &SubscriptionKey,
        webhook: Option<&Webhook>,
        limits: &Limits,
        now: Millis,
    ) -> StartVerdict {
        let wait = super::feed::span(limits.start_wait);
        let scope = match limits.start_scope {
            StartThrottleScope::ContentType => Some(key.kind.clone()),
            StartThrottleScope::Application => None,
        };
        let slot = (key.tenant, key.client, scope);
        if let Some(last) = self.starts.get(&slot).filter(|last| now < **last + wait && now >= **last) {
            return StartVerdict::Throttled(last + wait - now);
        }
        if wait > 0 {
            self.starts.insert(slot, now);
        }
        let Some(subscription) = self.by_key.get(key).filter(|subscription| subscription.enabled()) else {
            return StartVerdict::Go;
        };
        let unchanged = match (&subscription.webhook, webhook) {
            (None, None) => true,
            (Some(old), Some(new)) => old.same_properties(new) && old.status(now) == WebhookStatus::Enabled,
            _ => false,
        };
        if unchanged { StartVerdict::NoChange } else { StartVerdict::Go }
    }

    /// Carries a start out. `history`: what was created before counts as well, if this is the first start.
    pub(crate) fn start(
        &mut self,
        key: SubscriptionKey,
        webhook: Option<Webhook>,
        history: bool,
        phantom_within: Millis,
        now: Millis,
    ) {
        let subscription = self.by_key.entry(key).or_default();
        if subscription.enabled() {
            subscription.webhook = webhook;
            return;
        }
        subscription.phantom = subscription.last_stop.is_some_and(|stop| now < stop + phantom_within);
        if subscription.phantom {
            return;
        }
        let from = if history && subscription.spans.is_empty() { Millis::MIN } else { now };
        subscription.spans.push((from, None));
        subscription.webhook = webhook;
        subscription.notified_until = now;
        subscription.quiet_until = now;
    }

    /// Ends a subscription; `false` when there was none enabled.
    pub(crate) fn stop(&mut self, key: &SubscriptionKey, now: Millis) -> bool {
        let Some(subscription) = self.by_key.get_mut(key) else { return false };
        let was_enabled = subscription.enabled() || subscription.phantom;
        if let Some(last) = subscription.spans.last_mut().filter(|(_, until)| until.is_none()) {
            last.1 = Some(now);
        }
        subscription.phantom = false;
        subscription.webhook = None;
        subscription.last_stop = Some(now);
        was_enabled
    }

    /// Who sees a feed.
    pub(crate) fn audience(&self, tenant: TenantId, kind: &ContentType, history: bool) -> Audience {
        let of_feed = self.of_tenant(tenant).filter(|(key, _)| key.kind == *kind);
        let mut spans = Vec::new();
        let mut any = false;
        for (_, subscription) in of_feed {
            any = true;
            spans.extend_from_slice(&subscription.spans);
        }
        if !any && history {
            spans.push((Millis::MIN, None));
        }
        Audience { spans }
    }

    pub(crate) fn of_tenant(&self, tenant: TenantId) -> impl Iterator<Item = (&SubscriptionKey, &Subscription)> {
        let first = SubscriptionKey {
            tenant,
            client: ClientId::from_uuid(uuid::Uuid::nil()),
            kind: ContentType::AzureActiveDirectory,
        };
        self.by_key.range(first..).take_while(move |(key, _)| key.tenant == tenant)
    }
}

/// When at least one application was subscribed to a feed, or would see it if it subscribed now.
#[derive(Debug, Clone)]
pub(crate) struct Audience {
    spans: Vec<(Millis, Option<Millis>)>,
}

impl Audience {
    pub(crate) fn sees(&self, created: Millis) -> bool {
        self.spans.iter().any(|(from, until)| created >= *from && until.is_none_or(|until| created < until))
    }
}
