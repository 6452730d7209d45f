//! How soon and how fast: from publication to a queryable record, and back from days of outage, within the budget.

use std::time::Duration;

use chrono::TimeDelta;
use emulator::world::ContentTruth;
use emulator::{FaultPlan, WorldOptions};
use engine::model::ContentState;
use ledger::Ledger;
use protocol::ids::ContentType;

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);

/// Polls every 5 s and commits every 1 s: p99 of what was published is in the archive within 7 s.
#[tokio::test(start_paused = true)]
async fn polling_every_five_seconds_makes_records_queryable_within_seven() {
    let mut world = WorldOptions { live_rate: 120.0, history: Duration::from_secs(86_400), ..small_world(31, 1, 50) };
    // Many small blobs: what counts is how many there are.
    (world.blobs.median, world.blobs.max) = (2, 10);
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    rig.settings.collect.poll_interval = Duration::from_secs(5);
    rig.settings.collect.commit_interval = Duration::from_secs(1);
    rig.settings.collect.content_types = vec![ContentType::Exchange];
    let collector = rig.collector();
    let measured = async {
        tokio::time::sleep(Duration::from_secs(300)).await;
        let from = rig.now();
        // The emulated world can be asked what it is going to publish.
        rig.emulator.world().clock().set(from + TimeDelta::minutes(45));
        let mut waiting: Vec<ContentTruth> = rig.emulator.world().contents().collect();
        rig.emulator.world().clock().set(from);
        waiting.retain(|content| content.content_type == ContentType::Exchange && content.available > from);
        let mut seconds = Vec::new();
        while rig.now() < from + TimeDelta::minutes(40) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut left = Vec::new();
            for content in waiting {
                if content.available > rig.now() {
                    left.push(content);
                    continue;
                }
                let id = content.content_id.clone();
                let state = rig.ledger.content_state(content.tenant, ContentType::Exchange, id).await.unwrap();
                if state == Some(ContentState::Archived) {
                    seconds.push((rig.now() - content.available).as_seconds_f64());
                } else {
                    left.push(content);
                }
            }
            waiting = left;
        }
        let overdue = waiting.iter().filter(|content| content.available < rig.now() - TimeDelta::seconds(15)).count();
        assert_eq!(overdue, 0);
        seconds
    };
    let mut seconds = tokio::select! {
        report = collector.run(std::future::pending()) => panic!("{report:?}"),
        seconds = measured => seconds,
    };
    seconds.sort_by(f64::total_cmp);
    assert!(seconds.len() > 100, "{} contents prove little", seconds.len());
    let at = |percent: usize| seconds[(seconds.len() - 1) * percent / 100];
    println!("{} contents: p50 {:.2} s, p99 {:.2} s, longest {:.2} s", seconds.len(), at(50), at(99), at(100));
    assert!(at(99) < 7.0, "p99 {:.2} s", at(99));
}

/// Requests to the Activity API so far; those for a token have no part in a tenant's budget.
fn asked(rig: &Rig) -> u64 {
    rig.emulator.requests().iter().filter(|row| row.operation != "token").map(|row| row.count).sum()
}

/// Six days away, then back with a budget of few requests: nothing that could be had is lost, and the fresh comes first.
#[tokio::test(start_paused = true)]
async fn after_six_days_away_everything_is_caught_up_within_the_budget() {
    for (seed, faults) in [(41, "none"), (42, "ten-percent")] {
        let mut world = small_world(seed, 1, 0);
        world.history = Duration::from_secs(86_400);
        world.records_total = Some(50);
        world.live_rate = 3.0;
        let mut rig = Rig::new(world, FaultPlan::preset(faults, seed).unwrap()).await;
        rig.settings.collect.requests_per_minute = 60;
        rig.catch_up_and_check().await;
        tokio::time::sleep(6 * 24 * HOUR).await;
        rig.emulator.clear_requests();
        let began = rig.now();
        let collector = rig.collector();
        let board = collector.board().clone();
        let watched = async {
            let mut most = 0;
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                let made = asked(&rig);
                most = most.max(made - before);
                before = made;
                let pending = board.snapshot().pending();
                let coverage = rig.coverage().await;
                let fresh = coverage.iter().all(|row| {
                    row.complete_through.is_some_and(|through| rig.now() - through < TimeDelta::minutes(10))
                });
                if pending == 0 && fresh {
                    return most;
                }
                assert!(rig.now() - began < TimeDelta::hours(20), "seed {seed}: {pending} pending, {coverage:#?}");
            }
        };
        let most = tokio::select! {
            report = collector.run(std::future::pending()) => panic!("{report:?}"),
            most = watched => most,
        };
        // A minute's budget and one burst.
        assert!(most <= 61, "seed {seed}: {most} requests in one minute");
        println!("seed {seed}: caught up after {} minutes", (rig.now() - began).num_minutes());
        for row in rig.coverage().await {
            assert!(row.lost.is_empty() && row.gaps.is_empty(), "seed {seed}: {row:#?}");
        }
        rig.catch_up_and_check().await;
    }
}

/// Tokens that are refused, and new ones that take their time: those who wait for one do not all go out when it comes.
#[tokio::test(start_paused = true)]
async fn who_waited_for_a_token_waits_for_its_turn_too() {
    let plan = "[[rule]]\noperations = [\"retrieve\"]\neffect = \"unauthorized\"\nevery = 25\n\
                [[rule]]\noperations = [\"token\"]\neffect = \"delay\"\nby = \"20s\"\nevery = 1\n";
    let mut world = small_world(54, 1, 600);
    (world.blobs.median, world.blobs.max) = (1, 2);
    let mut rig = Rig::new(world, FaultPlan::parse(plan).unwrap()).await;
    rig.settings.collect.requests_per_minute = 60;
    let collector = rig.collector();
    let watched = async {
        let mut made = vec![0];
        for _ in 0..20 * 60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            made.push(asked(&rig));
        }
        made
    };
    let made = tokio::select! {
        report = collector.run(std::future::pending()) => panic!("{report:?}"),
        made = watched => made,
    };
    let refused: u64 = rig.emulator.requests().iter().filter(|row| row.status == 401).map(|row| row.count).sum();
    assert!(refused > 5, "{refused} tokens were refused");
    let most = made.windows(61).map(|minute| minute[60] - minute[0]).max();
    assert!(most <= Some(61), "{most:?} requests in one minute");
    drop(collector);
    rig.catch_up_and_check().await;
}

/// A storm of faults and slow answers in one, ended after an hour: it is waited out, shown, and over.
#[tokio::test(start_paused = true)]
async fn a_storm_is_waited_out_and_costs_nothing() {
    for (seed, rule) in [
        (51, "operations = [\"content\", \"retrieve\"]\neffect = \"server_error\"\nstatus = 503\nprobability = 0.9"),
        (52, "operations = [\"retrieve\"]\neffect = \"slow\"\nbytes_per_second = 200\nprobability = 0.7"),
    ] {
        let mut world = small_world(seed, 2, 60);
        world.live_rate = 1.0;
        let plan = FaultPlan::parse(&format!("[[rule]]\n{rule}\n")).unwrap();
        let rig = Rig::new(world, plan).await;
        let collector = rig.collector();
        let story = async {
            tokio::time::sleep(HOUR).await;
            assert!(!rig.emulator.world().faults_struck().is_empty(), "{rule}: it never struck");
            rig.emulator.world().set_faults(FaultPlan::default());
            tokio::time::sleep(2 * HOUR).await;
        };
        tokio::select! {
            report = collector.run(std::future::pending()) => panic!("{report:?}"),
            () = story => {}
        }
        for row in rig.coverage().await {
            assert!(row.lost.is_empty() && row.problem.is_none(), "{rule}: {row:#?}");
            assert!(rig.now() - row.complete_through.unwrap() < TimeDelta::minutes(20), "{rule}: {row:#?}");
        }
        drop(collector);
        rig.catch_up_and_check().await;
    }
}

/// What was being read when the tenant stopped letting anybody in comes to its end; nobody runs in circles until then.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_ends_while_the_tenant_is_held_up() {
    let slow = "[[rule]]\noperations = [\"retrieve\"]\neffect = \"slow\"\nbytes_per_second = 5\nevery = 1\n";
    let shut = "[[rule]]\noperations = [\"content\"]\neffect = \"unauthorized\"\nevery = 1\n\
                [[rule]]\noperations = [\"token\"]\neffect = \"aadsts\"\nnumber = 65001\nevery = 1\n";
    let mut rig = Rig::new(small_world(53, 1, 20), FaultPlan::parse(slow).unwrap()).await;
    rig.settings.collect.poll_interval = Duration::from_secs(60);
    let tenant = rig.tenants()[0];
    let collector = rig.collector();
    let story = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        rig.emulator.world().set_faults(FaultPlan::parse(&format!("{slow}{shut}")).unwrap());
        tokio::time::sleep(Duration::from_secs(300)).await;
        let held = collector.board().tenant(tenant).unwrap();
        assert_eq!(held.problem.as_ref().map(|problem| problem.kind.as_str()), Some("consent_missing"), "{held:?}");
        assert!(held.pending > 0, "not everything has come to its end yet");
        tokio::time::sleep(40 * Duration::from_secs(60)).await;
    };
    tokio::select! {
        report = collector.run(std::future::pending()) => panic!("{report:?}"),
        () = story => {}
    }
    assert!(!rig.ledger.segments(tenant).await.unwrap().is_empty());
    drop(collector);
    rig.emulator.world().set_faults(FaultPlan::default());
    rig.catch_up_and_check().await;
}
