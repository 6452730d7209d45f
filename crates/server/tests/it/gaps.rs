//! Gaps are named with from, to and cause, whatever stood in the way: each cause through the real assembly.

use std::time::Duration;

use chrono::TimeDelta;
use emulator::{FaultPlan, WorldOptions};
use engine::model::TenantState;
use ledger::Ledger;
use protocol::ids::ContentType;
use server::coverage::{CoverageReport, FeedCoverage, GapItem};

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

async fn a_rig(seed: u64) -> Rig {
    let world = WorldOptions { live_rate: 0.2, history: DAY, ..small_world(seed, 1, 40) };
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    // Days are lived through here; a poll an hour is what this is about.
    rig.settings.collect.poll_interval = HOUR;
    rig.settings.limits.tenants_interval = Duration::from_secs(15 * 60);
    rig.settings.collect.content_types = vec![ContentType::Exchange];
    rig
}

/// Collects for so long, and is then gone without a word.
async fn run_for(rig: &Rig, time: Duration) {
    let collector = rig.collector();
    tokio::select! {
        report = collector.run(std::future::pending()) => panic!("{report:?}"),
        () = tokio::time::sleep(time) => {}
    }
}

/// The gaps of one type.
async fn gaps(rig: &Rig) -> Vec<GapItem> {
    reported(rig).await.swap_remove(0).gaps
}

async fn reported(rig: &Rig) -> Vec<FeedCoverage> {
    CoverageReport::read(&rig.ledger, &rig.tenants(), 10, rig.now()).await.unwrap().items
}

/// Some hours of collecting, then ten days in which something stands in the way, then a day without it: of three days nothing
/// could be listed any more, and `cause` is why.
async fn check_gap(rig: &Rig, cause: &str, words: &str, between: impl AsyncFnOnce()) {
    run_for(rig, 3 * HOUR).await;
    let stopped = rig.now();
    between().await;
    assert!((rig.now() - stopped - TimeDelta::days(10)).abs() < TimeDelta::hours(1));
    run_for(rig, 2 * HOUR).await;
    let named = gaps(rig).await;
    assert_eq!(named.len(), 1, "{named:#?}");
    let gap = &named[0];
    assert_eq!(gap.cause, cause, "{gap:?}");
    assert!(gap.message.contains(words) && gap.message.contains(" from 2026-03-10 "), "{gap:?}");
    assert!((gap.from.0 - stopped).abs() < TimeDelta::hours(2), "{gap:?} after {stopped}");
    assert!((gap.to.0 - stopped - TimeDelta::days(3)).abs() < TimeDelta::hours(3), "{gap:?} after {stopped}");
    // The claim goes on past what is named.
    for row in rig.coverage().await {
        assert!(rig.now() - row.complete_through.unwrap() < TimeDelta::hours(2), "{row:#?}");
    }
    // And says the same once it is written down for good.
    run_for(rig, 30 * HOUR).await;
    let settled = gaps(rig).await;
    assert_eq!((settled.len(), settled[0].cause), (1, cause), "{settled:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_was_off_says_so() {
    let rig = a_rig(1).await;
    check_gap(&rig, "collector_off", "the collector did not run", async || tokio::time::sleep(10 * DAY).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_paused_says_so_whether_or_not_the_collector_ran() {
    for (seed, runs) in [(2, true), (9, false)] {
        let rig = a_rig(seed).await;
        let tenant = rig.tenants()[0];
        check_gap(&rig, "tenant_paused", "the tenant was paused", async || {
            rig.ledger.set_tenant_state(tenant, TenantState::Paused, rig.now()).await.unwrap();
            if runs {
                run_for(&rig, 10 * DAY).await;
            } else {
                tokio::time::sleep(10 * DAY).await;
            }
            rig.ledger.set_tenant_state(tenant, TenantState::Active, rig.now()).await.unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn consent_that_was_withdrawn_says_so() {
    let rig = a_rig(3).await;
    let (tenant, client) = (rig.tenants()[0], rig.settings.app.client_id);
    check_gap(&rig, "consent_missing", "consent", async || {
        rig.emulator.world().set_roles(tenant, client, None);
        run_for(&rig, 10 * DAY).await;
        rig.emulator.world().set_roles(tenant, client, Some(&["ActivityFeed.Read", "ActivityFeed.ReadDlp"]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_service_refused_for_days_says_which_refusal_it_was() {
    for (seed, effect, cause, words) in [
        (4, "\"throttle\"", "throttled", "Microsoft throttles this tenant's requests"),
        (5, "\"server_error\"\nstatus = 503", "service_down", "Microsoft's service answers with faults of its own"),
    ] {
        let rig = a_rig(seed).await;
        let plan = format!("[[rule]]\noperations = [\"content\", \"list\"]\nprobability = 1.0\neffect = {effect}\n");
        check_gap(&rig, cause, words, async || {
            rig.emulator.world().set_faults(FaultPlan::parse(&plan).unwrap());
            run_for(&rig, 10 * DAY).await;
            rig.emulator.world().set_faults(FaultPlan::default());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_stopped_subscription_is_a_gap_although_it_can_be_listed() {
    let rig = a_rig(7).await;
    run_for(&rig, 3 * HOUR).await;
    let stopped = rig.now();
    for content_type in &rig.settings.collect.content_types {
        rig.collector().stop_subscription(rig.tenants()[0], content_type).await.unwrap();
    }
    tokio::time::sleep(2 * DAY).await;
    let began = rig.now();
    run_for(&rig, 6 * HOUR).await;
    let named = gaps(&rig).await;
    assert_eq!(named.len(), 1, "{named:#?}");
    assert_eq!(named[0].cause, "subscription_stopped");
    assert!(named[0].from.0 <= stopped && stopped - named[0].from.0 < TimeDelta::hours(4), "{named:#?} and {stopped}");
    assert!((named[0].to.0 - began).abs() < TimeDelta::minutes(2), "{named:#?} and {began}");
}

#[tokio::test(start_paused = true)]
async fn what_was_before_the_subscription_is_told_where_the_service_kept_nothing() {
    for kept in [false, true] {
        let mut world = WorldOptions { live_rate: 2.0, history: 7 * DAY, ..small_world(8, 1, 1000) };
        world.history_before_subscription = kept;
        let mut rig = Rig::new(world, FaultPlan::default()).await;
        rig.settings.collect.poll_interval = HOUR;
        rig.settings.collect.content_types = vec![ContentType::Exchange, ContentType::General];
        let began = rig.now();
        run_for(&rig, 2 * HOUR).await;
        for item in reported(&rig).await {
            assert!(item.gaps.is_empty(), "what never was is no gap: {item:#?}");
            let Some(before) = item.unavailable else {
                assert!(kept, "it is told: {item:#?}");
                continue;
            };
            assert_eq!(before.cause, "before_subscription");
            let length = before.to.0 - before.from.0;
            if kept {
                // All of it but the time before the first content there is.
                assert!(length < TimeDelta::days(1), "{before:#?}");
            } else {
                assert!((length - TimeDelta::days(7)).abs() < TimeDelta::hours(2), "{before:#?}");
                assert!((before.to.0 - began).abs() < TimeDelta::minutes(2), "{before:#?}");
            }
        }
    }
}
