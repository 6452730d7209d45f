//! Tenants that are purged, and tenants that only seem to be: what was ordered to be deleted goes, whoever is stopped in the
//! middle, and what nobody ordered to be deleted stays.

use std::time::Duration;

use emulator::FaultPlan;
use engine::evidence::{ActivityFilter, ActivityKind};
use engine::lease::Epoch;
use engine::model::TenantState;
use ledger::Ledger;
use protocol::ids::TenantId;
use server::collector::purge;

use crate::rig::{Rig, small_world};

const MINUTE: Duration = Duration::from_secs(60);

async fn order(rig: &Rig, tenant: TenantId) -> engine::evidence::Purge {
    rig.ledger.set_tenant_state(tenant, TenantState::Removed, rig.now()).await.unwrap();
    rig.ledger.purge_tenant(tenant, rig.now()).await.unwrap()
}

async fn purged(rig: &Rig) -> Vec<String> {
    let filter = ActivityFilter { kind: Some(ActivityKind::Purged), ..ActivityFilter::default() };
    rig.ledger.activity(filter, 10).await.unwrap().into_iter().map(|entry| entry.details).collect()
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_left_half_done_is_carried_out_by_the_collector_and_noted() {
    let rig = Rig::new(small_world(61, 2, 200), FaultPlan::default()).await;
    rig.collect_once().await;
    let [first, second] = rig.tenants()[..] else { panic!("two tenants") };
    let files = rig.parquet_files(first);
    // Whoever gave the order was killed before it had deleted anything.
    let given = order(&rig, first).await;
    assert!(files > 0 && given.segments == files as u64 && given.records > 0);
    assert_eq!((rig.parquet_files(first), purged(&rig).await), (files, Vec::new()));
    rig.collector().run(tokio::time::sleep(3 * MINUTE)).await.unwrap();
    assert_eq!(rig.parquet_files(first), 0);
    assert!(!rig.archive.tenants().unwrap().contains(&first));
    let done = rig.ledger.purge(first).await.unwrap().unwrap();
    assert!(done.done_at.is_some() && done.deleted.files >= files as u64 && done.deleted.bytes > 0, "{done:?}");
    let [told] = &purged(&rig).await[..] else { panic!("once") };
    assert!(told.contains(&format!("\"records\":{}", given.records)), "{told}");
    assert_eq!(rig.archived().await[&second], rig.published()[&second], "the other one is whole");
    // What a straggler has left since goes too.
    let folder = rig.archive.root().join(format!("tenant={first}/date=2026-03-04"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("9-0.parquet"), b"late").unwrap();
    rig.collector().run(tokio::time::sleep(3 * MINUTE)).await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_carries_orders_out_too() {
    let rig = Rig::new(small_world(62, 2, 100), FaultPlan::default()).await;
    rig.collect_once().await;
    let first = rig.tenants()[0];
    order(&rig, first).await;
    rig.collect_once().await;
    assert_eq!(rig.parquet_files(first), 0);
    assert!(rig.ledger.purge(first).await.unwrap().unwrap().done_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_the_ledger_has_forgotten_without_an_order_keeps_its_files() {
    let rig = Rig::new(small_world(63, 2, 200), FaultPlan::default()).await;
    rig.collect_once().await;
    let first = rig.tenants()[0];
    let files = rig.parquet_files(first);
    let story = async {
        tokio::time::sleep(MINUTE).await;
        // As if another ledger, older than this tenant, had been put in its place.
        rig.forget(first);
        tokio::time::sleep(120 * MINUTE).await;
    };
    rig.collector().run(story).await.unwrap();
    assert!(files > 0);
    assert_eq!(rig.parquet_files(first), files, "nobody has ordered them deleted");
    rig.collect_once().await;
    assert_eq!(rig.parquet_files(first), files);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_comes_back_after_its_purge_is_collected_anew_under_a_later_epoch() {
    let rig = Rig::new(small_world(64, 2, 200), FaultPlan::default()).await;
    let first = rig.tenants()[0];
    let story = async {
        while rig.ledger.segments(first).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let given = order(&rig, first).await;
        let clock = &*rig.clock;
        let done = purge(&rig.ledger, &rig.archive, clock, &given).await.unwrap();
        assert_eq!(done.left, 0);
        rig.add_tenant(first).await;
        assert_eq!(rig.ledger.tenant(first).await.unwrap().unwrap().epoch, Epoch(1));
        tokio::time::sleep(60 * MINUTE).await;
        // Somebody wakes up in the middle of the purge.
        let mut late = archive::Purged::default();
        rig.archive.purge_tenant(first, given.through.0, &mut late).unwrap();
        assert!(late.later > 0, "{late:?}");
    };
    rig.collector().run(story).await.unwrap();
    assert_eq!(rig.archived().await[&first], rig.published()[&first]);
    rig.check_no_orphans().await;
}
