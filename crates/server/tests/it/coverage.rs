//! What is missing is named, each with its span and cause.

use std::time::Duration;

use emulator::FaultPlan;
use ledger::Ledger;
use server::coverage::{CoverageReport, FeedCoverage};

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);

async fn report(rig: &Rig) -> CoverageReport {
    CoverageReport::read(&rig.ledger, &rig.tenants(), 1000, rig.now()).await.unwrap()
}

fn lost(report: &CoverageReport) -> u64 {
    report.items.iter().map(FeedCoverage::lost_contents).sum()
}

#[tokio::test(start_paused = true)]
async fn a_content_that_cannot_be_had_is_a_line_with_its_span_and_cause() {
    let plan = "[[rule]]\neffect = \"poison\"\nform = \"not_found\"\nprobability = 0.05\n";
    let rig = Rig::new(small_world(3, 1, 600), FaultPlan::parse(plan).unwrap()).await;
    let poisoned = rig.emulator.world().truth().poison_contents;
    assert!(poisoned > 0);
    rig.collect_once().await;
    assert_eq!(lost(&report(&rig).await), 0, "what is missing now may be there in an hour");
    tokio::time::sleep(7 * HOUR).await;
    let run = rig.collect_once().await;
    let report = report(&rig).await;
    assert_eq!(run.tenants[0].lost, lost(&report));
    // One that is listed once more after it was given up waits again.
    let pending: u64 = report.items.iter().map(|row| row.pending).sum();
    assert!(lost(&report) > 0);
    assert_eq!(lost(&report) + pending, poisoned);
    let named: Vec<_> = report.items.iter().flat_map(|row| &row.losses).collect();
    assert_eq!(named.len() as u64, lost(&report));
    for loss in named {
        assert_eq!(loss.cause, "missing");
        assert!(loss.message.contains("AF20050"), "{loss:?}");
        assert!(loss.from < loss.to && loss.to.0 - loss.from.0 == chrono::TimeDelta::days(7), "{loss:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_broken_blob_the_good_records_are_archived_and_the_rest_is_in_quarantine() {
    let plan = "[[rule]]\noperations = [\"retrieve\"]\ncontent_types = [\"Audit.Exchange\"]\neffect = \"truncate\"\n\
                clean = true\nshare = 0.9\nprobability = 1.0\n";
    let rig = Rig::new(small_world(4, 1, 300), FaultPlan::parse(plan).unwrap()).await;
    rig.collect_once().await;
    let archived: usize = rig.archived().await.values().map(std::collections::BTreeSet::len).sum();
    tokio::time::sleep(2 * HOUR).await;
    let run = rig.collect_once().await;
    assert_eq!(
        rig.archived().await.values().map(std::collections::BTreeSet::len).sum::<usize>(),
        archived,
        "attempt after attempt brings the same records"
    );
    let report = report(&rig).await;
    let exchange = report.items.iter().find(|row| row.content_type.as_str() == "Audit.Exchange").unwrap();
    assert!(exchange.archived == 0 && exchange.lost_contents() > 0, "{exchange:#?}");
    assert!(exchange.losses.iter().all(|loss| loss.cause == "unreadable"), "{exchange:#?}");
    let whole = exchange.losses.iter().filter(|loss| loss.message.contains("came whole and are archived")).count();
    assert!(whole > 0, "{exchange:#?}");
    // A cut between two records leaves nothing to keep.
    assert!(exchange.quarantined > 0 && exchange.quarantined <= exchange.lost_contents());
    assert_eq!(run.total().quarantined, exchange.quarantined, "what the run says is what the ledger says");
    for piece in &exchange.quarantine {
        let kept = std::fs::read(rig.archive.root().join(&piece.path)).unwrap();
        assert_eq!(kept.len() as u64, piece.bytes);
        assert!(kept.starts_with(b"{"), "the record that was cut off, as it came");
        assert!(piece.reason.contains("cut off"), "{piece:?}");
    }
    // Those of the others are all there.
    let others = report.items.iter().filter(|row| row.content_type.as_str() != "Audit.Exchange");
    assert!(others.map(|row| row.lost_contents() + row.pending).sum::<u64>() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_too_large_to_store_is_counted_and_named_wherever_an_operator_looks() {
    let mut rig = Rig::new(small_world(5, 1, 200), FaultPlan::default()).await;
    // Some of the records are larger than this, and some are not.
    rig.settings.limits.record_bytes = 1500;
    let run = rig.collect_once().await;
    assert!(run.is_complete(), "{run:#?}");
    let report = report(&rig).await;
    let quarantined: u64 = report.items.iter().map(|row| row.quarantined).sum();
    let records: u64 = report.items.iter().map(|row| row.records - row.duplicates).sum();
    let published: usize = rig.published().values().map(std::collections::BTreeSet::len).sum();
    assert!(quarantined > 0 && records > 0);
    assert!(records + quarantined >= published as u64, "{records} and {quarantined} of {published}");
    assert!(run.total().quarantined >= quarantined);
    let pieces: Vec<_> = report.items.iter().flat_map(|row| &row.quarantine).collect();
    assert_eq!(pieces.len() as u64, quarantined);
    assert!(pieces.iter().all(|piece| piece.reason.contains("more than a record may have")), "{:?}", pieces[0]);
    assert_eq!(rig.ledger.quarantine(rig.tenants()[0], 10_000).await.unwrap().len(), pieces.len());
}

#[tokio::test(start_paused = true)]
async fn the_windows_that_are_not_confirmed_are_named_with_their_reasons() {
    let rule = |operation: &str, content_type: &str| {
        format!(
            "[[rule]]\noperations = [\"{operation}\"]\ncontent_types = [\"{content_type}\"]\n\
             effect = \"server_error\"\nstatus = 503\nprobability = 1.0\n"
        )
    };
    let plan = rule("retrieve", "Audit.Exchange") + &rule("content", "Audit.SharePoint");
    let rig = Rig::new(small_world(6, 1, 300), FaultPlan::parse(&plan).unwrap()).await;
    let collector = std::sync::Arc::new(rig.collector());
    let running = std::sync::Arc::clone(&collector);
    let task = tokio::spawn(async move { running.run(std::future::pending()).await });
    tokio::time::sleep(HOUR).await;
    let of = |report: &CoverageReport, name: &str| {
        let row = report.items.iter().find(|row| row.content_type.as_str() == name).unwrap();
        (row.pending, row.unconfirmed.clone())
    };
    let found = report(&rig).await;
    // Listed, and its contents cannot be had.
    let (pending, exchange) = of(&found, "Audit.Exchange");
    let waiting: u64 = exchange.oldest.iter().map(|window| window.pending).sum();
    assert!(waiting > 0 && waiting <= pending, "{exchange:#?}");
    assert_eq!(exchange.oldest[0].cause, "contents_pending");
    assert!(exchange.oldest[0].message.contains("wait"), "{exchange:#?}");
    // Never listed: a week of windows, of which the oldest are named.
    let (_, sharepoint) = of(&found, "Audit.SharePoint");
    assert!(sharepoint.windows > 28 && sharepoint.oldest.len() == 5, "{sharepoint:#?}");
    for window in &sharepoint.oldest {
        assert_eq!((window.cause, window.listed_through), ("listing_held_up", None));
        assert!(window.message.contains("held up since") && window.message.contains("service_down"), "{window:?}");
    }
    // Of the others the window of now is all there is.
    for row in
        found.items.iter().filter(|row| !["Audit.Exchange", "Audit.SharePoint"].contains(&row.content_type.as_str()))
    {
        assert!(!row.unconfirmed.is_worth_telling() && row.unconfirmed.windows == 1, "{row:#?}");
        assert_eq!(row.unconfirmed.oldest[0].listed_through, row.complete_through);
    }
    // Mended, it is what the others are.
    rig.emulator.world().set_faults(FaultPlan::default());
    tokio::time::sleep(3 * HOUR).await;
    for row in report(&rig).await.items {
        assert!(!row.unconfirmed.is_worth_telling() && row.pending == 0, "{row:#?}");
    }
    task.abort();
}
