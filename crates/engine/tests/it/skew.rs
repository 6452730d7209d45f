//! When two clocks differ.

use std::time::Duration;

use chrono::TimeDelta;
use engine::skew::{NOTICEABLE, allowance, offset};

use crate::noon;

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

#[test]
fn clocks_that_agree_differ_by_less_than_the_answer_took() {
    for took in [0, 100, 1900, 20_000] {
        let took = Duration::from_millis(took);
        let date = noon() - TimeDelta::from_std(took / 2).unwrap();
        assert_eq!(offset(noon(), took, date), Some(TimeDelta::milliseconds(500)));
    }
    assert_eq!(offset(noon(), Duration::from_millis(20_001), noon()), None, "such an answer says nothing");
}

#[test]
fn a_difference_is_allowed_for_from_its_limit_on_in_either_direction() {
    for ahead in [1, -1] {
        let found = offset(noon(), Duration::ZERO, noon() + seconds(300) * ahead).unwrap();
        assert_eq!(allowance(found), found);
        assert_eq!(allowance(NOTICEABLE * ahead), NOTICEABLE * ahead);
        assert_eq!(allowance((NOTICEABLE - TimeDelta::milliseconds(1)) * ahead), TimeDelta::zero());
    }
}
