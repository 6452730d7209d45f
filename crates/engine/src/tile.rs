//! The grid that time is cut into, which tiles exist, and when each is listed (again).

use std::time::Duration;

use chrono::TimeDelta;
use protocol::time::Timestamp;

/// Content can be had for this long after it was created (activity-api.md §2.4).
pub const CONTENT_LIFETIME: TimeDelta = TimeDelta::days(7);
/// How far back a listing may ask.
pub const LISTING_REACH: TimeDelta = TimeDelta::minutes(167 * 60 + 55);

/// Fixed spans of UTC time, all of one length, counted from midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    seconds: i64,
}

impl Grid {
    /// One hour.
    pub const HOUR: Grid = Grid { seconds: 3600 };

    /// The last border at or before `time`.
    pub fn floor(self, time: Timestamp) -> Timestamp {
        let seconds = time.timestamp();
        Timestamp::from_timestamp(seconds - seconds.rem_euclid(self.seconds), 0).unwrap_or(time)
    }

    /// The length of a tile.
    pub fn span(self) -> Duration {
        Duration::from_secs(self.seconds.unsigned_abs())
    }
}
