//! Files stay few and sound, and what is wrong with one is said until it is mended.

use std::path::PathBuf;
use std::time::Duration;

use emulator::FaultPlan;
use ledger::Ledger;
use server::collector::segments::segment_of;

use crate::rig::{Rig, small_world};

const DAY: Duration = Duration::from_secs(86_400);

/// The sidecar files of a rig's first tenant.
fn sidecars(rig: &Rig) -> Vec<PathBuf> {
    let folder = rig.archive.root().join(format!("_dedup/tenant={}", rig.tenants()[0]));
    let Ok(dates) = std::fs::read_dir(folder) else { return Vec::new() };
    dates.flat_map(|date| std::fs::read_dir(date.unwrap().path()).unwrap()).map(|file| file.unwrap().path()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_damaged_segment_is_named_until_it_is_restored_and_holds_nothing_up() {
    let mut world = small_world(1, 1, 100);
    // Per minute, and days go by.
    world.live_rate = 0.5;
    let rig = Rig::new(world, FaultPlan::default()).await;
    let tenant = rig.tenants()[0];
    rig.collect_once().await;
    let damaged: Vec<_> = rig.ledger.segments(tenant).await.unwrap();
    let files: Vec<PathBuf> =
        damaged.iter().map(|row| rig.archive.segment_path(&segment_of(tenant, row).unwrap())).collect();
    let whole: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for (file, whole) in files.iter().zip(&whole) {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    // More of the same dates comes, and days later is merged with what is there.
    let mut said = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(DAY).await;
        let report = rig.collect_once().await;
        assert!(report.is_complete(), "what is damaged holds up what comes: {report:#?}");
        said = rig.ledger.damaged_segments(tenant).await.unwrap();
        assert_eq!(report.tenants[0].progress.damaged_segments, said.len() as u64);
    }
    assert!(!said.is_empty(), "nobody has looked at the damaged files");
    assert!(said.iter().all(|found| damaged.contains(&found.segment)), "{said:#?}");
    assert!(said[0].problem.contains("changed"), "{said:#?}");

    for (file, whole) in files.iter().zip(&whole) {
        std::fs::write(file, whole).unwrap();
    }
    let report = rig.collect_once().await;
    assert_eq!(rig.ledger.damaged_segments(tenant).await.unwrap(), []);
    assert_eq!(report.tenants[0].progress.damaged_segments, 0);
    rig.check_readable_there().await;
}

#[tokio::test(start_paused = true)]
async fn keys_beside_segments_go_after_a_month_and_repeats_are_known_all_the_same() {
    let rig = Rig::new(small_world(2, 1, 200), FaultPlan::default()).await;
    rig.collect_once().await;
    let before = rig.archived().await;
    let fresh = sidecars(&rig).len();
    assert!(fresh > 0);
    tokio::time::sleep(29 * DAY).await;
    rig.collect_once().await;
    assert!(!sidecars(&rig).is_empty(), "those of yesterday's month are still there");
    tokio::time::sleep(2 * DAY).await;
    rig.collect_once().await;
    assert_eq!(sidecars(&rig), Vec::<PathBuf>::new());
    assert_eq!(rig.archived().await, before);
}
