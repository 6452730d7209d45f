//! A span of time that may be listed: half-open, whole seconds, at most 24 hours.
//!
//! Never reads a clock; whether a window is still within the feed's reach is asked with the time given. Source of the
//! rules: activity-api.md §2.4 (AF20030, AF20055).

use std::fmt;
use std::time::Duration;

use chrono::{TimeDelta, Timelike};

use crate::time::{Timestamp, format_query_time};

/// The longest window: 24 hours. Wider ones sometimes answer, but then partially.
pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// How far back a window may start: 167 h 55 min. The documented limit is seven days; five minutes are left for the
/// request itself and for clocks that differ (deviation D15).
pub const LISTING_REACH: Duration = Duration::from_secs(167 * 60 * 60 + 55 * 60);

/// A span of `contentCreated`: from `start` (inclusive) to `until` (exclusive), so that adjacent windows tile exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    start: Timestamp,
    until: Timestamp,
}

/// Why two times are no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The start is not before the end.
    #[error("a window must start before it ends, not at {start} until {until}")]
    Empty {
        /// The start.
        start: Timestamp,
        /// The end.
        until: Timestamp,
    },
    /// Longer than [`MAX_WINDOW`].
    #[error("a window may span 24 hours at most, not {start} until {until}")]
    TooLong {
        /// The start.
        start: Timestamp,
        /// The end.
        until: Timestamp,
    },
    /// Requests have seconds and no fraction: two windows within one second would ask the same.
    #[error("a window starts and ends on whole seconds, not at {time}")]
    Fraction {
        /// The time with a fraction.
        time: Timestamp,
    },
}

/// How much of a window may still be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All of it.
    Whole,
    /// Only this rest: the start has fallen out of reach. A rest may list *partial* blobs under other ids, whose records
    /// are known already (activity-api.md §6).
    Rest(Window),
    /// Nothing any more.
    Nothing,
}

impl Window {
    /// The window from `start` (inclusive) to `until` (exclusive).
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_WINDOW`], or not on whole seconds.
    pub fn new(start: Timestamp, until: Timestamp) -> Result<Self, WindowError> {
        for time in [start, until] {
            if time.nanosecond() != 0 {
                return Err(WindowError::Fraction { time });
            }
        }
        if start >= until {
            return Err(WindowError::Empty { start, until });
        }
        if (until - start).to_std().is_ok_and(|length| length > MAX_WINDOW) {
            return Err(WindowError::TooLong { start, until });
        }
        Ok(Self { start, until })
    }

    /// Where it starts; inclusive.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Where it ends; exclusive.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        (self.until - self.start).to_std().unwrap_or_default()
    }

    /// Whether content created at `time` belongs to it.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.until
    }

    /// How much of it may be listed at `now`.
    pub fn reach_at(&self, now: Timestamp) -> Reach {
        let reach = TimeDelta::from_std(LISTING_REACH).unwrap_or(TimeDelta::MAX);
        let Some(earliest) = now.checked_sub_signed(reach) else { return Reach::Whole };
        if self.start >= earliest {
            return Reach::Whole;
        }
        // Up to the next whole second: cutting down would ask for a start beyond the reach.
        let whole = earliest.with_nanosecond(0).unwrap_or(earliest);
        let earliest = if whole == earliest { whole } else { whole + TimeDelta::seconds(1) };
        match Self::new(earliest, self.until) {
            Ok(rest) => Reach::Rest(rest),
            Err(_) => Reach::Nothing,
        }
    }

    /// `startTime` as the API wants it.
    pub(crate) fn query_start(&self) -> String {
        format_query_time(self.start)
    }

    /// `endTime` as the API wants it.
    pub(crate) fn query_until(&self) -> String {
        format_query_time(self.until)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z until {}Z", self.query_start(), self.query_until())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_timestamp;

    fn at(text: &str) -> Timestamp {
        parse_timestamp(text).unwrap()
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let window = Window::new(at("2026-03-04T05:00:00Z"), at("2026-03-04T06:00:00Z")).unwrap();
        assert!(window.contains(at("2026-03-04T05:00:00Z")));
        assert!(window.contains(at("2026-03-04T05:59:59.999Z")));
        assert!(!window.contains(at("2026-03-04T06:00:00Z")));
        assert!(!window.contains(at("2026-03-04T04:59:59.999Z")));
        assert_eq!(window.length(), Duration::from_secs(3600));
        assert_eq!(window.to_string(), "2026-03-04T05:00:00Z until 2026-03-04T06:00:00Z");
    }

    #[test]
    fn both_sides_of_every_limit() {
        let start = at("2026-03-04T00:00:00Z");
        assert!(Window::new(start, start + TimeDelta::seconds(1)).is_ok());
        assert!(matches!(Window::new(start, start), Err(WindowError::Empty { .. })));
        assert!(matches!(Window::new(start, start - TimeDelta::seconds(1)), Err(WindowError::Empty { .. })));
        assert!(Window::new(start, start + TimeDelta::hours(24)).is_ok());
        let too_long = Window::new(start, start + TimeDelta::hours(24) + TimeDelta::seconds(1));
        assert!(matches!(too_long, Err(WindowError::TooLong { .. })));
        let fraction = Window::new(start, start + TimeDelta::milliseconds(1500));
        assert!(matches!(fraction, Err(WindowError::Fraction { .. })));
        assert!(matches!(
            Window::new(Timestamp::MIN_UTC, Timestamp::MAX_UTC),
            Err(WindowError::TooLong { .. } | WindowError::Fraction { .. })
        ));
    }

    #[test]
    fn a_start_that_has_fallen_out_of_reach_is_cut_to_a_whole_second_within_it() {
        let start = at("2026-03-01T00:00:00Z");
        let window = Window::new(start, start + TimeDelta::hours(1)).unwrap();
        let edge = start + TimeDelta::hours(167) + TimeDelta::minutes(55);
        assert_eq!(window.reach_at(edge), Reach::Whole);
        let rest = |seconds| {
            Reach::Rest(Window::new(start + TimeDelta::seconds(seconds), start + TimeDelta::hours(1)).unwrap())
        };
        assert_eq!(window.reach_at(edge + TimeDelta::milliseconds(1)), rest(1));
        assert_eq!(window.reach_at(edge + TimeDelta::seconds(1)), rest(1));
        assert_eq!(window.reach_at(edge + TimeDelta::seconds(3599)), rest(3599));
        assert_eq!(window.reach_at(edge + TimeDelta::seconds(3600)), Reach::Nothing);
    }
}
