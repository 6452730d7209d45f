//! A record is in the archive once, whatever the feed repeats: the whole way from the listing to the archive, with and
//! without a restart in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use archive::{Archive, ArchiveOptions};
use bytes::Bytes;
use emulator::FaultPlan;
use http::Request;
use ledger::Ledger;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use server::collector::segments::segment_of;

use crate::hostile::{Forged, Forger, feed};
use crate::rig::{Rig, small_world};

fn record(id: &str, operation: &str) -> String {
    format!(r#"{{"Id":"{id}","CreationTime":"2026-03-09T00:00:00","Operation":"{operation}"}}"#)
}

/// The blobs of contents 1, 2, …
fn blobs() -> [Vec<String>; 5] {
    let (a, b, c, d) = (record("a", "x"), record("b", "x"), record("c", "x"), record("d", "x"));
    [
        // One of them twice within one blob.
        vec![a.clone(), b.clone(), a.clone()],
        // The same blob under another name.
        vec![a.clone(), b.clone(), a.clone()],
        // Cut otherwise: one that was there, one that was not.
        vec![b.clone(), c.clone()],
        // Five days later: two that were there, one of them with another body too, and one that is new.
        vec![c.clone(), record("c", "y"), a.clone(), d.clone()],
        // And all of it once more.
        vec![record("c", "y"), d, c, b, a],
    ]
}

async fn collect(rig: &Rig, tenant: TenantId, created: Timestamp, contents: usize) {
    let forge = move |request: &Request<Vec<u8>>| -> Forged {
        let Some((_, number)) = request.uri().path().split_once("/audit/1$") else {
            return feed(request, "token", tenant, created, contents);
        };
        let blob = &blobs()[number.parse::<usize>().unwrap() - 1];
        Some((200, format!("[{}]", blob.join(","))))
    };
    let transport = Arc::new(Forger { inner: rig.transport(), forge });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_again_in_any_way_is_stored_once_and_another_body_beside_it() {
    for restarts in [false, true] {
        let mut rig = Rig::new(small_world(71, 1, 20), FaultPlan::default()).await;
        let tenant = rig.tenants()[0];
        for (contents, days) in [(1, 0), (2, 0), (3, 0), (4, 5), (5, 6)] {
            tokio::time::sleep(Duration::from_secs(86_400) * days).await;
            if restarts {
                // What was remembered in memory is gone; files and ledger are what is left.
                let root = rig.archive.root().to_owned();
                rig.archive = Archive::open(&ArchiveOptions::at(root)).unwrap();
            }
            let created = rig.now() - chrono::TimeDelta::hours(12);
            collect(&rig, tenant, created, contents).await;
        }
        // `archived` fails when anything is there twice.
        let archived = rig.archived().await.remove(&tenant).unwrap();
        let wanted = [record("a", "x"), record("b", "x"), record("c", "x"), record("c", "y"), record("d", "x")];
        assert_eq!(archived, wanted.map(Bytes::from).into_iter().collect::<BTreeSet<_>>(), "restarts: {restarts}");
        // Another body is marked, the one that came first is not.
        let (_, rows) = rig.ledger.segments_within(None, None).await.unwrap().into_iter().next().unwrap();
        let segments = rows.iter().map(|row| segment_of(tenant, row).unwrap()).collect();
        let marked = rig.archive.read_all(segments).map(Result::unwrap).filter(|record| record.is_variant);
        let marked: Vec<_> = marked.map(|record| record.raw).collect();
        assert_eq!(marked, [Bytes::from(record("c", "y"))], "restarts: {restarts}");
        let coverage = rig.coverage().await;
        let general = coverage.iter().find(|row| row.content_type.as_str() == "Audit.General").unwrap();
        assert_eq!((general.archived, general.records, general.duplicates, general.variants), (5, 17, 12, 1));
    }
}
