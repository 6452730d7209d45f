//! `GET {contentUri}`: one blob, a JSON array of records.
//!
//! Never sees the records: with a good status the body is a stream, of any length, for whoever splits it. Whether it comes
//! compressed is between the transport and the server; nothing here asks for it.

use http::{HeaderMap, StatusCode};

use super::listing::next_page_uri;
use super::{Feed, NextPage};
use crate::cloud::UrlRefused;
use crate::error::{ApiError, Operation, error_object};
use crate::ids::ContentUri;
use crate::request::Request;
use crate::response::{MAX_ERROR_BODY, Response};
use crate::text::decode;

/// What the head of a good answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobHead {
    /// How many bytes will come, when the server says so; of the compressed form, if compressed.
    pub content_length: Option<u64>,
    /// More of the same blob. Never seen on a blob; honoured just in case.
    pub next: Option<NextPage>,
}

/// The body is an error: read at most [`MAX_ERROR_BODY`] of it and give it to [`parse_blob_error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRefusal {
    /// The status.
    pub status: StatusCode,
}

/// Asks for a blob, by its URI as listed; only the publisher is added.
///
/// # Errors
/// When the URI is not this cloud's, this tenant's and the Activity API's.
pub fn retrieve_content(feed: &Feed<'_>, uri: &ContentUri) -> Result<Request, UrlRefused> {
    let url = feed.cloud.check_activity_url(feed.tenant, uri.as_str())?;
    Ok(Request::activity_get(url, feed.publisher))
}

/// Looks at an answer's head, before its body has come: is that body a blob?
///
/// # Errors
/// With any other status than 200; then the body holds the reason.
pub fn check_blob_response(status: StatusCode, headers: &HeaderMap) -> Result<BlobHead, BlobRefusal> {
    if status != StatusCode::OK {
        return Err(BlobRefusal { status });
    }
    let content_length =
        headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let next = next_page_uri(headers).ok().flatten().map(NextPage::from_header);
    Ok(BlobHead { content_length, next })
}

/// The error in the body of an answer that [`check_blob_response`] refused.
pub fn parse_blob_error(response: &Response<'_>) -> ApiError {
    ApiError::from_response(Operation::RetrieveContent, response)
}

/// The error in a body that came with status 200 and turned out to be one object instead of an array of records
/// (deviations D11, D18). `None` when it is none, such as a lone record: then it is content.
pub fn error_in_blob(response: &Response<'_>) -> Option<ApiError> {
    if response.body.len() > MAX_ERROR_BODY {
        return None;
    }
    let text = decode(response.body);
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(ApiError::answered(Operation::RetrieveContent, response, error_object(&value)?))
}
