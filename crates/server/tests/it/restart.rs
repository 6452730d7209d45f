//! Killed at any instant, it goes on where it was.
//!
//! The fault model: the process is gone between any two requests, or in the middle of one; files and ledger are as they
//! were at that instant. What must hold after the next run: nothing lost, nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use emulator::FaultPlan;
use http::Request;
use server::transport::{Transport, TransportFuture};
use tokio::sync::Notify;

use crate::rig::{Rig, RouterTransport, small_world};

/// Answers so many requests and then none, and says so.
struct DyingTransport {
    inner: Arc<RouterTransport>,
    left: AtomicUsize,
    dying: Arc<Notify>,
}

impl Transport for DyingTransport {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            self.dying.notify_one();
            return Box::pin(std::future::pending());
        }
        self.inner.send(request)
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_requests_nothing_is_lost_and_nothing_twice() {
    let rig = Rig::new(small_world(1, 2, 400), FaultPlan::default()).await;
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..25 {
        let dying = Arc::new(Notify::new());
        let transport = DyingTransport {
            inner: rig.transport(),
            left: AtomicUsize::new(rng.usize(1..250)),
            dying: Arc::clone(&dying),
        };
        let collector = rig.collector_over(Arc::new(transport));
        tokio::select! {
            // Dropped where it stands, as a process that is killed.
            () = dying.notified() => {}
            _ = collector.collect_once(&[], std::future::pending()) => panic!("a run takes more requests than that"),
        }
        drop(collector);
        // Every instant is a consistent one.
        rig.archived().await;
    }
    assert!(rig.collect_once().await.is_complete());
    rig.check_all_there().await;
    rig.check_no_orphans().await;
}
