//! What a check-up makes of a measurement: the clock, free space, a credential's remaining days.
//!
//! Never measures: that is the server's work.

use std::time::Duration;

use chrono::TimeDelta;
use protocol::time::Timestamp;

/// How good a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and somebody should look at it.
    Doubtful,
    /// It cannot work, or not for long.
    Bad,
}

/// Up to here a clock is right: a `Date` header has whole seconds, and the way there and back takes some.
pub const CLOCK_GOOD: Duration = Duration::from_secs(30);

/// Up to here a clock is lived with. Entra ID is known to allow five minutes to either side of an assertion's times, and
/// windows that end in the service's future are refused (AF20055).
pub const CLOCK_BORNE: Duration = Duration::from_secs(5 * 60);

/// Below this much free space the next commit may not fit: a batch of 64 MiB of records, its log, and a merge beside it.
pub const SPACE_BAD: u64 = 256 << 20;

/// Below this much free space a busy day may not fit.
pub const SPACE_DOUBTFUL: u64 = 2 << 30;

/// A credential that ends within this is to be replaced: a month, as it takes people that long.
pub const EXPIRY_DOUBTFUL: Duration = Duration::from_secs(30 * 86_400);

/// How far our clock is ahead of the server's (negative: behind).
pub fn judge_clock(ahead: TimeDelta) -> Verdict {
    let off = ahead.abs().to_std().unwrap_or(Duration::MAX);
    if off <= CLOCK_GOOD {
        Verdict::Good
    } else if off <= CLOCK_BORNE {
        Verdict::Doubtful
    } else {
        Verdict::Bad
    }
}

/// How far our clock was ahead of the server's, whose `Date` has whole seconds and was written somewhere between `sent`
/// and `received`.
pub fn clock_ahead(sent: Timestamp, received: Timestamp, date: Timestamp) -> TimeDelta {
    let half = TimeDelta::milliseconds(500);
    let middle = sent + (received - sent) / 2;
    middle - (date + half)
}

/// Free bytes where the ledger or the archive lies.
pub fn judge_space(free: u64) -> Verdict {
    if free >= SPACE_DOUBTFUL {
        Verdict::Good
    } else if free >= SPACE_BAD {
        Verdict::Doubtful
    } else {
        Verdict::Bad
    }
}

/// When a credential ends.
pub fn judge_expiry(now: Timestamp, not_after: Timestamp) -> Verdict {
    match (not_after - now).to_std() {
        Err(_) => Verdict::Bad,
        Ok(left) if left <= EXPIRY_DOUBTFUL => Verdict::Doubtful,
        Ok(_) => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        protocol::time::parse_timestamp(text).unwrap()
    }

    #[test]
    fn a_clock_is_judged_alike_to_both_sides() {
        for sign in [1, -1] {
            for (milliseconds, expected) in [
                (0, Verdict::Good),
                (30_000, Verdict::Good),
                (30_001, Verdict::Doubtful),
                (300_000, Verdict::Doubtful),
                (300_001, Verdict::Bad),
            ] {
                assert_eq!(
                    judge_clock(TimeDelta::milliseconds(sign * milliseconds)),
                    expected,
                    "{sign} {milliseconds}"
                );
            }
        }
    }

    #[test]
    fn a_clock_that_is_right_is_off_by_half_a_second_at_most() {
        let ahead =
            clock_ahead(at("2026-11-23T10:00:00.000Z"), at("2026-11-23T10:00:01.800Z"), at("2026-11-23T10:00:00Z"));
        assert_eq!(ahead, TimeDelta::milliseconds(400));
        let behind = clock_ahead(at("2026-11-23T09:00:00Z"), at("2026-11-23T09:00:00Z"), at("2026-11-23T10:00:00Z"));
        assert_eq!(behind, -TimeDelta::milliseconds(3_600_500));
    }

    #[test]
    fn space_is_judged_at_its_borders() {
        for (free, expected) in [
            (SPACE_DOUBTFUL, Verdict::Good),
            (SPACE_DOUBTFUL - 1, Verdict::Doubtful),
            (SPACE_BAD, Verdict::Doubtful),
            (SPACE_BAD - 1, Verdict::Bad),
        ] {
            assert_eq!(judge_space(free), expected, "{free}");
        }
    }

    #[test]
    fn a_credential_is_doubtful_from_thirty_days_on_and_bad_once_it_has_ended() {
        let now = at("2026-11-23T10:00:00Z");
        for (not_after, expected) in [
            ("2026-12-23T10:00:01Z", Verdict::Good),
            ("2026-12-23T10:00:00Z", Verdict::Doubtful),
            ("2026-11-23T10:00:00Z", Verdict::Doubtful),
            ("2026-11-23T09:59:59Z", Verdict::Bad),
        ] {
            assert_eq!(judge_expiry(now, at(not_after)), expected, "{not_after}");
        }
    }
}
