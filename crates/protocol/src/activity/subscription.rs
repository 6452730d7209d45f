//! A subscription as start and list describe it.
//!
//! Never fills in what the service left out: Microsoft's own sample has an element without a status.

use serde_json::{Map, Value};

use super::content::{EntryProblem, text, time};
use crate::error::member;
use crate::ids::ContentType;
use crate::secret::WebhookAuthId;
use crate::text::one_line;
use crate::time::Timestamp;

/// A subscription of (tenant, app, content type).
#[derive(Debug, Clone)]
pub struct Subscription {
    /// What it delivers.
    pub content_type: ContentType,
    /// Whether it delivers.
    pub status: SubscriptionStatus,
    /// Its webhook; `None` without one, while one is being validated, and when one has vanished (deviation D13) or was
    /// ignored (deviation D14).
    pub webhook: Option<SubscriptionWebhook>,
}

/// Whether a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionStatus {
    /// It does.
    Enabled,
    /// It does not.
    Disabled,
    /// The service did not say: ask for content and see.
    Unknown,
    /// A word nobody has documented, at most 64 characters.
    Other(String),
}

/// The webhook of a subscription.
#[derive(Debug, Clone)]
pub struct SubscriptionWebhook {
    /// Whether it is notified.
    pub status: WebhookStatus,
    /// Where it is.
    pub address: String,
    /// What comes back in `Webhook-AuthID`.
    pub auth_id: Option<WebhookAuthId>,
    /// When it ends; `None` for never.
    pub expiration: Option<Timestamp>,
}

/// Whether a webhook is notified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookStatus {
    /// It is.
    Enabled,
    /// Too many failures; it must be started again.
    Disabled,
    /// Its expiration has passed.
    Expired,
    /// The service did not say.
    Unknown,
    /// A word nobody has documented, at most 64 characters.
    Other(String),
}

pub(super) fn read_subscription(
    entry: &Map<String, Value>,
    asked_type: Option<&ContentType>,
) -> Result<Subscription, EntryProblem> {
    let content_type = match (text(entry, "contentType"), asked_type) {
        (Ok(text), _) => text.parse().map_err(|_| EntryProblem::Malformed { member: "contentType" })?,
        (Err(EntryProblem::Missing { .. }), Some(asked)) => asked.clone(),
        (Err(problem), _) => return Err(problem),
    };
    let status = match word(entry) {
        None => SubscriptionStatus::Unknown,
        Some(word) if word.eq_ignore_ascii_case("enabled") => SubscriptionStatus::Enabled,
        Some(word) if word.eq_ignore_ascii_case("disabled") => SubscriptionStatus::Disabled,
        Some(word) => SubscriptionStatus::Other(word),
    };
    let webhook = member(entry, "webhook").and_then(Value::as_object).map(read_webhook);
    Ok(Subscription { content_type, status, webhook })
}

fn read_webhook(webhook: &Map<String, Value>) -> SubscriptionWebhook {
    let status = match word(webhook) {
        None => WebhookStatus::Unknown,
        Some(word) if word.eq_ignore_ascii_case("enabled") => WebhookStatus::Enabled,
        Some(word) if word.eq_ignore_ascii_case("disabled") => WebhookStatus::Disabled,
        Some(word) if word.eq_ignore_ascii_case("expired") => WebhookStatus::Expired,
        Some(word) => WebhookStatus::Other(word),
    };
    SubscriptionWebhook {
        status,
        address: text(webhook, "address").map(|address| one_line(address, 2048)).unwrap_or_default(),
        auth_id: text(webhook, "authId").ok().filter(|id| !id.is_empty()).map(WebhookAuthId::new),
        // null, "" and absent all mean: none.
        expiration: time(webhook, "expiration").ok(),
    }
}

fn word(object: &Map<String, Value>) -> Option<String> {
    text(object, "status").ok().map(|word| one_line(word, 64)).filter(|word| !word.is_empty())
}
