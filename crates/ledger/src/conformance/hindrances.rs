//! What stood in the way, and when: kept spell by spell, for the causes of gaps.

use engine::hindrance::{GapCause, Hindrance, History};
use engine::model::{Gap, TenantState};
use engine::problem::ProblemKind;

use super::*;

async fn of(ledger: &dyn Ledger, content_type: ContentType) -> History {
    let all = ledger.history(tenant(1)).await.unwrap();
    all.into_iter().find(|(known, _)| *known == content_type).unwrap().1
}

fn stood(cause: GapCause, since: TimeDelta, until: Option<TimeDelta>) -> Hindrance {
    Hindrance { cause, since: noon() + since, until: until.map(|until| noon() + until) }
}

fn down(since: TimeDelta) -> Option<Problem> {
    Some(Problem { since: noon() + since, ..problem("service_down") })
}

const DOWN: GapCause = GapCause::Problem(ProblemKind::ServiceDown);

pub async fn what_stood_in_the_way_is_kept_spell_by_spell(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    for content_type in [GENERAL, EXCHANGE] {
        ledger.start_requested(tenant(1), content_type, noon()).await.unwrap();
    }
    assert_eq!(of(&*ledger, GENERAL).await, History::default());
    // Of one type, then of the tenant, and again of the type.
    let problem_at = async |content_type, problem, at: TimeDelta| {
        ledger.set_problem(tenant(1), content_type, problem, noon() + at).await.unwrap();
    };
    problem_at(Some(GENERAL), down(hours(1)), hours(2)).await;
    problem_at(Some(GENERAL), down(hours(1)), hours(3)).await;
    assert_eq!(of(&*ledger, GENERAL).await.hindrances, [stood(DOWN, hours(1), None)]);
    assert_eq!(of(&*ledger, EXCHANGE).await.hindrances, []);
    problem_at(Some(GENERAL), None, hours(4)).await;
    problem_at(None, Some(Problem { since: noon() + hours(5), ..problem("auditing_off") }), hours(5)).await;
    problem_at(None, None, hours(6)).await;
    // What comes back within the hour was never away; later it is another spell.
    problem_at(Some(GENERAL), down(hours(5)), hours(5)).await;
    problem_at(Some(GENERAL), None, hours(6)).await;
    problem_at(Some(GENERAL), down(minutes(421)), minutes(421)).await;
    let auditing = GapCause::Problem(ProblemKind::Admin(protocol::error::AdminStep::EnableAuditing));
    let of_tenant = stood(auditing, hours(5), Some(hours(6)));
    assert_eq!(of(&*ledger, EXCHANGE).await.hindrances, [of_tenant]);
    let mut general = of(&*ledger, GENERAL).await.hindrances;
    general.sort_by_key(|known| (known.since, known.cause != DOWN));
    assert_eq!(general, [stood(DOWN, hours(1), Some(hours(6))), of_tenant, stood(DOWN, minutes(421), None)]);
    // A clock that is set back ends nothing before it began.
    problem_at(Some(GENERAL), None, hours(0)).await;
    assert!(of(&*ledger, GENERAL).await.hindrances.contains(&stood(DOWN, minutes(421), Some(minutes(421)))));
}

pub async fn a_tenant_that_is_not_collected_says_since_when(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.start_requested(tenant(1), GENERAL, noon()).await.unwrap();
    let state = async |state, at: TimeDelta| {
        assert!(ledger.set_tenant_state(tenant(1), state, noon() + at).await.unwrap());
    };
    state(TenantState::Paused, hours(1)).await;
    state(TenantState::Paused, hours(2)).await;
    state(TenantState::Active, hours(3)).await;
    state(TenantState::Paused, hours(9)).await;
    state(TenantState::Removed, hours(10)).await;
    assert!(ledger.add_tenant(tenant(1), String::new(), noon(), noon() + hours(11)).await.unwrap());
    assert_eq!(
        of(&*ledger, GENERAL).await.hindrances,
        [
            stood(GapCause::TenantPaused, hours(1), Some(hours(3))),
            stood(GapCause::TenantPaused, hours(9), Some(hours(10))),
            stood(GapCause::TenantRemoved, hours(10), Some(hours(11))),
        ]
    );
    state(TenantState::Removed, hours(20)).await;
    evidence::purged(&*ledger, 1).await;
    ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    assert_eq!(ledger.history(tenant(1)).await.unwrap(), []);
    assert!(matches!(refused(ledger.history(tenant(9))).await, LedgerError::UnknownTenant { .. }));
}

pub async fn time_without_a_subscription_is_named_and_shortened_by_what_comes(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let listed = async |types: &[(ContentType, Option<bool>)], at: TimeDelta| {
        ledger.subscriptions_listed(tenant(1), types.to_vec(), noon() + at).await.unwrap();
    };
    let asked = async |content_type, at: TimeDelta| {
        ledger.start_requested(tenant(1), content_type, noon() + at).await.unwrap();
    };
    // One is there from the start, and one is ours to start.
    listed(&[(EXCHANGE, Some(true))], hours(2)).await;
    asked(GENERAL, hours(3)).await;
    listed(&[(EXCHANGE, Some(true)), (GENERAL, Some(true))], hours(4)).await;
    let before = |until| stood(GapCause::BeforeSubscription, hours(0), Some(until));
    assert_eq!(of(&*ledger, EXCHANGE).await.hindrances, []);
    assert_eq!(of(&*ledger, GENERAL).await.hindrances, [before(hours(3))]);
    // What comes all the same was kept after all, from there on.
    ledger.contents_listed(tenant(1), vec![content("a", hours(2))], noon() + hours(4)).await.unwrap();
    assert_eq!(of(&*ledger, GENERAL).await.hindrances, [before(hours(2))]);
    // Stopped by somebody, seen, and started again: from when it was last seen enabled, which a listing proves too.
    let tile = Tile { listed_at: Some(noon() + hours(6)), ..tile(0) };
    ledger.tile_listed(tenant(1), GENERAL, tile).await.unwrap();
    listed(&[(EXCHANGE, Some(true))], hours(8)).await;
    asked(GENERAL, hours(9)).await;
    listed(&[(EXCHANGE, Some(true)), (GENERAL, Some(true))], hours(10)).await;
    let stopped = |since| stood(GapCause::SubscriptionStopped, since, Some(hours(9)));
    assert_eq!(of(&*ledger, GENERAL).await.hindrances, [before(hours(2)), stopped(hours(6))]);
    ledger.contents_listed(tenant(1), vec![content("b", hours(7)), content("c", hours(9))], noon()).await.unwrap();
    let rest = stopped(hours(7) + TimeDelta::milliseconds(1));
    assert_eq!(of(&*ledger, GENERAL).await.hindrances, [before(hours(2)), rest]);
    // A list that left it out by mistake: the start was answered with "already enabled".
    listed(&[(GENERAL, Some(true))], hours(20)).await;
    asked(EXCHANGE, hours(21)).await;
    ledger.was_enabled(tenant(1), EXCHANGE, noon() + hours(21)).await.unwrap();
    listed(&[(EXCHANGE, Some(true)), (GENERAL, Some(true))], hours(21)).await;
    assert_eq!(of(&*ledger, EXCHANGE).await.hindrances, []);
    // A start with a webhook of one that is enabled changes nothing either.
    asked(GENERAL, hours(22)).await;
    listed(&[(EXCHANGE, Some(true)), (GENERAL, Some(true))], hours(22)).await;
    assert_eq!(of(&*ledger, GENERAL).await.hindrances, [before(hours(2)), rest]);
    ledger.was_enabled(tenant(1), ContentType::SharePoint, noon()).await.unwrap();
    assert_eq!(ledger.history(tenant(1)).await.unwrap().len(), 2, "what is not known is passed over");
}

pub async fn work_is_noted_in_spells(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.start_requested(tenant(1), GENERAL, noon()).await.unwrap();
    let spells = async || of(&*ledger, GENERAL).await.at_work;
    let spell = |start: i64, until: i64| Gap { start: noon() + minutes(start), until: noon() + minutes(until) };
    for minute in [0, 10, 20, 50] {
        ledger.at_work(noon() + minutes(minute)).await.unwrap();
    }
    assert_eq!(spells().await, [spell(0, 50)], "half an hour apart is one spell");
    ledger.at_work(noon() + minutes(81)).await.unwrap();
    assert_eq!(spells().await, [spell(0, 50), spell(81, 81)], "a minute more is two");
    ledger.at_work(noon() + minutes(91)).await.unwrap();
    // Set back a little: nothing is taken back. Far ahead and back again: nothing is claimed that has not been.
    ledger.at_work(noon() + minutes(85)).await.unwrap();
    assert_eq!(spells().await, [spell(0, 50), spell(81, 91)]);
    ledger.at_work(noon() + days(400)).await.unwrap();
    ledger.at_work(noon() + minutes(100)).await.unwrap();
    assert_eq!(spells().await, [spell(0, 50), spell(81, 91), spell(100, 100)]);
}

pub async fn what_is_kept_of_hindrances_is_bounded(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    for day in 0..1003 {
        for (problem, hour) in [(down(days(day)), 0), (None, 1)] {
            let at = noon() + days(day) + hours(hour);
            ledger.set_problem(tenant(1), Some(GENERAL), problem, at).await.unwrap();
        }
        ledger.at_work(noon() + days(day)).await.unwrap();
    }
    let history = of(&*ledger, GENERAL).await;
    let first = (history.hindrances.first().unwrap().since, history.at_work.first().unwrap().start);
    assert_eq!((history.hindrances.len(), history.at_work.len()), (1000, 1000));
    assert_eq!(first, (noon() + days(3), noon() + days(3)), "the oldest go");
}
