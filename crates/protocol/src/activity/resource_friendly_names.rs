//! `GET /resources/dlpSensitiveTypes`: the names of the sensitive-information types that `DLP.All` records mention by GUID.
//!
//! Never another resource: it is the only kind there is (activity-api.md §2.7).

use std::str::FromStr;

use http::HeaderValue;
use http::header::ACCEPT_LANGUAGE;
use uuid::Uuid;

use super::Feed;
use super::content::{EntryProblem, guid, text};
use super::listing::read_list;
use crate::error::{ApiError, Operation};
use crate::ids::IdError;
use crate::request::Request;
use crate::response::Response;
use crate::text::one_line;

/// Exactly one language tag, such as `en-US`: the service refuses a list (AF20053) and other syntax (AF20054).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language(HeaderValue);

impl FromStr for Language {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let well_formed = text.split('-').all(|part| (1..=8).contains(&part.len()))
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && text.len() <= 35;
        let malformed = || IdError::Malformed {
            what: "a language",
            problem: "must be one tag such as en-US",
            text: text.chars().take(64).collect(),
        };
        if !well_formed {
            return Err(malformed());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| malformed())
    }
}

/// A name and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FriendlyName {
    /// The sensitive-information type's GUID.
    pub id: Uuid,
    /// Its name, at most 512 characters.
    pub name: String,
}

/// Asks for the names, in the service's own language or a given one.
pub fn resource_friendly_names(feed: &Feed<'_>, language: Option<&Language>) -> Request {
    let request = Request::activity_get(feed.url("resources/dlpSensitiveTypes", ""), feed.publisher);
    match language {
        Some(language) => request.with_header(ACCEPT_LANGUAGE, language.0.clone()),
        None => request,
    }
}

/// Reads the names; an entry that is none is left out, for nothing depends on it.
///
/// # Errors
/// When the answer is an error, or no list.
pub fn parse_resource_friendly_names(response: &Response<'_>) -> Result<Vec<FriendlyName>, ApiError> {
    let (names, _) = read_list(Operation::ResourceFriendlyNames, response, |entry| {
        let name = one_line(text(entry, "name")?, 512);
        if name.is_empty() {
            return Err(EntryProblem::Missing { member: "name" });
        }
        Ok(FriendlyName { id: guid(entry, "id")?, name })
    })?;
    Ok(names)
}
