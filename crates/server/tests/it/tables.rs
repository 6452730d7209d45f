//! The tables that other programs read are what the ledger shows, whatever becomes of publishing, and nothing waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use emulator::FaultPlan;
use emulator::world::Lateness;
use engine::model::TenantState;
use ledger::Ledger;
use protocol::ids::TenantId;
use serde_json::Value;
use server::collector::{Keep, compact, publish};
use server::settings::TableSettings;

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);
const TABLES: TableSettings = TableSettings { interval: Duration::from_secs(60), kept: HOUR };

const KEEP: Keep = Keep { retention: None, tables: Some(TABLES), is_shared: false };

async fn rig(seed: u64, tenants: usize) -> Rig {
    let mut rig = Rig::new(small_world(seed, tenants, 300), FaultPlan::default()).await;
    rig.settings.tables = Some(TABLES);
    rig
}

fn folder(rig: &Rig, tenant: TenantId) -> PathBuf {
    rig.archive.root().join(format!("tenant={tenant}"))
}

/// The entries of a log, as lines.
fn entries(rig: &Rig, tenant: TenantId) -> Vec<Vec<Value>> {
    let log = folder(rig, tenant).join("_delta_log");
    let mut names: Vec<_> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|end| end == "json"));
    names.sort();
    let lines = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    names.into_iter().map(|name| lines(fs::read_to_string(name).unwrap())).collect()
}

/// The files that a table names after its last entry, with their sizes; each is there.
fn snapshot(rig: &Rig, tenant: TenantId) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    for action in entries(rig, tenant).into_iter().flatten() {
        if let Some(add) = action.get("add") {
            files.insert(add["path"].as_str().unwrap().to_owned(), add["size"].as_u64().unwrap());
        }
        if let Some(remove) = action.get("remove") {
            files.remove(remove["path"].as_str().unwrap());
        }
    }
    for (path, bytes) in &files {
        assert_eq!(fs::metadata(folder(rig, tenant).join(path)).unwrap().len(), *bytes, "{path}");
    }
    files
}

/// How many segments lie there, visible or not.
fn data_files(rig: &Rig, tenant: TenantId) -> usize {
    let folders = fs::read_dir(folder(rig, tenant)).unwrap().map(|entry| entry.unwrap().path());
    let dates = folders.filter(|path| !path.ends_with("_delta_log"));
    dates.map(|date| fs::read_dir(date).unwrap().count()).sum()
}

async fn check_published(rig: &Rig) {
    for tenant in rig.tenants() {
        let rows = rig.ledger.segments(tenant).await.unwrap();
        let name = |path: PathBuf| path.iter().skip(1).collect::<PathBuf>().to_str().unwrap().to_owned();
        let segment = |row| server::collector::segments::segment_of(tenant, row).unwrap();
        let shown: BTreeMap<_, _> = rows.iter().map(|row| (name(segment(row).path()), row.bytes)).collect();
        assert_eq!(snapshot(rig, tenant), shown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_with_its_tables_published() {
    let rig = rig(41, 2).await;
    rig.collect_once().await;
    rig.check_all_there().await;
    check_published(&rig).await;
    let before = entries(&rig, rig.tenants()[0]).len();
    rig.collect_once().await;
    assert_eq!(entries(&rig, rig.tenants()[0]).len(), before, "there is nothing new to publish");
    assert!(!rig.metrics.encode().contains("tenantry_table_entries_total 0"));
}

#[tokio::test(start_paused = true)]
async fn while_records_come_in_each_interval_has_an_entry_at_most() {
    let mut world = small_world(42, 1, 300);
    // For two hours there is something new again and again.
    world.lateness = Lateness { share: 0.8, after_start: Some(2 * HOUR), ..world.lateness };
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    rig.settings.tables = Some(TABLES);
    let tenant = rig.tenants()[0];
    let collector = rig.collector();
    let report = collector.run(tokio::time::sleep(3 * HOUR)).await.unwrap();
    assert_eq!(report.problem, None);
    let times: Vec<i64> =
        entries(&rig, tenant).iter().map(|entry| entry[0]["commitInfo"]["timestamp"].as_i64().unwrap()).collect();
    let distinct: BTreeSet<_> = times.iter().collect();
    assert!(distinct.len() > 3, "{times:?}");
    let minute = |at: &&i64| **at / 60_000;
    let minutes: Vec<_> = distinct.iter().map(minute).collect();
    assert!(minutes.windows(2).all(|pair| pair[0] < pair[1]), "{minutes:?}");
    rig.collect_once().await;
    check_published(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_is_told_and_hinders_nothing_and_comes_later() {
    let rig = rig(43, 1).await;
    let tenant = rig.tenants()[0];
    fs::create_dir_all(folder(&rig, tenant)).unwrap();
    fs::write(folder(&rig, tenant).join("_delta_log"), "in the way").unwrap();
    let collector = rig.collector();
    let story = async {
        tokio::time::sleep(HOUR).await;
        let metrics = rig.metrics.encode();
        assert!(metrics.contains("tenantry_tables_behind 1"), "{metrics}");
        assert!(metrics.contains(r#"tenantry_errors_total{kind="table_not_published"}"#), "{metrics}");
        fs::remove_file(folder(&rig, tenant).join("_delta_log")).unwrap();
        tokio::time::sleep(HOUR).await;
        assert!(rig.metrics.encode().contains("tenantry_tables_behind 0"));
    };
    let report = collector.run(story).await.unwrap();
    assert_eq!(report.problem, None);
    rig.collect_once().await;
    rig.check_all_there().await;
    check_published(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn files_that_were_merged_away_stay_for_readers_as_long_as_was_said() {
    let rig = rig(44, 1).await;
    let tenant = rig.tenants()[0];
    // So that there is much to merge, and all of it published before.
    rig.collector().run(tokio::time::sleep(3 * HOUR)).await.unwrap();
    rig.collect_once().await;
    tokio::time::sleep(Duration::from_secs(5 * 86_400)).await;
    let compact = async || compact(&rig.ledger, &rig.archive, &*rig.clock, KEEP, tenant).await.unwrap();
    let files = data_files(&rig, tenant);
    let merged = compact().await;
    assert!(merged.removed > merged.added, "{merged:?}");
    check_published(&rig).await;
    assert!(data_files(&rig, tenant) >= files, "a reader may have them open");
    let last = entries(&rig, tenant).pop().unwrap();
    let is_same = |action: &Value| {
        let change = ["add", "remove"].iter().find_map(|kind| action.get(kind)?.get("dataChange"));
        change.is_none_or(|change| *change == Value::Bool(false))
    };
    assert!(last.iter().all(is_same), "a merge changes no data");
    tokio::time::sleep(HOUR - Duration::from_secs(1)).await;
    compact().await;
    assert!(data_files(&rig, tenant) >= files);
    tokio::time::sleep(Duration::from_secs(1)).await;
    compact().await;
    assert_eq!(data_files(&rig, tenant), rig.ledger.segments(tenant).await.unwrap().len());
    check_published(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_read_keeps_files_that_nobody_sees_and_hinders_nothing_else() {
    let mut rig = rig(49, 1).await;
    let tenant = rig.tenants()[0];
    rig.collector().run(tokio::time::sleep(3 * HOUR)).await.unwrap();
    rig.collect_once().await;
    tokio::time::sleep(Duration::from_secs(5 * 86_400)).await;
    compact(&rig.ledger, &rig.archive, &*rig.clock, KEEP, tenant).await.unwrap();
    let obsolete = rig.ledger.obsolete(tenant).await.unwrap();
    assert!(!obsolete.is_empty(), "there is something to delete");
    tokio::time::sleep(2 * HOUR).await;
    let (log, aside) = (folder(&rig, tenant).join("_delta_log"), rig.archive.root().parent().unwrap().join("aside"));
    fs::rename(&log, &aside).unwrap();
    fs::write(&log, "in the way").unwrap();
    // As another process, which has to read it.
    rig.archive = archive::Archive::open(&archive::ArchiveOptions::at(rig.archive.root())).unwrap();
    let collector = rig.collector();
    let story = async {
        tokio::time::sleep(HOUR).await;
        let metrics = rig.metrics.encode();
        assert!(metrics.contains("tenantry_tables_behind 1"), "{metrics}");
        assert_eq!(rig.ledger.obsolete(tenant).await.unwrap(), obsolete);
        fs::remove_file(&log).unwrap();
        fs::rename(&aside, &log).unwrap();
        tokio::time::sleep(2 * HOUR).await;
        assert!(rig.metrics.encode().contains("tenantry_tables_behind 0"));
        assert_eq!(rig.ledger.obsolete(tenant).await.unwrap(), []);
    };
    let report = collector.run(story).await.unwrap();
    assert_eq!(report.problem, None);
    check_published(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_retention_leaves_the_table_before_its_files_go() {
    let mut rig = rig(45, 1).await;
    rig.collect_once().await;
    rig.settings.retention = Some(Duration::from_secs(20 * 86_400));
    let tenant = rig.tenants()[0];
    tokio::time::sleep(Duration::from_secs(40 * 86_400)).await;
    let files = data_files(&rig, tenant);
    rig.collect_once().await;
    assert_eq!(snapshot(&rig, tenant), BTreeMap::new());
    assert_eq!(data_files(&rig, tenant), files);
    tokio::time::sleep(HOUR).await;
    rig.collect_once().await;
    assert_eq!(data_files(&rig, tenant), 0);
}

#[tokio::test(start_paused = true)]
async fn a_table_can_be_made_again_from_the_ledger() {
    let rig = rig(46, 1).await;
    let tenant = rig.tenants()[0];
    rig.collect_once().await;
    let log = folder(&rig, tenant).join("_delta_log");
    fs::remove_dir_all(&log).unwrap();
    // As another process.
    let archive = archive::Archive::open(&archive::ArchiveOptions::at(rig.archive.root())).unwrap();
    let again = async |rebuild| publish(&rig.ledger, &archive, &*rig.clock, TABLES, tenant, rebuild).await.unwrap();
    assert_eq!(again(true).await, 1);
    check_published(&rig).await;
    assert_eq!(again(false).await, 0);
    assert_eq!(again(true).await, 1, "as often as anybody wants");
    check_published(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn the_table_of_a_paused_tenant_is_published_however_late_and_shortened() {
    let mut rig = rig(47, 1).await;
    let tenant = rig.tenants()[0];
    let log = folder(&rig, tenant).join("_delta_log");
    fs::create_dir_all(folder(&rig, tenant)).unwrap();
    fs::write(&log, "in the way").unwrap();
    rig.collect_once().await;
    rig.ledger.set_tenant_state(tenant, TenantState::Paused, rig.now()).await.unwrap();
    fs::remove_file(&log).unwrap();
    // What was not published before it was paused.
    rig.collect_once().await;
    check_published(&rig).await;
    assert!(!snapshot(&rig, tenant).is_empty());
    // And what could not be while its records went.
    let next = log.join(format!("{:020}.json", entries(&rig, tenant).len()));
    fs::create_dir(&next).unwrap();
    rig.settings.retention = Some(Duration::from_secs(20 * 86_400));
    tokio::time::sleep(Duration::from_secs(40 * 86_400)).await;
    let collector = rig.collector();
    let story = async {
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(rig.ledger.segments(tenant).await.unwrap(), Vec::new());
        fs::remove_dir(&next).unwrap();
        assert!(!snapshot(&rig, tenant).is_empty(), "what it names is there");
        tokio::time::sleep(3 * HOUR).await;
    };
    collector.run(story).await.unwrap();
    assert_eq!(snapshot(&rig, tenant), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_given_up_is_not_counted_among_those_behind_any_more() {
    let rig = rig(48, 1).await;
    let tenant = rig.tenants()[0];
    fs::create_dir_all(folder(&rig, tenant)).unwrap();
    fs::write(folder(&rig, tenant).join("_delta_log"), "in the way").unwrap();
    let collector = rig.collector();
    let story = async {
        tokio::time::sleep(HOUR).await;
        assert!(rig.metrics.encode().contains("tenantry_tables_behind 1"));
    };
    collector.run(story).await.unwrap();
    drop(collector);
    assert!(rig.metrics.encode().contains("tenantry_tables_behind 0"), "who has it now counts it");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_something_stood_in_the_way_is_published_all_the_same() {
    let mut world = small_world(49, 1, 300);
    world.lateness = Lateness { share: 0.8, after_start: Some(2 * HOUR), ..world.lateness };
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    rig.settings.tables = Some(TableSettings { interval: 12 * HOUR, ..TABLES });
    let (tenant, client) = (rig.tenants()[0], rig.settings.app.client_id);
    let story = async {
        tokio::time::sleep(HOUR / 2).await;
        // The token that is there lasts a little longer, and after that nothing can be asked.
        rig.emulator.world().set_roles(tenant, client, None);
        tokio::time::sleep(4 * HOUR).await;
        check_published(&rig).await;
    };
    rig.collector().run(story).await.unwrap();
    assert!(entries(&rig, tenant).len() > 1, "all of it was there at once");
}
