//! One entry of a listing: a blob that may be fetched, or the account of why this entry names none.
//!
//! Never lets one bad entry cost the others, and never lets one through whose URI is not this tenant's on this cloud.

use chrono::TimeDelta;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::RETENTION;
use crate::cloud::{Cloud, UrlRefused};
use crate::error::member;
use crate::ids::{ContentId, ContentType, ContentUri, TenantId};
use crate::text::first_chars;
use crate::time::{Timestamp, parse_timestamp};

/// How much of an unreadable entry is kept: 4,096 characters.
pub const MAX_UNREADABLE_RAW: usize = 4096;

/// A blob the feed has listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContent {
    /// Its content type; the one asked for when the entry names none.
    pub content_type: ContentType,
    /// Its name.
    pub content_id: ContentId,
    /// Where it is; on the configured cloud and of the listed tenant.
    pub content_uri: ContentUri,
    /// When it became available.
    pub content_created: Timestamp,
    /// When it will be gone; [`RETENTION`] after creation when the entry does not say.
    pub content_expiration: Timestamp,
}

/// An entry that names no blob we may fetch. What of it could be read is kept: coverage has to account for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableEntry {
    /// Its place in the listing, from 0.
    pub index: usize,
    /// Its name, when that much could be read.
    pub content_id: Option<ContentId>,
    /// When it became available, when that much could be read.
    pub content_created: Option<Timestamp>,
    /// The entry as it came, cut to [`MAX_UNREADABLE_RAW`] characters.
    pub raw: String,
    /// What is wrong with it.
    pub problem: EntryProblem,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Not a JSON object.
    #[error("the entry is not an object")]
    NotAnObject,
    /// The entry's bytes are not UTF-8.
    #[error("the entry is not UTF-8 text")]
    NotUtf8,
    /// A member is absent or null.
    #[error("{member} is missing")]
    Missing {
        /// The member's name.
        member: &'static str,
    },
    /// A member holds something else than it should.
    #[error("{member} is malformed")]
    Malformed {
        /// The member's name.
        member: &'static str,
    },
    /// The URI is not one that may be given this tenant's token.
    #[error("contentUri is refused")]
    Refused(#[source] UrlRefused),
}

/// What the reader of an entry has to know.
pub(super) struct EntryContext<'a> {
    pub(super) cloud: &'a Cloud,
    pub(super) tenant: TenantId,
    /// Stands in for an entry's `contentType` that is missing.
    pub(super) asked_type: Option<&'a ContentType>,
}

pub(super) fn read_content(
    context: &EntryContext<'_>,
    entry: &Map<String, Value>,
) -> Result<ListedContent, EntryProblem> {
    let content_type = match (text(entry, "contentType"), context.asked_type) {
        (Ok(text), _) => text.parse().map_err(|_| EntryProblem::Malformed { member: "contentType" })?,
        (Err(EntryProblem::Missing { .. }), Some(asked)) => asked.clone(),
        (Err(problem), _) => return Err(problem),
    };
    let content_id = content_id(entry)?;
    let uri = text(entry, "contentUri")?;
    context.cloud.check_activity_url(context.tenant, uri).map_err(EntryProblem::Refused)?;
    let content_uri: ContentUri = uri.parse().map_err(|_| EntryProblem::Malformed { member: "contentUri" })?;
    let retention = TimeDelta::from_std(RETENTION).unwrap_or(TimeDelta::MAX);
    let expiration = time(entry, "contentExpiration");
    let content_created = match time(entry, "contentCreated") {
        Ok(created) => created,
        // Its twin says the same, seven days later.
        Err(problem) => match expiration.as_ref().ok().and_then(|until| until.checked_sub_signed(retention)) {
            Some(created) => created,
            None => return Err(problem),
        },
    };
    let content_expiration = match expiration {
        Ok(expiration) => expiration,
        Err(_) => content_created.checked_add_signed(retention).unwrap_or(content_created),
    };
    Ok(ListedContent { content_type, content_id, content_uri, content_created, content_expiration })
}

pub(super) fn unreadable(
    index: usize,
    raw: &str,
    entry: Option<&Map<String, Value>>,
    problem: EntryProblem,
) -> UnreadableEntry {
    UnreadableEntry {
        index,
        content_id: entry.and_then(|entry| content_id(entry).ok()),
        content_created: entry.and_then(|entry| time(entry, "contentCreated").ok()),
        raw: first_chars(raw, MAX_UNREADABLE_RAW).to_owned(),
        problem,
    }
}

fn content_id(entry: &Map<String, Value>) -> Result<ContentId, EntryProblem> {
    text(entry, "contentId")?.parse().map_err(|_| EntryProblem::Malformed { member: "contentId" })
}

pub(super) fn text<'e>(entry: &'e Map<String, Value>, name: &'static str) -> Result<&'e str, EntryProblem> {
    match member(entry, name) {
        None | Some(Value::Null) => Err(EntryProblem::Missing { member: name }),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(EntryProblem::Malformed { member: name }),
    }
}

pub(super) fn time(entry: &Map<String, Value>, name: &'static str) -> Result<Timestamp, EntryProblem> {
    parse_timestamp(text(entry, name)?).ok_or(EntryProblem::Malformed { member: name })
}

pub(super) fn guid(entry: &Map<String, Value>, name: &'static str) -> Result<Uuid, EntryProblem> {
    let text = text(entry, name)?.trim();
    Uuid::try_parse(text).map_err(|_| EntryProblem::Malformed { member: name })
}
