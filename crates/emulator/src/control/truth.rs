//! Ground truth over HTTP: NDJSON streams and a summary.
//!
//! Never gathers a tenant's records: they are made while they are sent.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use protocol::ids::{ContentType, TenantId};

use super::{answer, refused};
use crate::emulator::Emulator;
use crate::world::tenant::Tenant;
use crate::world::truth::RecordSet;
use crate::world::{RecordRef, World};

/// `GET truth[?tenant=…]`: one line for each content created by now.
pub(super) async fn contents(
    State(emulator): State<Emulator>,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    let tenants = match tenants(&emulator, &query) {
        Ok(tenants) => tenants,
        Err(refused) => return refused,
    };
    let world = Arc::clone(emulator.world());
    let now = world.now_millis();
    let feeds = tenants
        .into_iter()
        .flat_map(|tenant| ContentType::KNOWN.into_iter().map(move |kind| (Arc::clone(&tenant), kind)));
    ndjson(feeds.map(move |(tenant, kind)| {
        let mut lines = Vec::new();
        for content in world.feed_contents(&tenant, &kind, now) {
            // A struct of text, numbers and truth values can always be written.
            let _ = serde_json::to_writer(&mut lines, &content);
            lines.push(b'\n');
        }
        lines
    }))
}

/// `GET truth/summary`.
pub(super) async fn summary(State(emulator): State<Emulator>) -> Response<Body> {
    let summary = serde_json::to_value(emulator.world().truth()).unwrap_or_default();
    answer(StatusCode::OK, &summary)
}

/// `GET truth/records?tenant=…[&content_type=…][&set=readable|poison_only]`: each distinct record once, one a line,
/// byte
/// for byte.
pub(super) async fn records(
    State(emulator): State<Emulator>,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    let tenants = match tenants(&emulator, &query) {
        Ok(tenants) => tenants,
        Err(refused) => return refused,
    };
    let kinds = match query.get("content_type").map(|text| text.parse::<ContentType>()) {
        None => ContentType::KNOWN.to_vec(),
        Some(Ok(kind)) => vec![kind],
        Some(Err(error)) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let set = match query.get("set").map(String::as_str) {
        None | Some("readable") => RecordSet::Readable,
        Some("poison_only") => RecordSet::PoisonOnly,
        Some(_) => return refused(StatusCode::BAD_REQUEST, "set must be readable or poison_only"),
    };
    let world = Arc::clone(emulator.world());
    let now = world.now_millis();
    let feeds = tenants
        .into_iter()
        .flat_map(move |tenant| kinds.clone().into_iter().map(move |kind| (Arc::clone(&tenant), kind)));
    ndjson(feeds.flat_map(move |(tenant, kind)| FeedRecords::new(Arc::clone(&world), tenant, &kind, set, now)))
}

/// The records of one feed as text, chunk by chunk.
struct FeedRecords {
    world: Arc<World>,
    tenant: Arc<Tenant>,
    feed: usize,
    records: Box<dyn Iterator<Item = RecordRef> + Send>,
}

impl FeedRecords {
    const CHUNK: usize = 128 << 10;

    fn new(world: Arc<World>, tenant: Arc<Tenant>, kind: &ContentType, set: RecordSet, now: i64) -> Self {
        let feed = tenant.feeds.iter().position(|feed| feed.kind == *kind);
        let records: Box<dyn Iterator<Item = RecordRef> + Send> = match feed.and_then(|place| tenant.feeds.get(place)) {
            Some(feed) => world.published_records(&tenant, feed, set, now),
            None => Box::new(std::iter::empty()),
        };
        Self { world, tenant, feed: feed.unwrap_or(0), records }
    }
}

impl Iterator for FeedRecords {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let feed = self.tenant.feeds.get(self.feed)?;
        let mut lines = Vec::new();
        while lines.len() < Self::CHUNK {
            let Some(record) = self.records.next() else { break };
            self.world.render(&self.tenant, feed, record, &mut lines);
            lines.push(b'\n');
        }
        (!lines.is_empty()).then_some(lines)
    }
}

#[expect(clippy::result_large_err, reason = "the error is the answer, and it is made once a request")]
fn tenants(emulator: &Emulator, query: &HashMap<String, String>) -> Result<Vec<Arc<Tenant>>, Response<Body>> {
    let Some(text) = query.get("tenant") else { return Ok(emulator.world().tenants()) };
    let id: TenantId = text.parse().map_err(|error| refused(StatusCode::BAD_REQUEST, &format!("{error}")))?;
    let unknown = || refused(StatusCode::NOT_FOUND, &format!("there is no tenant {id}"));
    Ok(vec![emulator.world().tenant(id).ok_or_else(unknown)?])
}

fn ndjson(chunks: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response<Body> {
    let body = Body::from_stream(stream::iter(chunks.map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk)))));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
