//! A code made into proof: who signed in, and in which tenant (entra.md §4).
//!
//! Never checks a signature, and need not: the tokens come straight from the token endpoint over TLS, in the answer to our
//! own request. That is also the only place they may come from. The v1 id_token of this flow may even be unsigned.
//!
//! Source: <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow>

use chrono::TimeDelta;
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::{AdminRole, ConsentAsk};
use crate::cloud::CloudName;
use crate::entra::EntraError;
use crate::ids::{ClientId, TenantId};
use crate::request::Request;
use crate::response::Response;
use crate::secret::{AuthorizationCode, CodeVerifier};
use crate::text::one_line;
use crate::time::Timestamp;
use crate::token::{
    GrantCredential, TokenEndpoint, TokenError, UnreadableToken, grant_request, names_resource, payload, read_answer,
    tolerant_number,
};

/// The directory of personal accounts: never a customer (entra.md §4).
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// How far past its end a token is still taken for this minute's: clocks differ.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// The longest name kept of a person.
const MAX_NAME: usize = 256;

/// Who signed in, by the word of the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The tenant of the account's session: the one that consented.
    pub tenant: TenantId,
    /// The account's name for people, such as `admin@contoso.com`; at most 256 characters, and another's text.
    pub account: Option<String>,
    /// The account's id in its tenant.
    pub object_id: Option<Uuid>,
    /// Whether the account may consent for its tenant, where the tokens tell.
    pub role: AdminRole,
}

/// Why a code did not become proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// Entra ID answered with an error.
    #[error(transparent)]
    Entra(Box<EntraError>),
    /// The server said yes, and what it sent cannot be read.
    #[error(transparent)]
    Unreadable(Box<UnreadableToken>),
    /// Tokens came, and they do not prove what they must.
    #[error("the tokens that the code was redeemed for prove nothing: {0}")]
    NotProven(ProofProblem),
}

/// What is wrong with the tokens of a redemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofProblem {
    /// No token that can be read says whose it is.
    #[error("none names its tenant")]
    NoTenant,
    /// The access token and the id_token disagree.
    #[error("they name different tenants")]
    TenantsDiffer,
    /// The account is a personal one.
    #[error("the account is a personal one")]
    PersonalAccount,
    /// They are another app's.
    #[error("they were made for another app")]
    OtherApp,
    /// They are for another resource.
    #[error("they were made for another resource")]
    OtherResource,
    /// The issuer is not one for their tenant.
    #[error("their issuer is not the tenant's")]
    OtherIssuer,
    /// The nonce is not this flow's: they answer another sign-in.
    #[error("their nonce is another sign-in's")]
    OtherNonce,
    /// They expired long ago by the server's own clock.
    #[error("they have expired")]
    Expired,
}

/// The token endpoint a code is redeemed at: the directory segment it was asked of. Also the audience of an assertion.
fn token_endpoint(ask: &ConsentAsk<'_>, endpoint: TokenEndpoint) -> Url {
    ask.login_url(match endpoint {
        TokenEndpoint::V1 => "oauth2/token",
        TokenEndpoint::V2 => "oauth2/v2.0/token",
    })
}

impl ConsentAsk<'_> {
    /// Where a code is redeemed: the audience of the assertion that goes with it.
    pub fn token_endpoint(&self, endpoint: TokenEndpoint) -> Url {
        token_endpoint(self, endpoint)
    }
}

/// Redeems a code: v1 for one of [`super::authorize_page`], v2 for one of [`super::sign_in_page`].
pub fn redeem_code(
    ask: &ConsentAsk<'_>,
    endpoint: TokenEndpoint,
    code: &AuthorizationCode,
    verifier: &CodeVerifier,
    credential: &GrantCredential,
    request_id: Uuid,
) -> Request {
    let mut grant = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", ask.redirect_uri),
        ("code_verifier", verifier.expose()),
    ];
    if endpoint == TokenEndpoint::V1 {
        grant.push(("resource", ask.cloud.resource()));
    }
    grant_request(token_endpoint(ask, endpoint), ask.client_id, &grant, credential, request_id)
}

/// Reads the answer, and what its tokens prove. `now` stands in for the server's clock when the answer has no date.
///
/// # Errors
/// When Entra ID refuses, the answer cannot be read, or its tokens do not prove a tenant's sign-in to this app in this flow.
pub fn parse_redemption(
    ask: &ConsentAsk<'_>,
    endpoint: TokenEndpoint,
    nonce: &str,
    response: &Response<'_>,
    now: Timestamp,
) -> Result<SignIn, RedeemError> {
    let answer = read_answer(response).map_err(|error| match error {
        TokenError::Entra(error) => RedeemError::Entra(error),
        TokenError::Unreadable(unreadable) => RedeemError::Unreadable(unreadable),
        TokenError::Unusable(_) => RedeemError::NotProven(ProofProblem::NoTenant),
    })?;
    let server_now = response.date().unwrap_or(now);
    let read = |name: &str| answer.get(name).and_then(Value::as_str).and_then(payload);
    let id_token = read("id_token");
    // v2's access token is for another resource and opaque by contract; v1's is the guide's own source of the tenant.
    let access_token = if endpoint == TokenEndpoint::V1 { read("access_token") } else { None };
    prove(ask, endpoint, nonce, id_token.as_ref(), access_token.as_ref(), server_now).map_err(RedeemError::NotProven)
}

fn prove(
    ask: &ConsentAsk<'_>,
    endpoint: TokenEndpoint,
    nonce: &str,
    id_token: Option<&Map<String, Value>>,
    access_token: Option<&Map<String, Value>>,
    server_now: Timestamp,
) -> Result<SignIn, ProofProblem> {
    if let Some(claims) = id_token {
        if !text(claims, "aud").is_some_and(|audience| is_app(audience, ask.client_id)) {
            return Err(ProofProblem::OtherApp);
        }
        match text(claims, "nonce") {
            Some(claimed) if claimed == nonce => {}
            // v1 is not known to repeat the nonce in this flow; PKCE binds its code all the same.
            None if endpoint == TokenEndpoint::V1 => {}
            _ => return Err(ProofProblem::OtherNonce),
        }
    }
    if let Some(claims) = access_token {
        if text(claims, "appid").or(text(claims, "azp")).is_some_and(|app| !is_app(app, ask.client_id)) {
            return Err(ProofProblem::OtherApp);
        }
        let audience = text(claims, "aud").unwrap_or_default();
        // Where the operator described the cloud, its login and its resource are one party.
        if ask.cloud.name() != CloudName::Custom && !names_resource(audience, ask.cloud.resource()) {
            return Err(ProofProblem::OtherResource);
        }
    }
    let mut tenant: Option<TenantId> = None;
    for claims in [id_token, access_token].into_iter().flatten() {
        let claimed = tenant_of(claims, server_now)?;
        if tenant.is_some_and(|tenant| tenant != claimed) {
            return Err(ProofProblem::TenantsDiffer);
        }
        tenant = Some(claimed);
    }
    let tenant = tenant.ok_or(ProofProblem::NoTenant)?;
    let find = |names: &[&str]| {
        let both = [id_token, access_token].into_iter().flatten();
        both.flat_map(|claims| names.iter().filter_map(|name| text(claims, name))).map(str::to_owned).next()
    };
    Ok(SignIn {
        tenant,
        account: find(&["upn", "preferred_username", "unique_name"])
            .map(|account| one_line(&account, MAX_NAME))
            .filter(|account| !account.is_empty()),
        object_id: find(&["oid"]).and_then(|id| id.parse().ok()),
        role: AdminRole::told_by([id_token, access_token].into_iter().flatten()),
    })
}

/// The tenant one token names, if everything beside it fits.
fn tenant_of(claims: &Map<String, Value>, server_now: Timestamp) -> Result<TenantId, ProofProblem> {
    let claimed = text(claims, "tid").ok_or(ProofProblem::NoTenant)?;
    let tenant: TenantId = claimed.parse().map_err(|_| ProofProblem::NoTenant)?;
    if tenant.to_string() == PERSONAL_ACCOUNTS {
        return Err(ProofProblem::PersonalAccount);
    }
    // The issuer's host differs by version and cloud; the tenant in it does not.
    let issuer = text(claims, "iss").unwrap_or_default().to_ascii_lowercase();
    if !issuer.split('/').any(|part| part == tenant.to_string()) {
        return Err(ProofProblem::OtherIssuer);
    }
    let expires = claims.get("exp").and_then(tolerant_number).and_then(|seconds| i64::try_from(seconds).ok());
    let expires = expires.and_then(|seconds| Timestamp::from_timestamp(seconds, 0)).ok_or(ProofProblem::Expired)?;
    if server_now.signed_duration_since(expires) > SKEW {
        return Err(ProofProblem::Expired);
    }
    Ok(tenant)
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

fn is_app(text: &str, client_id: ClientId) -> bool {
    text.parse() == Ok(client_id)
}
