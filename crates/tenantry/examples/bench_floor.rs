//! The floor that `cargo xtask bench` holds the collector against: downloads every blob an emulator has, inflates it,
//! compresses it again with zstd level 3, and nothing else.
//!
//! Never splits, looks at, or stores anything. It asks through the collector's own transport, for as many blobs at a time as
//! the collector does, and counts the CPU time of that alone: tokens, subscriptions and the list of blobs come before.
#![expect(clippy::print_stdout, reason = "its one line of JSON goes to whoever started it")]

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use server::protocol::activity::{Feed, StartWebhook, retrieve_content, start_subscription};
use server::protocol::cloud::{Cloud, CustomCloud};
use server::protocol::ids::{ClientId, ContentType, ContentUri, PublisherId, TenantId};
use server::protocol::request::Request;
use server::protocol::response::Response;
use server::protocol::secret::ClientSecret;
use server::protocol::token::{GrantCredential, TenantToken, TokenAsk, TokenEndpoint, client_credentials, parse_token};
use server::settings::Limits;
use server::transport::{HttpTransport, Timeouts, Transport as _};
use tokio::task::JoinSet;

/// Bytes compressed together: what the archive puts into one page.
const PAGE_BYTES: usize = 1 << 20;
const ZSTD_LEVEL: i32 = 3;
/// The kernel counts CPU time in hundredths of a second, on every architecture this builds for.
const TICKS_PER_SECOND: f64 = 100.0;
/// The longest answer of what is asked before the measurement; the list of a million blobs is one of them.
const ANSWER_BYTES_MAX: usize = 1 << 30;

type Failure = Box<dyn Error + Send + Sync>;

/// One tenant's blobs and the way to them.
struct Work {
    client: Arc<Client>,
    token: TenantToken,
    feed_of: TenantId,
    uris: Vec<ContentUri>,
}

/// What all downloads share.
struct Client {
    transport: HttpTransport,
    cloud: Cloud,
    publisher: PublisherId,
    /// Compressors that nobody uses at the moment, the last used on top: their tables are still in the CPU's caches.
    idle: Mutex<Vec<Compressor>>,
}

struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
struct Sums {
    contents: u64,
    bytes: u64,
    compressed_bytes: u64,
}

/// `bench_floor ABOUT`: the file holds the line that `tenantry emulate --json` began with.
fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("usage: bench_floor ABOUT.json")?;
    let about: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    // The same runtime as the program's own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(run(&about))?);
    Ok(())
}

async fn run(about: &Value) -> Result<Value, Failure> {
    let text = |key: &str| about[key].as_str().map(str::to_owned).ok_or(format!("{key} is missing"));
    let described = CustomCloud { login: text("login")?, activity: text("activity")?, graph: None, resource: None };
    let client = Arc::new(Client {
        transport: HttpTransport::new(&Timeouts::default())?,
        cloud: Cloud::custom(&described)?,
        publisher: text("publisher_id")?.parse()?,
        idle: Mutex::default(),
    });
    let app: ClientId = text("client_id")?.parse()?;
    let secret = GrantCredential::Secret(ClientSecret::new(&text("client_secret")?));
    let mut works = Vec::new();
    for tenant in about["tenants"].as_array().into_iter().flatten() {
        let tenant: TenantId = tenant["id"].as_str().ok_or("a tenant has no id")?.parse()?;
        works.push(prepare(&client, app, &secret, tenant, &text("control")?).await?);
    }
    let (cpu, started) = (cpu_seconds()?, Instant::now());
    let limits = Limits::default();
    let lanes = limits.fetches_per_tenant.min(limits.fetches / works.len().max(1)).max(1);
    let mut downloads = JoinSet::new();
    for mut work in works {
        let uris = std::mem::take(&mut work.uris);
        let work = Arc::new(work);
        for lane in 0..lanes {
            let uris: Vec<ContentUri> = uris.iter().skip(lane).step_by(lanes).cloned().collect();
            downloads.spawn(download(Arc::clone(&work), uris));
        }
    }
    let mut sums = Sums::default();
    while let Some(done) = downloads.join_next().await {
        let more = done??;
        sums.contents += more.contents;
        sums.bytes += more.bytes;
        sums.compressed_bytes += more.compressed_bytes;
    }
    let (cpu, wall) = (cpu_seconds()? - cpu, started.elapsed().as_secs_f64());
    Ok(json!({
        "contents": sums.contents,
        "bytes": sums.bytes,
        "compressed_bytes": sums.compressed_bytes,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
    }))
}

/// A token, subscriptions, and the names of all blobs of one tenant.
async fn prepare(
    client: &Arc<Client>,
    client_id: ClientId,
    secret: &GrantCredential,
    tenant: TenantId,
    control: &str,
) -> Result<Work, Failure> {
    let ask = TokenAsk { cloud: &client.cloud, tenant, client_id, endpoint: TokenEndpoint::V2 };
    let request = client_credentials(&ask, secret, uuid::Uuid::new_v4()).into_unauthenticated()?;
    let answer = client.transport.send(request).await?;
    let (status, headers) = (answer.status, answer.headers.clone());
    let body = answer.body.read(ANSWER_BYTES_MAX).await?;
    let token = parse_token(&ask, &Response::new(status, &headers, &body), chrono::Utc::now())?.token;
    let feed = Feed::new(&client.cloud, tenant, client.publisher);
    for content_type in ContentType::KNOWN {
        // One that is enabled already is refused; one that could not be enabled shows at its first blob.
        let request = start_subscription(&feed, &content_type, &StartWebhook::Unmentioned);
        let answer = client.transport.send(request.authorize(&client.cloud, &token)?).await?;
        answer.body.read(ANSWER_BYTES_MAX).await?;
    }
    let request = http_get(&format!("{control}/truth?tenant={tenant}"))?;
    let lines = client.transport.send(request).await?.body.read(ANSWER_BYTES_MAX).await?;
    let mut uris = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let content: Value = serde_json::from_slice(line)?;
        if content["published"] == true {
            let id = content["content_id"].as_str().ok_or("a content has no id")?;
            uris.push(format!("{}/audit/{id}", client.cloud.feed_root(tenant)).parse()?);
        }
    }
    Ok(Work { client: Arc::clone(client), token, feed_of: tenant, uris })
}

async fn download(work: Arc<Work>, uris: Vec<ContentUri>) -> Result<Sums, Failure> {
    let client = &work.client;
    let feed = Feed::new(&client.cloud, work.feed_of, client.publisher);
    let mut page = Vec::with_capacity(PAGE_BYTES);
    let mut sums = Sums::default();
    for uri in uris {
        let request: Request = retrieve_content(&feed, &uri)?;
        let mut answer = client.transport.send(request.authorize(&client.cloud, &work.token)?).await?;
        if !answer.status.is_success() {
            return Err(format!("{}: {}", uri.as_str(), answer.status).into());
        }
        while let Some(mut chunk) = answer.body.chunk().await? {
            sums.bytes += chunk.len() as u64;
            while page.len() + chunk.len() >= PAGE_BYTES {
                page.extend_from_slice(&chunk.split_to(PAGE_BYTES - page.len()));
                sums.compressed_bytes += client.compress(&mut page)?;
            }
            page.extend_from_slice(&chunk);
        }
        sums.contents += 1;
    }
    sums.compressed_bytes += client.compress(&mut page)?;
    Ok(sums)
}

impl Client {
    /// Compresses the page, empties it, and gives back how many bytes came of it, which are not kept.
    fn compress(&self, page: &mut Vec<u8>) -> io::Result<u64> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = match idle {
            Some(idle) => idle,
            None => Compressor {
                zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
                compressed: Vec::with_capacity(zstd::zstd_safe::compress_bound(PAGE_BYTES)),
            },
        };
        compressor.compressed.clear();
        let bytes = compressor.zstd.compress_to_buffer(page.as_slice(), &mut compressor.compressed)?;
        page.clear();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        Ok(bytes as u64)
    }
}

fn http_get(url: &str) -> Result<http::Request<Vec<u8>>, Failure> {
    Ok(http::Request::get(url).body(Vec::new())?)
}

/// CPU time of this process so far, user and system, all threads.
fn cpu_seconds() -> io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, in brackets, may hold blanks; the fields behind it do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat has no CPU times")),
    }
}
