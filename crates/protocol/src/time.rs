//! The time formats of the feed: what it is asked with and what it answers with.
//!
//! Never reads a clock.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

/// UTC, the only zone this program knows.
pub type Timestamp = DateTime<Utc>;

/// `YYYY-MM-DDTHH:MM:SS` without zone or fraction, as `startTime` and `endTime` want it (activity-api.md §2.4).
/// A fraction is cut off.
pub fn format_query_time(time: Timestamp) -> String {
    time.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Reads the times Microsoft writes: with or without `Z`, offset, fraction; `T` or a blank between date and time; a bare
/// date; and `MM/dd/yyyy HH:mm:ss` (audit-schema.md §10). What has no zone is UTC. `None` for anything else.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let unzoned = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    for format in
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p"]
    {
        if let Ok(time) = NaiveDateTime::parse_from_str(unzoned, format) {
            return Some(time.and_utc());
        }
    }
    let date = NaiveDate::parse_from_str(unzoned, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_times_have_no_zone_and_no_fraction() {
        let time = parse_timestamp("2026-03-04T05:06:07.891Z").unwrap();
        assert_eq!(format_query_time(time), "2026-03-04T05:06:07");
    }

    #[test]
    fn every_form_of_the_schema_is_read_as_utc() {
        let expected = parse_timestamp("2021-05-06T07:08:09Z").unwrap();
        for text in [
            "2021-05-06T07:08:09",
            "2021-05-06 07:08:09",
            "2021-05-06T07:08:09.000",
            "2021-05-06T09:08:09+02:00",
            " 2021-05-06T07:08:09Z ",
            "05/06/2021 07:08:09",
            "05/06/2021 07:08:09 AM",
        ] {
            assert_eq!(parse_timestamp(text), Some(expected), "{text}");
        }
        for text in ["", "yesterday", "2021-13-01T00:00:00", "9999999999999", "null"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
