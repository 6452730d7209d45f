//! How fast a tenant is asked.

use std::time::Duration;

use engine::model::Jitter;
use engine::pacing::{Bucket, Turns};
use proptest::prelude::*;
use protocol::ids::ContentType;

use crate::STILL;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Takes as many as there are at once.
fn drain(bucket: &mut Bucket, now: Duration) -> u32 {
    let mut taken = 0;
    while bucket.take(now).is_none() {
        taken += 1;
        assert!(taken < 100_000, "the bucket has no bottom");
    }
    taken
}

#[test]
fn a_burst_goes_out_at_once_and_the_rest_evenly() {
    let mut bucket = Bucket::new(1500);
    assert_eq!(bucket.burst(), 25);
    assert_eq!(drain(&mut bucket, secs(10)), 25);
    assert_eq!(bucket.take(secs(10)), Some(Duration::from_millis(40)));
    assert_eq!(drain(&mut bucket, secs(10) + Duration::from_millis(39)), 0);
    assert_eq!(drain(&mut bucket, secs(10) + Duration::from_millis(40)), 1);
    assert_eq!(drain(&mut bucket, secs(20)), 25, "a quiet spell is not saved up beyond a burst");
}

#[test]
fn the_smallest_budget_still_moves() {
    for rate in [0, 1] {
        let mut bucket = Bucket::new(rate);
        assert_eq!(drain(&mut bucket, secs(0)), 1);
        assert_eq!(bucket.take(secs(0)), Some(secs(60)));
        assert_eq!(bucket.take(secs(60)), None);
    }
}

#[test]
fn throttling_shuts_the_bucket_and_halves_the_rate_once_for_all_answers_under_way() {
    let mut bucket = Bucket::new(1200);
    for _ in 0..8 {
        bucket.throttled(secs(100), Some(secs(20)), STILL);
    }
    assert_eq!(bucket.rate(), 600);
    assert_eq!(bucket.take(secs(100)), Some(secs(21)), "as told, and a little more");
    assert_eq!(bucket.take(secs(120)), Some(secs(1)));
    assert_eq!(bucket.take(secs(121)), None);
    bucket.throttled(secs(122), None, STILL);
    assert_eq!(bucket.rate(), 300);
    assert_eq!(bucket.take(secs(122)), Some(secs(60)), "the second pause in a row is twice the first");
}

#[test]
fn the_rate_comes_back_slowly_and_never_goes_below_the_slowest() {
    let mut bucket = Bucket::new(1200);
    let mut now = secs(0);
    for _ in 0..30 {
        bucket.throttled(now, None, STILL);
        now += bucket.take(now).unwrap();
    }
    assert_eq!(bucket.rate(), 6);
    assert_eq!(bucket.take(now), None);
    now += secs(59);
    bucket.take(now);
    assert_eq!(bucket.rate(), 6);
    now += secs(1);
    bucket.take(now);
    assert_eq!(bucket.rate(), 66);
    now += secs(19 * 60);
    bucket.take(now);
    assert_eq!(bucket.rate(), 1200);
}

#[test]
fn pauses_grow_to_ten_minutes_at_most() {
    let mut bucket = Bucket::new(60);
    let mut now = secs(0);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        bucket.throttled(now, None, STILL);
        let pause = bucket.take(now).unwrap();
        pauses.push(pause.as_secs());
        now += pause;
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
}

#[test]
fn a_pause_shorter_than_what_was_taken_before_it_lengthens_nothing_and_hides_nothing() {
    let mut bucket = Bucket::new(1);
    assert_eq!(bucket.take(secs(0)), None);
    bucket.throttled(secs(1), None, STILL);
    assert_eq!(bucket.take(secs(1)), Some(secs(59)), "the pause is over after 30 s, the budget's minute is not");
    assert_eq!(bucket.take(secs(31)), Some(secs(29)));
    assert_eq!(bucket.take(secs(60)), None);
}

#[test]
fn turns_go_to_who_has_waited_longest() {
    let [aad, exchange, sharepoint, ..] = ContentType::KNOWN;
    let mut turns = Turns::default();
    let all = [aad.clone(), exchange.clone(), sharepoint.clone()];
    let order: Vec<ContentType> = (0..6).map(|_| turns.next(&all).unwrap().clone()).collect();
    assert_eq!(order, [all.clone(), all.clone()].concat());
    // One that had nothing to do comes first when it has.
    assert_eq!(turns.next([&aad, &exchange]), Some(&aad));
    assert_eq!(turns.next([&aad, &exchange]), Some(&exchange));
    assert_eq!(turns.next(&all), Some(&sharepoint));
    assert_eq!(turns.next([]), None);
}

proptest! {
    #[test]
    fn no_minute_sees_more_than_the_budget_and_one_burst(
        rate in 1_u32..4000,
        asks in prop::collection::vec((0_u64..2000, any::<bool>(), 0_u64..90), 1..600),
    ) {
        let mut bucket = Bucket::new(rate);
        let mut now = Duration::ZERO;
        let mut sent: Vec<Duration> = Vec::new();
        let mut shut = Duration::ZERO;
        for (number, (pass, throttled, told)) in asks.into_iter().enumerate() {
            now += Duration::from_millis(pass);
            if throttled && number % 7 == 0 {
                bucket.throttled(now, (told > 0).then_some(secs(told)), Jitter { seed: told, percent: 20 });
                shut = shut.max(now + secs(told));
            }
            match bucket.take(now) {
                None => {
                    prop_assert!(now >= shut, "sent during a pause");
                    sent.push(now);
                }
                Some(wait) => {
                    prop_assert!(!wait.is_zero());
                    // The wait is the truth: a moment earlier there is nothing, then there is one.
                    let mut copy = bucket.clone();
                    prop_assert!(copy.take(now + wait - Duration::from_nanos(1)).is_some());
                    prop_assert_eq!(copy.take(now + wait), None);
                }
            }
        }
        for (first, time) in sent.iter().enumerate() {
            let within = sent[first..].iter().filter(|later| **later < *time + secs(60)).count();
            prop_assert!(within <= (rate + bucket.burst()) as usize, "{within} in a minute at {rate}");
        }
    }

    #[test]
    fn jitter_stays_within_its_share_and_repeats(seed in any::<u64>(), percent in 0_u32..200, millis in 0_u64..10_000_000) {
        let jitter = Jitter { seed, percent };
        let span = Duration::from_millis(millis);
        let spread = jitter.spread(span);
        let share = span.mul_f64(f64::from(percent.min(100)) / 100.0) + Duration::from_nanos(1);
        prop_assert!(spread + share >= span && spread <= span + share);
        prop_assert_eq!(spread, jitter.spread(span));
    }
}

#[test]
fn jitter_differs_from_seed_to_seed_on_both_sides() {
    let spans: Vec<Duration> = (0..100).map(|seed| Jitter { seed, percent: 20 }.spread(secs(100))).collect();
    assert!(spans.iter().any(|span| *span < secs(85)) && spans.iter().any(|span| *span > secs(115)));
}

#[test]
fn a_service_that_throttles_now_and_then_whatever_we_do_is_paused_for_and_not_slowed_down() {
    let mut bucket = Bucket::new(1500);
    let mut now = Duration::ZERO;
    for throttling in 0..30 {
        // The border: 10 served requests make the next throttling a new matter.
        for _ in 0..10 {
            while let Some(wait) = bucket.take(now) {
                now += wait;
            }
        }
        bucket.throttled(now, Some(secs(1)), STILL);
        assert_eq!(bucket.rate(), 1500, "after throttling {throttling}");
        now += secs(2);
    }
    for _ in 0..9 {
        while let Some(wait) = bucket.take(now) {
            now += wait;
        }
    }
    bucket.throttled(now, Some(secs(1)), STILL);
    assert_eq!(bucket.rate(), 750);
}
