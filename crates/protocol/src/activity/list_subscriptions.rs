//! `GET /subscriptions/list`: which subscriptions the app has in the tenant. Asked before anything is started.
//!
//! Never proof of absence by itself right after a stop and start (deviation D3); stopped ones may be absent or `disabled`.

use super::listing::read_list;
use super::subscription::read_subscription;
use super::{Feed, Subscription, UnreadableEntry};
use crate::error::{ApiError, Operation};
use crate::ids::ContentType;
use crate::request::Request;
use crate::response::Response;

/// The subscriptions of the app in one tenant.
#[derive(Debug, Clone)]
pub struct SubscriptionList {
    /// Those that can be read, in the service's order.
    pub subscriptions: Vec<Subscription>,
    /// Entries that name no content type.
    pub unreadable: Vec<UnreadableEntry>,
}

impl SubscriptionList {
    /// The subscription of `content_type`, if listed.
    pub fn of(&self, content_type: &ContentType) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.content_type == *content_type)
    }
}

/// Asks for the list.
pub fn list_subscriptions(feed: &Feed<'_>) -> Request {
    Request::activity_get(feed.url("subscriptions/list", ""), feed.publisher)
}

/// Reads the list.
///
/// # Errors
/// When the answer is an error, or no list.
pub fn parse_list_subscriptions(response: &Response<'_>) -> Result<SubscriptionList, ApiError> {
    let (subscriptions, unreadable) =
        read_list(Operation::ListSubscriptions, response, |entry| read_subscription(entry, None))?;
    Ok(SubscriptionList { subscriptions, unreadable })
}
