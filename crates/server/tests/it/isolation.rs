//! One slow or broken thing never stops another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use emulator::FaultPlan;
use http::Request;
use protocol::ids::TenantId;
use server::Collector;
use server::transport::{Transport, TransportFuture};
use tokio::sync::oneshot;

use crate::rig::{Rig, RouterTransport, small_world};

/// Panics at the first request for a blob of one tenant, as a bug of ours would.
struct BuggyTransport {
    inner: Arc<RouterTransport>,
    tenant: TenantId,
    has_struck: AtomicBool,
}

impl Transport for BuggyTransport {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        let path = request.uri().path();
        if path.contains("/audit/")
            && path.contains(&self.tenant.to_string())
            && !self.has_struck.swap(true, Ordering::SeqCst)
        {
            panic!("a bug, made for this test");
        }
        self.inner.send(request)
    }
}

/// Lets a collector serve while `story` goes on.
async fn serve_during(collector: &Collector, story: impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let run = async {
        let stopped = async {
            let _ = stopped.await;
        };
        collector.run(stopped).await.unwrap();
    };
    let story = async {
        story.await;
        stop.send(()).unwrap();
    };
    tokio::join!(run, story);
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_one_tenants_work_stops_neither_the_others_nor_that_one_for_long() {
    let rig = Rig::new(small_world(1, 2, 100), FaultPlan::default()).await;
    let (first, second) = (rig.tenants()[0], rig.tenants()[1]);
    let transport = BuggyTransport { inner: rig.transport(), tenant: first, has_struck: AtomicBool::new(false) };
    let collector = rig.collector_over(Arc::new(transport));
    serve_during(&collector, async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let archived = rig.archived().await;
        assert_eq!(archived.get(&second), rig.published().get(&second));
        tokio::time::sleep(Duration::from_secs(120)).await;
    })
    .await;
    rig.check_all_there().await;
    assert!(rig.metrics.encode().contains(r#"tenantry_errors_total{kind="bug"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn blobs_that_trickle_hold_back_their_own_tenant_only() {
    let mut rig = Rig::new(small_world(2, 2, 150), FaultPlan::default()).await;
    let (slow, quick) = (rig.tenants()[0], rig.tenants()[1]);
    let plan = format!(
        "[[rule]]\noperations = [\"retrieve\"]\ntenants = [\"{slow}\"]\nprobability = 1.0\neffect = \"slow\"\nbytes_per_second = 20\n"
    );
    rig.emulator.world().set_faults(FaultPlan::parse(&plan).unwrap());
    // One commit at a time for all tenants together: a slow one must let go of it between its pieces.
    rig.settings.limits.commits = 1;
    let collector = rig.collector();
    serve_during(&collector, async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(rig.archived().await.get(&quick), rig.published().get(&quick));
        assert!(collector.board().tenant(slow).unwrap().pending > 0);
    })
    .await;
    rig.emulator.world().set_faults(FaultPlan::default());
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_tenant_does_not_slow_the_others_down() {
    let rig = Rig::new(small_world(3, 2, 150), FaultPlan::default()).await;
    let (throttled, free) = (rig.tenants()[0], rig.tenants()[1]);
    let plan = format!(
        "[[rule]]\ntenants = [\"{throttled}\"]\nprobability = 1.0\noperations = [\"content\", \"retrieve\"]\neffect = \"throttle\"\n"
    );
    rig.emulator.world().set_faults(FaultPlan::parse(&plan).unwrap());
    let collector = rig.collector();
    serve_during(&collector, async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(rig.archived().await.get(&free), rig.published().get(&free));
        rig.emulator.clear_requests();
        tokio::time::sleep(Duration::from_secs(30 * 60)).await;
        // Ever slower, down to a request every ten seconds or so and pauses in between.
        assert!(rig.requests_of(throttled) < 60, "{}", rig.requests_of(throttled));
        let problem = collector.board().tenant(throttled).unwrap().problem.unwrap();
        assert_eq!(problem.kind, "throttled");
        rig.emulator.world().set_faults(FaultPlan::default());
        tokio::time::sleep(Duration::from_secs(60 * 60)).await;
        assert_eq!(collector.board().tenant(throttled).unwrap().problem, None);
    })
    .await;
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_somebody_waits_for_ends_even_if_the_service_only_throttles() {
    let plan = "[[rule]]\nprobability = 1.0\noperations = [\"content\"]\neffect = \"throttle\"\n";
    let rig = Rig::new(small_world(4, 1, 50), FaultPlan::parse(plan).unwrap()).await;
    let began = tokio::time::Instant::now();
    let report = rig.collect_once().await;
    assert!(!report.is_complete());
    assert_eq!(report.tenants[0].progress.problem.as_ref().unwrap().kind, "throttled");
    assert!(began.elapsed() < Duration::from_secs(60 * 60), "{:?}", began.elapsed());
    rig.emulator.world().set_faults(FaultPlan::default());
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_is_ahead_of_its_ledger_keeps_what_it_does_not_know_and_goes_on() {
    let mut rig = Rig::new(small_world(5, 2, 100), FaultPlan::default()).await;
    rig.settings.limits.commit_contents = 5;
    rig.collect_once().await;
    let first = rig.tenants()[0];
    let files = rig.parquet_files(first);
    assert!(files > 2, "a crash explains fewer commits than that: {files}");
    // As if the ledger had been restored from an old copy: it knows nothing of the first tenant's commits.
    rig.forget(first);
    rig.add_tenant(first).await;
    assert!(rig.collect_once().await.is_complete());
    rig.check_all_there().await;
    rig.check_no_orphans().await;
    let aside = std::fs::read_dir(rig.archive.aside_folder(first)).unwrap();
    let aside: usize = aside.map(|date| std::fs::read_dir(date.unwrap().path()).unwrap().count()).sum();
    assert_eq!(aside, files, "what was there is all kept");
}
