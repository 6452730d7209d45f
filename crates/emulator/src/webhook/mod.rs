//! Notifications: what is due to which webhook, in which batches, when again after a failure, and when it is given up.
//!
//! Never runs on its own: [`Notifier::deliver_due`] does one round, and whoever serves the world calls it again and
//! again;
//! a test calls it when it likes. Where the post goes is behind [`Outbound`].

pub mod client;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::world::content::Content;
use crate::world::feed::span;
use crate::world::subscription::{Subscription, SubscriptionKey, Webhook, WebhookStatus};
use crate::world::timeline::Millis;
use crate::world::{World, format_time, time};

/// A POST to somebody's webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPost {
    /// Where to.
    pub address: String,
    /// Header names and values, in order.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

/// The future of an [`Outbound::post`].
pub type PostFuture<'a> = Pin<Box<dyn Future<Output = Result<u16, String>> + Send + 'a>>;

/// How posts leave the emulator. Tests put their own in to stay off the network.
pub trait Outbound: Send + Sync {
    /// Sends one and gives back the status, or why there was none, in words.
    fn post(&self, post: HookPost) -> PostFuture<'_>;
}

/// How stubborn the service is with a webhook. None of this is documented (activity-api.md §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPolicy {
    /// Notifications in one post.
    pub batch: usize,
    /// The wait after the first failure; it doubles with each further one.
    pub retry_first: std::time::Duration,
    /// The longest wait.
    pub retry_longest: std::time::Duration,
    /// Failures in a row after which the webhook is disabled.
    pub disable_after: u32,
}

impl Default for HookPolicy {
    fn default() -> Self {
        Self {
            batch: 20,
            retry_first: std::time::Duration::from_secs(30),
            retry_longest: std::time::Duration::from_secs(3600),
            disable_after: 8,
        }
    }
}

/// One attempt to tell of a content.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) content: Content,
    pub(crate) content_id: String,
    pub(crate) sent: Millis,
    pub(crate) status: &'static str,
}

/// Sends what is due and remembers what was sent.
pub struct Notifier {
    world: Arc<World>,
    outbound: Arc<dyn Outbound>,
    policy: HookPolicy,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<SubscriptionKey, VecDeque<Item>>,
    /// By address and authentication id.
    endpoints: HashMap<Endpoint, Health>,
    history: HashMap<SubscriptionKey, VecDeque<Attempt>>,
}

type Endpoint = (String, Option<String>);
type Batch = Vec<(SubscriptionKey, Item)>;

#[derive(Debug, Clone)]
struct Item {
    content: Content,
    content_id: String,
    /// The element of the notification.
    text: String,
}

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    failures: u32,
    next: Millis,
}

/// How far ahead a subscription's feed is planned, in milliseconds, to know when to look at it again.
const LOOK_AHEAD: Millis = 10 * 60_000;
/// Endpoints posted to side by side, so that a dead one delays few others.
const ENDPOINTS_AT_ONCE: usize = 32;
/// Notifications waiting for one subscription; older ones are dropped, as there is no dead letter queue.
const PENDING_MAX: usize = 10_000;
/// Attempts remembered for one subscription.
const HISTORY_MAX: usize = 5_000;

impl Notifier {
    /// One that sends by `outbound`.
    pub fn new(world: Arc<World>, outbound: Arc<dyn Outbound>, policy: HookPolicy) -> Self {
        Self { world, outbound, policy, state: Mutex::default() }
    }

    /// Posts a validation code, and gives back the status.
    pub(crate) async fn validate(&self, webhook: &Webhook, code: &str) -> Result<u16, String> {
        let mut headers = vec![("Content-Type", "application/json; charset=utf-8".to_owned())];
        headers.extend(webhook.auth_id.clone().map(|id| ("Webhook-AuthID", id)));
        headers.push(("Webhook-ValidationCode", code.to_owned()));
        let body = json!({ "validationCode": code }).to_string();
        self.outbound.post(HookPost { address: webhook.address.clone(), headers, body }).await
    }

    /// Sends everything that is due now, and gives back how many posts were made. Endpoints are served side by side, the
    /// posts to one of them one after the other.
    pub async fn deliver_due(&self) -> usize {
        self.collect_due();
        let posts = AtomicUsize::new(0);
        let rounds = stream::iter(self.batches());
        rounds
            .for_each_concurrent(ENDPOINTS_AT_ONCE, async |(endpoint, batches)| {
                let made = self.deliver(&endpoint, batches).await;
                posts.fetch_add(made, Ordering::Relaxed);
            })
            .await;
        posts.into_inner()
    }

    async fn deliver(&self, endpoint: &Endpoint, batches: Vec<Batch>) -> usize {
        let mut posts = 0;
        let mut batches = batches.into_iter();
        for batch in batches.by_ref() {
            let now = self.world.now_millis();
            let outcome = self.send(endpoint, &batch).await;
            posts += 1;
            let success = outcome == Ok(200);
            self.settle(endpoint, batch, success, now);
            if !success {
                break;
            }
        }
        // Behind a failure the rest waits its turn without having been tried.
        let mut state = self.lock();
        for (key, item) in batches.flatten() {
            state.pending.entry(key).or_default().push_back(item);
        }
        posts
    }

    /// Puts contents that became available since the last round into the queue.
    fn collect_due(&self) {
        let now = self.world.now_millis();
        let mut due = Vec::new();
        for (key, subscription) in self.world.subscriptions().iter_mut() {
            let Some(webhook) = &subscription.webhook else { continue };
            // A clock that was set back makes everything look again.
            let quiet = (subscription.notified_until..subscription.quiet_until).contains(&now);
            if !subscription.enabled() || quiet {
                continue;
            }
            let since = std::mem::replace(&mut subscription.notified_until, now).min(now);
            // What becomes available while a webhook is disabled or expired is not told of later.
            if webhook.status(now) == WebhookStatus::Enabled {
                due.push((key.clone(), subscription.clone(), since));
            }
        }
        for (key, subscription, since) in due {
            self.collect(key, &subscription, since, now);
        }
    }

    fn collect(&self, key: SubscriptionKey, subscription: &Subscription, since: Millis, now: Millis) {
        let Some(tenant) = self.world.tenant(key.tenant) else { return };
        let Some(feed) = tenant.feed(&key.kind) else { return };
        let lateness = &self.world.options().lateness;
        let reach = span(lateness.max.max(lateness.ordinary));
        let fresh = |content: &Content| content.available > since && subscription.covers(content.created());
        let listed = self.world.list(&tenant, feed, (since - reach - 1, now + 1), now, fresh);
        // The plan knows what comes, so the next look need not be before it.
        let look_again = self.world.next_available(feed, now, now + LOOK_AHEAD).unwrap_or(now + LOOK_AHEAD);
        if let Some(subscription) = self.world.subscriptions().find_mut(&key) {
            subscription.quiet_until = look_again;
        }
        if listed.is_empty() {
            return;
        }
        let mut state = self.lock();
        let queue = state.pending.entry(key.clone()).or_default();
        for content in listed {
            let content_id = self.world.content_id(&tenant, &key.kind, &content);
            let text = notification(&key, &subscription.origin, &subscription.spelling, &content, &content_id);
            queue.push_back(Item { content, content_id, text });
        }
        while queue.len() > PENDING_MAX {
            queue.pop_front();
        }
    }

    /// Batches for every endpoint that is due; several tenants and applications may share one.
    fn batches(&self) -> Vec<(Endpoint, Vec<Batch>)> {
        let now = self.world.now_millis();
        let mut by_endpoint: BTreeMap<Endpoint, Batch> = BTreeMap::new();
        let subscriptions = self.world.subscriptions();
        let mut state = self.lock();
        let state = &mut *state;
        for (key, queue) in &mut state.pending {
            let webhook = subscriptions.find(key).and_then(|subscription| subscription.webhook.as_ref());
            let Some(webhook) = webhook.filter(|webhook| webhook.status(now) == WebhookStatus::Enabled) else {
                queue.clear();
                continue;
            };
            let endpoint = (webhook.address.clone(), webhook.auth_id.clone());
            if state.endpoints.get(&endpoint).is_none_or(|health| health.next <= now) {
                by_endpoint.entry(endpoint).or_default().extend(queue.drain(..).map(|item| (key.clone(), item)));
            }
        }
        state.pending.retain(|_, queue| !queue.is_empty());
        let cut = |items: Batch| items.chunks(self.policy.batch.max(1)).map(<[_]>::to_vec).collect();
        by_endpoint.into_iter().map(|(endpoint, items)| (endpoint, cut(items))).collect()
    }

    async fn send(&self, endpoint: &Endpoint, batch: &Batch) -> Result<u16, String> {
        // The parameter without a name is as in Microsoft's sample.
        let mut headers = vec![("Content-Type", "application/json; utf-8".to_owned())];
        headers.extend(endpoint.1.clone().map(|id| ("Webhook-AuthID", id)));
        let elements: Vec<&str> = batch.iter().map(|(_, item)| item.text.as_str()).collect();
        let body = format!("[{}]", elements.join(","));
        self.outbound.post(HookPost { address: endpoint.0.clone(), headers, body }).await
    }

    fn settle(&self, endpoint: &Endpoint, batch: Batch, success: bool, now: Millis) {
        let mut give_up = false;
        {
            let mut state = self.lock();
            let health = state.endpoints.entry(endpoint.clone()).or_default();
            if success {
                *health = Health::default();
            } else {
                health.failures += 1;
                let doubled = span(self.policy.retry_first).saturating_mul(1 << (health.failures - 1).min(20));
                health.next = now + doubled.min(span(self.policy.retry_longest));
                give_up = health.failures >= self.policy.disable_after;
                if give_up {
                    *health = Health::default();
                }
            }
            for (key, item) in batch {
                let status = if success { "success" } else { "failed" };
                let history = state.history.entry(key.clone()).or_default();
                history.push_back(Attempt {
                    content: item.content.clone(),
                    content_id: item.content_id.clone(),
                    sent: now,
                    status,
                });
                if history.len() > HISTORY_MAX {
                    history.pop_front();
                }
                if !success && !give_up {
                    state.pending.entry(key).or_default().push_back(item);
                }
            }
        }
        if give_up {
            self.disable(endpoint);
        }
    }

    fn disable(&self, endpoint: &Endpoint) {
        for (_, subscription) in self.world.subscriptions().iter_mut() {
            if let Some(webhook) = &mut subscription.webhook
                && (&webhook.address, &webhook.auth_id) == (&endpoint.0, &endpoint.1)
            {
                webhook.disabled = true;
            }
        }
    }

    /// Drops what is waiting for a subscription that was stopped.
    pub(crate) fn forget(&self, key: &SubscriptionKey) {
        self.lock().pending.remove(key);
    }

    /// Attempts for contents created in `from..until`, in the order they were made.
    pub(crate) fn history(&self, key: &SubscriptionKey, from: Millis, until: Millis) -> Vec<Attempt> {
        let state = self.lock();
        let attempts = state.history.get(key).into_iter().flatten();
        attempts.filter(|attempt| (from..until).contains(&attempt.content.created())).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn notification(key: &SubscriptionKey, origin: &str, spelling: &str, content: &Content, content_id: &str) -> String {
    let (tenant, client) = (key.tenant, key.client);
    json!({
        "tenantId": tenant.to_string(),
        "clientId": client.to_string(),
        "contentType": spelling,
        "contentId": content_id,
        "contentUri": format!("{origin}/api/v1.0/{tenant}/activity/feed/audit/{content_id}"),
        "contentCreated": format_time(time(content.created())),
        "contentExpiration": format_time(time(content.expires())),
    })
    .to_string()
}
