//! Tokens: one request for all who ask for the same tenant, renewed ahead of expiry, and one alarm when it is the app's own
//! credential that is refused.
//!
//! Never hands out a token it was told is refused, never asks again before the time it was told, never more often at once
//! than the limit says, and for a large fleet never in a burst. Requests and answers are `protocol`'s, the timing is
//! `engine`'s, the credentials are the keyring's.

mod asking;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::problem::ProblemKind;
use engine::token::{Turns, jitter};
use protocol::entra::{AppStep, EntraDisposition};
use protocol::ids::TenantId;
use protocol::token::{TenantToken, TokenError, TokenGrant};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::ServerClock;
use crate::credential::keyring::Keyring;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::transport::{Transport, TransportError};

pub(crate) mod consent;

/// A renewal that would have to wait longer than this for its turn is put off: the token in hand still works.
const RENEWAL_WAIT_MAX: Duration = Duration::from_secs(2);

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
    /// Nobody who could prove the app answers: no tenant can have a token until they do.
    #[error("the app's credential could not be had ({0}): nothing to do, it is asked for again by itself")]
    NoProof(String),
    /// Every credential of the app is refused: no tenant can have a token.
    #[error("{detail}: {}", step.remedy())]
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
    clock: Arc<ServerClock>,
    settings: Arc<Settings>,
    keyring: Arc<Keyring>,
    metrics: Arc<Metrics>,
    tenants: Mutex<HashMap<TenantId, Arc<Slot>>>,
    app: Mutex<AppState>,
    requests: Semaphore,
    pacing: Mutex<Pacing>,
    began: Instant,
}

/// How fast tokens may be asked for.
#[derive(Default)]
struct Pacing {
    tenants: usize,
    turns: Turns,
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
    /// Requests that came to anything, for spreading the next one differently.
    times: u64,
}

/// The app's own credentials.
#[derive(Default)]
struct AppState {
    /// All of them are refused.
    fault: Option<TokenFailure>,
}

impl TokenManager {
    /// An answer of the service, with a token of ours, was dated so.
    pub(crate) fn hear(&self, date: protocol::time::Timestamp) {
        self.clock.hear(date, false);
    }

    pub(crate) fn new(
        settings: Arc<Settings>,
        keyring: Arc<Keyring>,
        transport: Arc<dyn Transport>,
        clock: Arc<ServerClock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            requests: Semaphore::new(settings.limits.token_requests.max(1)),
            app: Mutex::default(),
            transport,
            clock,
            settings,
            keyring,
            metrics,
            tenants: Mutex::default(),
            pacing: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// How many tenants there are: what the pace follows from.
    pub(crate) fn expect_tenants(&self, tenants: usize) {
        self.lock_pacing().tenants = tenants;
    }

    /// The tenant's token, from memory if it is good for a while.
    pub(crate) async fn token(&self, tenant: TenantId) -> Result<Arc<HeldToken>, TokenFailure> {
        let slot = self.slot(tenant);
        let now = Instant::now();
        let held = slot.unexpired(now);
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
        if let Some(held) = &held
            && self.wait_for_turn() > RENEWAL_WAIT_MAX
        {
            return Ok(Arc::clone(held));
        }
        match self.request(tenant).await {
            Ok((asked_at, grant)) => Ok(self.keep(tenant, slot, asked_at, grant)),
            Err(cause) => {
                let failure = self.note_failure(tenant, slot, cause);
                held.ok_or(failure)
            }
        }
    }

    /// The token at hand, if there is one that was not refused and has not expired. Never asks for another.
    pub(crate) fn held(&self, tenant: TenantId) -> Option<Arc<HeldToken>> {
        self.slot(tenant).unexpired(Instant::now())
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
        let mut state = slot.state();
        state.times += 1;
        let plan = engine::token::plan(grant.lifetime, grant.refresh_in, jitter(tenant, state.times));
        let held = Arc::new(HeldToken {
            token: grant.token,
            expires: asked_at + plan.use_for,
            renew_at: asked_at + plan.renew_after,
        });
        self.metrics.token();
        state.held = Some(Arc::clone(&held));
        state.failure = None;
        drop(state);
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
        state.times += 1;
        let jitter = jitter(tenant, state.times);
        let wait = match &cause {
            TokenCause::Transport(_) | TokenCause::NoProof(_) => engine::token::retry_unanswered(attempts, jitter),
            TokenCause::Token(error) => engine::token::retry(error.disposition(), attempts, jitter),
            TokenCause::App { step, .. } => engine::token::retry(EntraDisposition::StopApp(*step), attempts, jitter),
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

    fn slot(&self, tenant: TenantId) -> Arc<Slot> {
        Arc::clone(self.lock_tenants().entry(tenant).or_default())
    }

    fn lock_tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Slot>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pacing(&self) -> MutexGuard<'_, Pacing> {
        self.pacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_app(&self) -> MutexGuard<'_, AppState> {
        self.app.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenFailure {
    /// What stands in the way while there is no token.
    pub(crate) fn kind(&self) -> ProblemKind {
        match &*self.cause {
            TokenCause::Transport(_) | TokenCause::NoProof(_) => ProblemKind::Unreachable,
            TokenCause::Token(error) => ProblemKind::of_token_error(error.disposition()),
            TokenCause::App { step, .. } => ProblemKind::App(*step),
        }
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unexpired(&self, now: Instant) -> Option<Arc<HeldToken>> {
        self.state().held.clone().filter(|held| now < held.expires)
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

#[cfg(test)]
mod tests;
