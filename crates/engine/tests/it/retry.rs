//! What follows from failures, and what it takes to give a content up.

use std::time::Duration;

use engine::model::LossKind;
use engine::problem::ProblemKind;
use engine::retry::{
    FetchAttempt, FetchStep, Hold, InARow, ONCE_ATTEMPTS, Patience, RequestStep, Trouble, after_fetch, after_request,
    at_once, ends_run,
};
use proptest::prelude::*;
use protocol::error::{AdminStep, BackOffCause, ConfigurationFault, Disposition, Loss, WebhookFault};

use crate::{STILL, hours, minutes, noon, seconds};

const FAULT: Trouble = Trouble::Answered(Disposition::BackOff { cause: BackOffCause::ServiceFault });
const MISSING: Trouble = Trouble::Answered(Disposition::Gone(Loss::Missing));
const EXPIRED: Trouble = Trouble::Answered(Disposition::Gone(Loss::Expired));

/// Every disposition there is; a new one makes `protocol`'s users, and this list, stop compiling or stop passing.
fn dispositions() -> Vec<Disposition> {
    vec![
        Disposition::RetryAfter { wait: Duration::from_secs(7), cause: BackOffCause::Throttled },
        Disposition::RetryAfter { wait: Duration::from_secs(7), cause: BackOffCause::ServiceFault },
        Disposition::BackOff { cause: BackOffCause::Throttled },
        Disposition::BackOff { cause: BackOffCause::ServiceFault },
        Disposition::NewToken { if_repeated: AdminStep::GrantPermission },
        Disposition::NeedsTenantAdmin(AdminStep::EnableAuditing),
        Disposition::NeedsTenantAdmin(AdminStep::CheckTenant),
        Disposition::NotSubscribed { disabled_by: None },
        Disposition::AlreadyEnabled,
        Disposition::StartLater(Duration::from_secs(526)),
        Disposition::Gone(Loss::Expired),
        Disposition::Gone(Loss::Missing),
        Disposition::Gone(Loss::BadId),
        Disposition::RestartWindow,
        Disposition::ReclampWindow,
        Disposition::WebhookRefused(WebhookFault::NotValidated),
        Disposition::FixConfiguration(ConfigurationFault::ContentType),
        Disposition::RetrySlowly,
        Disposition::Bug,
    ]
}

fn troubles() -> Vec<Trouble> {
    let others = [
        Trouble::RefusedAgain(AdminStep::GiveConsent),
        Trouble::NoAnswer,
        Trouble::BrokenOff,
        Trouble::NoBlob,
        Trouble::RefusedUrl,
    ];
    dispositions().into_iter().map(Trouble::Answered).chain(others).collect()
}

/// Seen at noon, expires in seven days, one minute old.
fn attempt(attempts: u32) -> FetchAttempt {
    FetchAttempt {
        now: noon() + minutes(1),
        seen_at: noon(),
        expires: noon() + hours(7 * 24),
        attempts,
        held_before: 0,
        patience: Patience::AllDay,
        jitter: STILL,
    }
}

/// One request that failed so often in a row, and held the tenant up each time.
fn alone(failures: u32) -> InARow {
    InARow { request: failures, tenant: failures }
}

/// Seconds until the next attempt.
fn wait(trouble: Trouble, attempt: &FetchAttempt) -> i64 {
    match after_fetch(trouble, attempt) {
        FetchStep::Again { at, .. } => (at - attempt.now).num_seconds(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fault_of_the_service_is_waited_out_with_growing_patience() {
    assert_eq!([0, 1, 2, 7, 8, 100].map(|attempts| wait(FAULT, &attempt(attempts))), [15, 30, 60, 1920, 3600, 3600]);
    assert_eq!([0, 1].map(|attempts| wait(Trouble::BrokenOff, &attempt(attempts))), [15, 30]);
    let told = Disposition::RetryAfter { wait: Duration::from_secs(500), cause: BackOffCause::ServiceFault };
    assert_eq!(wait(Trouble::Answered(told), &attempt(0)), 500);
    assert_eq!(wait(Trouble::Answered(told), &attempt(8)), 3600);
}

#[test]
fn one_attempt_comes_shortly_before_a_content_expires() {
    let expires = attempt(0).expires;
    let slow = FetchAttempt { now: expires - minutes(50), ..attempt(20) };
    assert_eq!(wait(FAULT, &slow), 30 * 60);
    let last = FetchAttempt { now: expires - minutes(20), ..attempt(20) };
    assert_eq!(wait(FAULT, &last), 3600, "that was it; whatever comes after is for a clock that may be wrong");
}

#[test]
fn expired_content_is_recorded_not_retried() {
    assert_eq!(after_fetch(EXPIRED, &attempt(0)), FetchStep::Lost(LossKind::Expired), "the service's word is final");
    let expires = attempt(0).expires;
    let after = |late, attempts| after_fetch(FAULT, &FetchAttempt { now: expires + late, ..attempt(attempts) });
    assert!(matches!(after(minutes(59), 20), FetchStep::Again { .. }));
    assert!(matches!(after(minutes(60), 3), FetchStep::Again { .. }), "our clock alone decides nothing");
    assert_eq!(after(minutes(60), 4), FetchStep::Lost(LossKind::Expired));
    let gone = |late| after_fetch(MISSING, &FetchAttempt { now: expires + late, ..attempt(0) });
    assert_eq!(gone(minutes(0)), FetchStep::Lost(LossKind::Expired));
    assert!(matches!(gone(-seconds(1)), FetchStep::Again { .. }));
}

#[test]
fn missing_content_is_given_up_only_after_hours_of_asking_and_its_window_is_listed_at_once() {
    for loss in [Loss::Missing, Loss::BadId] {
        let gone = Trouble::Answered(Disposition::Gone(loss));
        let first = after_fetch(gone, &attempt(0));
        assert_eq!(first, FetchStep::Again { at: attempt(0).now + minutes(2), relist: true, within_run: true });
        assert!(matches!(after_fetch(gone, &attempt(1)), FetchStep::Again { relist: false, .. }));
        let over = |span, attempts| after_fetch(gone, &FetchAttempt { now: noon() + span, ..attempt(attempts) });
        assert!(matches!(over(hours(6), 3), FetchStep::Again { .. }));
        assert!(matches!(over(hours(6) - seconds(1), 40), FetchStep::Again { .. }));
        assert_eq!(over(hours(6), 4), FetchStep::Lost(LossKind::Missing));
    }
}

#[test]
fn a_blob_that_is_none_is_given_up_after_five_times_over_an_hour() {
    let over = |span, attempts| after_fetch(Trouble::NoBlob, &FetchAttempt { now: noon() + span, ..attempt(attempts) });
    assert!(matches!(over(hours(1), 3), FetchStep::Again { .. }));
    assert!(matches!(over(hours(1) - seconds(1), 4), FetchStep::Again { .. }));
    assert_eq!(over(hours(1), 4), FetchStep::Lost(LossKind::Unreadable));
}

#[test]
fn a_refused_url_is_kept_until_the_content_expires() {
    let refused = |now| after_fetch(Trouble::RefusedUrl, &FetchAttempt { now, ..attempt(0) });
    assert!(matches!(refused(noon()), FetchStep::Again { relist: true, within_run: false, .. }));
    let expires = attempt(0).expires;
    assert!(matches!(refused(expires - seconds(1)), FetchStep::Again { .. }));
    assert_eq!(refused(expires), FetchStep::Lost(LossKind::RefusedUrl));
}

#[test]
fn what_is_the_tenants_trouble_never_counts_against_a_content() {
    let hold = |trouble| match after_fetch(trouble, &attempt(0)) {
        FetchStep::Hold(hold) => hold,
        other => panic!("{trouble:?}: {other:?}"),
    };
    let answered = |disposition| hold(Trouble::Answered(disposition));
    let told = Some(Duration::from_secs(9));
    let throttled = Disposition::RetryAfter { wait: Duration::from_secs(9), cause: BackOffCause::Throttled };
    assert_eq!(answered(throttled), Hold::Throttled { told });
    assert_eq!(answered(Disposition::BackOff { cause: BackOffCause::Throttled }), Hold::Throttled { told: None });
    assert_eq!(answered(Disposition::NewToken { if_repeated: AdminStep::GiveConsent }), Hold::FreshToken);
    assert_eq!(answered(Disposition::NotSubscribed { disabled_by: None }), Hold::Resubscribe { disabled_by: None });
    let kind = |hold| match hold {
        Hold::Problem { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    let admin = AdminStep::GrantPermission;
    let refused_again =
        |held_before| match after_fetch(Trouble::RefusedAgain(admin), &FetchAttempt { held_before, ..attempt(0) }) {
            FetchStep::Hold(hold) => kind(hold),
            other => panic!("{other:?}"),
        };
    // Twice in a row is the service's hiccup, three times the admin's matter.
    assert_eq!(refused_again(0), ProblemKind::ServiceDown);
    assert_eq!(refused_again(1), ProblemKind::ServiceDown);
    assert_eq!(refused_again(2), ProblemKind::Admin(admin));
    assert_eq!(kind(hold(Trouble::NoAnswer)), ProblemKind::Unreachable);
}

#[test]
fn a_run_that_somebody_waits_for_ends() {
    for trouble in troubles() {
        let mut now = noon();
        let mut failures = 0;
        loop {
            let patience = Patience::Once { failures };
            match after_fetch(trouble, &FetchAttempt { now, patience, ..attempt(failures) }) {
                FetchStep::Again { at, within_run, .. } => {
                    assert!(at > now);
                    if !within_run {
                        break;
                    }
                    now = at;
                }
                FetchStep::Lost(_) | FetchStep::Hold(_) => break,
            }
            failures += 1;
            assert!(failures < 50, "{trouble:?} is tried for ever");
        }
        assert!(now - noon() < minutes(15), "{trouble:?} took until {now}");
    }
    let fault =
        |failures| after_fetch(FAULT, &FetchAttempt { patience: Patience::Once { failures }, ..attempt(failures) });
    let soon = fault(0);
    assert_eq!(soon, FetchStep::Again { at: attempt(0).now + seconds(1), relist: false, within_run: true });
    assert!(matches!(fault(ONCE_ATTEMPTS - 2), FetchStep::Again { within_run: true, .. }));
    assert!(matches!(fault(ONCE_ATTEMPTS - 1), FetchStep::Again { within_run: false, .. }));
    assert!(!ends_run(ProblemKind::Throttled, ONCE_ATTEMPTS - 1));
    assert!(ends_run(ProblemKind::Throttled, ONCE_ATTEMPTS));
    assert!(ends_run(ProblemKind::Admin(AdminStep::GiveConsent), 1));
    for kind in ProblemKind::ALL {
        assert!(ends_run(kind, ONCE_ATTEMPTS), "{kind:?}");
    }
}

#[test]
fn requests_are_answered_by_what_they_asked_for() {
    let step = |disposition, failures| after_request(Trouble::Answered(disposition), alone(failures), STILL);
    assert_eq!(step(Disposition::AlreadyEnabled, 1), RequestStep::Enabled);
    let later = Duration::from_secs(526);
    assert_eq!(step(Disposition::StartLater(later), 1), RequestStep::StartLater { wait: later + later / 20 });
    assert_eq!(step(Disposition::RestartWindow, 1), RequestStep::Again { wait: Duration::ZERO });
    assert_eq!(step(Disposition::RestartWindow, 2), RequestStep::Again { wait: Duration::from_secs(10) });
    assert_eq!(step(Disposition::ReclampWindow, 2), RequestStep::PlanAnew { wait: Duration::from_secs(1) });
    let clock = step(Disposition::ReclampWindow, 3);
    assert!(matches!(clock, RequestStep::Hold(Hold::Problem { kind: ProblemKind::ClockWrong, .. })), "{clock:?}");
    let webhook = WebhookFault::NotValidated;
    assert_eq!(step(Disposition::WebhookRefused(webhook), 1), RequestStep::WithoutWebhook(webhook));
    assert_eq!(
        after_request(Trouble::BrokenOff, alone(3), STILL),
        RequestStep::Again { wait: Duration::from_secs(20) }
    );
}

#[test]
fn what_holds_the_tenant_up_is_asked_for_ever_more_seldom_whichever_content_type_meets_it() {
    let wait = |trouble, request, tenant| match after_request(trouble, InARow { request, tenant }, STILL) {
        RequestStep::Hold(Hold::Problem { kind, wait, .. }) => (kind, wait.as_secs()),
        other => panic!("{other:?}"),
    };
    let step = AdminStep::GrantPermission;
    let refused = Trouble::RefusedAgain(step);
    // Five types take turns: each meets it for the first time, the tenant for the first to the fifth.
    let taking_turns: Vec<_> = (1..=5).map(|tenant| wait(refused, 1, tenant)).collect();
    let in_the_way = ProblemKind::Admin(step);
    let passing = ProblemKind::ServiceDown;
    assert_eq!(taking_turns, [(passing, 5), (passing, 10), (in_the_way, 30), (in_the_way, 60), (in_the_way, 120)]);
    // Once it is called what it is, it is not called a hiccup again because another type is next to meet it.
    assert_eq!(wait(refused, 2, 9), (in_the_way, 1920));
    // One type alone, while all others are answered.
    assert_eq!(wait(refused, 4, 1), (in_the_way, 60));
    let off = Trouble::Answered(Disposition::NeedsTenantAdmin(step));
    assert_eq!([wait(off, 1, 3).1, wait(off, 3, 1).1, wait(off, 1, 50).1], [120, 120, 3600]);
    assert_eq!([wait(Trouble::NoAnswer, 1, 3).1, wait(Trouble::NoAnswer, 1, 50).1], [20, 300]);
    // What is the type's own matter has nothing to do with it.
    let broken = after_request(Trouble::BrokenOff, InARow { request: 1, tenant: 9 }, STILL);
    assert_eq!(broken, RequestStep::Again { wait: Duration::from_secs(5) });
}

#[test]
fn one_request_asks_whether_a_hold_is_over() {
    assert_eq!([at_once(8, false), at_once(8, true), at_once(1, true), at_once(0, true)], [8, 1, 1, 0]);
}

#[test]
fn auditing_that_is_off_is_asked_for_again_no_sooner_than_a_start_is_allowed() {
    for failures in 1..10 {
        let off = Trouble::Answered(Disposition::NeedsTenantAdmin(AdminStep::EnableAuditing));
        let RequestStep::Hold(Hold::Problem { kind, wait, .. }) = after_request(off, alone(failures), STILL) else {
            panic!("no problem is shown")
        };
        assert_eq!(kind.as_str(), "auditing_off");
        assert!(wait >= Duration::from_secs(15 * 60) && wait <= Duration::from_secs(3600), "{wait:?}");
    }
}

proptest! {
    #[test]
    fn no_request_is_repeated_at_once_for_ever_and_none_is_forgotten(failures in 3_u32..100, seed in any::<u64>()) {
        let jitter = engine::model::Jitter { seed, percent: 20 };
        for trouble in troubles() {
            let wait = match after_request(trouble, alone(failures), jitter) {
                RequestStep::Again { wait }
                | RequestStep::PlanAnew { wait }
                | RequestStep::StartLater { wait }
                | RequestStep::Hold(Hold::Problem { wait, .. }) => wait,
                RequestStep::Enabled
                | RequestStep::WithoutWebhook(_)
                | RequestStep::Hold(Hold::Throttled { .. } | Hold::FreshToken | Hold::Resubscribe { .. }) => continue,
            };
            prop_assert!(wait >= Duration::from_secs(1), "{trouble:?}");
            prop_assert!(wait <= Duration::from_secs(8 * 3600), "{trouble:?}");
        }
    }

    #[test]
    fn a_content_that_might_still_be_had_is_never_given_up(
        attempts in 0_u32..4,
        age in 0_i64..167 * 3600,
        seed in any::<u64>(),
    ) {
        let now = noon() + seconds(age);
        let jitter = engine::model::Jitter { seed, percent: 20 };
        for trouble in troubles().into_iter().filter(|trouble| *trouble != EXPIRED) {
            let attempt = FetchAttempt { now, jitter, ..attempt(attempts) };
            match after_fetch(trouble, &attempt) {
                FetchStep::Again { at, .. } => {
                    prop_assert!(at > now);
                    prop_assert!(at <= now + hours(5), "{trouble:?} waits until {at}");
                }
                FetchStep::Hold(_) => {}
                FetchStep::Lost(kind) => prop_assert!(false, "{trouble:?} is lost as {kind:?}"),
            }
        }
    }
}
