//! `serve`: all day, with tenants that come, pause, go and come back, and with an end.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use emulator::{FaultPlan, WorldOptions};
use engine::model::TenantState;
use ledger::Ledger;
use server::collector::{Activity, Ended};
use server::{Collector, RunReport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);

struct Serving {
    collector: Arc<Collector>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<RunReport>,
}

fn serve(rig: &Rig) -> Serving {
    let collector = Arc::new(rig.collector());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = Arc::clone(&collector);
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        running.run(stopped).await.unwrap()
    });
    Serving { collector, stop, task }
}

impl Serving {
    async fn stop(self) -> RunReport {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }
}

fn live_world(seed: u64) -> WorldOptions {
    WorldOptions { live_rate: 2.0, history: Duration::from_secs(86_400), ..small_world(seed, 2, 50) }
}

#[tokio::test(start_paused = true)]
async fn live_content_is_collected_as_it_comes() {
    for (seed, faults) in [(1, "none"), (2, "ten-percent")] {
        let mut world = live_world(seed);
        world.lateness.share = 0.05;
        let rig = Rig::new(world, FaultPlan::preset(faults, seed).unwrap()).await;
        let serving = serve(&rig);
        tokio::time::sleep(4 * HOUR).await;
        let report = serving.stop().await;
        assert_eq!(report.ended, Ended::Stopped);
        let coverage = rig.coverage().await;
        for row in &coverage {
            let age = rig.now() - row.complete_through.unwrap();
            assert!(age < TimeDelta::minutes(20), "seed {seed}: {age} behind: {row:?}");
            // Where one request in ten fails, one may just have failed: a hiccup that is retried, and nothing else.
            let passing = |kind: &str| faults != "none" && ["service_down", "throttled"].contains(&kind);
            assert!(row.problem.as_ref().is_none_or(|problem| passing(problem.kind.as_ref())), "{:?}", row.problem);
        }
        // What has come late since the last listing of its window is found by going over all of them once more.
        rig.catch_up_and_check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn polls_cost_a_listing_an_interval_and_type_and_nothing_else() {
    // 60 or 12 polls of 5 types that are silent for longer than an hour, and some later listings of older windows.
    for (quiet_minutes, expected) in [(1, 295..=380), (5, 55..=120)] {
        let mut rig = Rig::new(WorldOptions { live_rate: 0.0, ..small_world(3, 1, 50) }, FaultPlan::default()).await;
        rig.settings.collect.quiet_poll_interval = Duration::from_secs(quiet_minutes * 60);
        let serving = serve(&rig);
        tokio::time::sleep(2 * HOUR).await;
        rig.emulator.clear_requests();
        tokio::time::sleep(HOUR).await;
        let listings = rig.requests("content");
        assert!(expected.contains(&listings), "{listings} with {quiet_minutes} minutes");
        // A subscription that is listed without its status is looked at every five minutes.
        assert!(rig.requests("list") <= 13, "{}", rig.requests("list"));
        assert_eq!(rig.requests("retrieve") + rig.requests("start"), 0);
        assert!(rig.requests("token") <= 2, "{}", rig.requests("token"));
        serving.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_tenant_is_noticed_within_seconds() {
    let rig = Rig::new(small_world(4, 2, 100), FaultPlan::default()).await;
    let second = rig.tenants()[1];
    rig.ledger.set_tenant_state(second, TenantState::Removed, rig.now()).await.unwrap();
    let serving = serve(&rig);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(serving.collector.board().tenant(second).is_none());
    rig.add_tenant(second).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(serving.collector.board().tenant(second).is_some());
    tokio::time::sleep(Duration::from_secs(120)).await;
    serving.stop().await;
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_tenant_is_asked_for_nothing_and_goes_on_where_it_was() {
    let rig = Rig::new(live_world(5), FaultPlan::default()).await;
    let first = rig.tenants()[0];
    let serving = serve(&rig);
    tokio::time::sleep(HOUR).await;
    rig.ledger.set_tenant_state(first, TenantState::Paused, rig.now()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(serving.collector.board().tenant(first).is_none(), "a paused tenant is off the board");
    rig.emulator.clear_requests();
    tokio::time::sleep(HOUR).await;
    assert_eq!(rig.requests_of(first), 0);
    rig.ledger.set_tenant_state(first, TenantState::Active, rig.now()).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert!(rig.requests_of(first) > 0);
    serving.stop().await;
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_keeps_what_is_whole_and_the_next_run_does_the_rest() {
    let rig = Rig::new(small_world(6, 2, 600), FaultPlan::default()).await;
    let serving = serve(&rig);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let report = serving.stop().await;
    let archived = report.total().archived;
    assert_eq!(report.ended, Ended::Stopped);
    assert!(report.tenants.iter().all(|tenant| tenant.progress.activity == Activity::Idle), "{report:#?}");
    let rows: u64 = rig.coverage().await.iter().map(|row| row.archived).sum();
    assert_eq!(rows, archived, "what the board counts is committed");
    assert!(archived < rig.emulator.world().truth().contents, "it was not stopped in the middle");
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_is_a_poll_at_once() {
    let rig = Rig::new(small_world(7, 1, 50), FaultPlan::default()).await;
    let serving = serve(&rig);
    tokio::time::sleep(HOUR + Duration::from_secs(5)).await;
    rig.emulator.clear_requests();
    serving.collector.wake(rig.tenants()[0]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.requests("content") <= 5);
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_purged_under_its_worker_leaves_nothing_behind() {
    for (seed, noticed) in [(8, true), (9, false)] {
        let mut rig = Rig::new(small_world(seed, 2, 2_000), FaultPlan::default()).await;
        // Many small commits, so that one is under way whenever it happens.
        rig.settings.limits.commit_contents = 3;
        let [first, second] = rig.tenants()[..] else { panic!("two tenants") };
        let serving = serve(&rig);
        while rig.ledger.segments(first).await.unwrap().len() < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        rig.ledger.set_tenant_state(first, TenantState::Removed, rig.now()).await.unwrap();
        if noticed {
            tokio::time::sleep(Duration::from_millis(2_050)).await;
        }
        let order = rig.ledger.purge_tenant(first, rig.now()).await.unwrap();
        // As another process does it: it cannot know what is being written.
        let _ = rig.archive.purge_tenant(first, order.through.0, &mut archive::Purged::default());
        tokio::time::sleep(Duration::from_secs(300)).await;
        let left: Vec<_> = walk(rig.archive.root()).filter(|path| path.contains(&first.to_string())).collect();
        assert_eq!(left, Vec::<String>::new(), "seed {seed}");
        assert!(serving.collector.board().tenant(first).is_none());
        rig.emulator.clear_requests();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(rig.requests_of(first), 0);
        let report = serving.stop().await;
        assert_eq!(report.problem, None);
        assert_eq!(rig.archived().await[&second], rig.published()[&second], "the other one is whole");
    }
}

/// Every file and folder beneath a folder.
fn walk(folder: &std::path::Path) -> Box<dyn Iterator<Item = String>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    Box::new(entries.flat_map(|path| {
        let beneath = if path.is_dir() { walk(&path) } else { Box::new(std::iter::empty()) };
        std::iter::once(path.display().to_string()).chain(beneath)
    }))
}
