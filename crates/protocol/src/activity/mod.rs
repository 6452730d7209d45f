//! The Office 365 Management Activity API: one file per operation, the request beside the parser of its answer.
//!
//! Never sends a token anywhere: requests leave here bare and get theirs from [`crate::request::Request::authorize`].
//! What strangers send is bounded: entries per listing, bytes per entry that are kept, lengths of ids and URIs.
//!
//! Source: <https://learn.microsoft.com/en-us/office/office-365-management-api/office-365-management-activity-api-reference>

mod content;
mod list_content;
mod list_notifications;
mod list_subscriptions;
mod listing;
mod notification;
mod resource_friendly_names;
mod retrieve_content;
mod start_subscription;
mod stop_subscription;
mod subscription;
mod window;

use url::Url;

use crate::cloud::Cloud;
use crate::ids::{ContentType, PublisherId, TenantId};

pub use content::{EntryProblem, ListedContent, MAX_UNREADABLE_RAW, UnreadableEntry};
pub use list_content::{ContentPage, NextPage, list_content, list_content_next, parse_list_content};
pub use list_notifications::{
    NotificationAttempt, NotificationPage, list_notifications, list_notifications_next, parse_list_notifications,
};
pub use list_subscriptions::{SubscriptionList, list_subscriptions, parse_list_subscriptions};
pub use listing::{MAX_LISTING_BODY, MAX_LISTING_ENTRIES};
pub use notification::{
    MAX_NOTIFICATION_BODY, MAX_NOTIFIED_CONTENTS, MAX_VALIDATION_CODE, NotifiedContent, WEBHOOK_AUTH_ID_HEADER,
    WEBHOOK_VALIDATION_CODE_HEADER, WebhookCall, WebhookError, parse_webhook_call,
};
pub use resource_friendly_names::{FriendlyName, Language, parse_resource_friendly_names, resource_friendly_names};
pub use retrieve_content::{
    BlobHead, BlobRefusal, check_blob_response, error_in_blob, parse_blob_error, retrieve_content,
};
pub use start_subscription::{StartWebhook, WebhookSettings, parse_start_subscription, start_subscription};
pub use stop_subscription::{parse_stop_subscription, stop_subscription};
pub use subscription::{Subscription, SubscriptionStatus, SubscriptionWebhook, WebhookStatus};
pub use window::{LISTING_REACH, MAX_WINDOW, Reach, Window, WindowError};

use std::time::Duration;

/// How long content stays available after it was created: seven days (activity-api.md §6).
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The least time between two start requests of a tenant (activity-api.md §2.1).
pub const START_INTERVAL: Duration = crate::error::START_THROTTLE;

/// How long the first content may take after a subscription is new (activity-api.md §2.1).
pub const FIRST_CONTENT: Duration = Duration::from_secs(12 * 60 * 60);

/// Whose feed is spoken to, on which cloud, and in whose name.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// The cloud.
    pub cloud: &'a Cloud,
    /// The tenant whose feed it is.
    pub tenant: TenantId,
    /// Who wrote the client; sent on every request.
    pub publisher: PublisherId,
}

impl<'a> Feed<'a> {
    /// The feed of `tenant` on `cloud`.
    pub fn new(cloud: &'a Cloud, tenant: TenantId, publisher: PublisherId) -> Self {
        Self { cloud, tenant, publisher }
    }

    /// `{feed root}/{path}?{query}`. The path and the query are written here, of characters that need no escaping.
    fn url(&self, path: &str, query: &str) -> Url {
        let mut url = Url::parse(&format!("{}/{path}", self.cloud.feed_root(self.tenant)))
            .expect("a cloud's root is a URL, and neither a GUID nor our own paths can spoil it");
        if !query.is_empty() {
            url.set_query(Some(query));
        }
        url
    }

    /// `contentType=…`, and the window's times when there are some.
    fn content_query(content_type: &ContentType, window: Option<Window>) -> String {
        match window {
            Some(window) => format!(
                "contentType={content_type}&startTime={}&endTime={}",
                window.query_start(),
                window.query_until()
            ),
            None => format!("contentType={content_type}"),
        }
    }
}
