//! The token requests of a consent: a code redeemed, and a first look at what the tenant has granted.
//!
//! Never from memory: a consent is proven by what the token endpoint says now. Credentials are tried in the same order, and
//! passed over for the same reasons, as for every other token.

use std::time::Duration;

use protocol::consent::{ConsentAsk, RedeemError, SignIn, parse_redemption, redeem_code};
use protocol::entra::EntraDisposition;
use protocol::ids::TenantId;
use protocol::response::Response;
use protocol::secret::{AuthorizationCode, CodeVerifier};
use protocol::token::{TokenEndpoint, TokenGrant};
use uuid::Uuid;

use super::{TokenCause, TokenManager};
use crate::credential::keyring::NoProof;
use crate::transport::TransportError;

/// The longest time a person is kept waiting for the token endpoint.
const REDEMPTION_TIME: Duration = Duration::from_secs(20);

/// Why a code did not become proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedemptionFailure {
    /// No answer.
    #[error("Entra ID could not be asked to redeem a code")]
    Transport(#[source] TransportError),
    /// The answer was no proof.
    #[error(transparent)]
    Answer(#[from] RedeemError),
    /// There is no credential to ask with.
    #[error("no credential of the app can be used")]
    NoCredential,
}

/// What goes with a code.
pub(crate) struct Redemption<'a> {
    pub(crate) ask: ConsentAsk<'a>,
    pub(crate) endpoint: TokenEndpoint,
    pub(crate) code: &'a AuthorizationCode,
    pub(crate) verifier: &'a CodeVerifier,
    pub(crate) nonce: &'a str,
}

impl TokenManager {
    /// Redeems a code, and reads who signed in where.
    pub(crate) async fn redeem(&self, redemption: &Redemption<'_>) -> Result<SignIn, RedemptionFailure> {
        let mut refused = RedemptionFailure::NoCredential;
        for number in self.keyring.usable() {
            let Redemption { ask, endpoint, code, verifier, nonce } = redemption;
            let client_id = self.settings.app.client_id;
            let proof = match self.keyring.proof(number, client_id, &ask.token_endpoint(*endpoint)).await {
                Ok(proof) => proof,
                Err(NoProof::Passing { .. }) => continue,
                Err(NoProof::Unusable { step, reason, generation }) => {
                    self.keyring.refused(number, generation, step, &reason);
                    continue;
                }
            };
            let request = redeem_code(ask, *endpoint, code, verifier, &proof.credential, Uuid::new_v4());
            let (status, headers, body) =
                self.exchange(request, REDEMPTION_TIME).await.map_err(RedemptionFailure::Transport)?;
            let response = Response::new(status, &headers, &body);
            let error = match parse_redemption(ask, *endpoint, nonce, &response, self.clock.now()) {
                Ok(sign_in) => return Ok(sign_in),
                Err(error) => error,
            };
            let step = match &error {
                RedeemError::Entra(error) => match error.disposition() {
                    EntraDisposition::StopApp(step) | EntraDisposition::NewAssertion { if_repeated: step } => {
                        Some(step)
                    }
                    _ => None,
                },
                _ => None,
            };
            let Some(step) = step.filter(|step| step.is_credentials()) else { return Err(error.into()) };
            // Whoever is refused by its credential has not used the code up.
            self.keyring.refused(number, proof.generation, step, &error.to_string());
            refused = error.into();
        }
        Err(refused)
    }

    /// A fresh app-only token of the tenant, for what it says of itself; the collector asks for its own.
    pub(crate) async fn look(&self, tenant: TenantId) -> Result<TokenGrant, TokenCause> {
        let asked = tokio::time::timeout(REDEMPTION_TIME, self.request(tenant)).await;
        let origin = || self.settings.cloud.login().to_owned();
        let timeout = || TokenCause::Transport(TransportError::Timeout { origin: origin() });
        asked.unwrap_or_else(|_| Err(timeout())).map(|(_, grant)| grant)
    }
}
