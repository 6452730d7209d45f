//! `collect --once`: everything that was published is archived, once.

use emulator::FaultPlan;
use server::collector::Ended;

use crate::rig::{Rig, small_world};

#[tokio::test(start_paused = true)]
async fn everything_published_is_archived_once() {
    let rig = Rig::new(small_world(1, 3, 400), FaultPlan::default()).await;
    let report = rig.collect_once().await;
    assert_eq!(report.ended, Ended::CaughtUp);
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
}
