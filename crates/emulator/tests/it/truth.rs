//! Ground truth equals what a patient client reads, byte for byte.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use emulator::WorldOptions;
use emulator::world::{Duplicates, Lateness, RecordSet};

use crate::client::{Client, KINDS, control, emulator};

fn unruly() -> WorldOptions {
    WorldOptions {
        seed: 11,
        records_total: Some(1500),
        tenants: 2,
        duplicates: Duplicates { within_blob: 0.02, later_blob: 0.05, redelivered: 0.03, variant: 0.01, recut: 0.3 },
        lateness: Lateness { share: 0.1, ..Lateness::default() },
        limits: emulator::world::Limits { page_size: 7, requests_per_minute: None, ..Default::default() },
        ..WorldOptions::default()
    }
}

fn truth_of(client: &Client) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    client.emulator.world().each_record(client.tenant, RecordSet::Readable, |_, text| {
        assert!(texts.insert(String::from_utf8(text.to_vec()).unwrap()), "told twice");
        true
    });
    texts
}

#[tokio::test]
async fn everything_published_is_read_by_a_client_that_reads_everything() {
    let emulator = emulator(unruly());
    for _ in 0..2 {
        let summary = emulator.world().truth();
        let (mut records, mut elements) = (0, 0);
        for tenant in emulator.world().tenant_ids() {
            let client = Client::new(&emulator, tenant);
            for kind in KINDS {
                client.start(kind).await;
            }
            // Tiles that cut aggregated contents, so that some records come in parts.
            let (read, count) = client.read_everything(TimeDelta::hours(1)).await;
            let truth = truth_of(&client);
            assert_eq!(read.len(), truth.len());
            assert!(read == truth, "the sets differ");
            records += truth.len() as u64;
            elements += count as u64;
        }
        assert_eq!(summary.records, records);
        assert_eq!(summary.records + summary.duplicates, elements);
        assert!(summary.duplicates > 50 && summary.variants > 3, "{summary:?}");
        // And once more when the late ones have come.
        emulator.world().clock().set(summary.complete_at.unwrap());
    }
    let summary = emulator.world().truth();
    assert!(summary.complete);
    assert_eq!(summary.records - summary.variants, 1500);
}

#[tokio::test]
async fn late_content_is_not_there_before_its_time() {
    let emulator = emulator(unruly());
    let before = emulator.world().truth();
    assert!(!before.complete && before.feeds.iter().any(|feed| feed.pending > 0));
    let complete_at = before.complete_at.unwrap();
    emulator.world().clock().set(complete_at - TimeDelta::milliseconds(1));
    assert!(!emulator.world().truth().complete);
    emulator.world().clock().set(complete_at);
    let after = emulator.world().truth();
    assert!(after.complete && after.contents > before.contents);
}

#[tokio::test]
async fn truth_over_http_is_the_truth_in_process() {
    let emulator = emulator(unruly());
    let client = Client::first(&emulator);
    let path = format!("truth/records?tenant={}", client.tenant);
    let answer = control(&emulator, "GET", &path, "").await.expect_ok();
    let lines: BTreeSet<String> = answer.text().lines().map(str::to_owned).collect();
    assert!(lines == truth_of(&client));
    let contents = control(&emulator, "GET", "truth", "").await.expect_ok();
    assert_eq!(contents.text().lines().count(), emulator.world().contents().count());
    let summary = control(&emulator, "GET", "truth/summary", "").await.expect_ok().json();
    assert_eq!(summary["records"], emulator.world().truth().records);
}
