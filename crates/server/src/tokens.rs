//! Tokens: one request for all who ask for the same tenant, renewed ahead of expiry, and one alarm when it is the app's own
//! credential that is refused.
//!
//! Never hands out a token it was told is refused, never asks again before the time it was told, and never more often at
//! once than the limit says. Requests and answers are `protocol`'s, the timing is `engine`'s.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use protocol::entra::{AppStep, EntraDisposition};
use protocol::ids::TenantId;
use protocol::request::Request;
use protocol::response::Response;
use protocol::token::{
    GrantCredential, MAX_TOKEN_BODY, TenantToken, TokenAsk, TokenError, TokenGrant, client_credentials, parse_token,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::clock::Clock;
use crate::metrics::{Metrics, Operation};
use crate::settings::{AppSettings, Credential, Settings};
use crate::transport::{Transport, TransportError};

pub(crate) mod consent;

/// The longest time one token request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// A token in use.
#[derive(Debug)]
pub(crate) struct HeldToken {
    /// The token.
    pub(crate) token: TenantToken,
    /// Not used from here on.
    expires: Instant,
    /// Renewed from here on, while it still works.
    renew_at: Instant,
}

/// Why there is no token; the same for all who ask until [`TokenFailure::retry_at`].
#[derive(Debug, Clone)]
pub(crate) struct TokenFailure {
    /// What went wrong.
    pub(crate) cause: Arc<TokenCause>,
    /// Nobody asks before.
    pub(crate) retry_at: Instant,
    /// Failures in a row, this one included.
    pub(crate) attempts: u32,
}

/// What went wrong with a token request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenCause {
    /// No answer.
    #[error("Entra ID could not be asked for a token")]
    Transport(#[source] TransportError),
    /// The answer was no token.
    #[error("{0}")]
    Token(TokenError),
    /// Every credential of the app is refused: no tenant can have a token.
    #[error("{} ({detail}): {}", step.problem(), step.remedy())]
    App {
        /// What the operator can do about the credential that was tried first.
        step: AppStep,
        /// What Entra said, with its numbers.
        detail: String,
    },
}

/// Hands out tokens; shared by all tenants' workers.
pub(crate) struct TokenManager {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    tenants: Mutex<HashMap<TenantId, Arc<Slot>>>,
    app: Mutex<AppState>,
    requests: Semaphore,
}

/// One tenant's token.
#[derive(Default)]
struct Slot {
    /// Held by the one who asks Entra; all others wait for it, or use the token that still works.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    held: Option<Arc<HeldToken>>,
    failure: Option<TokenFailure>,
}

/// The app's own credentials.
struct AppState {
    /// For each credential: until when it is passed over, since it was refused.
    refused_until: Vec<Option<Instant>>,
    /// All of them are refused.
    fault: Option<TokenFailure>,
}

impl TokenManager {
    pub(crate) fn new(
        settings: Arc<Settings>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            requests: Semaphore::new(settings.limits.token_requests.max(1)),
            app: Mutex::new(AppState { refused_until: vec![None; settings.app.credentials.len()], fault: None }),
            transport,
            clock,
            settings,
            metrics,
            tenants: Mutex::default(),
        }
    }

    /// The tenant's token, from memory if it is good for a while.
    pub(crate) async fn token(&self, tenant: TenantId) -> Result<Arc<HeldToken>, TokenFailure> {
        let slot = self.slot(tenant);
        let now = Instant::now();
        let held = slot.state().held.clone().filter(|held| now < held.expires);
        let asking = match held {
            Some(held) if now < held.renew_at => return Ok(held),
            // It still works: one renews it, and nobody waits.
            Some(held) => match slot.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(held),
            },
            None => slot.asking.lock().await,
        };
        let result = self.token_asking(tenant, &slot).await;
        drop(asking);
        result
    }

    /// As [`Self::token`], by the only one who may ask Entra for this tenant now.
    async fn token_asking(&self, tenant: TenantId, slot: &Slot) -> Result<Arc<HeldToken>, TokenFailure> {
        let now = Instant::now();
        let (held, failure) = {
            let state = slot.state();
            (state.held.clone().filter(|held| now < held.expires), state.failure.clone())
        };
        if let Some(held) = &held
            && now < held.renew_at
        {
            // Somebody else has renewed it while we waited.
            return Ok(Arc::clone(held));
        }
        let failure = failure.filter(|failure| now < failure.retry_at).or_else(|| self.app_fault(now));
        if let Some(failure) = failure {
            return held.ok_or(failure);
        }
        match self.request(tenant).await {
            Ok((asked_at, grant)) => Ok(self.keep(tenant, slot, asked_at, grant)),
            Err(cause) => {
                let failure = self.note_failure(tenant, slot, cause);
                held.ok_or(failure)
            }
        }
    }

    /// The API refused this token: it is not handed out again. Says whether a fresh one may be asked for now.
    pub(crate) fn reject(&self, tenant: TenantId, refused: &Arc<HeldToken>) {
        let slot = self.slot(tenant);
        let mut state = slot.state();
        // Several requests may come back with the same refusal; only the first finds the token still there.
        if state.held.as_ref().is_some_and(|held| Arc::ptr_eq(held, refused)) {
            state.held = None;
        }
    }

    /// Forgets a tenant that is not collected any more.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.lock_tenants().remove(&tenant);
    }

    /// What is wrong with the app's own credentials, until they may be tried again.
    fn app_fault(&self, now: Instant) -> Option<TokenFailure> {
        self.lock_app().fault.clone().filter(|failure| now < failure.retry_at)
    }

    /// Whether the app's credentials were refused when they were last tried.
    pub(crate) fn has_app_fault(&self) -> bool {
        self.lock_app().fault.is_some()
    }

    fn keep(&self, tenant: TenantId, slot: &Slot, asked_at: Instant, grant: TokenGrant) -> Arc<HeldToken> {
        for problem in &grant.problems {
            tracing::warn!(%tenant, %problem, "the token has a problem");
        }
        let plan = engine::token::plan(grant.lifetime, grant.refresh_in, jitter(tenant));
        let held = Arc::new(HeldToken {
            token: grant.token,
            expires: asked_at + plan.use_for,
            renew_at: asked_at + plan.renew_after,
        });
        self.metrics.token();
        {
            let mut state = slot.state();
            state.held = Some(Arc::clone(&held));
            state.failure = None;
        }
        if self.lock_app().fault.take().is_some() {
            tracing::info!("the app's credential is accepted again");
        }
        tracing::debug!(%tenant, lifetime_s = grant.lifetime.as_secs(), "token received");
        held
    }

    fn note_failure(&self, tenant: TenantId, slot: &Slot, cause: TokenCause) -> TokenFailure {
        let now = Instant::now();
        let mut state = slot.state();
        let attempts = state.failure.as_ref().map_or(0, |failure| failure.attempts) + 1;
        let wait = match &cause {
            TokenCause::Transport(_) => engine::token::retry_unanswered(attempts, jitter(tenant)),
            TokenCause::Token(error) => engine::token::retry(error.disposition(), attempts, jitter(tenant)),
            TokenCause::App { step, .. } => {
                engine::token::retry(EntraDisposition::StopApp(*step), attempts, jitter(tenant))
            }
        };
        let failure = TokenFailure { cause: Arc::new(cause), retry_at: now + wait, attempts };
        match &*failure.cause {
            TokenCause::App { .. } => {
                let mut app = self.lock_app();
                // One alarm for all tenants, and again each time it was tried anew.
                if app.fault.as_ref().is_none_or(|fault| now >= fault.retry_at) {
                    tracing::error!(error = %failure.cause, retry_in_s = wait.as_secs(), "no tenant can have a token");
                    self.metrics.error("app_credential");
                }
                app.fault = Some(failure.clone());
            }
            cause => {
                tracing::warn!(%tenant, error = %crate::chain(cause), attempt = attempts, retry_in_s = wait.as_secs(), "no token");
                self.metrics.error("token");
            }
        }
        state.failure = Some(failure.clone());
        failure
    }

    /// Asks Entra, with each credential that is not known to be refused.
    async fn request(&self, tenant: TenantId) -> Result<(Instant, TokenGrant), TokenCause> {
        let _turn = self.requests.acquire().await.expect("the semaphore is never closed");
        let mut refused: Option<(AppStep, String)> = None;
        for (number, credential) in self.usable_credentials() {
            let mut error = match self.request_with(tenant, credential).await {
                Err(TokenCause::Token(error)) => error,
                other => return other,
            };
            if matches!(error.disposition(), EntraDisposition::NewAssertion { .. }) {
                // Each request signs its own assertion, so once more is a new one.
                error = match self.request_with(tenant, credential).await {
                    Err(TokenCause::Token(error)) => error,
                    other => return other,
                };
            }
            let step = match error.disposition() {
                EntraDisposition::StopApp(step) | EntraDisposition::NewAssertion { if_repeated: step } => step,
                EntraDisposition::RetryAfter { .. }
                | EntraDisposition::BackOff { .. }
                | EntraDisposition::NeedsTenantAdmin(_)
                | EntraDisposition::ConsentFailed(_)
                | EntraDisposition::RetrySlowly
                | EntraDisposition::Bug => return Err(TokenCause::Token(error)),
            };
            self.pass_over(number);
            if self.settings.app.credentials.len() > 1 {
                tracing::warn!(credential = number, error = %error, "credential refused, trying the next");
            }
            refused.get_or_insert((step, error.to_string()));
        }
        let (step, detail) = refused.unwrap_or((AppStep::CheckCredential, "no credential is configured".to_owned()));
        Err(TokenCause::App { step, detail })
    }

    async fn request_with(
        &self,
        tenant: TenantId,
        credential: &Credential,
    ) -> Result<(Instant, TokenGrant), TokenCause> {
        let asked_at = Instant::now();
        let AppSettings { client_id, token_endpoint, .. } = self.settings.app;
        let ask = TokenAsk { cloud: &self.settings.cloud, tenant, client_id, endpoint: token_endpoint };
        let proof = self.proof(credential, &ask.token_endpoint());
        let request = client_credentials(&ask, &proof, Uuid::new_v4());
        let (status, headers, body) = self.exchange(request, REQUEST_TIME).await.map_err(TokenCause::Transport)?;
        let body = proof.scrub(&body);
        let response = Response::new(status, &headers, &body);
        let grant = parse_token(&ask, &response, self.clock.now()).map_err(TokenCause::Token)?;
        Ok((asked_at, grant))
    }

    /// What a credential puts into one request to this endpoint.
    fn proof(&self, credential: &Credential, endpoint: &Url) -> GrantCredential {
        match credential {
            Credential::Secret(secret) => GrantCredential::Secret(secret.clone()),
            Credential::Certificate(certificate) => GrantCredential::Assertion(certificate.assertion(
                self.settings.app.client_id,
                endpoint,
                Uuid::new_v4(),
                self.clock.now(),
            )),
        }
    }

    /// One request to the token endpoint and the whole of its answer, within `limit`.
    async fn exchange(
        &self,
        request: Request,
        limit: Duration,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), TransportError> {
        let request =
            request.into_unauthenticated().map_err(|error| TransportError::Request { reason: error.to_string() })?;
        let origin = crate::transport::origin_of(request.uri());
        let exchange = async {
            let answer = self.transport.send(request).await?;
            self.metrics.request(Operation::Token, Some(answer.status.as_u16()));
            let body = answer.body.read(MAX_TOKEN_BODY).await?;
            Ok((answer.status, answer.headers, body))
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        let answered = answered.unwrap_or_else(|_| Err(TransportError::Timeout { origin }));
        answered.inspect_err(|_| self.metrics.request(Operation::Token, None))
    }

    /// The credentials that are not passed over; all of them when all are.
    fn usable_credentials(&self) -> Vec<(usize, &Credential)> {
        let now = Instant::now();
        let app = self.lock_app();
        let all = || self.settings.app.credentials.iter().enumerate();
        let passed_over =
            |number: usize| app.refused_until.get(number).copied().flatten().is_some_and(|until| now < until);
        let usable: Vec<_> = all().filter(|(number, _)| !passed_over(*number)).collect();
        if usable.is_empty() { all().collect() } else { usable }
    }

    fn pass_over(&self, number: usize) {
        if let Some(refused) = self.lock_app().refused_until.get_mut(number) {
            *refused = Some(Instant::now() + engine::token::REFUSED_CREDENTIAL_REST);
        }
    }

    fn slot(&self, tenant: TenantId) -> Arc<Slot> {
        Arc::clone(self.lock_tenants().entry(tenant).or_default())
    }

    fn lock_tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Slot>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_app(&self) -> MutexGuard<'_, AppState> {
        self.app.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenManager(…)")
    }
}

impl fmt::Display for TokenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::chain(&*self.cause))
    }
}

/// A different spread for each tenant and each time, so that tokens issued together are not renewed together.
fn jitter(tenant: TenantId) -> engine::model::Jitter {
    engine::model::Jitter { seed: tenant.as_uuid().as_u64_pair().1 ^ fastrand::u64(..), percent: 20 }
}

#[cfg(test)]
mod tests;
