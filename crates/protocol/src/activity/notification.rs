//! What the service posts to the webhook: the validation of its address, and notifications of new content.
//!
//! Never trusted: a notification is a hint that wakes a fetch, its `Webhook-AuthID` is the caller's to compare
//! ([`crate::secret::WebhookAuthId::matches`]) and its content URIs are held against the cloud like any other. The media
//! type is not looked at, as Microsoft's own is malformed (`application/json; utf-8`, activity-api.md §5).

use http::HeaderMap;
use serde_json::Value;

use super::content::{EntryContext, EntryProblem, guid, read_content};
use super::listing::{read_entries, split_array};
use super::{ListedContent, UnreadableEntry};
use crate::cloud::Cloud;
use crate::error::member;
use crate::ids::{ClientId, TenantId};
use crate::response::header_text;
use crate::text::{decode, one_line};

/// The longest body of a call: 1 MiB, some 2,000 entries. Answer a longer one with 413.
pub const MAX_NOTIFICATION_BODY: usize = 1024 * 1024;
/// The most contents one call may name. The real limit is not documented; batches are small.
pub const MAX_NOTIFIED_CONTENTS: usize = 5000;
/// The longest validation code, in bytes.
pub const MAX_VALIDATION_CODE: usize = 1024;
/// How much of what is wrong with a body is kept, in characters.
const MAX_PROBLEM: usize = 300;
/// The header that marks a validation.
pub const WEBHOOK_VALIDATION_CODE_HEADER: &str = "webhook-validationcode";
/// The header with the shared secret.
pub const WEBHOOK_AUTH_ID_HEADER: &str = "webhook-authid";

/// A call of the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookCall {
    /// The service tries the address out, during a start; 200 accepts it, and nothing need be echoed.
    Validation {
        /// The code, the same in header and body.
        code: String,
    },
    /// New content; 200 once it is safely noted.
    Notification {
        /// What became available.
        contents: Vec<NotifiedContent>,
        /// Entries that name nothing we may fetch.
        unreadable: Vec<UnreadableEntry>,
    },
}

/// Content that a notification names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifiedContent {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which app's subscription delivered it; `None` when the entry does not say.
    pub client: Option<ClientId>,
    /// The content itself.
    pub content: ListedContent,
}

/// Why a call is neither a validation nor a notification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Longer than [`MAX_NOTIFICATION_BODY`].
    #[error("the body of {length} bytes is longer than {MAX_NOTIFICATION_BODY}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Neither a list nor an object.
    #[error("the body is neither a notification nor a validation: {problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// A validation's header and body do not carry the same code, or one lacks it.
    #[error("the validation code in the header is not the one in the body")]
    CodesDiffer,
    /// A list that came with the header of a validation.
    #[error("the body is a notification and the header a validation")]
    Contradiction,
}

/// Reads a call. Header and shape of the body must agree on what it is.
///
/// # Errors
/// When they do not, or the body is neither; see [`WebhookError`].
pub fn parse_webhook_call(cloud: &Cloud, headers: &HeaderMap, body: &[u8]) -> Result<WebhookCall, WebhookError> {
    if body.len() > MAX_NOTIFICATION_BODY {
        return Err(WebhookError::TooLong { length: body.len() });
    }
    let text = decode(body);
    if text.trim_start().starts_with('{') {
        return parse_validation(headers, &text);
    }
    if headers.contains_key(WEBHOOK_VALIDATION_CODE_HEADER) {
        return Err(WebhookError::Contradiction);
    }
    let entries = split_array(&text, MAX_NOTIFIED_CONTENTS).map_err(|problem| malformed(&problem))?;
    let (contents, unreadable) = read_entries(&entries, &mut |entry| {
        let tenant = TenantId::from_uuid(guid(entry, "tenantId")?);
        let client = match guid(entry, "clientId") {
            Ok(client) => Some(ClientId::from_uuid(client)),
            Err(EntryProblem::Missing { .. }) => None,
            Err(problem) => return Err(problem),
        };
        let context = EntryContext { cloud, tenant, asked_type: None };
        Ok(NotifiedContent { tenant, client, content: read_content(&context, entry)? })
    });
    Ok(WebhookCall::Notification { contents, unreadable })
}

/// What is wrong, cut short: it may quote a whole body.
fn malformed(problem: &str) -> WebhookError {
    WebhookError::Malformed { problem: one_line(problem, MAX_PROBLEM) }
}

fn parse_validation(headers: &HeaderMap, text: &str) -> Result<WebhookCall, WebhookError> {
    let body: Value = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
    let in_body = body.as_object().and_then(|object| member(object, "validationCode")).and_then(Value::as_str);
    match (header_text(headers, WEBHOOK_VALIDATION_CODE_HEADER), in_body.map(str::trim)) {
        (Some(header), Some(code)) if header == code && !code.is_empty() && code.len() <= MAX_VALIDATION_CODE => {
            Ok(WebhookCall::Validation { code: code.to_owned() })
        }
        _ => Err(WebhookError::CodesDiffer),
    }
}
