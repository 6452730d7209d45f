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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cloud::CloudName;

    const URI: &str = "https://manage.office.com/api/v1.0/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/activity/feed/audit/8$8";

    fn read(entry: &Value, asked_type: Option<&ContentType>) -> Result<ListedContent, EntryProblem> {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        read_content(&EntryContext { cloud: &cloud, tenant, asked_type }, entry.as_object().unwrap())
    }

    fn whole() -> Value {
        json!({
            "contentType": "Audit.Exchange", "contentId": "8$8", "contentUri": URI,
            "contentCreated": "2026-03-04T05:59:00.123Z", "contentExpiration": "2026-03-11T05:00:00.000Z",
        })
    }

    fn without(names: &[&str]) -> Value {
        let mut entry = whole();
        for name in names {
            entry.as_object_mut().unwrap().remove(*name);
        }
        entry
    }

    #[test]
    fn an_entry_is_read_as_it_stands() {
        let content = read(&whole(), Some(&ContentType::SharePoint)).unwrap();
        assert_eq!(content.content_type, ContentType::Exchange);
        assert_eq!(content.content_id.as_str(), "8$8");
        assert_eq!(content.content_uri.as_str(), URI);
        assert_eq!(content.content_created, parse_timestamp("2026-03-04T05:59:00.123Z").unwrap());
        assert_eq!(content.content_expiration, parse_timestamp("2026-03-11T05:00:00Z").unwrap());
    }

    #[test]
    fn of_the_two_times_either_stands_in_for_the_other() {
        let content = read(&without(&["contentExpiration"]), None).unwrap();
        assert_eq!(content.content_expiration, parse_timestamp("2026-03-11T05:59:00.123Z").unwrap());
        let content = read(&without(&["contentCreated"]), None).unwrap();
        assert_eq!(content.content_created, parse_timestamp("2026-03-04T05:00:00Z").unwrap());
        let neither = read(&without(&["contentCreated", "contentExpiration"]), None).unwrap_err();
        assert_eq!(neither, EntryProblem::Missing { member: "contentCreated" });
    }

    #[test]
    fn a_missing_type_is_the_one_asked_for_and_a_new_type_is_kept() {
        let nameless = without(&["contentType"]);
        assert_eq!(read(&nameless, Some(&ContentType::DlpAll)).unwrap().content_type, ContentType::DlpAll);
        assert_eq!(read(&nameless, None).unwrap_err(), EntryProblem::Missing { member: "contentType" });
        let mut new = whole();
        new["contentType"] = json!("Audit.Copilot");
        assert_eq!(read(&new, None).unwrap().content_type, ContentType::Other("Audit.Copilot".into()));
    }

    #[test]
    fn an_unreadable_entry_keeps_its_name_its_time_and_its_beginning() {
        let entry = without(&["contentUri"]);
        let problem = read(&entry, None).unwrap_err();
        let raw = format!("{entry}{}", "ä".repeat(MAX_UNREADABLE_RAW));
        let kept = unreadable(3, &raw, entry.as_object(), problem);
        assert_eq!(kept.problem, EntryProblem::Missing { member: "contentUri" });
        assert_eq!(kept.content_id.unwrap().as_str(), "8$8");
        assert!(kept.content_created.is_some());
        assert_eq!((kept.index, kept.raw.chars().count()), (3, MAX_UNREADABLE_RAW));
    }
}
