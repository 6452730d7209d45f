//! What the token endpoint answers: a token with its lifetime, or the reason why not.
//!
//! Never keeps a token that is another tenant's or, on Microsoft's clouds, another resource's; never shows one in an error.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};

use super::claims::{TokenClaims, TokenProblem};
use super::number::tolerant_number;
use super::{TenantToken, TokenAsk};
use crate::entra::{EntraDisposition, EntraError};
use crate::error::{BackOffCause, MAX_EXCERPT};
use crate::redact::redact;
use crate::response::Response;
use crate::text::{decode, one_line};
use crate::time::Timestamp;

/// The longest body of a token answer, 256 KiB; tokens of a few KiB are usual.
pub const MAX_TOKEN_BODY: usize = 256 * 1024;

/// What a token is taken to live when nothing says how long: five minutes.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The longest lifetime that is believed, two days: continuous access evaluation gives up to 28 hours.
const MAX_LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);

/// A token and what is known of it.
#[derive(Debug, Clone)]
pub struct TokenGrant {
    /// The token.
    pub token: TenantToken,
    /// How long it lives from the moment of the answer. Count it on a monotonic clock.
    pub lifetime: Duration,
    /// When to renew it, from the same moment, if the server advises so.
    pub refresh_in: Option<Duration>,
    /// What it says of itself; `None` when it is opaque.
    pub claims: Option<TokenClaims>,
    /// What is wrong with it, short of forbidding its use: a missing permission above all.
    pub problems: Vec<TokenProblem>,
}

impl TokenGrant {
    /// Whether consent is complete: `false` when the token says that `ActivityFeed.Read` was not granted.
    pub fn permits_reading(&self) -> bool {
        !self.problems.iter().any(|problem| matches!(problem, TokenProblem::PermissionMissing { .. }))
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Entra ID answered with an error.
    #[error(transparent)]
    Entra(Box<EntraError>),
    /// The server said yes, and what it sent cannot be read.
    #[error(transparent)]
    Unreadable(Box<UnreadableToken>),
    /// A token came that must not be used.
    #[error("the token endpoint handed out a token that must not be used")]
    Unusable(#[source] TokenProblem),
}

/// An answer of the token endpoint that has a good status and no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token endpoint's answer (HTTP {}, {body_length} bytes) cannot be read: {problem}", .status.as_u16())]
pub struct UnreadableToken {
    /// The status.
    pub status: StatusCode,
    /// What is wrong with it.
    pub problem: String,
    /// The beginning of the body, without anything that looks like a token.
    pub excerpt: String,
    /// How many bytes the body had.
    pub body_length: usize,
}

impl TokenError {
    /// What kind of trouble this is.
    pub fn disposition(&self) -> EntraDisposition {
        match self {
            Self::Entra(error) => error.disposition(),
            Self::Unreadable(_) => EntraDisposition::BackOff { cause: BackOffCause::ServiceFault },
            Self::Unusable(_) => EntraDisposition::Bug,
        }
    }
}

/// Reads the answer to a token request. `now` is only used to see whether the two clocks agree.
///
/// # Errors
/// When Entra ID refuses, the answer holds no token, or the token is not the one that was asked for.
pub fn parse_token(ask: &TokenAsk<'_>, response: &Response<'_>, now: Timestamp) -> Result<TokenGrant, TokenError> {
    let answer = read_answer(response)?;
    let token_type = answer.get("token_type").and_then(Value::as_str).unwrap_or("Bearer");
    if !token_type.eq_ignore_ascii_case("bearer") {
        let token_type = one_line(&redact(token_type), 32);
        return Err(unreadable(response, format!("token_type is {token_type:?} and not Bearer")));
    }
    let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
    let Some(token) = TenantToken::issued(ask.tenant, ask.cloud.resource(), token) else {
        return Err(unreadable(response, "access_token is missing or not visible ASCII"));
    };
    let claims = TokenClaims::read(token.access_token());
    let mut problems = claims.as_ref().map(|claims| claims.problems(ask, now)).unwrap_or_default();
    if let Some(fatal) = problems.iter().position(|problem| problem.forbids_use(ask.cloud.name())) {
        return Err(TokenError::Unusable(problems.swap_remove(fatal)));
    }
    let lifetime = lifetime(&answer, claims.as_ref(), response.date().unwrap_or(now));
    let refresh_in = number(&answer, "refresh_in").filter(|wait| *wait < lifetime);
    Ok(TokenGrant { token, lifetime, refresh_in, claims, problems })
}

/// The members of an answer that is no error.
pub(crate) fn read_answer(response: &Response<'_>) -> Result<Map<String, Value>, TokenError> {
    if !response.status.is_success() {
        return Err(TokenError::Entra(Box::new(EntraError::from_response(response))));
    }
    let answer = read_object(response)?;
    if answer.contains_key("error") && !answer.contains_key("access_token") {
        return Err(TokenError::Entra(Box::new(EntraError::from_response(response))));
    }
    Ok(answer)
}

fn read_object(response: &Response<'_>) -> Result<Map<String, Value>, TokenError> {
    if response.body.len() > MAX_TOKEN_BODY {
        return Err(unreadable(response, format!("longer than {MAX_TOKEN_BODY} bytes")));
    }
    let text = decode(response.body);
    // serde_json's messages name positions, never values; a wrong kind of value it would quote is none of an object's.
    serde_json::from_str::<Value>(&text)
        .map_err(|error| unreadable(response, format!("no JSON: {}", classify(&error))))
        .and_then(|value| match value {
            Value::Object(object) => Ok(object),
            _ => Err(unreadable(response, "no JSON object")),
        })
}

fn classify(error: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()).to_lowercase()
}

/// `expires_in` where there is one; otherwise what the times say, against the clock they were written by.
fn lifetime(answer: &Map<String, Value>, claims: Option<&TokenClaims>, server_now: Timestamp) -> Duration {
    let between = |from: Timestamp, until: Timestamp| (until - from).to_std().ok();
    let expires_on = || {
        let seconds = i64::try_from(number(answer, "expires_on")?.as_secs()).ok()?;
        between(server_now, Timestamp::from_timestamp(seconds, 0)?)
    };
    let claimed = || {
        let claims = claims?;
        between(claims.issued.unwrap_or(server_now), claims.expires?)
    };
    number(answer, "expires_in").or_else(expires_on).or_else(claimed).unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME)
}

fn number(answer: &Map<String, Value>, name: &str) -> Option<Duration> {
    answer.get(name).and_then(tolerant_number).map(Duration::from_secs)
}

fn unreadable(response: &Response<'_>, problem: impl Into<String>) -> TokenError {
    let head = response.body.get(..MAX_EXCERPT * 4).unwrap_or(response.body);
    TokenError::Unreadable(Box::new(UnreadableToken {
        status: response.status,
        problem: problem.into(),
        excerpt: one_line(&redact(&decode(head)), MAX_EXCERPT),
        body_length: response.body.len(),
    }))
}
