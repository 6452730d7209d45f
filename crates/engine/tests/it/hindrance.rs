//! Why there is a gap: what stood in the way is held against the time in which the gap could have been listed.

use engine::hindrance::{GapCause, Hindrance, History};
use engine::model::Gap;
use engine::problem::ProblemKind;
use protocol::error::AdminStep;

use crate::{hours, noon};

fn span(start: i64, until: i64) -> Gap {
    Gap { start: noon() + hours(start), until: noon() + hours(until) }
}

fn stood(cause: GapCause, start: i64, until: Option<i64>) -> Hindrance {
    Hindrance { cause, since: noon() + hours(start), until: until.map(|until| noon() + hours(until)) }
}

const CONSENT: GapCause = GapCause::Problem(ProblemKind::Admin(AdminStep::GiveConsent));

/// Days in hours.
const DAY: i64 = 24;

#[test]
fn nobody_at_work_is_a_collector_that_was_off() {
    // It ran for two days, was off for ten, and came back: three days could not be listed any more.
    let history = History { hindrances: vec![], at_work: vec![span(-2 * DAY, 0), span(10 * DAY, 11 * DAY)] };
    let said = history.explain(span(0, 3 * DAY));
    assert_eq!(said.cause, GapCause::CollectorOff);
    assert_eq!(
        said.says(),
        "the collector did not run, or could not write its ledger from 2026-03-04 12:10Z to 2026-03-14 12:00Z"
    );
}

#[test]
fn what_stood_in_the_way_while_somebody_asked_is_the_cause_and_nobody_asks_while_it_is_off() {
    let always = vec![span(-DAY, 30 * DAY)];
    let refused = vec![stood(CONSENT, 1, Some(10 * DAY))];
    let history = History { hindrances: refused.clone(), at_work: always };
    let said = history.explain(span(1, 3 * DAY));
    assert_eq!((said.cause, said.story.len()), (CONSENT, 1));
    assert!(said.says().starts_with("the app may not") || said.says().contains("consent"), "{}", said.says());
    // The same note, left open by a collector that was then switched off, says nothing about that time.
    let off = History { at_work: vec![span(-DAY, 2), span(10 * DAY, 11 * DAY)], hindrances: refused };
    assert_eq!(off.explain(span(1, 3 * DAY)).cause, GapCause::CollectorOff);
}

#[test]
fn a_paused_tenant_is_paused_whether_or_not_the_collector_runs() {
    let paused = vec![stood(GapCause::TenantPaused, 0, None), stood(CONSENT, 0, None)];
    for at_work in [vec![], vec![span(-DAY, 30 * DAY)], vec![span(-DAY, 0)]] {
        let history = History { hindrances: paused.clone(), at_work };
        assert_eq!(history.explain(span(0, 3 * DAY)).cause, GapCause::TenantPaused);
    }
}

#[test]
fn the_longest_part_gives_the_name_and_the_sentence_tells_all_of_them_in_order() {
    let history = History {
        hindrances: vec![stood(CONSENT, 0, Some(2 * DAY)), stood(GapCause::TenantPaused, 2 * DAY, Some(7 * DAY))],
        at_work: vec![span(-DAY, 7 * DAY), span(9 * DAY, 10 * DAY)],
    };
    let said = history.explain(span(0, 2 * DAY));
    assert_eq!(said.cause, GapCause::TenantPaused);
    let causes: Vec<_> = said.story.iter().map(|(cause, _)| *cause).collect();
    assert_eq!(causes, [CONSENT, GapCause::TenantPaused, GapCause::CollectorOff]);
    let text = said.says();
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(at("consent") < at("the tenant was paused from 2026-03-06 12:00Z to 2026-03-11 12:00Z"));
    assert!(at("paused") < at("the collector did not run"));
    // More parts than a sentence bears are counted.
    let hindrances = (0..9).map(|day| stood(GapCause::TenantPaused, day * DAY, Some(day * DAY + 12))).collect();
    let many = History { hindrances, at_work: vec![span(-DAY, 0), span(9 * DAY, 10 * DAY)] };
    let text = many.explain(span(0, 2 * DAY)).says();
    assert!(text.ends_with("; and more, 15 times"), "{text}");
}

#[test]
fn at_work_without_a_hindrance_is_not_reached_and_before_the_first_note_nothing_is_known() {
    let at_work = vec![span(0, 30 * DAY)];
    let history = History { hindrances: vec![], at_work };
    assert_eq!(history.explain(span(1, 2)).cause, GapCause::NotReached);
    assert_eq!(history.explain(span(-30 * DAY, -20 * DAY)).cause, GapCause::NotRecorded);
    assert_eq!(History::default().explain(span(0, 1)).cause, GapCause::NotRecorded);
    assert_eq!(History::default().explain(span(0, 0)).cause, GapCause::NotRecorded);
}

#[test]
fn a_time_without_a_subscription_is_a_gap_by_itself_once_it_is_over() {
    let history = History {
        hindrances: vec![
            stood(GapCause::SubscriptionStopped, 5, Some(9)),
            stood(GapCause::BeforeSubscription, -9, Some(0)),
            stood(GapCause::SubscriptionStopped, 20, None),
            stood(GapCause::SubscriptionStopped, 30, Some(30)),
            stood(GapCause::TenantPaused, 1, Some(2)),
        ],
        at_work: vec![],
    };
    let unkept: Vec<_> = history.unkept().into_iter().map(|unkept| (unkept.cause, unkept.gap)).collect();
    assert_eq!(unkept, [(GapCause::BeforeSubscription, span(-9, 0)), (GapCause::SubscriptionStopped, span(5, 9))]);
}

#[test]
fn every_cause_has_a_word_that_leads_back_to_it() {
    let problems = ProblemKind::ALL.into_iter().map(GapCause::Problem);
    let others = [
        GapCause::SubscriptionStopped,
        GapCause::BeforeSubscription,
        GapCause::TenantPaused,
        GapCause::TenantRemoved,
        GapCause::CollectorOff,
        GapCause::NotReached,
        GapCause::NotRecorded,
    ];
    let mut words = std::collections::BTreeSet::new();
    for cause in problems.chain(others) {
        assert_eq!(cause.as_str().parse(), Ok(cause));
        assert!(words.insert(cause.as_str()), "{cause:?}");
        assert!(!cause.says().is_empty() && !cause.says().ends_with('.'), "{cause:?}");
    }
    assert!("paused".parse::<GapCause>().is_err());
}
