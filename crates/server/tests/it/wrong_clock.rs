//! A machine whose clock is ahead asks for what the service has, and claims no more than that.

use std::time::Duration;

use chrono::TimeDelta;
use emulator::{FaultPlan, WorldOptions};
use ledger::Ledger;

use crate::rig::{Rig, small_world, start};

const HOUR: Duration = Duration::from_secs(3600);

/// With a little that goes on being published.
async fn rig(seed: u64) -> Rig {
    let world = WorldOptions { live_rate: 0.5, ..small_world(seed, 1, 60) };
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    rig.settings.collect.poll_interval = Duration::from_secs(300);
    rig
}

/// No tile is proof of what was still to come.
async fn check_claims(rig: &Rig) {
    for tenant in rig.tenants() {
        for content_type in &rig.settings.collect.content_types {
            for tile in rig.ledger.tiles(tenant, content_type.clone()).await.unwrap() {
                let now = rig.now();
                assert!(tile.start <= now, "{tile:?} at {now}");
                assert!(tile.listed_until.is_none_or(|until| until <= now), "{tile:?} at {now}");
                assert!(tile.listed_at.is_none_or(|at| at <= now), "{tile:?} at {now}");
            }
        }
    }
}

async fn two_runs_by_a_clock_that_is_ahead_by(days: i64, seed: u64) {
    let rig = rig(seed).await;
    let ahead = rig.collector_ahead(TimeDelta::days(days));
    for _ in 0..2 {
        rig.catch_up_by(&ahead).await;
        check_claims(&rig).await;
        tokio::time::sleep(26 * HOUR).await;
    }
    // It is set right, and has nothing to make good.
    rig.catch_up_and_check().await;
    check_claims(&rig).await;
    for coverage in rig.coverage().await {
        assert_eq!(coverage.gaps, [], "{days} days: {coverage:?}");
        let through = coverage.complete_through.unwrap_or_else(|| panic!("{days} days: {coverage:?}"));
        assert!(
            (TimeDelta::zero()..TimeDelta::minutes(1)).contains(&(rig.now() - through)),
            "{days} days: {coverage:?}"
        );
    }
}

/// Blobs cannot be had for the first hour.
fn no_blobs_for_an_hour() -> FaultPlan {
    let until = start() + TimeDelta::hours(1);
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let plan = "[[rule]]\noperations = [\"retrieve\"]\neffect = \"server_error\"\nstatus = 503\nprobability = 1.0\n";
    FaultPlan::parse(&format!("{plan}until = \"{until}\"\n")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_listed_and_could_not_be_fetched_by_a_clock_that_is_ahead_is_neither_given_up_nor_put_off() {
    for (seed, days) in [(37, 8), (38, 3 * 365)] {
        let mut rig = Rig::new(small_world(seed, 1, 60), no_blobs_for_an_hour()).await;
        rig.settings.collect.poll_interval = Duration::from_secs(300);
        let published = rig.published();
        rig.collector_ahead(TimeDelta::days(days)).run(tokio::time::sleep(HOUR / 2)).await.unwrap();
        assert!(rig.archived().await.values().all(|records| records.is_empty()));
        // It is set right meanwhile, and the blobs come back.
        tokio::time::sleep(HOUR).await;
        rig.collector().run(tokio::time::sleep(4 * HOUR)).await.unwrap();
        assert_eq!(rig.archived().await, published, "{days} days");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_by_a_clock_that_is_ahead_collect_what_is_published_and_claim_nothing_that_is_still_to_come() {
    for (seed, days) in [(31, 1), (32, 3), (33, 7), (34, 8), (35, 3 * 365)] {
        two_runs_by_a_clock_that_is_ahead_by(days, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_day_a_clock_that_is_ahead_costs_no_more_requests_and_delays_nothing() {
    let rig = rig(36).await;
    let hours = || tokio::time::sleep(6 * HOUR);
    rig.collector().run(hours()).await.unwrap();
    let begun = rig.requests("content");
    rig.collector().run(hours()).await.unwrap();
    let set = rig.requests("content");
    let published = rig.published();
    rig.collector_ahead(TimeDelta::days(7)).run(hours()).await.unwrap();
    check_claims(&rig).await;
    for (tenant, records) in rig.archived().await {
        assert!(records.len() > published[&tenant].len(), "nothing was collected while the clock was wrong");
    }
    let (right, ahead) = (set - begun, rig.requests("content") - set);
    assert!(
        right > 0 && ahead <= right + right / 5,
        "{right} listings by the right clock, {ahead} by one that is ahead"
    );
    rig.catch_up_and_check().await;
}
