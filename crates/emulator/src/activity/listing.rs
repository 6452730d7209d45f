//! The three listings: subscriptions, content and notifications, with their windows, pages and quirks.
//!
//! Never lists what the caller's subscription does not cover, and never two pages from two different moments: a page
//! token
//! carries the moment its first page was made.

use std::fmt::Write as _;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Response};
use protocol::ids::ContentType;
use serde_json::{Map, Value, json};

use super::gate::Caller;
use super::params::window;
use super::reply::{self, Refusal};
use super::{ActivityApi, Asked};
use crate::seed::Seed;
use crate::world::content::Content;
use crate::world::subscription::{SubscriptionKey, Webhook, WebhookStatus};
use crate::world::timeline::Millis;
use crate::world::{format_time, time};

/// Where the next page is: on the response, so that the fault plan can hold a page back.
#[derive(Debug, Clone)]
pub(super) struct ThisPage(pub(super) String);

/// A listing's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    from: Millis,
    until: Millis,
    offset: usize,
    /// The moment the first page was made.
    snapshot: Millis,
}

pub(super) fn not_enabled() -> Refusal {
    // The bare text is what never-started and stopped types return in practice (D3).
    Refusal::new(400, "AF20023", "The subscription was disabled.")
}

impl ActivityApi {
    pub(super) fn list_subscriptions(&self, caller: &Caller) -> Response<Body> {
        let seed = Seed::new(self.world.options().seed).named(&caller.tenant.profile.id_text);
        // Stopped subscriptions are in the list of some tenants and not of others.
        let shows_stopped = seed.named("stopped").value().is_multiple_of(2);
        let mut list = Vec::new();
        let subscriptions = self.world.subscriptions();
        for (key, subscription) in subscriptions.of_tenant(caller.tenant.id()) {
            if key.client != caller.client || subscription.phantom || !(subscription.enabled() || shows_stopped) {
                continue;
            }
            let mut entry = Map::new();
            entry.insert("contentType".to_owned(), json!(subscription.spelling));
            // In Microsoft's sample one element lacks it.
            let lacks =
                seed.named("status").named(key.kind.as_str()).unit() < self.world.options().limits.list_status_missing;
            if !(lacks && subscription.enabled()) {
                entry.insert("status".to_owned(), json!(if subscription.enabled() { "enabled" } else { "disabled" }));
            }
            entry.insert("webhook".to_owned(), webhook_json(subscription.webhook.as_ref(), caller.now));
            list.push(Value::Object(entry));
        }
        reply::json(Value::Array(list).to_string())
    }

    pub(super) fn list_content(&self, caller: &Caller, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let (kind, spelling) = asked.query.content_type()?;
        let page = self.page(caller, asked, &kind)?;
        let key = SubscriptionKey { tenant: caller.tenant.id(), client: caller.client, kind: kind.clone() };
        let subscription = self.world.subscriptions().find(&key).cloned();
        let subscription = subscription.filter(|found| found.enabled()).ok_or_else(not_enabled)?;
        let Some(feed) = caller.tenant.feed(&kind) else { return Err(not_enabled()) };
        let sees = |content: &Content| subscription.covers(content.created()) && content.expires() > caller.now;
        let span = (page.from, page.until);
        let contents = self.world.list(&caller.tenant, feed, span, page.snapshot.min(caller.now), sees);
        let size = self.world.options().limits.page_size;
        let base = content_base(&asked.origin.to_string(), caller);
        let mut text = String::from("[");
        for content in contents.iter().skip(page.offset).take(size) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&element(
                content,
                &self.world.content_id(&caller.tenant, &kind, content),
                spelling,
                &base,
                "",
            ));
        }
        text.push(']');
        let mut response = reply::json(text);
        self.link_pages(&mut response, caller, asked, &kind, page, contents.len());
        Ok(response)
    }

    pub(super) fn list_notifications(&self, caller: &Caller, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let (kind, spelling) = asked.query.content_type()?;
        let page = self.page(caller, asked, &kind)?;
        let key = SubscriptionKey { tenant: caller.tenant.id(), client: caller.client, kind: kind.clone() };
        match self.world.subscriptions().find(&key) {
            None => return Err(Refusal::new(400, "AF20022", "No subscription found for the specified content type.")),
            Some(subscription) if !subscription.enabled() => return Err(not_enabled()),
            Some(_) => {}
        }
        let attempts = self.notifier.history(&key, page.from, page.until.min(page.snapshot + 1));
        let size = self.world.options().limits.page_size;
        let base = content_base(&asked.origin.to_string(), caller);
        let mut text = String::from("[");
        for attempt in attempts.iter().skip(page.offset).take(size) {
            if text.len() > 1 {
                text.push(',');
            }
            let sent = format_time(time(attempt.sent));
            let more = format!(",\"notificationSent\":\"{sent}\",\"notificationStatus\":\"{}\"", attempt.status);
            text.push_str(&element(&attempt.content, &attempt.content_id, spelling, &base, &more));
        }
        text.push(']');
        let mut response = reply::json(text);
        self.link_pages(&mut response, caller, asked, &kind, page, attempts.len());
        Ok(response)
    }

    fn link_pages(
        &self,
        response: &mut Response<Body>,
        caller: &Caller,
        asked: &Asked,
        kind: &ContentType,
        page: Page,
        total: usize,
    ) {
        let uri = |page: Page| self.page_uri(caller, asked, kind, page);
        let next = Page { offset: page.offset + self.world.options().limits.page_size, ..page };
        if next.offset < total
            && let Ok(value) = HeaderValue::from_str(&uri(next))
        {
            response.headers_mut().insert(NEXT_PAGE, value);
        }
        response.extensions_mut().insert(ThisPage(uri(page)));
    }

    /// With `/api/v1/` where the documentation says `v1.0`, as in Microsoft's sample, and without the publisher.
    fn page_uri(&self, caller: &Caller, asked: &Asked, kind: &ContentType, page: Page) -> String {
        let listing = match asked.target.operation {
            crate::faults::Operation::Notifications => "notifications",
            _ => "content",
        };
        format!(
            "{}/api/v1/{}/activity/feed/subscriptions/{listing}?contentType={kind}&startTime={}&endTime={}&nextPage={}",
            asked.origin,
            caller.tenant.profile.id_text,
            time(page.from).format("%Y-%m-%dT%H:%M:%S"),
            time(page.until).format("%Y-%m-%dT%H:%M:%S"),
            self.page_token(caller, kind, page, caller.now),
        )
    }

    fn page_token(&self, caller: &Caller, kind: &ContentType, page: Page, issued: Millis) -> String {
        let text = format!("{}.{}.{}.{}.{issued}", page.from, page.until, page.offset, page.snapshot);
        let seal = self.seal(caller, kind, &text);
        URL_SAFE_NO_PAD.encode(format!("{text}.{seal:016x}"))
    }

    fn seal(&self, caller: &Caller, kind: &ContentType, text: &str) -> u64 {
        let seed = Seed::new(self.world.options().seed).named("page").named(&caller.tenant.profile.id_text);
        seed.named(kind.as_str()).named(text).value()
    }

    /// Where a listing stands: at its `nextPage` token, or at the begin of the window it asks for.
    fn page(&self, caller: &Caller, asked: &Asked, kind: &ContentType) -> Result<Page, Refusal> {
        if let Some(token) = asked.query.find("nextPage") {
            let shown: String = token.chars().take(64).collect();
            let refused = || Refusal::new(400, "AF20031", format!("Invalid nextPage Input: {shown}."));
            return self.read_token(caller, kind, token).ok_or_else(refused);
        }
        let reach = crate::world::feed::span(self.world.options().limits.list_reach);
        let (from, until) = window(&asked.query, caller.now, reach)?;
        Ok(Page { from, until, offset: 0, snapshot: caller.now })
    }

    fn read_token(&self, caller: &Caller, kind: &ContentType, token: &str) -> Option<Page> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (body, seal) = text.rsplit_once('.')?;
        if u64::from_str_radix(seal, 16).ok()? != self.seal(caller, kind, body) {
            return None;
        }
        let mut numbers = body.split('.');
        let mut number = || numbers.next()?.parse::<Millis>().ok();
        let (from, until, offset, snapshot, issued) = (number()?, number()?, number()?, number()?, number()?);
        let lifetime = crate::world::feed::span(self.world.options().limits.page_token_lifetime);
        let alive = caller.now < issued + lifetime;
        alive.then_some(Page { from, until, offset: usize::try_from(offset).ok()?, snapshot })
    }
}

pub(super) const NEXT_PAGE: HeaderName = HeaderName::from_static("nextpageuri");

fn content_base(origin: &str, caller: &Caller) -> String {
    format!("{origin}/api/v1.0/{}/activity/feed/audit/", caller.tenant.profile.id_text)
}

/// One element of a content or notification listing; `more` is text that goes before its closing brace.
fn element(content: &Content, id: &str, spelling: &str, base: &str, more: &str) -> String {
    let (created, expires) = (format_time(time(content.created())), format_time(time(content.expires())));
    let mut text = String::with_capacity(512);
    let _ = write!(
        text,
        "{{\"contentType\":\"{spelling}\",\"contentId\":\"{id}\",\"contentUri\":\"{base}{id}\",\
         \"contentCreated\":\"{created}\",\"contentExpiration\":\"{expires}\"{more}}}"
    );
    text
}

pub(super) fn webhook_json(webhook: Option<&Webhook>, now: Millis) -> Value {
    let Some(webhook) = webhook else { return Value::Null };
    let status = match webhook.status(now) {
        WebhookStatus::Enabled => "enabled",
        WebhookStatus::Disabled => "disabled",
        WebhookStatus::Expired => "expired",
    };
    json!({
        "status": status,
        "address": webhook.address,
        "authId": webhook.auth_id,
        "expiration": webhook.expiration_text,
    })
}
