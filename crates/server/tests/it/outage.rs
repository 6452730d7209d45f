//! An hour without what we need: disk, archive, ledger, Microsoft. It is waited for, said aloud, over when it is over, and
//! costs not one record.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use archive::disk::{Operation, Watch, watch};
use chrono::TimeDelta;
use emulator::{FaultPlan, WorldOptions};
use http::Request;
use server::transport::{Transport, TransportError, TransportFuture};
use server::{Collector, CollectorParts};

use crate::durable::{Fate, FaultyLedger};
use crate::rig::{Rig, RouterTransport, small_world};

const MINUTE: Duration = Duration::from_secs(60);

/// Whether the trouble is on.
type Switch = Arc<AtomicBool>;

/// What is in trouble, switched on and off while the collector runs.
struct Outage {
    rig: Rig,
    switch: Switch,
    parts: CollectorParts,
}

impl Outage {
    /// `in_between` may put something between the collector and what it works with.
    async fn new(seed: u64, switch: Switch, in_between: impl FnOnce(&Rig, &Switch, &mut CollectorParts)) -> Self {
        let history = Duration::from_secs(86_400);
        let mut rig =
            Rig::new(WorldOptions { live_rate: 6.0, history, ..small_world(seed, 1, 60) }, FaultPlan::default()).await;
        rig.settings.limits.tenants_interval = MINUTE;
        let mut parts = rig.parts(rig.transport(), Arc::new(rig.ledger.clone()));
        in_between(&rig, &switch, &mut parts);
        Self { rig, switch, parts }
    }

    /// Half an hour of quiet, an hour of trouble, an hour of quiet. In the trouble, `says` finds what the operator is told.
    async fn live_through(self, begin: impl Fn(&Rig), end: impl Fn(&Rig), says: impl AsyncFn(&Rig, &Collector)) {
        let Self { rig, switch, parts } = self;
        let collector = Collector::new(rig.settings.clone(), &parts);
        let story = async {
            tokio::time::sleep(30 * MINUTE).await;
            let records = collector.board().snapshot().total().records;
            assert!(records > 0);
            begin(&rig);
            switch.store(true, Ordering::Relaxed);
            tokio::time::sleep(60 * MINUTE).await;
            says(&rig, &collector).await;
            switch.store(false, Ordering::Relaxed);
            end(&rig);
            tokio::time::sleep(60 * MINUTE).await;
            let snapshot = collector.board().snapshot();
            assert_eq!(snapshot.problem, None, "it is over");
            assert!(snapshot.total().records > records, "it went on by itself");
        };
        tokio::select! {
            report = collector.run(std::future::pending()) => panic!("{report:?}"),
            () = story => {}
        }
        for row in rig.coverage().await {
            assert!(row.problem.is_none() && row.lost.is_empty() && row.gaps.is_empty(), "{row:#?}");
            assert!(rig.now() - row.complete_through.unwrap() < TimeDelta::minutes(15), "{row:#?}");
        }
        drop(collector);
        rig.catch_up_and_check().await;
        rig.check_no_orphans().await;
    }
}

fn everybody_waits_for(collector: &Collector, kind: &str, words: &str) {
    let problem = collector.board().snapshot().problem.expect("everybody waits");
    assert_eq!(problem.kind, kind, "{problem:?}");
    assert!(problem.message.contains(words), "{problem:?}");
}

/// Calls of the ledger that write nothing.
const READS: [&str; 17] = [
    "tenant",
    "tenants_since",
    "subscriptions",
    "webhooks",
    "tiles",
    "pending",
    "next_attempt_at",
    "content_state",
    "segments",
    "segments_within",
    "obsolete",
    "damaged_segments",
    "quarantine",
    "losses",
    "coverage",
    "feed_notes",
    "failing",
];

async fn with_ledger(seed: u64, fate: Fate) -> Outage {
    Outage::new(seed, Switch::default(), |rig, switch, parts| {
        let switch = Arc::clone(switch);
        parts.ledger = FaultyLedger::new(rig, move |method, _| {
            if switch.load(Ordering::Relaxed) && !READS.contains(&method) { fate } else { Fate::Works }
        });
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_another_process_holds_for_an_hour_is_waited_for() {
    let outage = with_ledger(61, Fate::Busy).await;
    let says = async |_: &Rig, collector: &Collector| {
        everybody_waits_for(collector, "ledger_locked", "locked by another process");
    };
    outage.live_through(|_| (), |_| (), says).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_for_the_ledger_is_waited_for() {
    let outage = with_ledger(62, Fate::Full).await;
    let says = async |_: &Rig, collector: &Collector| {
        everybody_waits_for(collector, "disk_full", "free some");
    };
    outage.live_through(|_| (), |_| (), says).await;
}

#[tokio::test(start_paused = true)]
async fn an_archive_folder_that_is_gone_for_an_hour_is_waited_for() {
    let outage = Outage::new(63, Switch::default(), |_, _, _| ()).await;
    let away = |rig: &Rig| -> PathBuf { rig.archive.root().with_extension("away") };
    let says = async |rig: &Rig, collector: &Collector| {
        everybody_waits_for(collector, "archive_unavailable", "mount the disk that holds the archive");
        assert!(!rig.archive.root().exists(), "nothing is put in the place of what is gone");
    };
    outage
        .live_through(
            |rig| std::fs::rename(rig.archive.root(), away(rig)).unwrap(),
            |rig| std::fs::rename(away(rig), rig.archive.root()).unwrap(),
            says,
        )
        .await;
}

/// A Microsoft that is not there while it is switched off.
struct Gone(Arc<RouterTransport>, Switch);

impl Transport for Gone {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        if self.1.load(Ordering::Relaxed) {
            let reason = "connection refused".to_owned();
            return Box::pin(
                async move { Err(TransportError::Connect { origin: "http://127.0.0.1:7000".into(), reason }) },
            );
        }
        self.0.send(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_microsoft_that_is_gone_for_an_hour_is_waited_for() {
    let outage = Outage::new(64, Switch::default(), |rig, switch, parts| {
        parts.transport = Arc::new(Gone(rig.transport(), Arc::clone(switch)));
    })
    .await;
    let says = async |rig: &Rig, _: &Collector| {
        for row in rig.coverage().await {
            let problem = row.problem.as_ref().expect("it is told");
            assert_eq!(problem.kind, "unreachable", "{row:#?}");
            assert!(problem.message.contains("connection refused"), "{row:#?}");
        }
    };
    outage.live_through(|_| (), |_| (), says).await;
}

/// A disk without a byte left, while it is switched on.
struct FullDisk(Switch);

impl Watch for FullDisk {
    fn before(&self, operation: Operation<'_>) -> io::Result<usize> {
        let takes_room =
            matches!(operation, Operation::CreateFolder(_) | Operation::CreateFile(_) | Operation::Write(..));
        if takes_room && self.0.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(usize::MAX)
    }

    fn after(&self, _: Operation<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_for_the_archive_is_waited_for() {
    let switch = Switch::default();
    let full = Arc::new(FullDisk(Arc::clone(&switch)));
    // Files are written by threads that may block: each is watched.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .on_thread_start(move || watch(Some(Arc::clone(&full) as Arc<dyn Watch>)))
        .build()
        .unwrap();
    runtime.block_on(async {
        let outage = Outage::new(65, switch, |_, _, _| ()).await;
        let says = async |_: &Rig, collector: &Collector| {
            everybody_waits_for(collector, "disk_full", "space");
        };
        outage.live_through(|_| (), |_| (), says).await;
    });
}
