//! One request being answered: its time, its ids, its origin, and the ways an answer leaves: JSON, page or redirect.
//!
//! Never holds anything after the answer. Every answer has the headers Entra sends and the `Date` of the emulator's clock.

use axum::body::Body;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, DATE, EXPIRES, HeaderName, HeaderValue, LOCATION, PRAGMA, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::entra::directory::{EntraCall, EntraFailure, EntraPolicy};
use crate::entra::errors::EntraError;
use crate::tls::{Cut, Origin};

/// What is known of one request before its parameters are looked at.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) now: DateTime<Utc>,
    pub(crate) origin: Origin,
    pub(crate) policy: EntraPolicy,
    pub(crate) headers: HeaderMap,
    /// How far the `Date` header is off, by a fault.
    pub(crate) date_offset: TimeDelta,
    /// What the request was for, once that is known.
    pub(crate) asked: Option<EntraCall>,
    trace_id: Uuid,
    correlation_id: String,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    error_description: String,
    error_codes: Vec<u32>,
    timestamp: String,
    trace_id: String,
    correlation_id: &'a str,
    error_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    suberror: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a str>,
}

impl Call {
    pub(crate) fn new(parts: &Parts, now: DateTime<Utc>, policy: EntraPolicy, fresh_id: impl Fn() -> Uuid) -> Self {
        let sent = parts.headers.get("client-request-id").and_then(|value| value.to_str().ok());
        // Echoed into JSON, headers and pages: only a GUID is.
        let correlation_id = sent.and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_else(&fresh_id).to_string();
        Self {
            now,
            origin: Origin::of(parts),
            policy,
            headers: parts.headers.clone(),
            date_offset: TimeDelta::zero(),
            asked: None,
            trace_id: fresh_id(),
            correlation_id,
        }
    }

    /// `AADSTS…: … ` with the trace lines after it, as bodies, redirects and pages carry it.
    pub(crate) fn describe(&self, error: &EntraError) -> String {
        format!(
            "AADSTS{}: {}\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: {}",
            error.code,
            error.text,
            self.trace_id,
            self.correlation_id,
            self.timestamp()
        )
    }

    /// The page that explains a number.
    pub(crate) fn error_uri(&self, error: &EntraError) -> String {
        format!("{}/error?code={}", self.origin, error.code)
    }

    pub(crate) fn error(&self, error: &EntraError) -> Response {
        let body = ErrorBody {
            error: error.error,
            error_description: self.describe(error),
            error_codes: error.also.into_iter().chain([error.code]).collect(),
            timestamp: self.timestamp(),
            trace_id: self.trace_id.to_string(),
            correlation_id: &self.correlation_id,
            error_uri: self.error_uri(error),
            suberror: error.suberror(),
            claims: error.claims(),
        };
        self.json(StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST), &body)
    }

    pub(crate) fn json(&self, status: StatusCode, body: &impl Serialize) -> Response {
        let text = serde_json::to_string(body).unwrap_or_default();
        self.finish(status, "application/json; charset=utf-8", text)
    }

    /// A page; `policy` is its Content-Security-Policy.
    pub(crate) fn page(&self, status: StatusCode, html: String, policy: &str) -> Response {
        let mut response = self.finish(status, "text/html; charset=utf-8", html);
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(policy) {
            headers.insert(http::header::CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(http::header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(http::header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    pub(crate) fn redirect(&self, location: &str) -> Response {
        let mut response = self.finish(StatusCode::FOUND, "text/html; charset=utf-8", String::new());
        // A redirect URI was registered as text; one that is no header value cannot be followed either.
        if let Ok(location) = HeaderValue::from_str(location) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }

    /// The answer a fault asks for.
    pub(crate) fn failure(&self, failure: EntraFailure) -> Response {
        match failure {
            EntraFailure::Aadsts(code) => self.error(&EntraError::new(code)),
            EntraFailure::Throttled { retry_after } => {
                let mut response = self.finish(StatusCode::TOO_MANY_REQUESTS, "application/json", String::new());
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                }
                response
            }
            EntraFailure::Status(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                let reason = status.canonical_reason().unwrap_or("Error");
                let html = format!(
                    "<html><head><title>{0} {reason}</title></head><body><h2>{0} {reason}</h2></body></html>",
                    status.as_u16()
                );
                self.finish(status, "text/html", html)
            }
            EntraFailure::TruncatedJson => {
                let text = r#"{"token_type":"Bearer","expires_in":3599,"access_to"#.to_owned();
                self.finish(StatusCode::OK, "application/json; charset=utf-8", text)
            }
            EntraFailure::Reset => {
                let mut response = self.finish(StatusCode::BAD_GATEWAY, "text/plain", String::new());
                response.extensions_mut().insert(Cut::Reset);
                response
            }
        }
    }

    fn finish(&self, status: StatusCode, content_type: &'static str, body: String) -> Response {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        // For the counts; the listener sends no extensions.
        if let Some(asked) = &self.asked {
            response.extensions_mut().insert(asked.clone());
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert(EXPIRES, HeaderValue::from_static("-1"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let mut text = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        text("x-ms-request-id", &self.trace_id.to_string());
        text("x-ms-ests-server", "emulator");
        if self.headers.get("return-client-request-id").is_some_and(|value| value.as_bytes() == b"true") {
            text("client-request-id", &self.correlation_id);
        }
        let date = (self.now + self.date_offset).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(date) = HeaderValue::from_str(&date) {
            headers.insert(DATE, date);
        }
        response
    }

    /// With a blank where ISO 8601 has a `T` (entra.md §6).
    fn timestamp(&self) -> String {
        self.now.format("%Y-%m-%d %H:%M:%SZ").to_string()
    }
}
