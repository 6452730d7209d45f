//! Answers that no emulator of an honest service gives: what is forged here comes in place of the emulator's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use emulator::FaultPlan;
use futures_util::StreamExt;
use http::{HeaderMap, Request, StatusCode};
use ledger::Ledger;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use server::transport::{Answer, Body, Transport, TransportFuture};

use crate::rig::{Rig, RouterTransport, small_world};

/// Bodies come in pieces of this size.
const PIECE: usize = 64 << 10;

/// The status and body that take the place of an answer.
pub(crate) type Forged = Option<(u16, String)>;

/// Lets everything through but what is forged.
pub(crate) struct Forger<F> {
    pub(crate) inner: Arc<RouterTransport>,
    pub(crate) forge: F,
}

impl<F: Fn(&Request<Vec<u8>>) -> Forged + Send + Sync> Transport for Forger<F> {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        let Some((status, body)) = (self.forge)(&request) else { return self.inner.send(request) };
        Box::pin(async move {
            let body = bytes::Bytes::from(body);
            let pieces = (0..body.len()).step_by(PIECE).map(move |at| body.slice(at..body.len().min(at + PIECE)));
            let pieces: Vec<_> = pieces.map(Ok).collect();
            // As from a network: others come in between.
            let stream = Box::pin(futures_util::stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                piece
            }));
            let status = StatusCode::from_u16(status).unwrap();
            Ok(Answer { status, headers: HeaderMap::new(), body: Body::new(stream) })
        })
    }
}

async fn rig_of_one(seed: u64) -> Rig {
    Rig::new(small_world(seed, 1, 100), FaultPlan::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_type_that_is_started_and_not_enabled_is_told_and_the_others_are_collected() {
    let rig = rig_of_one(1).await;
    // The first listing has nothing; after the starts, one type of five is missing as before.
    let forge = |request: &Request<Vec<u8>>| {
        let path = request.uri().path();
        let starts = path.ends_with("/subscriptions/start") && request.uri().query()?.contains("Audit.Exchange");
        starts.then(|| (200, r#"{"contentType":"Audit.Exchange","status":"disabled","webhook":null}"#.to_owned()))
    };
    let transport = Arc::new(Forger { inner: rig.transport(), forge });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(!report.is_complete(), "{report:#?}");
    let tenant = &report.tenants[0];
    assert_eq!(tenant.unlisted, ["Audit.Exchange".parse().unwrap()], "{report:#?}");
    let problem = tenant.progress.type_problems.values().next().unwrap();
    assert_eq!(problem.kind, "subscription_missing");
    assert!(problem.next_attempt_at.unwrap() > rig.now());
    assert!(report.total().archived > 0);
    // It is kept: the next reader of the ledger sees it too.
    let coverage = rig.coverage().await;
    let told = coverage.iter().filter(|row| row.problem.as_ref().is_some_and(|found| found == problem)).count();
    assert_eq!(told, 1, "{coverage:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_tells_why_a_start_was_refused_even_once() {
    let rig = rig_of_one(2).await;
    let forge = |request: &Request<Vec<u8>>| {
        request.uri().path().ends_with("/subscriptions/start").then(|| (500, String::new()))
    };
    let transport = Arc::new(Forger { inner: rig.transport(), forge });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(!report.is_complete());
    assert!(report.tenants[0].progress.has_problem(), "{report:#?}");
}

/// Answers the first `times` starts of one type by `answer`, and all others honestly.
fn failing_starts(times: u32, answer: (u16, &'static str)) -> impl Fn(&Request<Vec<u8>>) -> Forged + Send + Sync {
    let asked = AtomicU32::new(0);
    move |request| {
        let is_start = request.uri().path().ends_with("/subscriptions/start")
            && request.uri().query().is_some_and(|query| query.contains("Audit.Exchange"));
        let fails = is_start && asked.fetch_add(1, Ordering::Relaxed) < times;
        fails.then(|| (answer.0, answer.1.to_owned()))
    }
}

const TOO_MANY: &str = r#"{"error":{"code":"429","message":"Too many frequent subscription start requests. Please retry again after 0m 6s."}}"#;

#[tokio::test(start_paused = true)]
async fn one_start_that_fails_is_asked_for_again_within_the_run() {
    for (times, answer) in
        [(1, (500, "")), (3, (500, "")), (1, (503, "<html>")), (1, (403, TOO_MANY)), (2, (429, TOO_MANY))]
    {
        let rig = rig_of_one(5).await;
        let before = rig.now();
        let transport = Arc::new(Forger { inner: rig.transport(), forge: failing_starts(times, answer) });
        let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
        assert!(report.is_complete(), "{times} {answer:?}: {report:#?}");
        assert!(rig.now() - before < chrono::TimeDelta::minutes(2), "{times} {answer:?}");
        rig.check_all_there().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_all_the_time_ends_the_run_soon_and_the_next_run_asks_again() {
    let rig = rig_of_one(6).await;
    let before = rig.now();
    let transport = Arc::new(Forger { inner: rig.transport(), forge: failing_starts(u32::MAX, (500, "")) });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert_eq!(report.tenants[0].unlisted, ["Audit.Exchange".parse().unwrap()], "{report:#?}");
    assert!(rig.now() - before < chrono::TimeDelta::minutes(3), "{}", rig.now() - before);
    assert!(report.total().archived > 0, "the others are collected");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_told_and_too_long_for_a_run_is_left_to_the_next() {
    let rig = rig_of_one(7).await;
    let told = r#"{"error":{"code":"429","message":"Too many frequent subscription start requests. Please retry again after 8m 46s."}}"#;
    let before = rig.now();
    let transport = Arc::new(Forger { inner: rig.transport(), forge: failing_starts(1, (403, told)) });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(!report.is_complete());
    assert!(rig.now() - before < chrono::TimeDelta::minutes(1), "{}", rig.now() - before);
    // As told, and not a quarter of an hour.
    tokio::time::sleep(std::time::Duration::from_secs(8 * 60 + 46)).await;
    rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn listings_that_always_break_off_end_the_run_in_minutes() {
    let rig = rig_of_one(8).await;
    let before = rig.now();
    let forge = |request: &Request<Vec<u8>>| {
        request.uri().path().ends_with("/subscriptions/content").then(|| (503, String::new()))
    };
    let transport = Arc::new(Forger { inner: rig.transport(), forge });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert_eq!(report.tenants[0].unlisted.len(), 5, "{report:#?}");
    assert!(rig.now() - before < chrono::TimeDelta::minutes(3), "{}", rig.now() - before);
}

/// The bare token of a request.
fn bearer(request: &Request<Vec<u8>>) -> String {
    request.headers()["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned()
}

/// A feed with `contents` contents of one type, `1$1` and so on, but not what is in them.
pub(crate) fn feed(
    request: &Request<Vec<u8>>,
    token: &str,
    tenant: TenantId,
    created: Timestamp,
    contents: usize,
) -> Forged {
    let path = request.uri().path();
    if path.contains("/oauth2") {
        return Some((200, format!(r#"{{"access_token":"{token}","expires_in":3599}}"#)));
    }
    if path.ends_with("/subscriptions/list") {
        let entry = |known: &ContentType| format!(r#"{{"contentType":"{known}","status":"enabled"}}"#);
        let all: Vec<_> = ContentType::KNOWN.iter().map(entry).collect();
        return Some((200, format!("[{}]", all.join(","))));
    }
    let root = format!("http://127.0.0.1:7000/api/v1.0/{tenant}/activity/feed");
    let created = created.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let entry = |number| {
        format!(
            r#"{{"contentType":"Audit.General","contentId":"1${number}","contentUri":"{root}/audit/1${number}","contentCreated":"{created}"}}"#
        )
    };
    let is_asked = request.uri().query().is_some_and(|query| query.contains("Audit.General"));
    let entries: Vec<_> = (1..=contents).map(entry).filter(|_| is_asked).collect();
    Some((200, format!("[{}]", entries.join(","))))
}

#[tokio::test(start_paused = true)]
async fn large_records_of_many_blobs_come_one_after_another_and_all_of_them() {
    let mut rig = rig_of_one(4).await;
    // Less than two of these records need together.
    rig.settings.limits.bytes_in_flight = 2 << 20;
    rig.settings.limits.fetches = 4;
    let tenant = rig.tenants()[0];
    let created = rig.now() - chrono::TimeDelta::hours(12);
    let forge = move |request: &Request<Vec<u8>>| {
        let Some((_, number)) = request.uri().path().split_once("/audit/1$") else {
            return feed(request, "token", tenant, created, 8);
        };
        let record = |n| {
            format!(r#"{{"Id":"{number}-{n}","CreationTime":"2026-03-09T00:00:00","a":"{}"}}"#, "x".repeat(3 << 19))
        };
        Some((200, format!("[{},{},{}]", record(1), r#"{"Id":"small"}"#, record(2))))
    };
    let transport = Arc::new(Forger { inner: rig.transport(), forge });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(rig.archived().await[&tenant].len(), 17);
}

#[tokio::test(start_paused = true)]
async fn a_token_or_secret_that_is_echoed_is_neither_shown_nor_kept() {
    // Nothing in its form tells that it is a token.
    let token = "an-opaque-token";
    let secret = emulator::DEFAULT_SECRET;
    for status in [200, 400, 401, 500] {
        for echoing in ["/oauth2", "/subscriptions/list", "/subscriptions/content", "/audit/"] {
            let mut rig = rig_of_one(3).await;
            rig.settings.limits.longest_wait_in_one_run = std::time::Duration::ZERO;
            let tenant = rig.tenants()[0];
            let created = rig.now() - chrono::TimeDelta::hours(12);
            let forge = move |request: &Request<Vec<u8>>| {
                let path = request.uri().path();
                if path.contains(echoing) {
                    let sent = if echoing == "/oauth2" { secret.to_owned() } else { bearer(request) };
                    return Some((status, format!("<html><title>who sent {sent}?</title>{sent}</html>")));
                }
                feed(request, token, tenant, created, 1)
            };
            let transport = Arc::new(Forger { inner: rig.transport(), forge });
            let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
            assert!(!report.is_complete(), "{status} {echoing}");
            let coverage = rig.coverage().await;
            let shown = format!("{report:?} {coverage:?}");
            assert!(!shown.contains(token) && !shown.contains(secret), "{status} {echoing}: {shown}");
            // What is told of an answer tells that something was taken out.
            let is_told = matches!(status, 400 | 500) && matches!(echoing, "/subscriptions/content" | "/audit/");
            assert!(!is_told || shown.contains("who sent (redacted)?"), "{status} {echoing}: {shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_any_may_be_is_kept_whole_in_quarantine_and_counted() {
    let mut rig = rig_of_one(9).await;
    rig.settings.limits.record_bytes = 1 << 20;
    let tenant = rig.tenants()[0];
    let created = rig.now() - chrono::TimeDelta::hours(12);
    let record = |n: u32, length: usize| {
        let head = format!(r#"{{"Id":"{n}","CreationTime":"2026-03-09T00:00:00","a":""#);
        format!("{head}{}\"}}", "x".repeat(length - head.len() - 2))
    };
    // Both sides of the limit, and one many times as large.
    let sizes = [1 << 20, (1 << 20) + 1, 9 << 20];
    let forge = move |request: &Request<Vec<u8>>| {
        let Some((_, number)) = request.uri().path().split_once("/audit/1$") else {
            return feed(request, "token", tenant, created, 2);
        };
        let number: u32 = number.parse().unwrap();
        let records: Vec<_> = (0..).zip(sizes).map(|(n, size)| record(10 * number + n, size)).collect();
        Some((200, format!("[{}]", records.join(","))))
    };
    let transport = Arc::new(Forger { inner: rig.transport(), forge });
    let report = rig.collector_over(transport).collect_once(&[], std::future::pending()).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    let records: BTreeSet<_> = rig.archived().await.remove(&tenant).unwrap();
    assert_eq!(records, BTreeSet::from([10, 20].map(|n| bytes::Bytes::from(record(n, sizes[0])))));
    let rows = rig.ledger.quarantine(tenant, 100).await.unwrap();
    let kept: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            assert!(row.reason.contains("more than a record may have, at byte "), "{}", row.reason);
            let path = std::path::Path::new(&row.path);
            assert_eq!(rig.archive.verify_quarantined(path, row.bytes, &row.digest).unwrap(), None);
            std::fs::read_to_string(rig.archive.root().join(path)).unwrap()
        })
        .collect();
    let expected = [11, 12, 21, 22].map(|n| record(n, sizes[n as usize % 10]));
    assert!(kept == BTreeSet::from(expected), "every byte as delivered");
    let general = rig.coverage().await.into_iter().find(|row| row.quarantined > 0).unwrap();
    assert_eq!((general.archived, general.quarantined, general.records), (2, 4, 2));
}
