//! `collect --once`: everything that was published is archived, once, whatever goes wrong on the way.

use std::time::Duration;

use emulator::{FaultPlan, WorldOptions};
use engine::tile::Grid;
use server::collector::Ended;

use crate::rig::{Rig, small_world};

#[tokio::test(start_paused = true)]
async fn everything_published_is_archived_once() {
    let mut rig = Rig::new(small_world(1, 2, 400), FaultPlan::default()).await;
    rig.settings.collect.tile = Grid::HOUR;
    let report = rig.collect_once().await;
    assert_eq!(report.ended, Ended::CaughtUp);
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
    let total = report.total();
    let truth = rig.emulator.world().truth();
    // A window's border can cut a blob in two, each with an id of its own.
    assert!(total.archived >= truth.contents);
    assert_eq!(total.records - total.duplicates, truth.records);
    assert_eq!(total.variants, truth.variants);
}

#[tokio::test(start_paused = true)]
async fn one_request_in_ten_failing_costs_nothing_but_time() {
    for seed in 1..=6 {
        let rig = Rig::new(small_world(seed, 2, 300), FaultPlan::preset("ten-percent", seed).unwrap()).await;
        let report = rig.collect_once().await;
        assert!(report.is_complete(), "seed {seed}: {report:#?}");
        assert!(report.total().failed_attempts > 0, "seed {seed}: the faults did not strike");
        rig.check_all_there().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_run_lists_again_and_fetches_nothing_it_has() {
    let rig = Rig::new(small_world(1, 1, 200), FaultPlan::default()).await;
    rig.collect_once().await;
    let before = rig.archived().await;
    rig.emulator.clear_requests();
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!((report.total().listed, report.total().archived), (0, 0));
    assert!(report.total().listings > 0);
    assert_eq!(rig.requests("retrieve"), 0);
    assert_eq!(rig.requests("start"), 0);
    assert_eq!(rig.archived().await, before);
}

#[tokio::test(start_paused = true)]
async fn content_that_comes_late_is_found_by_a_later_run() {
    let mut world = small_world(5, 2, 300);
    world.lateness.share = 0.3;
    let rig = Rig::new(world, FaultPlan::default()).await;
    rig.collect_once().await;
    let first = rig.archived().await;
    tokio::time::sleep(Duration::from_secs(8 * 3600)).await;
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    assert_ne!(rig.archived().await, first, "nothing came late, so nothing is proven");
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn many_pages_are_followed_to_the_last() {
    let mut world = small_world(2, 1, 400);
    world.limits.page_size = 2;
    let rig = Rig::new(world, FaultPlan::default()).await;
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn blobs_that_never_work_are_reported_and_hold_nothing_up() {
    for form in ["server_error", "not_found", "truncated", "reset"] {
        let plan = format!("[[rule]]\nname = \"poison\"\neffect = \"poison\"\nform = \"{form}\"\nprobability = 0.05\n");
        let plan = FaultPlan::parse(&plan).unwrap_or_else(|error| panic!("{form}: {error}"));
        let rig = Rig::new(small_world(3, 1, 600), plan).await;
        let poisoned = rig.emulator.world().truth().poison_contents;
        assert!(poisoned > 0, "{form}");
        let began = tokio::time::Instant::now();
        let report = rig.collect_once().await;
        assert_eq!(report.ended, Ended::CaughtUp, "{form}");
        assert!(!report.is_complete(), "{form}");
        assert_eq!(report.tenants[0].unfinished + report.total().lost, poisoned, "{form}: {report:#?}");
        assert!(began.elapsed() < Duration::from_secs(15 * 60), "{form}: {:?}", began.elapsed());
        rig.check_readable_there().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_blob_spans_commits_and_arrives_whole() {
    let world = WorldOptions { huge_blob: Some(3 << 20), ..small_world(4, 1, 50) };
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    rig.settings.limits.commit_bytes = 256 << 10;
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(report.total().commits >= 8, "{}", report.total().commits);
    rig.check_all_there().await;
    let coverage = rig.coverage().await;
    let records: u64 = coverage.iter().map(|row| row.records - row.duplicates).sum();
    assert_eq!(records, rig.emulator.world().truth().records);
}

#[tokio::test(start_paused = true)]
async fn a_large_blob_that_breaks_off_and_is_fetched_again_is_counted_once() {
    let plan = "[[rule]]\noperations = [\"retrieve\"]\neffect = \"truncate\"\nshare = 0.9\nclean = true\nfirst = 2\n";
    let world = WorldOptions { huge_blob: Some(3 << 20), ..small_world(4, 1, 50) };
    let rig = Rig::new(world, FaultPlan::parse(plan).unwrap()).await;
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(report.total().failed_attempts > 0, "nothing broke off");
    rig.check_all_there().await;
    let (total, truth) = (report.total(), rig.emulator.world().truth());
    assert_eq!(total.records - total.duplicates, rig.archived().await.values().map(|of| of.len() as u64).sum::<u64>());
    let coverage = rig.coverage().await;
    let records: u64 = coverage.iter().map(|row| row.records).sum();
    let again: u64 = truth.feeds.iter().map(|feed| feed.duplicates).sum();
    assert!(records <= truth.records + again, "{records} of {} and {again} repeats", truth.records);
    assert_eq!(records, total.records);
}

#[tokio::test(start_paused = true)]
async fn what_was_created_in_the_second_the_run_begins_in_is_collected() {
    let mut world = small_world(6, 1, 1);
    world.live_rate = 3_000.0;
    let rig = Rig::new(world, FaultPlan::default()).await;
    rig.collect_once().await;
    let up_to = rig.now() + chrono::TimeDelta::milliseconds(30_999);
    let up_to = up_to - chrono::TimeDelta::milliseconds(i64::from(up_to.timestamp_subsec_millis() + 1));
    tokio::time::sleep((up_to - rig.now()).to_std().unwrap()).await;
    assert_eq!(rig.now().timestamp_subsec_millis(), 999);
    let before = rig.published();
    let now = rig.now();
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    let archived = rig.archived().await;
    for (tenant, published) in &before {
        assert_eq!(published.difference(&archived[tenant]).count(), 0);
    }
    for row in rig.coverage().await {
        assert!(row.complete_through.is_none_or(|through| through <= now), "{row:?}");
    }
}
