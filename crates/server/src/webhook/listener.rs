//! `POST /webhook/{name}`: validations and notifications (activity-api.md §4 and §5).
//!
//! Never reads a body before the head has shown a right secret, never asks the network for anything, and never answers 200
//! before what was notified is durable. Anything but 200 makes the service try again later, so trouble of ours costs
//! nothing; what is not ours is refused, counted, and written down nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chrono::TimeDelta;
use engine::model::{Listed, Tenant, TenantState};
use engine::webhook::Webhook;
use futures_util::StreamExt;
use ledger::{Ledger, LedgerError};
use protocol::activity::{
    EntryProblem, MAX_NOTIFICATION_BODY, NotifiedContent, WEBHOOK_AUTH_ID_HEADER, WebhookCall, parse_webhook_call,
};
use protocol::cloud::Cloud;
use protocol::ids::{ClientId, ContentType, TenantId};
use protocol::time::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::gate::{Gate, GateLimits};
use super::{is_authentic, path_key};
use crate::clock::Clock;
use crate::collector::Waker;
use crate::metrics::Metrics;

/// The length of the last part of an address; anything else is no path of ours.
const NAME_LENGTH: usize = 32;

/// The longest authentication id that is looked at.
const AUTH_ID_MAX: usize = 256;

/// How often it is written down that notifications come.
const NOTED_EVERY: TimeDelta = TimeDelta::seconds(60);

/// What the webhook works with.
pub struct WebhookParts {
    /// Where rows go.
    pub ledger: Arc<dyn Ledger>,
    /// Whose workers are woken.
    pub waker: Waker,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whose hosts content may be on.
    pub cloud: Cloud,
    /// Ours: notifications of another app are not.
    pub client_id: ClientId,
    /// What is collected: notifications of anything else are not for us.
    pub content_types: Vec<ContentType>,
    /// How much it bears.
    pub limits: GateLimits,
}

struct Listener {
    parts: WebhookParts,
    gate: Gate,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Validated,
    Noted,
    UnknownPath,
    WrongSecret,
    Stranger,
    TooMany,
    TooLong,
    TooSlow,
    Unreadable,
    LedgerTrouble,
}

/// The routes of the webhook, for the public site.
pub fn router(parts: WebhookParts) -> Router {
    let gate = Gate::new(parts.limits.clone(), parts.waker.known_paths());
    let listener = Arc::new(Listener { parts, gate });
    Router::new().route("/webhook/{name}", post(called)).with_state(listener)
}

async fn called(State(listener): State<Arc<Listener>>, Path(name): Path<String>, request: Request) -> Response {
    let outcome = listener.answer(&name, request).await.unwrap_or_else(|refused| refused);
    listener.parts.metrics.webhook_call(outcome.as_str());
    match outcome.status() {
        status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
            (status, [(header::RETRY_AFTER, "30")]).into_response()
        }
        status => status.into_response(),
    }
}

impl Listener {
    async fn answer(&self, name: &str, request: Request) -> Result<Outcome, Outcome> {
        let _place = self.gate.enter().ok_or(Outcome::TooMany)?;
        if name.len() != NAME_LENGTH {
            return Err(Outcome::UnknownPath);
        }
        let key = path_key(name);
        if !self.gate.may_ask(key) {
            return Err(Outcome::Stranger);
        }
        let (head, body) = request.into_parts();
        let found = self.parts.ledger.webhook_at(key).await.map_err(|error| trouble(&error))?;
        let found = found.filter(|(tenant, webhook)| tenant.state != TenantState::Removed && webhook.state.is_open());
        let Some((tenant, webhook)) = found else {
            self.gate.forget(key);
            return Err(Outcome::UnknownPath);
        };
        if !is_authentic(&webhook, shown_secret(&head.headers)) {
            self.gate.forget(key);
            tracing::warn!(tenant = %tenant.id, content_type = %webhook.content_type, "a call without the webhook's secret");
            return Err(Outcome::WrongSecret);
        }
        self.gate.greet(key);
        let (body, _kept) = self.read(&head.headers, body).await?;
        match parse_webhook_call(&self.parts.cloud, &head.headers, &body) {
            Ok(WebhookCall::Validation { .. }) => {
                tracing::debug!(tenant = %tenant.id, content_type = %webhook.content_type, "webhook validated");
                Ok(Outcome::Validated)
            }
            Ok(WebhookCall::Notification { contents, unreadable }) => {
                for entry in &unreadable {
                    let refused = matches!(entry.problem, EntryProblem::Refused(_));
                    self.count(if refused { "foreign_url" } else { "unreadable" }, 1);
                }
                self.note(&tenant, &webhook, contents).await.map_err(|error| trouble(&error))?;
                Ok(Outcome::Noted)
            }
            Err(error) => {
                tracing::debug!(tenant = %tenant.id, %error, "a call of the webhook cannot be read");
                Err(Outcome::Unreadable)
            }
        }
    }

    /// The body, and the room it takes. Only who has shown the secret gets here.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(Vec<u8>, Vec<OwnedSemaphorePermit>), Outcome> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|announced: usize| announced > MAX_NOTIFICATION_BODY) {
            return Err(Outcome::TooLong);
        }
        let reading = async {
            let (mut bytes, mut room) = (Vec::new(), Vec::new());
            let mut stream = body.into_data_stream();
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|_| Outcome::Unreadable)?;
                if bytes.len() + chunk.len() > MAX_NOTIFICATION_BODY {
                    return Err(Outcome::TooLong);
                }
                let taken = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                // Who holds room and waits for more gives up when its time is over, so all cannot wait for ever.
                let more = Arc::clone(&self.gate.bytes).acquire_many_owned(taken).await;
                room.push(more.map_err(|_| Outcome::TooMany)?);
                bytes.extend_from_slice(&chunk);
            }
            Ok((bytes, room))
        };
        tokio::time::timeout(self.gate.limits.body_time, reading).await.map_err(|_| Outcome::TooSlow)?
    }

    /// Writes down what is ours, tenant by tenant, and wakes their workers.
    async fn note(&self, owner: &Tenant, webhook: &Webhook, contents: Vec<NotifiedContent>) -> Result<(), LedgerError> {
        let mut by_tenant: BTreeMap<TenantId, Vec<Listed>> = BTreeMap::new();
        for notified in contents {
            if notified.client.is_some_and(|client| client != self.parts.client_id) {
                self.count("foreign_app", 1);
            } else if !self.parts.content_types.contains(&notified.content.content_type) {
                self.count("foreign_type", 1);
            } else {
                let content = notified.content;
                by_tenant.entry(notified.tenant).or_default().push(Listed {
                    content_type: content.content_type,
                    content_id: content.content_id,
                    content_uri: content.content_uri,
                    created: content.content_created,
                    expires: content.content_expiration,
                });
            }
        }
        for (id, contents) in by_tenant {
            // One address may serve many tenants (activity-api.md §5), but only those that have a webhook with us.
            let (state, webhooks) = if id == owner.id {
                (Some(owner.state), vec![webhook.clone()])
            } else {
                match self.parts.ledger.tenant(id).await? {
                    Some(tenant) => (Some(tenant.state), self.parts.ledger.webhooks(id).await?),
                    None => (None, Vec::new()),
                }
            };
            let entries = contents.len() as u64;
            match state {
                Some(TenantState::Active) if webhooks.iter().any(|webhook| webhook.state.is_open()) => {
                    self.note_one(id, &webhooks, contents).await?;
                }
                Some(TenantState::Active) | None => self.count("unknown_tenant", entries),
                // Found by polling, if it is ever collected again.
                Some(TenantState::Paused | TenantState::Removed) => self.count("not_collected", entries),
            }
        }
        Ok(())
    }

    async fn note_one(&self, tenant: TenantId, webhooks: &[Webhook], contents: Vec<Listed>) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        let mut content_types: Vec<ContentType> = contents.iter().map(|content| content.content_type.clone()).collect();
        content_types.sort();
        content_types.dedup();
        let entries = contents.len() as u64;
        let new = self.parts.ledger.contents_listed(tenant, contents, now).await?;
        self.count("new", new);
        self.count("known", entries.saturating_sub(new));
        if webhooks.iter().any(|webhook| is_long_ago(webhook.notified_at, now)) {
            self.parts.ledger.notified(tenant, content_types, now).await?;
        }
        if new > 0 {
            self.parts.waker.listed(tenant, new);
        }
        Ok(())
    }

    fn count(&self, what: &'static str, entries: u64) {
        self.parts.metrics.webhook_entries(what, entries);
    }
}

fn is_long_ago(noted: Option<Timestamp>, now: Timestamp) -> bool {
    noted.is_none_or(|noted| (now - noted).abs() >= NOTED_EVERY)
}

fn shown_secret(headers: &HeaderMap) -> &[u8] {
    let shown = headers.get(WEBHOOK_AUTH_ID_HEADER).map(|value| value.as_bytes().trim_ascii()).unwrap_or_default();
    if shown.len() <= AUTH_ID_MAX { shown } else { &[] }
}

fn trouble(error: &LedgerError) -> Outcome {
    tracing::warn!(error = %crate::chain(error), "a call of the webhook could not be noted; the service will repeat it");
    Outcome::LedgerTrouble
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Validated => "validated",
            Self::Noted => "noted",
            Self::UnknownPath => "unknown_path",
            Self::WrongSecret => "wrong_secret",
            Self::Stranger => "stranger",
            Self::TooMany => "too_many",
            Self::TooLong => "too_long",
            Self::TooSlow => "too_slow",
            Self::Unreadable => "unreadable",
            Self::LedgerTrouble => "ledger_trouble",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Validated | Self::Noted => StatusCode::OK,
            // Strangers learn nothing about which paths there are.
            Self::UnknownPath | Self::WrongSecret | Self::Stranger => StatusCode::NOT_FOUND,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::LedgerTrouble => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
