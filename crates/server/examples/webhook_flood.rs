//! A flood of notifications over real sockets into a real ledger file, while the collector works on what they bring:
//! `cargo xtask bench --webhook` builds and runs it.
//!
//! This process is the one under measurement; the calls come from a second one, by a fixed timetable that does not wait for
//! answers. At the end each content whose notification was answered with 200 is looked for in the ledger. Never part of
//! the product; its tenant exists only here. Memory is read from /proc, so elsewhere than on Linux it says 0.
#![expect(clippy::print_stdout, reason = "what it prints is the report of one process to another, or to a person")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use engine::model::ContentState;
use engine::webhook::Webhook;
use http::{HeaderMap, Request, StatusCode};
use ledger::Ledger;
use ledger::sqlite::{OpenOptions, SqliteLedger};
use protocol::cloud::{Cloud, CustomCloud};
use protocol::ids::{ContentType, PublisherId, TenantId};
use protocol::secret::ClientSecret;
use server::archive::{Archive, ArchiveOptions};
use server::clock::{Clock, SystemClock};
use server::metrics::Metrics;
use server::settings::{AppSettings, CollectSettings, Credential, Limits, Settings, TokenEndpoint};
use server::transport::{Answer, Body, Transport, TransportFuture};
use server::webhook::{GateLimits, WebhookParts};
use server::{Collector, CollectorParts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TENANT: &str = "11111111-2222-4333-8444-555555555555";
const CLIENT: &str = "66666666-7777-4888-9999-000000000000";
const NAME: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "the-secret-of-this-webhook";
/// Nobody listens there: whatever the collector asks for is answered in this process.
const FEED: &str = "http://127.0.0.1:9";
/// Connections that stay open, as those of a service do that calls all the time.
const CONNECTIONS: usize = 128;

fn main() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words.as_slice() {
        ["call", address, per_second, seconds] => {
            let told = runtime.block_on(call_all(address.parse()?, per_second.parse()?, seconds.parse()?))?;
            println!("{told}");
            Ok(ExitCode::SUCCESS)
        }
        [folder, per_second, seconds] => {
            let report = runtime.block_on(measure(Path::new(folder), per_second.parse()?, seconds.parse()?))?;
            println!("{report}");
            Ok(if report["lost"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => Err("usage: webhook_flood FOLDER CALLS_PER_SECOND SECONDS".into()),
    }
}

fn content_id(number: u64) -> String {
    format!("flood${number:09}")
}

/// The Activity API of one tenant: subscribed to one type, of which listings never show anything, and whose blobs have one
/// record each.
struct Feed;

impl Transport for Feed {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            let path = request.uri().path();
            let text = if path.contains("/oauth2") {
                r#"{"access_token":"a-token","expires_in":3599}"#.to_owned()
            } else if path.ends_with("/subscriptions/list") {
                r#"[{"contentType":"Audit.General","status":"enabled","webhook":null}]"#.to_owned()
            } else if let Some((_, number)) = path.split_once("/audit/flood$") {
                let time = SystemClock.now().format("%Y-%m-%dT%H:%M:%S");
                format!(r#"[{{"Id":"00000000-0000-4000-8000-{number:0>12}","CreationTime":"{time}"}}]"#)
            } else {
                "[]".to_owned()
            };
            let body = Body::new(Box::pin(futures_util::stream::iter([Ok(bytes::Bytes::from(text))])));
            Ok(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body })
        })
    }
}

fn settings(folder: &Path) -> Result<Settings, Failure> {
    let root = FEED.to_owned();
    Ok(Settings {
        data_dir: folder.to_owned(),
        app: AppSettings {
            client_id: CLIENT.parse()?,
            publisher_id: CLIENT.parse::<PublisherId>()?,
            credentials: vec![Credential::Secret(ClientSecret::new("not asked for"))],
            token_endpoint: TokenEndpoint::V2,
        },
        cloud: Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None })?,
        collect: CollectSettings {
            content_types: vec![ContentType::General],
            poll_interval: Duration::from_secs(60),
            quiet_poll_interval: Duration::from_secs(300),
            commit_interval: Duration::from_secs(5),
            requests_per_minute: 1500,
            tile: engine::tile::Grid::HOUR,
        },
        limits: Limits::default(),
        retention: None,
        tables: None,
    })
}

/// Listens, has itself called, and looks what became of it.
async fn measure(folder: &Path, per_second: u64, seconds: u64) -> Result<serde_json::Value, Failure> {
    std::fs::create_dir_all(folder)?;
    let tenant: TenantId = TENANT.parse()?;
    let settings = settings(folder)?;
    let ledger = SqliteLedger::open(folder.join("ledger.db"), OpenOptions::default())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    ledger.add_tenant(tenant, String::new(), now, now).await?;
    ledger.write_webhooks(tenant, vec![webhook(&*clock)?], now).await?;
    let metrics = Arc::new(Metrics::new());
    let parts = CollectorParts {
        transport: Arc::new(Feed),
        ledger: Arc::new(ledger.clone()),
        archive: Archive::open(&ArchiveOptions::at(folder.join("archive")))?,
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
    };
    let collector = Arc::new(Collector::new(settings.clone(), &parts));
    let router = server::webhook::router(WebhookParts {
        ledger: Arc::new(ledger.clone()),
        waker: collector.waker(),
        clock,
        metrics: Arc::clone(&metrics),
        cloud: settings.cloud,
        client_id: settings.app.client_id,
        content_types: settings.collect.content_types,
        limits: GateLimits::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listening = tokio::spawn(server::listen::serve(listener, router, std::future::pending()));
    let collecting = tokio::spawn(async move { collector.run(std::future::pending()).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = resident_kib();
    let begun = Instant::now();
    let processor = processor_seconds();
    let caller = caller(address, per_second, seconds)?;
    let mut calling = tokio::task::spawn_blocking(move || caller.wait_with_output());
    let mut most = before;
    let told = loop {
        tokio::select! {
            told = &mut calling => break told??,
            () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(resident_kib()),
        }
    };
    let (took, processor) = (begun.elapsed(), processor_seconds() - processor);
    listening.abort();
    collecting.abort();
    let mut report: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    let answered: Vec<u64> = serde_json::from_value(report["answered"].take())?;
    let (mut lost, mut archived) = (0, 0);
    for number in &answered {
        match ledger.content_state(tenant, ContentType::General, content_id(*number)).await? {
            Some(ContentState::Listed) => {}
            Some(ContentState::Archived) => archived += 1,
            Some(ContentState::Lost) | None => lost += 1,
        }
    }
    report["answered"] = answered.len().into();
    report["lost"] = lost.into();
    report["archived_meanwhile"] = archived.into();
    report["seconds"] = took.as_secs_f64().into();
    report["processor_seconds"] = processor.into();
    report["resident_kib_before"] = before.into();
    report["resident_kib_most"] = most.into();
    Ok(report)
}

fn caller(address: SocketAddr, per_second: u64, seconds: u64) -> std::io::Result<std::process::Child> {
    let numbers = [per_second, seconds].map(|number| number.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("call").arg(address.to_string()).args(numbers).stdout(Stdio::piped()).spawn()
}

fn webhook(clock: &dyn Clock) -> Result<Webhook, Failure> {
    let digest = |text: &str| -> Result<[u8; 32], Failure> {
        Ok(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref().try_into()?)
    };
    let key: [u8; 16] = digest(NAME)?[..16].try_into()?;
    let place = (format!("https://audit.example.com/webhook/{NAME}"), key);
    Ok(Webhook::offer(None, clock.now(), ContentType::General, place, digest(SECRET)?))
}

/// Calls `per_second` times a second for so many seconds, each call when its time has come and a connection is free.
async fn call_all(address: SocketAddr, per_second: u64, seconds: u64) -> Result<serde_json::Value, Failure> {
    let (total, next) = (per_second * seconds, Arc::new(AtomicU64::new(0)));
    let begun = tokio::time::Instant::now() + Duration::from_millis(100);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let next = Arc::clone(&next);
        callers.spawn(async move {
            let mut told = Told::default();
            let mut connection = TcpStream::connect(address).await?;
            connection.set_nodelay(true)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return Ok::<_, std::io::Error>(told);
                }
                let due = begun + Duration::from_secs(1).mul_f64(number as f64 / per_second as f64);
                tokio::time::sleep_until(due).await;
                let status = call(&mut connection, address, number).await?;
                // From when it was due, so that a call which had to wait for a connection is not told as a quick one.
                told.took.push(due.elapsed());
                match status.as_str() {
                    "200" => told.answered.push(number),
                    "429" => told.refused += 1,
                    _ => told.failed += 1,
                }
            }
        });
    }
    let mut all = Told::default();
    while let Some(told) = callers.join_next().await {
        let told = told??;
        all.answered.extend(told.answered);
        all.took.extend(told.took);
        all.refused += told.refused;
        all.failed += told.failed;
    }
    all.took.sort();
    let at = |percent: usize| {
        let place = all.took.len().saturating_sub(1) * percent / 100;
        all.took.get(place).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    };
    Ok(serde_json::json!({
        "calls": total, "answered": all.answered, "refused": all.refused, "failed": all.failed,
        "p50_ms": at(50), "p99_ms": at(99), "longest_ms": at(100),
    }))
}

/// What became of some calls.
#[derive(Default)]
struct Told {
    answered: Vec<u64>,
    refused: u64,
    failed: u64,
    took: Vec<Duration>,
}

/// One call; its status.
async fn call(connection: &mut TcpStream, address: SocketAddr, number: u64) -> std::io::Result<String> {
    let id = content_id(number);
    let now = SystemClock.now();
    let time = |time: protocol::time::Timestamp| time.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let (created, expires) = (time(now), time(now + TimeDelta::days(7)));
    let body = format!(
        r#"[{{"tenantId":"{TENANT}","clientId":"{CLIENT}","contentType":"Audit.General","contentId":"{id}","contentUri":"{FEED}/api/v1.0/{TENANT}/activity/feed/audit/{id}","contentCreated":"{created}","contentExpiration":"{expires}"}}]"#
    );
    let length = body.len();
    let request = format!(
        "POST /webhook/{NAME} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json; utf-8\r\nWebhook-AuthID: {SECRET}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"\r\n\r\n") {
        if connection.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Of this process, all its threads; ticks are hundredths of a second on every Linux there is.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
