//! Records past their retention go by whole dates, files and all, and nothing else goes; nothing that could still be
//! delivered once more.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use chrono::{NaiveDate, TimeDelta};
use emulator::{FaultPlan, default_app};
use engine::model::{Expired, TenantState};
use engine::retention::RETENTION_MIN;
use ledger::Ledger;
use protocol::ids::TenantId;
use record::View;
use server::archive::Reading;
use server::collector::{Keep, compact};

use crate::rig::{Rig, small_world, start};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

fn date_of(raw: &[u8]) -> NaiveDate {
    View::read(raw).creation_time.unwrap().date_naive()
}

async fn dates(rig: &Rig, tenant: TenantId) -> BTreeSet<String> {
    let segments = rig.ledger.segments(tenant).await.unwrap();
    segments.into_iter().map(|segment| segment.date).collect()
}

#[tokio::test(start_paused = true)]
async fn a_date_goes_when_its_last_second_is_past_the_retention_and_later_ones_stay_whole() {
    let mut rig = Rig::new(small_world(21, 1, 300), FaultPlan::default()).await;
    rig.settings.retention = Some(30 * DAY);
    let tenant = rig.tenants()[0];
    rig.collect_once().await;
    let all = rig.archived().await.remove(&tenant).unwrap();
    let before = dates(&rig, tenant).await;
    assert!(before.len() >= 4, "{before:?}");
    // To the last minute of the day after which the oldest date is past its retention.
    let oldest: NaiveDate = before.first().unwrap().parse().unwrap();
    let goes_at = oldest.succ_opt().unwrap().and_time(chrono::NaiveTime::MIN).and_utc() + 30 * DAY;
    tokio::time::sleep((goes_at - rig.now()).to_std().unwrap() - 60 * Duration::from_secs(60)).await;
    rig.collect_once().await;
    assert_eq!(dates(&rig, tenant).await, before, "nothing goes before it is due");
    assert_eq!(rig.ledger.retained(tenant).await.unwrap().kept_since, None);
    let gaps = |coverage: Vec<engine::model::Coverage>| coverage.into_iter().map(|row| row.gaps).collect::<Vec<_>>();
    let gaps_before = gaps(rig.coverage().await);

    tokio::time::sleep(60 * Duration::from_secs(60)).await;
    rig.collect_once().await;
    let kept: BTreeSet<Bytes> = all.iter().filter(|raw| date_of(raw) > oldest).cloned().collect();
    assert!(!kept.is_empty() && kept.len() < all.len());
    assert_eq!(rig.archived().await[&tenant], kept);
    rig.check_no_orphans().await;
    let retained = rig.ledger.retained(tenant).await.unwrap();
    assert_eq!(retained.kept_since, oldest.succ_opt());
    assert_eq!(retained.expired.records, (all.len() - kept.len()) as u64);
    let lengths = |gaps: &[Vec<engine::model::Gap>]| gaps.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&gaps(rig.coverage().await)), lengths(&gaps_before), "what went on purpose is no gap");
    assert!(rig.metrics.encode().contains(&format!("tenantry_records_expired_total {}", retained.expired.records)));

    tokio::time::sleep(10 * DAY).await;
    rig.collect_once().await;
    assert_eq!(dates(&rig, tenant).await, BTreeSet::new());
    rig.check_no_orphans().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_be_delivered_again_stays_however_old_it_is() {
    let mut rig = Rig::new(small_world(22, 1, 200), FaultPlan::default()).await;
    rig.settings.retention = Some(RETENTION_MIN);
    let tenant = rig.tenants()[0];
    rig.collect_once().await;
    let before = rig.archived().await;
    // The oldest records are three days older than that.
    tokio::time::sleep(RETENTION_MIN - 60 * Duration::from_secs(60)).await;
    rig.collect_once().await;
    assert_eq!(rig.archived().await, before);
    tokio::time::sleep(2 * 60 * Duration::from_secs(60)).await;
    rig.collect_once().await;
    let left = dates(&rig, tenant).await;
    assert_eq!(left.first().unwrap(), &start().date_naive().to_string(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn tenants_that_are_not_collected_keep_no_longer_than_others() {
    let mut rig = Rig::new(small_world(23, 3, 100), FaultPlan::default()).await;
    rig.collect_once().await;
    let [paused, removed, active] = rig.tenants()[..] else { panic!("three tenants") };
    rig.ledger.set_tenant_state(paused, TenantState::Paused, rig.now()).await.unwrap();
    rig.ledger.set_tenant_state(removed, TenantState::Removed, rig.now()).await.unwrap();
    tokio::time::sleep(60 * DAY).await;
    rig.collect_once().await;
    assert_eq!(rig.archived().await.len(), 3, "without a retention everything stays");
    rig.settings.retention = Some(30 * DAY);
    rig.collect_once().await;
    for tenant in [paused, removed, active] {
        assert_eq!(dates(&rig, tenant).await, BTreeSet::new(), "{tenant}");
    }
    rig.check_no_orphans().await;
}

#[tokio::test(start_paused = true)]
async fn all_day_a_paused_tenants_records_go_and_their_files_after_the_grace() {
    let mut rig = Rig::new(small_world(24, 1, 100), FaultPlan::default()).await;
    rig.collect_once().await;
    let tenant = rig.tenants()[0];
    rig.ledger.set_tenant_state(tenant, TenantState::Paused, rig.now()).await.unwrap();
    rig.settings.retention = Some(20 * DAY);
    // Nobody comes or goes meanwhile, and a month has many seconds.
    rig.settings.limits.tenants_interval = DAY;
    let files = rig.parquet_files(tenant);
    let collector = rig.collector();
    let story = async {
        tokio::time::sleep(30 * DAY).await;
    };
    let report = collector.run(story).await.unwrap();
    assert_eq!(report.problem, None);
    assert_eq!(dates(&rig, tenant).await, BTreeSet::new());
    assert!(files > 0);
    rig.check_no_orphans().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_lets_nobody_in_any_more_keeps_no_longer_than_others() {
    let mut rig = Rig::new(small_world(26, 1, 100), FaultPlan::default()).await;
    rig.collect_once().await;
    let first = rig.tenants()[0];
    rig.emulator.world().set_roles(first, default_app(26).client_id, None);
    rig.settings.retention = Some(30 * DAY);
    let files = rig.parquet_files(first);
    tokio::time::sleep(60 * DAY).await;
    rig.collector().run(tokio::time::sleep(DAY / 6)).await.unwrap();
    assert_eq!(rig.ledger.tenant(first).await.unwrap().unwrap().problem.unwrap().kind, "consent_missing");
    assert!(files > 0);
    assert_eq!(dates(&rig, first).await, BTreeSet::new());
    assert_eq!(rig.parquet_files(first), 0, "and their files");
}

#[tokio::test(start_paused = true)]
async fn a_held_tenant_keeps_what_is_past_its_retention_until_it_is_released() {
    let mut rig = Rig::new(small_world(27, 2, 100), FaultPlan::default()).await;
    rig.collect_once().await;
    let [held, other] = rig.tenants()[..] else { panic!("two tenants") };
    let before = dates(&rig, held).await;
    rig.ledger.hold_tenant(held, "case 17".to_owned(), rig.now()).await.unwrap();
    rig.settings.retention = Some(30 * DAY);
    tokio::time::sleep(60 * DAY).await;
    rig.collect_once().await;
    assert_eq!((dates(&rig, held).await, dates(&rig, other).await), (before, BTreeSet::new()));
    assert_eq!(rig.archived().await[&held], rig.published()[&held]);
    rig.ledger.release_tenant(held, rig.now()).await.unwrap();
    rig.collect_once().await;
    assert_eq!(dates(&rig, held).await, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn files_that_nobody_sees_any_more_stay_as_long_as_somebody_reads_but_not_for_ever() {
    for hangs in [false, true] {
        let mut rig = Rig::new(small_world(28, 1, 100), FaultPlan::default()).await;
        rig.collect_once().await;
        let tenant = rig.tenants()[0];
        rig.settings.retention = Some(30 * DAY);
        tokio::time::sleep(60 * DAY).await;
        let files = rig.parquet_files(tenant);
        let reading = Reading::begin(rig.archive.root());
        rig.collect_once().await;
        assert!(files > 0 && dates(&rig, tenant).await.is_empty());
        assert_eq!(rig.parquet_files(tenant), files, "another process reads them");
        // All day it is the same.
        rig.collector().run(tokio::time::sleep(12 * HOUR)).await.unwrap();
        assert_eq!(rig.parquet_files(tenant), files, "it still does");
        if hangs {
            rig.collector().run(tokio::time::sleep(14 * HOUR)).await.unwrap();
            assert_eq!(rig.parquet_files(tenant), 0, "it has read for a day");
        }
        drop(reading);
        rig.collect_once().await;
        assert_eq!(rig.parquet_files(tenant), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn compacting_takes_away_what_is_past_its_retention() {
    let rig = Rig::new(small_world(25, 1, 100), FaultPlan::default()).await;
    rig.collect_once().await;
    let tenant = rig.tenants()[0];
    let segments = rig.ledger.segments(tenant).await.unwrap();
    let (count, records) = (segments.len() as u64, segments.iter().map(|segment| segment.rows).sum());
    tokio::time::sleep(60 * DAY).await;
    let compacted =
        compact(&rig.ledger, &rig.archive, &*rig.clock, Keep { retention: Some(30 * DAY), ..Keep::default() }, tenant)
            .await
            .unwrap();
    assert_eq!(compacted.expired, Expired { segments: count, records });
    rig.check_no_orphans().await;
    assert_eq!(dates(&rig, tenant).await, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_years_ahead_takes_nothing_away() {
    let mut rig = Rig::new(small_world(25, 1, 100), FaultPlan::default()).await;
    rig.settings.retention = Some(30 * DAY);
    let tenant = rig.tenants()[0];
    rig.collect_once().await;
    let (records, rows) = (rig.archived().await, rig.ledger.segments(tenant).await.unwrap());
    assert!(!rows.is_empty());
    let collector = rig.collector_ahead(TimeDelta::days(3 * 365));
    collector.run(tokio::time::sleep(2 * 60 * Duration::from_secs(60))).await.unwrap();
    assert_eq!(rig.archived().await, records);
    // It is set right: what was known is still known, so that nothing is fetched to no purpose, and nothing is missing.
    rig.collect_once().await;
    assert_eq!(rig.archived().await, rig.published());
    assert_eq!(rig.ledger.retained(tenant).await.unwrap().kept_since, None);
}
