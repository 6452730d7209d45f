//! `POST /subscriptions/stop`: ends a subscription.
//!
//! Never harmless: what becomes available while it is stopped can never be retrieved, and a start within 15 minutes can
//! leave a phantom (activity-api.md §2.2).

use super::Feed;
use crate::error::{ApiError, Operation};
use crate::ids::ContentType;
use crate::request::Request;
use crate::response::Response;

/// Asks for a stop.
pub fn stop_subscription(feed: &Feed<'_>, content_type: &ContentType) -> Request {
    let url = feed.url("subscriptions/stop", &Feed::content_query(content_type, None));
    Request::activity_post(url, feed.publisher)
}

/// Reads the answer, whose body is empty.
///
/// # Errors
/// When the answer is an error.
pub fn parse_stop_subscription(response: &Response<'_>) -> Result<(), ApiError> {
    if response.status.is_success() {
        return Ok(());
    }
    Err(ApiError::from_response(Operation::StopSubscription, response))
}
