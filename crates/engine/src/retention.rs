//! What is past its retention: which dates' records an operator wants no more, and when it is safe to let them go.
//!
//! Never lets go of a record that could still be delivered once more: it would come in again as a new one.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use protocol::time::Timestamp;

/// How long after a record was stored a repeat of it may still be delivered. Content can be had for seven days
/// and the oldest event ever seen in a fresh one was five days old (activity-api.md §6): twelve days, and two to spare.
/// Shorter: what was removed comes in again. Longer: nobody may want to keep less.
pub const REPEATS_COME: TimeDelta = TimeDelta::days(14);

/// The shortest retention there is: [`REPEATS_COME`].
pub const RETENTION_MIN: Duration = Duration::from_secs(14 * 86_400);

/// What may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Segments of dates before this one: every record in them is older than the retention.
    pub before: NaiveDate,
    /// Of those, segments whose last record was stored before this moment.
    pub stored_before: Timestamp,
}

/// What is past `retention` at `now`; `None` when that is before all time.
pub fn expiry(now: Timestamp, retention: Duration) -> Option<Expiry> {
    let retention = TimeDelta::from_std(retention).ok()?;
    // A date goes as a whole, once its last second is older than the retention.
    let before = now.checked_sub_signed(retention)?.date_naive();
    Some(Expiry { before, stored_before: now.checked_sub_signed(REPEATS_COME)? })
}
