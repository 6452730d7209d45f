//! The answers of the Activity API: JSON, headers, and errors in the envelopes really seen.
//!
//! Never shares a type with a client's parser: every body is written here, from activity-api.md §1, §3 and §9.

use axum::body::Body;
use chrono::{DateTime, Utc};
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, DATE, EXPIRES, HeaderName, HeaderValue, PRAGMA, SERVER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode};
use protocol::ids::TenantId;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: RefusalBody,
    pub(crate) retry_after: Option<u32>,
}

/// What an error answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefusalBody {
    /// `{"error":{"code":…,"message":…}}`
    Envelope {
        code: String,
        message: String,
    },
    /// The same with single quotes, which is no JSON (D8).
    SingleQuotes {
        code: String,
        message: String,
    },
    /// `{"Message":…}`
    Message(&'static str),
    /// A page of the front door.
    Html,
    Empty,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let body = RefusalBody::Envelope { code: code.to_owned(), message: message.into() };
        Self { status, body, retry_after: None }
    }

    pub(crate) fn bare(status: u16, body: RefusalBody) -> Self {
        Self { status, body, retry_after: None }
    }

    /// An exception's text as the service answers it: cut at its first colon into code and message, one character more
    /// lost after it (activity-api.md §9).
    pub(crate) fn from_exception(text: &str) -> Self {
        let (code, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut lost = rest.chars();
        lost.next();
        Self::new(400, code, lost.as_str())
    }

    /// The token is not accepted.
    pub(crate) fn denied() -> Self {
        Self::bare(401, RefusalBody::Message("Authorization has been denied for this request."))
    }

    /// The token's permissions do not suffice.
    pub(crate) fn missing_role(roles: &[String]) -> Self {
        let set = roles.join(" ");
        Self::new(
            401,
            "AF10001",
            format!("The permission set ({set}) sent in the request does not include the expected permission."),
        )
    }

    pub(crate) fn internal() -> Self {
        Self::new(500, "AF50000", "An internal error occurred. Retry the request.")
    }

    pub(crate) fn missing_parameter(name: &str) -> Self {
        Self::new(400, "AF20001", format!("Missing parameter: {name}."))
    }

    pub(crate) fn wrong_type(name: &str, expected: &str) -> Self {
        Self::new(400, "AF20002", format!("Invalid parameter type: {name}. Expected type: {expected}"))
    }

    pub(crate) fn unknown_tenant(tenant: TenantId) -> Self {
        Self::new(
            400,
            "AF20011",
            format!("Specified tenant ID ({tenant}) does not exist in the system or has been deleted."),
        )
    }

    pub(crate) fn throttled(method: &str, publisher: &str, status: u16) -> Self {
        Self::new(status, "AF429", format!("Too many requests. Method={method}, PublisherId={publisher}"))
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let (content_type, text) = match &self.body {
            RefusalBody::Envelope { code, message } => (JSON, envelope(code, message)),
            RefusalBody::SingleQuotes { code, message } => {
                (JSON, format!("{{'error':{{'code':'{code}','message':'{message}'}}}}"))
            }
            RefusalBody::Message(message) => (JSON, serde_json::json!({ "Message": message }).to_string()),
            RefusalBody::Html => (HTML, page(self.status)),
            RefusalBody::Empty => ("", String::new()),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if !content_type.is_empty() {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if self.status == 401 {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html";

pub(crate) fn envelope(code: &str, message: &str) -> String {
    serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
}

fn page(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    format!(
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\r\n\
         <HTML><HEAD><TITLE>{reason}</TITLE>\r\n\
         <META HTTP-EQUIV=\"Content-Type\" Content=\"text/html; charset=us-ascii\"></HEAD>\r\n\
         <BODY><h2>{reason}</h2>\r\n<hr><p>HTTP Error {status}. {reason}.</p>\r\n</BODY></HTML>\r\n"
    )
}

/// 200 with JSON.
pub(crate) fn json(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// 200 with nothing, as a stop is answered.
pub(crate) fn empty() -> Response<Body> {
    Response::new(Body::empty())
}

/// The headers every answer of the service has.
pub(crate) fn dress(headers: &mut HeaderMap, now: DateTime<Utc>, correlation: &str) {
    let fixed: [(HeaderName, &str); 6] = [
        (SERVER, "Microsoft-IIS/10.0"),
        (HeaderName::from_static("x-aspnet-version"), "4.0.30319"),
        (HeaderName::from_static("x-powered-by"), "ASP.NET"),
        (CACHE_CONTROL, "no-cache"),
        (PRAGMA, "no-cache"),
        (EXPIRES, "-1"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(correlation) {
        headers.insert(HeaderName::from_static("mise-correlation-id"), value);
    }
    if let Ok(value) = HeaderValue::from_str(&http_date(now)) {
        headers.insert(DATE, value);
    }
}

/// As in `Date`: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_cut_at_its_first_colon_and_loses_two_characters() {
        let refusal =
            Refusal::from_exception("String reference not set to an instance of a String.\r\nParameter name: s");
        let expected = RefusalBody::Envelope {
            code: "String reference not set to an instance of a String.\r\nParameter name".to_owned(),
            message: "s".to_owned(),
        };
        assert_eq!((refusal.status, refusal.body), (400, expected));
    }

    #[test]
    fn the_date_header_has_the_form_of_http() {
        let at = DateTime::from_timestamp(784_111_777, 0).unwrap();
        assert_eq!(http_date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
