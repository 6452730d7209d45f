//! An answer as plain data, as every parser takes it, and the headers that all of them read.
//!
//! Never reads a clock: a date in `Retry-After` is measured against the answer's own `Date`, which is also the clock it
//! was written by.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use crate::time::Timestamp;

/// How much of an error's body is worth reading: 64 KiB. The transport may stop there; the parsers do.
pub const MAX_ERROR_BODY: usize = 64 * 1024;

/// The longest header value that is looked at: 8 KiB, as long as the longest content URI.
pub const MAX_HEADER_VALUE: usize = 8 * 1024;

/// The longest wait that is believed, one day: a wrong header must not silence a tenant until its content has expired.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A received answer. The body is what has been read of it, decoded from `Content-Encoding`.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status.
    pub status: StatusCode,
    /// The headers; names compare without regard to letter case.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// An answer of these parts.
    pub fn new(status: StatusCode, headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        Self { status, headers, body }
    }

    /// A header's text, trimmed. `None` when absent, not visible ASCII, or longer than [`MAX_HEADER_VALUE`].
    pub fn header(&self, name: &str) -> Option<&'a str> {
        header_text(self.headers, name)
    }

    /// What the server's clock showed (`Date`).
    pub fn date(&self) -> Option<Timestamp> {
        parse_http_date(self.header(DATE.as_str())?)
    }

    /// How long the server asks to wait (`Retry-After`), at most [`MAX_RETRY_AFTER`]. A date needs the answer's own
    /// `Date` beside it; without one, see [`Response::retry_after_at`].
    pub fn retry_after(&self) -> Option<Duration> {
        self.read_retry_after(self.date())
    }

    /// As [`Response::retry_after`], with `now` standing in for a `Date` header that is missing.
    pub fn retry_after_at(&self, now: Timestamp) -> Option<Duration> {
        self.read_retry_after(Some(self.date().unwrap_or(now)))
    }

    fn read_retry_after(&self, server_now: Option<Timestamp>) -> Option<Duration> {
        let text = self.header(RETRY_AFTER.as_str())?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            // A number too long for u64 is a long wait, not no wait.
            let seconds = text.parse::<u64>().unwrap_or(u64::MAX);
            return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        }
        let until = parse_http_date(text)?;
        // A moment that has passed is a wait of nothing, which `to_std` calls an error.
        let wait = (until - server_now?).to_std().unwrap_or(Duration::ZERO);
        Some(wait.min(MAX_RETRY_AFTER))
    }
}

pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?;
    if value.len() > MAX_HEADER_VALUE {
        return None;
    }
    Some(value.to_str().ok()?.trim())
}

/// The three forms of RFC 9110 §5.6.7; the zone is always GMT.
fn parse_http_date(text: &str) -> Option<Timestamp> {
    if let Ok(time) = DateTime::parse_from_rfc2822(text) {
        return Some(time.with_timezone(&Utc));
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_timestamp;
    use http::HeaderValue;

    fn wait(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        Response::new(StatusCode::TOO_MANY_REQUESTS, &headers, b"").retry_after()
    }

    #[test]
    fn seconds_are_read_and_capped_at_a_day() {
        assert_eq!(wait(&[("Retry-After", " 60 ")]), Some(Duration::from_secs(60)));
        assert_eq!(wait(&[("retry-after", "0")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(MAX_RETRY_AFTER));
        assert_eq!(wait(&[("retry-after", "86401")]), Some(MAX_RETRY_AFTER));
        assert_eq!(wait(&[("retry-after", "99999999999999999999999999")]), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn a_date_is_measured_against_the_servers_own_clock() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let minute = Some(Duration::from_secs(60));
        assert_eq!(wait(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]), minute);
        assert_eq!(wait(&[date, ("retry-after", "Sunday, 06-Nov-94 08:50:37 GMT")]), minute);
        assert_eq!(wait(&[date, ("retry-after", "Sun Nov  6 08:50:37 1994")]), minute);
        assert_eq!(wait(&[date, ("retry-after", "Sun, 06 Nov 1994 08:40:37 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]), None);
    }

    #[test]
    fn without_a_date_header_the_callers_clock_is_used() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("Sun, 06 Nov 1994 08:50:37 GMT"));
        let response = Response::new(StatusCode::SERVICE_UNAVAILABLE, &headers, b"");
        let now = parse_timestamp("1994-11-06T08:50:07Z").unwrap();
        assert_eq!(response.retry_after_at(now), Some(Duration::from_secs(30)));
    }

    #[test]
    fn nonsense_is_no_wait() {
        for text in ["", "-1", "soon", "1.5", "60s"] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text:?}");
        }
    }

    #[test]
    fn a_header_longer_than_the_limit_is_not_looked_at() {
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_str(&"a".repeat(MAX_HEADER_VALUE)).unwrap());
        assert!(header_text(&headers, "X").is_some());
        headers.insert("x", HeaderValue::from_str(&"a".repeat(MAX_HEADER_VALUE + 1)).unwrap());
        assert!(header_text(&headers, "X").is_none());
    }
}
