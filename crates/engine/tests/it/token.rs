//! When tokens are renewed and asked for again.

use std::time::Duration;

use engine::model::Jitter;
use engine::token::{Turns, first_turn, jitter, pace, plan, retry, retry_identity, retry_refused, retry_unanswered};
use proptest::prelude::*;
use protocol::entra::{AppStep, EntraDisposition};
use protocol::error::{AdminStep, BackOffCause};

use crate::STILL;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_token_is_renewed_five_minutes_before_it_expires_or_when_the_server_advises() {
    let hour = plan(secs(3600), None, STILL);
    assert_eq!((hour.renew_after, hour.use_for), (secs(3300), secs(3570)));
    assert_eq!(plan(secs(86_400), Some(secs(43_200)), STILL).renew_after, secs(43_200));
    assert_eq!(plan(secs(3600), Some(secs(9000)), STILL).renew_after, secs(3300), "not later than five minutes before");
    assert_eq!(plan(secs(3600), Some(Duration::ZERO), STILL).renew_after, Duration::ZERO);
    let short = plan(secs(60), None, STILL);
    assert_eq!((short.renew_after, short.use_for), (secs(30), secs(45)));
}

#[test]
fn failures_that_pass_are_repeated_soon_and_those_of_people_slowly() {
    let fault = EntraDisposition::BackOff { cause: BackOffCause::ServiceFault };
    let waits = |disposition| [1, 2, 3, 30].map(|attempts| retry(disposition, attempts, STILL).as_secs());
    assert_eq!(waits(fault), [2, 4, 8, 300]);
    assert_eq!(waits(EntraDisposition::NeedsTenantAdmin(AdminStep::GiveConsent)), [30, 60, 120, 3600]);
    assert_eq!(waits(EntraDisposition::StopApp(AppStep::RenewSecret)), [60, 120, 240, 900]);
    assert_eq!(waits(EntraDisposition::Bug), [60, 120, 240, 900]);
    assert_eq!([1, 2, 30].map(|attempts| retry_unanswered(attempts, STILL).as_secs()), [2, 4, 300]);
    assert_eq!([0, 1, 2, 3, 30].map(|refusals| retry_refused(refusals, STILL).as_secs()), [0, 0, 30, 60, 3600]);
}

#[test]
fn a_wait_that_was_told_is_never_cut_short() {
    for seed in 0..200 {
        let told = EntraDisposition::RetryAfter { wait: secs(60), cause: BackOffCause::Throttled };
        let wait = retry(told, 1, Jitter { seed, percent: 100 });
        assert!(wait >= secs(60) && wait <= secs(120), "{wait:?}");
    }
}

proptest! {
    #[test]
    fn a_token_is_never_used_when_it_has_expired_and_renewed_before_that(
        lifetime in 0_u64..200_000,
        refresh in prop::option::of(0_u64..200_000),
        seed in any::<u64>(),
        percent in 0_u32..=100,
    ) {
        let lifetime = Duration::from_millis(lifetime * 1000 + seed % 1000);
        let made = plan(lifetime, refresh.map(secs), Jitter { seed, percent });
        prop_assert!(made.use_for <= lifetime);
        prop_assert!(made.use_for < lifetime || lifetime.is_zero());
        prop_assert!(made.renew_after <= made.use_for);
        prop_assert!(refresh.is_none_or(|refresh| made.renew_after <= secs(refresh)));
        if percent <= 20 && refresh.is_none() {
            prop_assert!(made.renew_after >= lifetime.mul_f64(0.3), "no needless requests");
        }
    }
}

#[test]
fn a_fleet_is_paced_from_its_limit_on_and_never_denser_than_its_pace() {
    let small = pace(256);
    let mut turns = Turns::default();
    assert!((0..10_000).all(|_| turns.take(Duration::ZERO, small).is_zero()));
    for (tenants, spacing) in [(257, 300), (10_000, 300), (20_000, 150)] {
        let pace = pace(tenants);
        assert_eq!(pace.spacing, Duration::from_millis(spacing), "{tenants}");
        // All at once: the burst at once, and the rest one after another.
        let mut turns = Turns::default();
        for number in 0..500 {
            let wait = turns.take(secs(100), pace);
            assert_eq!(wait, first_turn(number, pace), "{tenants} {number}");
            assert_eq!(wait, pace.spacing * u32::try_from(number).unwrap().saturating_sub(pace.burst));
        }
        // Who comes later finds the turns that were not taken, and no more of them than the burst.
        let later = secs(100_000);
        assert!((0..=pace.burst).all(|_| turns.take(later, pace).is_zero()));
        assert_eq!(turns.wait(later, pace), pace.spacing);
    }
}

#[test]
fn spreads_differ_by_tenant_and_by_time_and_are_the_same_in_every_run() {
    let tenant =
        |number: u64| -> protocol::ids::TenantId { format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap() };
    assert_eq!(jitter(tenant(1), 1), jitter(tenant(1), 1));
    let seeds: std::collections::BTreeSet<u64> =
        (0..100).flat_map(|number| (0..100).map(move |times| jitter(tenant(number), times).seed)).collect();
    assert_eq!(seeds.len(), 10_000);
}

#[test]
fn an_identitys_endpoint_is_asked_five_times_within_half_a_minute() {
    let waits: Vec<_> = (1..7).map_while(retry_identity).map(|wait| wait.as_secs()).collect();
    assert_eq!(waits, [2, 4, 8, 16]);
}
