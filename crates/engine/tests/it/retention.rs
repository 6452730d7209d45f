//! A date goes when its last second is past the retention, and not a second before.

use std::time::Duration;

use engine::retention::{REPEATS_COME, RETENTION_MIN, expiry};

use crate::at;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_date_goes_whole_at_the_end_of_its_last_second() {
    let before = |now: &str| expiry(at(now), 30 * DAY).unwrap().before.to_string();
    assert_eq!(before("2026-03-31T23:59:59Z"), "2026-03-01", "the first of March stays");
    assert_eq!(before("2026-04-01T00:00:00Z"), "2026-03-02", "it goes at midnight, thirty days after its end");
}

#[test]
fn what_was_stored_lately_stays_whatever_its_date() {
    let now = at("2026-03-31T12:00:00Z");
    for retention in [RETENTION_MIN, 30 * DAY, 400 * DAY] {
        assert_eq!(expiry(now, retention).unwrap().stored_before, now - REPEATS_COME);
    }
    assert_eq!(REPEATS_COME.to_std().unwrap(), RETENTION_MIN);
}

#[test]
fn a_retention_longer_than_time_lets_nothing_go() {
    assert_eq!(expiry(at("2026-03-31T12:00:00Z"), Duration::MAX), None);
    assert_eq!(expiry(at("2026-03-31T12:00:00Z"), Duration::from_secs(1 << 50)), None);
}
