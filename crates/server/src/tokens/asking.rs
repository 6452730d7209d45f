//! One request for a token: a turn, a credential, an assertion for this request alone, and the answer.
//!
//! Never uses an assertion twice, and never asks with a credential that rests while another one works.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use protocol::entra::{AppStep, EntraDisposition};
use protocol::ids::TenantId;
use protocol::request::Request;
use protocol::response::Response;
use protocol::token::{GrantCredential, MAX_TOKEN_BODY, TokenAsk, TokenGrant, client_credentials, parse_token};
use tokio::time::Instant;
use uuid::Uuid;

use super::{TokenCause, TokenManager};
use crate::credential::keyring::{NoProof, Refusal};
use crate::metrics::Operation;
use crate::settings::AppSettings;
use crate::transport::TransportError;

/// The longest time one token request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// How often one credential is tried for one token: once more with a new assertion, and once more when its file has just
/// been replaced.
const TRIES_MAX: u32 = 3;

/// What came of one credential.
enum Outcome {
    Granted(Instant, Box<TokenGrant>),
    /// It is refused, or cannot be used: what that means, and the words.
    Refused(AppStep, String),
    /// Who hands it out does not answer.
    Passing(String),
}

impl TokenManager {
    /// How long whoever asks now would wait for their turn.
    pub(super) fn wait_for_turn(&self) -> Duration {
        let pacing = self.lock_pacing();
        pacing.turns.wait(self.began.elapsed(), engine::token::pace(pacing.tenants))
    }

    async fn take_turn(&self) {
        let wait = {
            let mut pacing = self.lock_pacing();
            let pace = engine::token::pace(pacing.tenants);
            pacing.turns.take(self.began.elapsed(), pace)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks Entra, with each credential that is not known to be refused.
    pub(super) async fn request(&self, tenant: TenantId) -> Result<(Instant, TokenGrant), TokenCause> {
        self.take_turn().await;
        let _place = self.requests.acquire().await.expect("the semaphore is never closed");
        let mut refused: Option<(AppStep, String)> = None;
        let mut passing: Option<String> = None;
        for number in self.keyring.usable() {
            match self.request_with(tenant, number).await? {
                Outcome::Granted(asked_at, grant) => {
                    self.keyring.accepted(number);
                    return Ok((asked_at, *grant));
                }
                Outcome::Refused(step, detail) => {
                    // What lies in the registration lies there for every credential.
                    let is_final = !step.is_credentials();
                    refused.get_or_insert((step, detail));
                    if is_final {
                        break;
                    }
                }
                Outcome::Passing(reason) => {
                    passing.get_or_insert(reason);
                }
            }
        }
        match (passing, refused) {
            (Some(reason), _) => Err(TokenCause::NoProof(reason)),
            (None, Some((step, detail))) => Err(TokenCause::App { step, detail }),
            (None, None) => {
                let unreadable = self.keyring.statuses().into_iter().find_map(|status| status.problem);
                let detail = unreadable.unwrap_or_else(|| "no credential is configured".to_owned());
                Err(TokenCause::App { step: AppStep::CheckCredential, detail })
            }
        }
    }

    async fn request_with(&self, tenant: TenantId, number: usize) -> Result<Outcome, TokenCause> {
        let AppSettings { client_id, token_endpoint, .. } = self.settings.app;
        let ask = TokenAsk { cloud: &self.settings.cloud, tenant, client_id, endpoint: token_endpoint };
        let mut tries = 0;
        loop {
            tries += 1;
            let proof = match self.keyring.proof(number, client_id, &ask.token_endpoint()).await {
                Ok(proof) => proof,
                Err(NoProof::Passing { reason }) => return Ok(Outcome::Passing(reason)),
                Err(NoProof::Unusable { step, reason, generation }) => {
                    self.keyring.refused(number, generation, step, &reason);
                    return Ok(Outcome::Refused(step, reason));
                }
            };
            let error = match self.ask(&ask, &proof.credential).await {
                Ok((asked_at, grant)) => return Ok(Outcome::Granted(asked_at, Box::new(grant))),
                Err(TokenCause::Token(error)) => error,
                Err(other) => return Err(other),
            };
            let step = match error.disposition() {
                // Each request signs its own assertion, so once more is a new one, by the clock that has just been seen.
                EntraDisposition::NewAssertion { .. } if tries == 1 => continue,
                EntraDisposition::StopApp(step) | EntraDisposition::NewAssertion { if_repeated: step } => step,
                EntraDisposition::RetryAfter { .. }
                | EntraDisposition::BackOff { .. }
                | EntraDisposition::NeedsTenantAdmin(_)
                | EntraDisposition::ConsentFailed(_)
                | EntraDisposition::RetrySlowly
                | EntraDisposition::Bug => return Err(TokenCause::Token(error)),
            };
            let detail = error.to_string();
            if !step.is_credentials() {
                return Ok(Outcome::Refused(step, detail));
            }
            match self.keyring.refused(number, proof.generation, step, &detail) {
                Refusal::Outdated if tries < TRIES_MAX => {}
                Refusal::Outdated | Refusal::Noted => return Ok(Outcome::Refused(step, detail)),
            }
        }
    }

    /// One request for a tenant's token and what its answer says.
    async fn ask(&self, ask: &TokenAsk<'_>, credential: &GrantCredential) -> Result<(Instant, TokenGrant), TokenCause> {
        let asked_at = Instant::now();
        let request = client_credentials(ask, credential, Uuid::new_v4());
        let (status, headers, body) = self.exchange(request, REQUEST_TIME).await.map_err(TokenCause::Transport)?;
        let body = credential.scrub(&body);
        let response = Response::new(status, &headers, &body);
        let grant = parse_token(ask, &response, self.clock.now()).map_err(TokenCause::Token)?;
        Ok((asked_at, grant))
    }

    /// One request to the token endpoint and the whole of its answer, within `limit`. Takes note of the server's clock.
    pub(super) async fn exchange(
        &self,
        request: Request,
        limit: Duration,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), TransportError> {
        let asked_at = Instant::now();
        let request =
            request.into_unauthenticated().map_err(|error| TransportError::Request { reason: error.to_string() })?;
        let origin = crate::transport::origin_of(request.uri());
        let exchange = async {
            let answer = self.transport.send(request).await?;
            self.metrics.request(Operation::Token, Some(answer.status.as_u16()));
            if let Some(date) = Response::new(answer.status, &answer.headers, &[]).date() {
                self.clock.note(date, asked_at.elapsed());
                self.metrics.clock_ahead(self.clock.ahead().num_seconds());
            }
            let body = answer.body.read(MAX_TOKEN_BODY).await?;
            Ok((answer.status, answer.headers, body))
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        let answered = answered.unwrap_or_else(|_| Err(TransportError::Timeout { origin }));
        answered.inspect_err(|_| self.metrics.request(Operation::Token, None))
    }
}
