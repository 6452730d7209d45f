//! `POST /subscriptions/start`: creates a subscription, and sets, mends or removes its webhook.
//!
//! Never for use on every poll: starts have a throttle of their own, [`super::START_INTERVAL`]. List first.

use serde_json::{Map, Value};

use super::subscription::read_subscription;
use super::{Feed, Subscription, SubscriptionStatus};
use crate::error::{ApiError, Operation, error_object};
use crate::ids::ContentType;
use crate::request::Request;
use crate::response::{MAX_ERROR_BODY, Response};
use crate::secret::WebhookAuthId;
use crate::text::decode;
use crate::time::{Timestamp, format_query_time};

/// What a start does about the webhook.
#[derive(Debug, Clone)]
pub enum StartWebhook {
    /// Sends no body: a new subscription has none then.
    Unmentioned,
    /// Sends an explicit `null`: takes it off. That this is the removing form is unconfirmed; read the list back.
    Remove,
    /// Sets it; the service validates it before it answers.
    Set(WebhookSettings),
}

/// A webhook to be set.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Its address; must begin with `https` (AF20021).
    pub address: url::Url,
    /// What the service shall send in `Webhook-AuthID`.
    pub auth_id: WebhookAuthId,
    /// When it shall end; must lie in the future (AF20003). `None` for never.
    pub expiration: Option<Timestamp>,
}

/// Asks for a start.
pub fn start_subscription(feed: &Feed<'_>, content_type: &ContentType, webhook: &StartWebhook) -> Request {
    let url = feed.url("subscriptions/start", &Feed::content_query(content_type, None));
    let body = match webhook {
        StartWebhook::Unmentioned => return Request::activity_post(url, feed.publisher),
        StartWebhook::Remove => serde_json::json!({ "webhook": null }),
        StartWebhook::Set(settings) => serde_json::json!({ "webhook": {
            "address": settings.address.as_str(),
            "authId": settings.auth_id.expose(),
            "expiration": settings.expiration.map(|time| format!("{}Z", format_query_time(time))).unwrap_or_default(),
        }}),
    };
    Request::activity_post_json(url, feed.publisher, body.to_string().into_bytes())
}

/// Reads the answer. Compare the webhook with what was asked: a body the service could not read is ignored with a 200
/// (deviation D14). An empty body is a success whose status is [`SubscriptionStatus::Unknown`].
///
/// # Errors
/// When the answer is an error, among them [`crate::error::Disposition::AlreadyEnabled`], or no subscription.
pub fn parse_start_subscription(content_type: &ContentType, response: &Response<'_>) -> Result<Subscription, ApiError> {
    let operation = Operation::StartSubscription;
    if !response.status.is_success() {
        return Err(ApiError::from_response(operation, response));
    }
    if response.body.len() > MAX_ERROR_BODY {
        return Err(ApiError::unreadable(operation, response, format!("longer than {MAX_ERROR_BODY} bytes")));
    }
    let text = decode(response.body);
    if text.trim().is_empty() {
        let content_type = content_type.clone();
        return Ok(Subscription { content_type, status: SubscriptionStatus::Unknown, webhook: None });
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| ApiError::unreadable(operation, response, format!("no JSON: {error}")))?;
    let Some(entry) = subscription_object(&value) else {
        return Err(match error_object(&value) {
            Some(error) => ApiError::answered(operation, response, error),
            None => ApiError::unreadable(operation, response, "no subscription object"),
        });
    };
    read_subscription(entry, Some(content_type))
        .map_err(|problem| ApiError::unreadable(operation, response, problem.to_string()))
}

/// The object itself, or the only one in a list. A status or a content type makes it a subscription.
fn subscription_object(value: &Value) -> Option<&Map<String, Value>> {
    let object = match value {
        Value::Array(items) => items.first().filter(|_| items.len() == 1)?.as_object()?,
        other => other.as_object()?,
    };
    (object.contains_key("status") || object.contains_key("contentType")).then_some(object)
}
