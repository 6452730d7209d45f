//! What all answers that are lists have in common: the array, its entries one by one, the next page's header, the errors.
//!
//! Never takes an answer it cannot read for an empty list: that would lose content in silence.

use std::fmt;

use http::HeaderMap;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::content::{EntryProblem, UnreadableEntry, unreadable};
use crate::error::{ApiError, Operation, error_object};
use crate::response::{MAX_ERROR_BODY, Response};
use crate::text::decode;

/// The longest body of a listing: 16 MiB, some 40,000 entries of the usual length. The transport may stop there.
pub const MAX_LISTING_BODY: usize = 16 * 1024 * 1024;

/// The most entries of one page. Pages of 100 to 600 have been seen; more than this is not a listing.
pub const MAX_LISTING_ENTRIES: usize = 20_000;

/// Reads a page: every entry by `read`, the others into the list of the unreadable.
pub(super) fn read_list<T>(
    operation: Operation,
    response: &Response<'_>,
    mut read: impl FnMut(&Map<String, Value>) -> Result<T, EntryProblem>,
) -> Result<(Vec<T>, Vec<UnreadableEntry>), ApiError> {
    if !response.status.is_success() {
        return Err(ApiError::from_response(operation, response));
    }
    if response.body.len() > MAX_LISTING_BODY {
        return Err(ApiError::unreadable(operation, response, format!("longer than {MAX_LISTING_BODY} bytes")));
    }
    let text = decode(response.body);
    let entries = match split_array(&text, MAX_LISTING_ENTRIES) {
        Ok(entries) => entries,
        Err(problem) => return Err(no_array(operation, response, &text, &problem)),
    };
    Ok(read_entries(&entries, &mut read))
}

pub(super) fn read_entries<T>(
    entries: &[&RawValue],
    read: &mut impl FnMut(&Map<String, Value>) -> Result<T, EntryProblem>,
) -> (Vec<T>, Vec<UnreadableEntry>) {
    let mut readable = Vec::with_capacity(entries.len());
    let mut refused = Vec::new();
    for (index, raw) in entries.iter().enumerate() {
        let raw = raw.get();
        let Ok(entry) = serde_json::from_str::<Map<String, Value>>(raw) else {
            refused.push(unreadable(index, raw, None, EntryProblem::NotAnObject));
            continue;
        };
        // A replaced byte in an id or a URI would name another blob.
        let outcome = if raw.contains(char::REPLACEMENT_CHARACTER) { Err(EntryProblem::NotUtf8) } else { read(&entry) };
        match outcome {
            Ok(value) => readable.push(value),
            Err(problem) => refused.push(unreadable(index, raw, Some(&entry), problem)),
        }
    }
    (readable, refused)
}

/// An object where an array was expected is an error in disguise (deviations D11, D18); anything else is unreadable.
fn no_array(operation: Operation, response: &Response<'_>, text: &str, problem: &str) -> ApiError {
    if text.trim_start().starts_with('{') && text.len() <= MAX_ERROR_BODY {
        let error = serde_json::from_str::<Value>(text).ok().as_ref().and_then(error_object);
        if let Some(error) = error {
            return ApiError::answered(operation, response, error);
        }
        return ApiError::unreadable(operation, response, "an object where a list was expected");
    }
    ApiError::unreadable(operation, response, problem)
}

/// The slices of an array's elements, at most `max` of them.
pub(super) fn split_array(text: &str, max: usize) -> Result<Vec<&RawValue>, String> {
    struct Elements {
        max: usize,
    }
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(element) = elements.next_element::<&'de RawValue>()? {
                if found.len() == self.max {
                    return Err(serde::de::Error::custom(format_args!("more than {} entries", self.max)));
                }
                found.push(element);
            }
            Ok(found)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer.deserialize_seq(Elements { max }).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(found)
}

/// The URI of the next page: `NextPageUri` by the reference, `NextPageUrl` by the FAQ, in any letter case (deviation D17).
/// An empty header names no page.
pub(super) fn next_page_uri(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let Some(value) = headers.get("nextpageuri").or_else(|| headers.get("nextpageurl")) else { return Ok(None) };
    if value.as_bytes().trim_ascii().is_empty() {
        return Ok(None);
    }
    if value.len() > crate::response::MAX_HEADER_VALUE {
        return Err("the NextPageUri header is longer than 8192 bytes");
    }
    // Cutting a page off because its URI is odd would lose all pages behind it in silence.
    value.to_str().map(|text| Some(text.trim())).map_err(|_| "the NextPageUri header is not readable text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_split_at_its_elements_and_not_beyond_its_end() {
        let texts =
            |text: &'static str| split_array(text, 3).map(|found| found.iter().map(|e| e.get()).collect::<Vec<_>>());
        assert_eq!(texts(" [ 1 , {\"a\":[2]} ] "), Ok(vec!["1", "{\"a\":[2]}"]));
        assert_eq!(texts("[]"), Ok(vec![]));
        assert_eq!(texts("[1,2,3]").map(|found| found.len()), Ok(3));
        assert!(texts("[1,2,3,4]").unwrap_err().contains("more than 3 entries"));
        for text in ["", "null", "{}", "[1", "[1]]", "[1] x", "\"[]\""] {
            assert!(texts(text).is_err(), "{text}");
        }
    }
    #[test]
    fn bytes_that_are_no_text_cost_their_own_entry_only() {
        let headers = HeaderMap::new();
        let body = b"[{\"id\":\"a\"},{\"id\":\"b\xFF\"},{\"id\":\"c\"}]";
        let response = Response::new(http::StatusCode::OK, &headers, body);
        let (ids, unreadable) = read_list(Operation::ListContent, &response, |entry| {
            Ok(super::super::content::text(entry, "id")?.to_owned())
        })
        .unwrap();
        assert_eq!(ids, ["a", "c"]);
        assert_eq!((unreadable[0].index, &unreadable[0].problem), (1, &EntryProblem::NotUtf8));
    }

    #[test]
    fn a_next_page_that_cannot_be_read_is_an_error_and_an_empty_one_is_none() {
        let next = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("NextPageUri", http::HeaderValue::from_bytes(value).unwrap());
            next_page_uri(&headers).map(|uri| uri.map(str::to_owned))
        };
        assert_eq!(next(b" "), Ok(None));
        assert_eq!(next(b"https://h/ "), Ok(Some("https://h/".to_owned())));
        assert!(next(b"https://h/\xFF").is_err());
        assert!(next(&[b'x'; 8192]).is_ok());
        assert!(next(&[b'x'; 8193]).is_err());
        assert_eq!(next_page_uri(&HeaderMap::new()), Ok(None));
    }
}
