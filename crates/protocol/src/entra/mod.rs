//! What Entra ID answered instead of a token.
//!
//! Never keeps what may be a secret: of the description, only the sentence without its trace lines, redacted. What support
//! asks for (trace id, correlation id, time) is kept apart. The numbers and texts may change, says Microsoft; so an unknown
//! number falls back to `error`, and an unknown `error` to the status (entra.md §6).
//!
//! Source: <https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes>

mod disposition;
mod table;

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};

use crate::redact::redact;
use crate::response::{MAX_ERROR_BODY, Response};
use crate::text::{decode, one_line};
use crate::time::{Timestamp, parse_timestamp};

pub use disposition::{AppStep, ConsentStep, EntraDisposition, LOOP_WAIT, RetryClass, THROTTLE_WAIT};

/// The most error codes that are kept of one answer.
const MAX_CODES: usize = 8;
/// The longest description kept, in characters.
const MAX_DESCRIPTION: usize = 512;

/// An error of the token endpoint, or of a consent callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntraError {
    /// The status.
    pub status: StatusCode,
    /// OAuth's word for it (`error`), at most 64 characters.
    pub error: Option<String>,
    /// The AADSTS numbers, in the order given.
    pub codes: Vec<u32>,
    /// The first sentence of the description, redacted; at most 512 characters.
    pub description: String,
    /// `suberror`, such as `consent_required`.
    pub suberror: Option<String>,
    /// For a support ticket.
    pub trace_id: Option<String>,
    /// For a support ticket; our own `client-request-id` when the server honours it.
    pub correlation_id: Option<String>,
    /// For a support ticket: when, by the server.
    pub timestamp: Option<Timestamp>,
    /// The wait the server asks for.
    pub retry_after: Option<Duration>,
    /// The server's clock: an assertion outside its validity mostly means that ours is wrong.
    pub server_time: Option<Timestamp>,
}

impl EntraError {
    /// The error in an answer. Never fails: what cannot be read leaves the status.
    pub fn from_response(response: &Response<'_>) -> Self {
        let body = response.body.get(..MAX_ERROR_BODY).unwrap_or(response.body);
        let text = decode(body);
        let object: Map<String, Value> = serde_json::from_str(text.trim()).unwrap_or_default();
        let field = |name: &str| object.get(name).and_then(Value::as_str);
        let description = field("error_description").unwrap_or(if object.is_empty() { text.trim() } else { "" });
        let (sentence, trace) = split_description(description);
        let mut codes = listed_codes(object.get("error_codes"));
        if codes.is_empty() {
            codes.extend(code_in(description));
        }
        let short = |text: &str| Some(one_line(&redact(text), 64)).filter(|text| !text.is_empty());
        Self {
            status: response.status,
            error: field("error").and_then(short),
            codes,
            description: one_line(&redact(sentence), MAX_DESCRIPTION),
            suberror: field("suberror").and_then(short),
            trace_id: field("trace_id").or_else(|| trace_line(trace, "Trace ID:")).and_then(short),
            correlation_id: field("correlation_id").or_else(|| trace_line(trace, "Correlation ID:")).and_then(short),
            timestamp: field("timestamp").and_then(parse_timestamp),
            retry_after: response.retry_after(),
            server_time: response.date(),
        }
    }

    /// The error in a consent callback's query, each part decoded (entra.md §3.5). A callback has no status; it stands as 400.
    pub fn from_callback(error: &str, subcode: Option<&str>, description: &str, error_uri: &str) -> Self {
        let (sentence, trace) = split_description(description);
        let code = code_in(description).or_else(|| code_of_uri(error_uri));
        let short = |text: &str| Some(one_line(&redact(text), 64)).filter(|text| !text.is_empty());
        Self {
            status: StatusCode::BAD_REQUEST,
            error: short(error),
            codes: code.into_iter().collect(),
            description: one_line(&redact(sentence), MAX_DESCRIPTION),
            suberror: subcode.and_then(short),
            trace_id: trace_line(trace, "Trace ID:").and_then(short),
            correlation_id: trace_line(trace, "Correlation ID:").and_then(short),
            timestamp: None,
            retry_after: None,
            server_time: None,
        }
    }

    /// The number that says most: umbrella codes give way to the code that came with them.
    pub fn code(&self) -> Option<u32> {
        table::telling(&self.codes)
    }

    /// Whether its number is one of entra.md §6.
    pub(crate) fn is_described(&self) -> bool {
        self.code().is_some_and(|code| table::row(code).is_some())
    }

    /// What kind of trouble this is.
    pub fn disposition(&self) -> EntraDisposition {
        disposition::of_error(self)
    }

    /// What is wrong, in the operator's words; a fragment without a full stop.
    pub fn problem(&self) -> &'static str {
        match self.code().and_then(table::row) {
            Some(row) => row.says,
            None => self.disposition().problem(),
        }
    }

    /// The step that mends it.
    pub fn remedy(&self) -> &'static str {
        self.disposition().remedy()
    }
}

impl fmt::Display for EntraError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP {}", self.problem(), self.status.as_u16())?;
        if let Some(error) = &self.error {
            write!(f, ", {error}")?;
        }
        if let Some(code) = self.code() {
            write!(f, ", AADSTS{code}")?;
        }
        if let Some(trace) = &self.trace_id {
            write!(f, ", trace id {trace}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for EntraError {}

/// The sentence, and the trace lines after it; older descriptions end the sentence with CR LF, newer ones with a blank.
fn split_description(description: &str) -> (&str, &str) {
    match description.find("Trace ID:") {
        Some(position) => description.split_at(position),
        None => (description, ""),
    }
}

fn trace_line<'t>(trace: &'t str, name: &str) -> Option<&'t str> {
    let (_, after) = trace.split_once(name)?;
    after.split_ascii_whitespace().next()
}

fn listed_codes(value: Option<&Value>) -> Vec<u32> {
    let number = |code: &Value| match code {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match value {
        Some(Value::Array(codes)) => codes.iter().filter_map(number).take(MAX_CODES).collect(),
        Some(one) => number(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The number in `https://login.microsoftonline.com/error?code=65004`.
fn code_of_uri(uri: &str) -> Option<u32> {
    let (_, after) = uri.split_once("error?code=")?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    after.get(..digits)?.parse().ok()
}

/// The number in `AADSTS700016: …`, for answers without `error_codes`: callbacks, pages.
fn code_in(text: &str) -> Option<u32> {
    let (_, after) = text.split_once("AADSTS")?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    after.get(..digits)?.parse().ok()
}
