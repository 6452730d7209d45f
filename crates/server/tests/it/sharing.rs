//! Several collectors that share one ledger's tenants: each tenant is one's at a time, all are somebody's, and nothing is lost
//! or stored twice when one of them stops, dies, or is taken for dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use emulator::{FaultPlan, WorldOptions};
use engine::lease::{LEASE_TIME, WorkerId};
use engine::model::TenantState;
use ledger::{Ledger, Workers};
use server::clock::Clock;
use server::collector::{Sharing, Webhooks};
use server::{Collector, RunReport};
use tokio::sync::oneshot;

use crate::durable::{Fate, FaultyLedger};
use crate::rig::{Rig, small_world};

const MINUTE: Duration = Duration::from_secs(60);

async fn rig(seed: u64) -> Rig {
    let world = WorldOptions { live_rate: 6.0, history: Duration::from_secs(86_400), ..small_world(seed, 6, 60) };
    let mut rig = Rig::new(world, FaultPlan::default()).await;
    rig.settings.limits.tenants_interval = MINUTE;
    rig
}

fn worker(number: u8) -> WorkerId {
    WorkerId([number; 16])
}

fn collector(rig: &Rig, number: u8, workers: Arc<dyn Workers>) -> Collector {
    let parts = rig.parts(rig.transport(), Arc::new(rig.ledger.clone()));
    let sharing = Sharing {
        workers,
        worker: worker(number),
        name: format!("worker {number}"),
        lease_time: LEASE_TIME,
        alone: false,
    };
    Collector::sharing(rig.settings.clone(), &parts, Webhooks::LeaveAlone, Some(sharing))
}

/// A collector at work in a task of its own, until it is told to stop.
struct AtWork {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<RunReport>,
}

impl AtWork {
    fn begin(rig: &Rig, number: u8) -> Self {
        Self::begin_with(rig, number, Arc::new(rig.ledger.clone()))
    }

    fn begin_with(rig: &Rig, number: u8, workers: Arc<dyn Workers>) -> Self {
        let (collector, (stop, stopped)) = (collector(rig, number, workers), oneshot::channel());
        let stopping = async move {
            let _ = stopped.await;
        };
        Self { stop, task: tokio::spawn(async move { collector.run(stopping).await.unwrap() }) }
    }

    async fn stop(self) -> RunReport {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }
}

async fn held(rig: &Rig, number: u8) -> usize {
    rig.ledger.held(worker(number)).await.unwrap().len()
}

/// The last of the world's contents are listed, fetched and compared by a collector that has it all for itself.
async fn check(rig: &Rig) {
    rig.catch_up_and_check().await;
    assert_eq!(rig.ledger.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn two_share_the_tenants_and_the_one_that_stays_takes_over_from_the_one_that_stops() {
    let rig = rig(21).await;
    let one = AtWork::begin(&rig, 1);
    tokio::time::sleep(5 * MINUTE).await;
    assert_eq!(held(&rig, 1).await, 6, "alone, it has them all");
    let two = AtWork::begin(&rig, 2);
    tokio::time::sleep(5 * MINUTE).await;
    assert_eq!((held(&rig, 1).await, held(&rig, 2).await), (3, 3));
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!((held(&rig, 1).await, held(&rig, 2).await), (3, 3), "nothing moves without need");
    let report = one.stop().await;
    assert!(report.total().archived > 0);
    assert_eq!(held(&rig, 1).await, 0, "given back at once");
    tokio::time::sleep(LEASE_TIME).await;
    assert_eq!(held(&rig, 2).await, 6);
    tokio::time::sleep(30 * MINUTE).await;
    assert!(two.stop().await.total().archived > 0);
    check(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_one_held_is_collected_by_the_other() {
    let rig = rig(22).await;
    let (one, two) = (AtWork::begin(&rig, 1), AtWork::begin(&rig, 2));
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!((held(&rig, 1).await, held(&rig, 2).await), (3, 3));
    one.task.abort();
    // Its lease runs by the ledger's clock, which is the machine's.
    rig.ledger.alive(worker(1), "worker 1".to_owned(), Duration::from_secs(3600)).await.unwrap();
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(
        (held(&rig, 1).await, held(&rig, 2).await),
        (3, 3),
        "the ledger's clock, which has not moved, says when"
    );
    rig.ledger.alive(worker(1), "worker 1".to_owned(), Duration::ZERO).await.unwrap();
    tokio::time::sleep(LEASE_TIME).await;
    assert_eq!((held(&rig, 1).await, held(&rig, 2).await), (0, 6));
    tokio::time::sleep(30 * MINUTE).await;
    two.stop().await;
    check(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_taken_for_dead_lets_go_of_what_others_took_and_takes_its_share_again() {
    let rig = rig(23).await;
    let one = AtWork::begin(&rig, 1);
    tokio::time::sleep(20 * MINUTE).await;
    // Silent for too long by the ledger's clock, and robbed, all before its next word.
    rig.ledger.alive(worker(1), "worker 1".to_owned(), Duration::ZERO).await.unwrap();
    rig.ledger.alive(worker(9), "robber".to_owned(), Duration::from_secs(3600)).await.unwrap();
    let robbed = rig.ledger.take(worker(9), 9).await.unwrap();
    assert_eq!(robbed.len(), 6);
    let number = |tenant| {
        let ledger = rig.ledger.clone();
        async move { ledger.tenant(tenant).await.unwrap().unwrap().last_commit }
    };
    let mut before = Vec::new();
    for lease in &robbed {
        before.push(number(lease.tenant).await);
    }
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(held(&rig, 1).await, 0, "half of them would be its share, but nobody gives any back");
    for (lease, before) in robbed.iter().zip(before) {
        assert_eq!(number(lease.tenant).await, before, "nothing was written of what another has");
    }
    rig.ledger.leave(worker(9)).await.unwrap();
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(held(&rig, 1).await, 6);
    assert!(one.stop().await.total().archived > 0);
    check(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_confirmed_in_time_is_begun_with_again_under_a_new_epoch_although_nobody_else_had_it() {
    let rig = rig(24).await;
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let workers = FaultyLedger::new(&rig, move |method, _| {
        if method == "alive" && is_away.load(Ordering::Relaxed) { Fate::Busy } else { Fate::Works }
    });
    let one = AtWork::begin_with(&rig, 1, workers);
    tokio::time::sleep(20 * MINUTE).await;
    let before = rig.ledger.held(worker(1)).await.unwrap();
    assert_eq!(before.len(), 6);
    away.store(true, Ordering::Relaxed);
    tokio::time::sleep(2 * LEASE_TIME).await;
    away.store(false, Ordering::Relaxed);
    tokio::time::sleep(20 * MINUTE).await;
    // What was under way when they were let go, and reaches the ledger now, is refused.
    for lease in before {
        let refused = rig.ledger.under(lease).purge_tenant(lease.tenant, rig.now()).await.unwrap_err();
        assert!(refused.is_lost_lease(), "{refused:?}");
    }
    assert_eq!(held(&rig, 1).await, 6);
    assert!(one.stop().await.total().archived > 0);
    check(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_collected_is_looked_after_by_who_has_it_minutes_after_the_start() {
    let mut rig = rig(25).await;
    rig.catch_up_and_check().await;
    let paused = rig.tenants()[0];
    rig.ledger.set_tenant_state(paused, TenantState::Paused, rig.clock.now()).await.unwrap();
    rig.settings.retention = Some(30 * 24 * 60 * MINUTE);
    let rows = async || rig.ledger.segments(paused).await.unwrap().iter().map(|segment| segment.rows).sum::<u64>();
    assert!(rows().await > 0);
    tokio::time::sleep(45 * 24 * 60 * MINUTE).await;
    let one = AtWork::begin(&rig, 1);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(rows().await, 0);
    one.stop().await;
}
