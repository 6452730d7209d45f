//! `GET /subscriptions/notifications`: which notifications were attempted in a window. For diagnosis only.
//!
//! Never a way to find content: it shows attempts, repeats them, and is empty without a webhook (activity-api.md §2.6).

use super::content::{EntryContext, read_content, time};
use super::list_content::next_page;
use super::listing::read_list;
use super::{Feed, ListedContent, NextPage, UnreadableEntry, Window, list_content_next};
use crate::cloud::UrlRefused;
use crate::error::{ApiError, Operation, member};
use crate::ids::ContentType;
use crate::request::Request;
use crate::response::Response;
use crate::text::one_line;
use crate::time::Timestamp;

/// One page of attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationPage {
    /// The attempts, in no useful order.
    pub attempts: Vec<NotificationAttempt>,
    /// The entries that cannot be read.
    pub unreadable: Vec<UnreadableEntry>,
    /// The page after this one.
    pub next: Option<NextPage>,
}

/// One attempt to notify the webhook of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationAttempt {
    /// The blob.
    pub content: ListedContent,
    /// When it was attempted.
    pub sent: Option<Timestamp>,
    /// `success`, or a word for the failure, at most 128 characters; empty when the entry has none.
    pub status: String,
}

impl NotificationAttempt {
    /// Whether the webhook took it.
    pub fn succeeded(&self) -> bool {
        self.status.eq_ignore_ascii_case("success")
    }
}

/// Asks for the first page of a window.
pub fn list_notifications(feed: &Feed<'_>, content_type: &ContentType, window: Window) -> Request {
    let query = Feed::content_query(content_type, Some(window));
    Request::activity_get(feed.url("subscriptions/notifications", &query), feed.publisher)
}

/// Asks for the next page, by its URI as given.
///
/// # Errors
/// When the URI is not this cloud's, this tenant's and the Activity API's.
pub fn list_notifications_next(feed: &Feed<'_>, next: &NextPage) -> Result<Request, UrlRefused> {
    list_content_next(feed, next)
}

/// Reads a page.
///
/// # Errors
/// When the answer is an error (as it is for a disabled subscription), or no list.
pub fn parse_list_notifications(
    feed: &Feed<'_>,
    content_type: &ContentType,
    response: &Response<'_>,
) -> Result<NotificationPage, ApiError> {
    let operation = Operation::ListNotifications;
    let context = EntryContext { cloud: feed.cloud, tenant: feed.tenant, asked_type: Some(content_type) };
    let (attempts, unreadable) = read_list(operation, response, |entry| {
        let status = member(entry, "notificationStatus").and_then(|status| status.as_str()).unwrap_or_default();
        Ok(NotificationAttempt {
            content: read_content(&context, entry)?,
            sent: time(entry, "notificationSent").ok(),
            status: one_line(status, 128),
        })
    })?;
    Ok(NotificationPage { attempts, unreadable, next: next_page(operation, response)? })
}
