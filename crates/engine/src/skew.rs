//! How far the server's clock is from ours, by the `Date` of its answers.
//!
//! Never a reason to distrust a clock by a little: `Date` counts whole seconds, and answers take time to arrive.

use std::time::Duration;

use chrono::TimeDelta;
use protocol::time::Timestamp;

/// The least difference that is told and allowed for. Smaller: slow answers look like wrong clocks. Larger: assertions, which
/// begin a minute in the past, would be refused before anybody is told.
pub const NOTICEABLE: TimeDelta = TimeDelta::seconds(30);

/// The longest an answer may take and still say something about clocks.
const TOOK_MAX: Duration = Duration::from_secs(20);

/// How far the server's clock is ahead of ours (negative: behind), by an answer with `date` that came at `now` after `took`.
/// `None` when it took too long to tell.
pub fn offset(now: Timestamp, took: Duration, date: Timestamp) -> Option<TimeDelta> {
    if took > TOOK_MAX {
        return None;
    }
    // The answer was made about half way, and its date has lost half a second on average.
    let half = TimeDelta::from_std(took / 2).ok()?;
    Some(date + TimeDelta::milliseconds(500) - (now - half))
}

/// What of an offset is to be allowed for: nothing while it may be chance.
pub fn allowance(offset: TimeDelta) -> TimeDelta {
    if offset.abs() < NOTICEABLE { TimeDelta::zero() } else { offset }
}
