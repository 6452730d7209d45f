//! `GET /subscriptions/content`: which blobs became available in a window, page by page.
//!
//! Never follows a page by itself, and never leaves a time out: what the service assumes without times differs from page
//! to page of its documentation (activity-api.md §2.4).

use std::fmt;

use super::content::{EntryContext, read_content};
use super::listing::{next_page_uri, read_list};
use super::{Feed, ListedContent, UnreadableEntry, Window};
use crate::cloud::UrlRefused;
use crate::error::{ApiError, Operation};
use crate::ids::ContentType;
use crate::request::Request;
use crate::response::Response;

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPage {
    /// The blobs, in the order they were listed.
    pub contents: Vec<ListedContent>,
    /// The entries that name no blob we may fetch.
    pub unreadable: Vec<UnreadableEntry>,
    /// The page after this one; the listing is complete only without one, even when this page is empty.
    pub next: Option<NextPage>,
}

/// Where the next page is: verbatim, and not to be trusted before [`list_content_next`] has looked at it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextPage(String);

impl NextPage {
    pub(super) fn from_header(uri: &str) -> Self {
        Self(uri.to_owned())
    }

    /// The URI as the header has it; equal texts are the same page.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NextPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NextPage({})", self.0)
    }
}

/// Asks for the first page of a window.
pub fn list_content(feed: &Feed<'_>, content_type: &ContentType, window: Window) -> Request {
    let query = Feed::content_query(content_type, Some(window));
    Request::activity_get(feed.url("subscriptions/content", &query), feed.publisher)
}

/// Asks for the next page, by its URI as given; only the publisher is added where it is missing.
///
/// # Errors
/// When the URI is not this cloud's, this tenant's and the Activity API's. The listing is incomplete then.
pub fn list_content_next(feed: &Feed<'_>, next: &NextPage) -> Result<Request, UrlRefused> {
    let url = feed.cloud.check_activity_url(feed.tenant, next.as_str())?;
    Ok(Request::activity_get(url, feed.publisher))
}

/// Reads a page. `content_type` stands in where an entry has none.
///
/// # Errors
/// When the answer is an error, or no list.
pub fn parse_list_content(
    feed: &Feed<'_>,
    content_type: &ContentType,
    response: &Response<'_>,
) -> Result<ContentPage, ApiError> {
    let operation = Operation::ListContent;
    let context = EntryContext { cloud: feed.cloud, tenant: feed.tenant, asked_type: Some(content_type) };
    let (contents, unreadable) = read_list(operation, response, |entry| read_content(&context, entry))?;
    let next = next_page(operation, response)?;
    Ok(ContentPage { contents, unreadable, next })
}

pub(super) fn next_page(operation: Operation, response: &Response<'_>) -> Result<Option<NextPage>, ApiError> {
    match next_page_uri(response.headers) {
        Ok(uri) => Ok(uri.map(NextPage::from_header)),
        Err(problem) => Err(ApiError::unreadable(operation, response, problem)),
    }
}
