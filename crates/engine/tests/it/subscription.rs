//! What is started, and what is left alone.

use engine::model::Subscription;
use engine::subscription::{SubscriptionAction, after_refusal, decide, list_due, noted_of_failed};
use protocol::ids::ContentType;
use protocol::time::Timestamp;

use crate::{minutes, noon, seconds};

fn known(enabled: Option<bool>, listed: Option<Timestamp>, started: Option<Timestamp>) -> Subscription {
    Subscription {
        content_type: ContentType::General,
        enabled,
        listed_at: listed,
        start_requested_at: started,
        problem: None,
    }
}

fn action(now: Timestamp, known: Option<Subscription>, start_not_before: Option<Timestamp>) -> SubscriptionAction {
    let known: Vec<Subscription> = known.into_iter().collect();
    decide(now, &[ContentType::General], &known, start_not_before)[0].1
}

#[test]
fn the_subscriptions_are_listed_before_anything_is_started() {
    let wanted = [ContentType::General];
    assert!(list_due(noon(), &wanted, &[]));
    assert!(list_due(noon(), &wanted, &[known(None, None, Some(noon()))]));
    assert_eq!(action(noon(), Some(known(None, None, None)), None), SubscriptionAction::Wait { until: noon() });
    assert!(!list_due(noon(), &[], &[]), "nothing wanted, nothing to ask");
}

#[test]
fn listings_are_repeated_hourly_while_all_is_well_and_soon_while_it_is_not() {
    let wanted = [ContentType::General];
    let due = |subscription, after| list_due(noon() + after, &wanted, &[subscription]);
    let good = known(Some(true), Some(noon()), Some(noon() - minutes(1)));
    assert!(!due(good.clone(), minutes(60) - seconds(1)));
    assert!(due(good, minutes(60)));
    for odd in [
        known(Some(false), Some(noon()), None),
        known(None, Some(noon()), None),
        known(Some(true), Some(noon()), Some(noon())),
    ] {
        assert!(!due(odd.clone(), minutes(5) - seconds(1)), "{odd:?}");
        assert!(due(odd, minutes(5)));
    }
    assert!(due(known(Some(true), Some(noon() + minutes(90)), None), minutes(0)), "listed by a clock that was ahead");
}

#[test]
fn only_what_is_missing_is_started() {
    assert_eq!(action(noon(), None, None), SubscriptionAction::Start);
    assert_eq!(action(noon(), Some(known(Some(false), Some(noon()), None)), None), SubscriptionAction::Start);
    assert_eq!(action(noon(), Some(known(Some(true), Some(noon()), None)), None), SubscriptionAction::Nothing);
    assert_eq!(action(noon(), Some(known(None, Some(noon()), None)), None), SubscriptionAction::Nothing);
    let wanted = ContentType::KNOWN;
    let actions = decide(noon(), &wanted, &[known(Some(true), Some(noon()), None)], None);
    let started: Vec<&ContentType> =
        actions.iter().filter(|(_, action)| *action == SubscriptionAction::Start).map(|(wanted, _)| wanted).collect();
    assert_eq!(started.len(), 4);
    assert!(!started.contains(&&ContentType::General));
}

#[test]
fn a_start_waits_fifteen_minutes_after_the_last_and_as_long_as_was_told() {
    let started = noon() - minutes(15);
    let off = |started| Some(known(Some(false), Some(noon()), Some(started)));
    assert_eq!(action(noon(), off(started), None), SubscriptionAction::Start);
    assert_eq!(
        action(noon(), off(started + seconds(1)), None),
        SubscriptionAction::Wait { until: noon() + seconds(1) }
    );
    let told = noon() + seconds(526);
    assert_eq!(action(noon(), off(started), Some(told)), SubscriptionAction::Wait { until: told });
    assert_eq!(action(told, off(started), Some(told)), SubscriptionAction::Start);
    assert_eq!(action(noon(), None, Some(told)), SubscriptionAction::Wait { until: told });
    assert_eq!(action(noon(), off(noon() + minutes(999)), None), SubscriptionAction::Start, "a clock that was ahead");
}

#[test]
fn a_start_that_failed_waits_as_long_as_is_said_and_not_a_quarter_of_an_hour() {
    for wait in [seconds(0), seconds(6), minutes(14)] {
        let off = Some(known(Some(false), Some(noon()), Some(noted_of_failed(noon(), wait.to_std().unwrap()))));
        assert_eq!(action(noon() + wait, off.clone(), None), SubscriptionAction::Start, "{wait}");
        if wait > seconds(0) {
            let before = noon() + wait - seconds(1);
            assert_eq!(action(before, off, None), SubscriptionAction::Wait { until: noon() + wait }, "{wait}");
        }
    }
    // No longer than after one that succeeded: a later time would be taken for that of a clock that was ahead.
    for wait in [minutes(15), minutes(16), minutes(600)] {
        assert_eq!(noted_of_failed(noon(), wait.to_std().unwrap()), noon());
    }
}

#[test]
fn a_phantom_is_given_fifteen_minutes_before_it_is_started_again() {
    let phantom = known(Some(true), Some(noon()), Some(noon() - minutes(5)));
    assert_eq!(after_refusal(noon(), &phantom, None), SubscriptionAction::Wait { until: noon() + minutes(10) });
    assert_eq!(after_refusal(noon() + minutes(10), &phantom, None), SubscriptionAction::Start);
    // Never started by us: fifteen minutes from the listing that calls it enabled.
    let foreign = known(Some(true), Some(noon()), None);
    assert_eq!(after_refusal(noon(), &foreign, None), SubscriptionAction::Wait { until: noon() + minutes(15) });
    assert_eq!(after_refusal(noon() + minutes(15), &foreign, None), SubscriptionAction::Start);
    // It really is off.
    let off = known(Some(false), Some(noon()), None);
    assert_eq!(after_refusal(noon(), &off, None), SubscriptionAction::Start);
    let unlisted = known(None, None, None);
    assert_eq!(after_refusal(noon(), &unlisted, None), SubscriptionAction::Wait { until: noon() });
}
