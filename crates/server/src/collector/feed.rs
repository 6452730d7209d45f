//! One tenant's requests: each waits for the tenant's budget, carries the tenant's token, is counted, and comes back parsed
//! or as a [`Failure`].
//!
//! Never repeats a request but once, with a fresh token, when the token was refused; everything else is the engine's to
//! say. Never sends a token anywhere `protocol` has not approved.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::model::Jitter;
use http::{HeaderMap, StatusCode};
use protocol::activity::{Feed, check_blob_response, parse_blob_error};
use protocol::cloud::UrlRefused;
use protocol::error::{AdminStep, ApiError, Disposition};
use protocol::ids::TenantId;
use protocol::request::Request;
use protocol::response::{MAX_ERROR_BODY, Response};
use tokio::time::Instant;

use crate::metrics::{Metrics, Operation};
use crate::settings::Settings;
use crate::tokens::{HeldToken, TokenFailure, TokenManager};
use crate::transport::{Answer, Transport, TransportError};

/// The longest time a request may take whose answer is small; listings of a busy hour have taken most of a minute.
const REQUEST_TIME: Duration = Duration::from_secs(180);

/// Why a request did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There is no token to ask with.
    #[error("{0}")]
    Token(TokenFailure),
    /// No answer, or not all of it.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The answer was an error.
    #[error("{error}")]
    Api {
        /// What was answered.
        error: ApiError,
        /// The token was refused, and so was a fresh one: what that means.
        refused_again: Option<AdminStep>,
    },
    /// The URL may not be given a token.
    #[error("{0}")]
    Refused(#[from] UrlRefused),
}

/// What all requests of one process share.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) tokens: TokenManager,
    pub(super) metrics: Arc<Metrics>,
}

/// What a tenant may still ask for; kept between activations.
#[derive(Debug)]
pub(super) struct Budget(Mutex<engine::pacing::Bucket>, Instant);

impl Budget {
    pub(super) fn new(requests_per_minute: u32) -> Self {
        let bucket = engine::pacing::Bucket::new(requests_per_minute);
        Self(Mutex::new(bucket), Instant::now())
    }

    /// Waits until the tenant may ask once more.
    async fn take(&self) {
        loop {
            let wait = self.lock().take(self.1.elapsed());
            match wait {
                None => return,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// The service said that the tenant asks too much, and how long to wait if it did.
    pub(super) fn throttled(&self, told: Option<Duration>, jitter: Jitter) {
        self.lock().throttled(self.1.elapsed(), told, jitter);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, engine::pacing::Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One tenant's way to its feed.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) shared: &'a Shared,
    pub(super) budget: &'a Budget,
    pub(super) tenant: TenantId,
}

impl<'a> Client<'a> {
    /// Whose feed, for building requests.
    pub(super) fn feed(&self) -> Feed<'a> {
        Feed::new(&self.shared.settings.cloud, self.tenant, self.shared.settings.app.publisher_id)
    }

    /// Sends a request with a small answer, and reads that by `parse`.
    pub(super) async fn ask<T>(
        &self,
        operation: Operation,
        request: Request,
        parse: impl Fn(&Response<'_>) -> Result<T, ApiError> + Send,
    ) -> Result<T, Failure> {
        let timeout = || TransportError::Timeout { origin: request.url().origin().ascii_serialization() };
        let mut refused_before = false;
        loop {
            let held = self.allowed().await?;
            let exchange = self.exchange(operation, request.clone(), &held);
            let (status, headers, body) = match tokio::time::timeout(REQUEST_TIME, exchange).await {
                Ok(answer) => answer?,
                Err(_) => return Err(timeout().into()),
            };
            let error = match parse(&Response::new(status, &headers, &body)) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // An error is shown and stored, so it is read again without the token if that was echoed.
            let error = match held.token.scrub(&body) {
                Cow::Owned(clean) => parse(&Response::new(status, &headers, &clean)).err().unwrap_or(error),
                Cow::Borrowed(_) => error,
            };
            self.ask_again(operation, error, &held, &mut refused_before)?;
        }
    }

    /// Sends a request for a blob; the answer's body is still to come. With it, the token it was asked for with.
    pub(super) async fn open(&self, request: Request) -> Result<(Answer, Arc<HeldToken>), Failure> {
        let mut refused_before = false;
        loop {
            let held = self.allowed().await?;
            let answer = self.send(Operation::Blob, request.clone(), &held).await?;
            if check_blob_response(answer.status, &answer.headers).is_ok() {
                return Ok((answer, held));
            }
            let body = answer.body.read_some(MAX_ERROR_BODY).await;
            let error = parse_blob_error(&Response::new(answer.status, &answer.headers, &held.token.scrub(&body)));
            self.ask_again(Operation::Blob, error, &held, &mut refused_before)?;
        }
    }

    /// Waits for the tenant's token, and then for its turn: those who had their turn and waited for a token would all go
    /// out together when it comes. Who finds after its turn that the token was refused meanwhile waits for both again, but
    /// once only: a token that lives shorter than a turn takes would be asked for over and over.
    async fn allowed(&self) -> Result<Arc<HeldToken>, Failure> {
        let tokens = &self.shared.tokens;
        for _ in 0..2 {
            tokens.token(self.tenant).await.map_err(Failure::Token)?;
            self.budget.take().await;
            if let Some(held) = tokens.held(self.tenant) {
                return Ok(held);
            }
        }
        tokens.token(self.tenant).await.map_err(Failure::Token)
    }

    async fn exchange(
        &self,
        operation: Operation,
        request: Request,
        held: &HeldToken,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let Answer { status, headers, body } = self.send(operation, request, held).await?;
        let body = body.read(self.shared.settings.limits.answer_bytes).await?;
        Ok((status, headers, body))
    }

    async fn send(&self, operation: Operation, request: Request, held: &HeldToken) -> Result<Answer, Failure> {
        let ready = request.authorize(&self.shared.settings.cloud, &held.token)?;
        let answer = self.shared.transport.send(ready).await;
        self.shared.metrics.request(operation, answer.as_ref().ok().map(|answer| answer.status.as_u16()));
        let answer = answer?;
        if let Some(date) = Response::new(answer.status, &answer.headers, &[]).date() {
            self.shared.tokens.hear(date);
        }
        Ok(answer)
    }

    /// Whether to ask once more, with a fresh token: when this one was refused, the first time.
    fn ask_again(
        &self,
        operation: Operation,
        error: ApiError,
        held: &Arc<HeldToken>,
        refused_before: &mut bool,
    ) -> Result<(), Failure> {
        let Disposition::NewToken { if_repeated } = error.disposition() else {
            return Err(Failure::Api { error, refused_again: None });
        };
        self.shared.tokens.reject(self.tenant, held);
        if *refused_before {
            return Err(Failure::Api { error, refused_again: Some(if_repeated) });
        }
        let operation = operation.as_str();
        tracing::debug!(tenant = %self.tenant, operation, %error, "token refused, asking for a fresh one");
        *refused_before = true;
        Ok(())
    }
}
