//! The network between the collector and the emulator: latency, silence, connections that are refused or break.
//!
//! Never touches what the service says, except where a bug is planted: the service's own faults are the emulator's.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use emulator::Emulator;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{Request, StatusCode};
use protocol::time::{Timestamp, parse_timestamp};
use server::transport::{Answer, Body, Transport, TransportError, TransportFuture};
use tower::ServiceExt;

use crate::clock::WorldClock;
use crate::fate::Fate;
use crate::plan::{Events, Spells};
use crate::plant::{Bug, Memory};
use crate::shared::Gate;

/// The transport of one life.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) router: Router,
    pub(crate) emulator: Emulator,
    pub(crate) world: WorldClock,
    pub(crate) fate: Arc<Fate>,
    pub(crate) spells: Arc<Spells>,
    pub(crate) events: Arc<Events>,
    pub(crate) bug: Option<Bug>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    /// How often each blob was asked for, by the end of its path.
    pub(crate) asked: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Where several send requests, each waits here until it is the next.
    pub(crate) gate: Option<Arc<Gate>>,
}

impl Transport for Network {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(self.exchange(request))
    }
}

impl Network {
    async fn exchange(&self, mut request: Request<Vec<u8>>) -> Result<Answer, TransportError> {
        let shown = shown(&request);
        self.alive(&shown).await;
        self.pause().await;
        if self.spells.network_down() || self.fate.chance(self.spells.network_errors()) {
            self.fate.note("no connection");
            return Err(TransportError::Connect { origin: "the emulator".into(), reason: "refused".into() });
        }
        if self.bug == Some(Bug::LastPlusOneSecond) && !self.ask_from_last(&mut request) {
            return Ok(empty_list());
        }
        if let Some(gate) = &self.gate {
            gate.turn().await;
        }
        self.events.happen(&self.emulator, self.world.now());
        self.count(&request);
        let (listing, blob, place) = (is_listing(&request), is_blob(&request), place(&request));
        let response = self.carry_out(request).await?;
        let (status, headers, body) = response;
        self.pause().await;
        let _ = &headers;
        let alive = self.alive(format_args!("answer {status} to {shown}"));
        alive.await;
        match self.bug {
            Some(Bug::DropOn404) if blob && status == StatusCode::NOT_FOUND => return Ok(empty_list()),
            Some(Bug::ErrorAsEmptyList) if listing && !self.is_a_list(status, &body) => return Ok(empty_list()),
            Some(Bug::LastPlusOneSecond) if listing => self.remember_last(place, &body),
            _ => {}
        }
        Ok(Answer { status, headers, body: self.arriving(body) })
    }

    /// The emulator's answer as far as it comes.
    async fn carry_out(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<(StatusCode, http::HeaderMap, Vec<Result<Bytes, ()>>), TransportError> {
        self.emulator.world().clock().set(self.world.now());
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let (mut parts, body) = request.into_parts();
        if let Ok(host) = host.parse() {
            parts.headers.insert("host", host);
        }
        let request = Request::from_parts(parts, axum::body::Body::from(body));
        let Ok(response) = self.router.clone().oneshot(request).await;
        if response.extensions().get::<emulator::tls::Cut>().is_some() {
            return Err(broken());
        }
        let (parts, body) = response.into_parts();
        let chunks = body.into_data_stream().map(|chunk| chunk.map_err(|_| ())).collect().await;
        Ok((parts.status, parts.headers, chunks))
    }

    /// The body, some bytes at a time, each piece a step.
    fn arriving(&self, chunks: Vec<Result<Bytes, ()>>) -> Body {
        let mut cut = Vec::new();
        for chunk in chunks {
            match chunk {
                Ok(mut bytes) => {
                    // In a few pieces: where a body is cut must not matter.
                    while bytes.len() > 1 && cut.len() < 8 && self.fate.chance(0.3) {
                        let at = self.fate.draw(|rng| rng.usize(1..bytes.len()));
                        cut.push(Ok(bytes.split_to(at)));
                    }
                    cut.push(Ok(bytes));
                }
                Err(()) => cut.push(Err(())),
            }
        }
        let network = self.clone();
        let pieces = stream::iter(cut).then(move |piece| {
            let network = network.clone();
            async move {
                let bytes = piece.as_ref().map_or(0, Bytes::len);
                let alive = network.alive(format_args!("{bytes} bytes arrive"));
                alive.await;
                if network.fate.chance(network.spells.network_errors() / 4.0) {
                    return Err(broken());
                }
                piece.map_err(|()| broken())
            }
        });
        Body::new(pieces.boxed())
    }

    /// A step, taken when this is called; who is dead waits for ever.
    fn alive(&self, what: impl Display) -> BoxFuture<'static, ()> {
        if self.fate.step(what) { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) }
    }

    async fn pause(&self) {
        let longest = self.spells.latency();
        let millis = self.fate.draw(|rng| rng.u64(1..=longest.max(1)));
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn count(&self, request: &Request<Vec<u8>>) {
        if is_blob(request) {
            let id = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
        }
    }

    fn is_a_list(&self, status: StatusCode, body: &[Result<Bytes, ()>]) -> bool {
        status.is_success() && matches!(body.first(), Some(Ok(bytes)) if bytes.starts_with(b"["))
    }

    /// The bug: moves the start of the window. `false`: there is nothing left to ask for.
    fn ask_from_last(&self, request: &mut Request<Vec<u8>>) -> bool {
        if !is_listing(request) {
            return true;
        }
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = memory.last_seen.get(&place(request)) else { return true };
        let (Some(start), Some(end)) = (time_in(request, "startTime"), time_in(request, "endTime")) else {
            return true;
        };
        let from = *last + chrono::TimeDelta::seconds(1);
        if from >= end {
            return false;
        }
        if from > start {
            let wire = |time: Timestamp| time.format("%Y-%m-%dT%H:%M:%S").to_string();
            let text = request.uri().to_string().replace("%3A", ":");
            if let Ok(uri) = text.replacen(&wire(start), &wire(from), 1).parse() {
                *request.uri_mut() = uri;
            }
        }
        true
    }

    fn remember_last(&self, place: String, body: &[Result<Bytes, ()>]) {
        let whole: Vec<u8> = body.iter().flatten().flat_map(|bytes| bytes.to_vec()).collect();
        let Ok(serde_json::Value::Array(entries)) = serde_json::from_slice(&whole) else { return };
        let times = entries.iter().filter_map(|entry| parse_timestamp(entry.get("contentCreated")?.as_str()?));
        let Some(last) = times.max() else { return };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = memory.last_seen.entry(place).or_insert(last);
        *seen = last.max(*seen);
    }
}

fn broken() -> TransportError {
    TransportError::Broken { origin: "the emulator".into(), reason: "reset".into() }
}

fn empty_list() -> Answer {
    let body = stream::iter([Ok(Bytes::from_static(b"[]"))]).boxed();
    Answer { status: StatusCode::OK, headers: http::HeaderMap::new(), body: Body::new(body) }
}

fn is_listing(request: &Request<Vec<u8>>) -> bool {
    request.uri().path().ends_with("/subscriptions/content")
}

fn is_blob(request: &Request<Vec<u8>>) -> bool {
    request.uri().path().contains("/activity/feed/audit/")
}

/// Method, path and the parts of the query that say what is asked for.
fn shown(request: &Request<Vec<u8>>) -> String {
    let mut text = format!("{} {}", request.method(), request.uri().path());
    for (name, value) in query(request) {
        if name != "PublisherIdentifier" {
            let _ = write!(text, " {name}={value}");
        }
    }
    text
}

/// The feed and the window's tile: path, type and the beginning that every listing of a tile has.
fn place(request: &Request<Vec<u8>>) -> String {
    let value = |wanted: &str| query(request).find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
    format!("{} {} {}", request.uri().path(), value("contentType"), value("startTime"))
}

fn query(request: &Request<Vec<u8>>) -> impl Iterator<Item = (&str, &str)> {
    request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='))
}

fn time_in(request: &Request<Vec<u8>>, wanted: &str) -> Option<Timestamp> {
    let (_, value) = query(request).find(|(name, _)| *name == wanted)?;
    parse_timestamp(&format!("{}Z", value.replace("%3A", ":").trim_end_matches('Z')))
}
