//! Times a span away from others.
//!
//! Never overflows: what would lie beyond all times is the last of them, or the first.

use std::time::Duration;

use chrono::TimeDelta;
use protocol::time::Timestamp;

/// The time `by` after `time`.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_add_signed(by)).unwrap_or(Timestamp::MAX_UTC)
}

/// The time `by` before `time`.
pub fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_sub_signed(by)).unwrap_or(Timestamp::MIN_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_added_and_taken_away_and_nothing_lies_beyond_all_times() {
        let noon = protocol::time::parse_timestamp("2026-03-04T12:00:00Z").unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(later(noon, second), noon + TimeDelta::seconds(1));
        assert_eq!(earlier(noon, second), noon - TimeDelta::seconds(1));
        assert_eq!(later(Timestamp::MAX_UTC, second), Timestamp::MAX_UTC);
        assert_eq!(earlier(Timestamp::MIN_UTC, second), Timestamp::MIN_UTC);
        assert_eq!(
            (later(noon, Duration::MAX), earlier(noon, Duration::MAX)),
            (Timestamp::MAX_UTC, Timestamp::MIN_UTC)
        );
    }
}
