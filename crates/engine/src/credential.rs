//! When an operator is told that a credential is about to expire.
//!
//! Never the same thing twice: whoever watches remembers what was told last.

use chrono::TimeDelta;

/// The days before its end at which a credential is warned of: time to make one and have it uploaded, and no way to
/// overlook the last of them.
pub const WARN_DAYS: [i64; 4] = [30, 14, 7, 1];

/// Which of [`WARN_DAYS`] is to be told now, when `left` is left and `told` was the last one told. `None`: nothing new.
///
/// Who begins to look when little is left is told once, of the nearest threshold.
pub fn expiry_warning(left: TimeDelta, told: Option<i64>) -> Option<i64> {
    let reached = WARN_DAYS.into_iter().filter(|days| left <= TimeDelta::days(*days)).min()?;
    (told.is_none_or(|told| reached < told)).then_some(reached)
}
