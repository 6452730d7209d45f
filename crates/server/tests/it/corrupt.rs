//! Compressed answers that come altered, short or with something behind them: nothing of such an attempt is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use emulator::{FaultPlan, WorldOptions};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use http::header::CONTENT_ENCODING;
use http::{HeaderValue, Request};
use server::transport::{Answer, Transport, TransportError, TransportFuture};

use crate::rig::{Rig, RouterTransport, small_world};

/// What becomes of a compressed blob on its way; `true` breaks the connection behind it.
type Spoil = fn(Vec<u8>) -> (Vec<u8>, bool);

/// Compresses all blobs, and spoils each the first `times` times it is asked for.
struct Spoiler {
    inner: Arc<RouterTransport>,
    spoil: Spoil,
    times: u32,
    asked: Mutex<BTreeMap<String, u32>>,
}

/// Without compressing, so that letters can be found.
fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

impl Transport for Spoiler {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let Answer { status, mut headers, body } = self.inner.send(request).await?;
            if !path.contains("/audit/") {
                return Ok(Answer { status, headers, body });
            }
            let mut raw = gzip(&body.read(64 << 20).await?);
            let mut breaks = false;
            let times = {
                let mut asked = self.asked.lock().unwrap();
                let times = asked.entry(path).or_default();
                *times += 1;
                *times
            };
            if times <= self.times {
                (raw, breaks) = (self.spoil)(raw);
            }
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let broken = || TransportError::Broken { origin: "the emulator".into(), reason: "reset".into() };
            let mut chunks: Vec<_> = raw.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            chunks.extend(breaks.then(|| Err(broken())));
            Ok(Answer::received("https://feed", status, headers, futures_util::stream::iter(chunks).boxed()))
        })
    }
}

/// Some blobs, one of which comes in many pieces.
async fn rig_of_large_blobs(seed: u64) -> Rig {
    let mut world = WorldOptions { huge_blob: Some(3 << 20), ..small_world(seed, 1, 50) };
    world.duplicates.variant = 0.0;
    Rig::new(world, FaultPlan::default()).await
}

fn spoiler(rig: &Rig, spoil: Spoil, times: u32) -> Arc<Spoiler> {
    Arc::new(Spoiler { inner: rig.transport(), spoil, times, asked: Mutex::default() })
}

/// The first place of a letter that every record has.
fn a_letter(raw: &[u8]) -> Option<usize> {
    raw.windows(7).position(|window| window == b"\"UserId")
}

fn altered(mut raw: Vec<u8>) -> (Vec<u8>, bool) {
    if let Some(at) = a_letter(&raw) {
        raw[at + 1] = b'V';
    }
    (raw, false)
}

#[tokio::test(start_paused = true)]
async fn of_a_blob_that_comes_altered_nothing_is_kept_and_it_is_fetched_again() {
    let spoils: [(&str, Spoil); 4] = [
        ("a letter", altered),
        ("data that is none", |mut raw| {
            let middle = raw.len() / 2;
            raw.truncate(middle);
            raw.extend_from_slice(&[0xff; 100]);
            (raw, false)
        }),
        ("its end is missing, as if that were all", |mut raw| {
            raw.truncate(raw.len() - 9);
            (raw, false)
        }),
        ("something behind it", |mut raw| {
            raw.extend_from_slice(b"behind");
            (raw, false)
        }),
    ];
    for (name, spoil) in spoils {
        let rig = rig_of_large_blobs(1).await;
        let report =
            rig.collector_over(spoiler(&rig, spoil, 1)).collect_once(&[], std::future::pending()).await.unwrap();
        assert!(report.is_complete(), "{name}: {report:#?}");
        let total = report.total();
        assert_eq!((total.failed_attempts, total.variants, total.quarantined), (total.archived, 0, 0), "{name}");
        rig.check_all_there().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_blob_that_breaks_off_is_fetched_again_and_counted_once() {
    let rig = rig_of_large_blobs(2).await;
    let spoil: Spoil = |mut raw| {
        raw.truncate(raw.len() * 3 / 4);
        (raw, true)
    };
    let report = rig.collector_over(spoiler(&rig, spoil, 1)).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_always_comes_altered_is_told_and_waits() {
    let rig = rig_of_large_blobs(3).await;
    let report =
        rig.collector_over(spoiler(&rig, altered, u32::MAX)).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(!report.is_complete());
    let tenant = &report.tenants[0];
    assert!(tenant.unfinished > 0 && tenant.last_failure.as_ref().unwrap().contains("is corrupt"), "{report:#?}");
    assert!(rig.archived().await.values().all(BTreeSet::is_empty));
    assert!(rig.metrics.encode().contains(r#"tenantry_errors_total{kind="corrupt"}"#));
    // What was there all the time can be read at last.
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_put_aside_it_waits_and_says_so() {
    let mut rig = rig_of_large_blobs(4).await;
    let folder = rig.settings.data_dir.clone();
    rig.settings.data_dir = folder.join("not there");
    let report = rig.collector_over(spoiler(&rig, altered, 0)).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(!report.is_complete());
    assert!(report.problem.as_ref().unwrap().message.contains("not there"), "{report:#?}");
    rig.settings.data_dir = folder;
    rig.catch_up_and_check().await;
}
