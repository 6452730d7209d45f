//! Reads what a request asks for: its path, its query, and the times in it.
//!
//! Never forgives what the reference forbids, except where the service was seen to: a trailing `Z`, any letter case.

use chrono::{NaiveDate, NaiveDateTime};
use http::Uri;
use protocol::ids::ContentType;

use super::reply::Refusal;
use crate::faults::Operation;
use crate::world::timeline::Millis;

/// The query, decoded. Names are compared without regard to letter case, as ASP.NET does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a name; empty ones count as absent.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// `contentType`: one of the five, in any letter case.
    pub(crate) fn content_type(&self) -> Result<(ContentType, &str), Refusal> {
        let text = self.find("contentType").ok_or_else(|| Refusal::missing_parameter("contentType"))?;
        match text.parse() {
            Ok(ContentType::Other(_)) | Err(_) => {
                Err(Refusal::new(400, "AF20020", "The specified content type is not valid."))
            }
            Ok(kind) => Ok((kind, text)),
        }
    }

    /// Without the publisher, in a fixed order: what a listing asks for.
    pub(crate) fn subject(&self) -> String {
        let mut parts: Vec<String> = self
            .0
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("PublisherIdentifier"))
            .map(|(name, value)| format!("{}={value}", name.to_ascii_lowercase()))
            .collect();
        parts.sort_unstable();
        parts.join("&")
    }
}

/// A path under an Activity API root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The tenant as the URL has it.
    pub(crate) tenant: String,
    pub(crate) operation: Operation,
    /// The content id of a retrieval, decoded once.
    pub(crate) content_id: String,
}

impl Target {
    /// `None` when the path is not under `/api/v1.0/{tenant}/activity/feed/` or its alias `/api/v1/`.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let mut parts = path.splitn(7, '/');
        let (empty, api, version) = (parts.next()?, parts.next()?, parts.next()?);
        let (tenant, activity, feed, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = empty.is_empty()
            && api.eq_ignore_ascii_case("api")
            && (version.eq_ignore_ascii_case("v1.0") || version.eq_ignore_ascii_case("v1"))
            && activity.eq_ignore_ascii_case("activity")
            && feed.eq_ignore_ascii_case("feed");
        if !known {
            return None;
        }
        let (operation, content_id) = match rest.to_ascii_lowercase().as_str() {
            "subscriptions/start" => (Operation::Start, ""),
            "subscriptions/stop" => (Operation::Stop, ""),
            "subscriptions/list" => (Operation::List, ""),
            "subscriptions/content" => (Operation::Content, ""),
            "subscriptions/notifications" => (Operation::Notifications, ""),
            lower if lower.starts_with("resources/") => (Operation::Resources, rest.get(10..).unwrap_or_default()),
            lower if lower.starts_with("audit/") && lower.len() > 6 => {
                (Operation::Retrieve, rest.get(6..).unwrap_or_default())
            }
            _ => (Operation::Unknown, ""),
        };
        Some(Self { tenant: tenant.to_owned(), operation, content_id: percent_decode(content_id) })
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The formats of §2.4, with the trailing `Z` that is accepted in practice; `None` for anything else.
pub(crate) fn parse_time(text: &str) -> Option<Millis> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let digits_and_marks = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b"-:T".contains(&byte));
    if !digits_and_marks(text) {
        return None;
    }
    let time = match text.len() {
        10 => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?,
        16 => NaiveDateTime::parse_from_str(&format!("{text}:00"), "%Y-%m-%dT%H:%M:%S").ok()?,
        19 => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").ok()?,
        _ => return None,
    };
    Some(time.and_utc().timestamp_millis())
}

/// `from..until` of a listing.
pub(crate) fn window(query: &Query, now: Millis, reach: Millis) -> Result<(Millis, Millis), Refusal> {
    const DAY: Millis = 86_400_000;
    let bad_pair = || Refusal::new(400, "AF20030", AF20030);
    let read = |name: &str| match query.find(name) {
        None => Ok(None),
        Some(text) => parse_time(text).map(Some).ok_or_else(|| Refusal::wrong_type(name, "datetime")),
    };
    let (from, until) = match (read("startTime")?, read("endTime")?) {
        (None, None) => return Ok((now - DAY, now)),
        (Some(from), Some(until)) => (from, until),
        _ => return Err(bad_pair()),
    };
    if until - from > DAY {
        return Err(bad_pair());
    }
    if from >= until || from < now - reach {
        return Err(Refusal::new(400, "AF20055", AF20055));
    }
    Ok((from, until))
}

const AF20030: &str = "Start time and end time must both be specified (or both omitted) and must be less than or equal \
                       to 24 hours apart, with the start time no more than 7 days in the past.";
const AF20055: &str = "Start time and end time must both be specified (or both omitted) and must be less than or equal \
                       to 24 hours apart, with the start time prior to end time and start time no more than 7 days in the past.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_three_documented_forms_and_perhaps_a_z() {
        let midnight = 1_767_225_600_000;
        assert_eq!(parse_time("2026-01-01"), Some(midnight));
        assert_eq!(parse_time("2026-01-01T00:01"), Some(midnight + 60_000));
        assert_eq!(parse_time("2026-01-01T00:00:01"), Some(midnight + 1000));
        assert_eq!(parse_time("2026-01-01T00:00:01Z"), Some(midnight + 1000));
        for text in [
            "2026-01-01T00:00:01.5",
            "2026-01-01T00:00:01+01:00",
            "2026-13-01",
            "01/01/2026",
            "now",
            "2026-01-01 00:00",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_window_is_judged_on_both_sides_of_every_limit() {
        let now = parse_time("2026-01-08T00:00:00").unwrap();
        let reach = 7 * 86_400_000;
        let code = |from: &str, until: &str| {
            let uri: Uri = format!("/?startTime={from}&endTime={until}").parse().unwrap();
            window(&Query::of(&uri), now, reach).map_err(|refusal| match refusal.body {
                super::super::reply::RefusalBody::Envelope { code, .. } => code,
                other => panic!("{other:?}"),
            })
        };
        assert!(code("2026-01-01", "2026-01-02").is_ok(), "exactly seven days back, exactly a day long");
        assert_eq!(code("2025-12-31T23:59:59", "2026-01-01").unwrap_err(), "AF20055");
        assert_eq!(code("2026-01-01", "2026-01-02T00:00:01").unwrap_err(), "AF20030");
        assert!(code("2026-01-07T23:59:59", "2026-01-08").is_ok());
        assert_eq!(code("2026-01-08", "2026-01-08").unwrap_err(), "AF20055");
        assert!(code("2026-01-08", "2026-01-09").is_ok(), "the end may lie in the future");
        assert_eq!(code("2026-01-07", "").unwrap_err(), "AF20030");
        assert_eq!(code("2026-01-07", "tomorrow").unwrap_err(), "AF20002");
        assert_eq!(code("", ""), Ok((now - 86_400_000, now)));
    }

    #[test]
    fn paths_are_read_in_any_letter_case_and_under_both_versions() {
        let target = Target::of("/API/v1/T/activity/feed/Subscriptions/Content").unwrap();
        assert_eq!((target.operation, target.tenant.as_str()), (Operation::Content, "T"));
        let target = Target::of("/api/v1.0/t/activity/feed/audit/20%24a$b%2fc").unwrap();
        assert_eq!((target.operation, target.content_id.as_str()), (Operation::Retrieve, "20$a$b/c"));
        assert_eq!(Target::of("/api/v1.0/t/activity/feed/audit/").unwrap().operation, Operation::Unknown);
        for path in
            ["/api/v2.0/t/activity/feed/subscriptions/list", "/t/oauth2/token", "/api/v1.0/t/ServiceComms/Services", ""]
        {
            assert_eq!(Target::of(path), None, "{path}");
        }
    }
}
