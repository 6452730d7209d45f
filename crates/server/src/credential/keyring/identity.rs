//! A managed identity's token, kept while it lives and asked for by one at a time.
//!
//! Never asked through a proxy, and never more often than the service bears: it is tried again as entra.md §5.4 says, and a
//! refusal is final for this use.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::entra::AppStep;
use protocol::response::{MAX_ERROR_BODY, Response};
use protocol::secret::ClientAssertion;
use protocol::time::Timestamp;
use protocol::token::{IdentityEndpoint, IdentityError, IdentityName, identity_token, parse_identity_token};
use tokio::time::Instant;

use super::{KeyringParts, NoProof};
use crate::transport::{Direct, Transport};

/// The longest time one request to the identity's endpoint may take.
const REQUEST_TIME: Duration = Duration::from_secs(15);

/// The token last received.
#[derive(Default)]
pub(super) struct Identity {
    /// Held by the one who asks; all others wait for it.
    asking: tokio::sync::Mutex<()>,
    held: Mutex<Option<(ClientAssertion, Instant)>>,
}

/// What one request came to.
enum Failed {
    Answered(IdentityError),
    Unanswered(String),
}

impl Identity {
    /// The identity's token, from memory while it is good for some minutes.
    pub(super) async fn assertion(
        &self,
        parts: &KeyringParts,
        endpoint: &IdentityEndpoint,
        name: Option<&IdentityName>,
        generation: u64,
    ) -> Result<ClientAssertion, NoProof> {
        let _turn = self.asking.lock().await;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((assertion, _)) = held.filter(|(_, use_until)| Instant::now() < *use_until) {
            return Ok(assertion);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let failed = match ask(&*parts.transport, parts.audience, parts.clock.now(), endpoint, name).await {
                Ok((assertion, use_until)) => {
                    *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((assertion.clone(), use_until));
                    return Ok(assertion);
                }
                Err(failed) => failed,
            };
            let (passes, reason) = match failed {
                Failed::Answered(error) => (error.passes_by_itself(), error.to_string()),
                Failed::Unanswered(reason) => (true, reason),
            };
            if !passes {
                return Err(NoProof::Unusable { step: AppStep::ProvideAssertion, reason, generation });
            }
            match engine::token::retry_identity(tries) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(NoProof::Passing { reason }),
            }
        }
    }

    /// What is held is not used again.
    pub(super) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// One request, for a check-up.
pub(super) async fn ask_once(
    transport: &dyn Transport,
    audience: &'static str,
    now: Timestamp,
    endpoint: &IdentityEndpoint,
    name: Option<&IdentityName>,
) -> Result<ClientAssertion, NoProof> {
    match ask(transport, audience, now, endpoint, name).await {
        Ok((assertion, _)) => Ok(assertion),
        Err(Failed::Answered(error)) if !error.passes_by_itself() => {
            Err(NoProof::Unusable { step: AppStep::ProvideAssertion, reason: error.to_string(), generation: 0 })
        }
        Err(Failed::Answered(error)) => Err(NoProof::Passing { reason: error.to_string() }),
        Err(Failed::Unanswered(reason)) => Err(NoProof::Passing { reason }),
    }
}

async fn ask(
    transport: &dyn Transport,
    audience: &'static str,
    now: Timestamp,
    endpoint: &IdentityEndpoint,
    name: Option<&IdentityName>,
) -> Result<(ClientAssertion, Instant), Failed> {
    let asked_at = Instant::now();
    let request = identity_token(endpoint, name, audience);
    let mut request = request.into_unauthenticated().map_err(|error| Failed::Unanswered(error.to_string()))?;
    request.extensions_mut().insert(Direct);
    let exchange = async {
        let answer = transport.send(request).await?;
        let body = answer.body.read_some(MAX_ERROR_BODY).await;
        Ok::<_, crate::transport::TransportError>((answer.status, answer.headers, body))
    };
    let (status, headers, body) = match tokio::time::timeout(REQUEST_TIME, exchange).await {
        Ok(answer) => answer.map_err(|error| Failed::Unanswered(crate::chain(&error)))?,
        Err(_) => return Err(Failed::Unanswered("the managed identity's endpoint did not answer in time".to_owned())),
    };
    let response = Response::new(status, &headers, &body);
    let token = parse_identity_token(&response, now).map_err(Failed::Answered)?;
    Ok((token.assertion, asked_at + engine::token::plan_identity(token.lifetime)))
}
