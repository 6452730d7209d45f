//! When the operator is told that a credential expires.

use chrono::TimeDelta;
use engine::credential::expiry_warning;

#[test]
fn each_threshold_is_told_once_and_at_its_very_moment() {
    let mut told = None;
    let mut warnings = Vec::new();
    for hours in (-48..24 * 60).rev() {
        if let Some(days) = expiry_warning(TimeDelta::hours(hours), told) {
            warnings.push((hours, days));
            told = Some(days);
        }
    }
    assert_eq!(warnings, [(30 * 24, 30), (14 * 24, 14), (7 * 24, 7), (24, 1)]);
}

#[test]
fn who_begins_late_is_told_of_the_nearest_only() {
    assert_eq!(expiry_warning(TimeDelta::days(31), None), None);
    assert_eq!(expiry_warning(TimeDelta::days(10), None), Some(14));
    assert_eq!(expiry_warning(TimeDelta::days(10), Some(14)), None);
    assert_eq!(expiry_warning(TimeDelta::days(-5), None), Some(1));
}
