//! Access tokens: minted by the login service, checked by the APIs.
//!
//! Never runs an RSA check on a token it has seen: what was minted or verified once is remembered by its digest, so an API
//! call costs one SHA-256. Expiry is judged on each call by the clock the caller passes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, TimeDelta, Utc};
use protocol::ids::{ClientId, TenantId};
use serde_json::Value;

use crate::app::sha256;
pub use crate::entra::claims::{AccessToken, ClientAuth, TokenVersion, UserClaims, service_principal_object_id};
use crate::entra::jws::{self, Algorithm, Jws};
use crate::entra::keys::{KeyError, SigningKey};

/// Tokens remembered; at two tokens each, enough for 16,384 tenants. The oldest is forgotten first and costs an RSA check.
const REMEMBERED: usize = 32_768;

/// Seconds a token's `iat` and `nbf` lie before the request, as Entra does it to allow for clocks that run slow.
const BACKDATE_SECONDS: i64 = 300;

/// Mints and checks tokens.
pub struct TokenIssuer {
    /// Newest first: the first signs, all are published and accepted.
    keys: RwLock<Vec<SigningKey>>,
    seen: RwLock<Seen>,
    random: Mutex<fastrand::Rng>,
}

#[derive(Default)]
struct Seen {
    tokens: HashMap<[u8; 32], Arc<VerifiedToken>>,
    order: VecDeque<[u8; 32]>,
}

/// What an access token says, once it is known to be ours and unexpired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The tenant it was issued for (`tid`).
    pub tenant: TenantId,
    /// The app it was issued to (`appid`, or `azp` in v2 tokens).
    pub client_id: ClientId,
    /// Application permissions; empty for a token without the claim.
    pub roles: Vec<String>,
    /// Delegated permissions; empty for app-only tokens.
    pub scopes: Vec<String>,
    /// The resource it is for, as it was asked for.
    pub audience: String,
    /// Not before this instant.
    pub not_before: DateTime<Utc>,
    /// From this instant on it is expired.
    pub expires: DateTime<Utc>,
}

/// Why a bearer token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not a JWT, or one without the claims an access token has.
    #[error("the token cannot be read")]
    Malformed,
    /// Signed by none of the emulator's keys, or altered.
    #[error("the token's signature is not this login service's")]
    BadSignature,
    /// Its time is over.
    #[error("the token expired at {0}")]
    Expired(DateTime<Utc>),
    /// Its time has not come: the clock was set back.
    #[error("the token is valid from {0} on")]
    NotYetValid(DateTime<Utc>),
}

/// A token just minted.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The compact JWS.
    pub text: String,
    /// `nbf`.
    pub not_before: DateTime<Utc>,
    /// `exp`.
    pub expires: DateTime<Utc>,
    /// Whole seconds to print as `expires_in`: one less than the lifetime, as Entra prints it.
    pub expires_in: i64,
}

impl TokenIssuer {
    /// An issuer that signs with `key`. The seed decides token ids and lifetimes, nothing that protects anything.
    pub fn new(key: SigningKey, seed: u64) -> Self {
        Self {
            keys: RwLock::new(vec![key]),
            seen: RwLock::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Signs with a new key from now on; the old ones stay published and accepted.
    pub fn rotate(&self, key: SigningKey) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(0, key);
    }

    /// Forgets every key but the newest: tokens signed with the others are refused from now on.
    pub fn retire_old_keys(&self) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).truncate(1);
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    /// The published keys, newest first.
    pub fn keys(&self) -> Vec<SigningKey> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Mints an access token that lives `lifetime_seconds` from `now` on.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(
        &self,
        token: &AccessToken,
        now: DateTime<Utc>,
        lifetime_seconds: u32,
    ) -> Result<IssuedToken, KeyError> {
        self.issue_as(token, None, now, lifetime_seconds)
    }

    /// The same with the object id (`oid`, `sub`) given, as managed identities have one of their own.
    pub(crate) fn issue_as(
        &self,
        token: &AccessToken,
        object_id: Option<uuid::Uuid>,
        now: DateTime<Utc>,
        lifetime_seconds: u32,
    ) -> Result<IssuedToken, KeyError> {
        let lifetime = i64::from(lifetime_seconds);
        let now = truncate_to_seconds(now);
        let not_before = now - TimeDelta::seconds(BACKDATE_SECONDS);
        let expires = now + TimeDelta::seconds(lifetime);
        let claims = token.claims(object_id, (not_before, expires), || self.token_id());
        let text = self.sign(&claims)?;
        self.remember(
            sha256(text.as_bytes()),
            VerifiedToken {
                tenant: token.tenant,
                client_id: token.client_id,
                roles: token.roles.clone(),
                scopes: token.user.as_ref().map(|user| user.scopes.clone()).unwrap_or_default(),
                audience: token.audience.clone(),
                not_before,
                expires,
            },
        );
        Ok(IssuedToken { text, not_before, expires, expires_in: (lifetime - 1).max(0) })
    }

    /// What a bearer token says, if it is one of ours and valid at `now`.
    ///
    /// # Errors
    /// See [`TokenRefusal`]. Whether tenant, audience and roles fit the call is the caller's question.
    pub fn verify(&self, bearer: &str, now: DateTime<Utc>) -> Result<Arc<VerifiedToken>, TokenRefusal> {
        let digest = sha256(bearer.as_bytes());
        let known = self.seen.read().unwrap_or_else(PoisonError::into_inner).tokens.get(&digest).cloned();
        let token = match known {
            Some(token) => token,
            None => self.remember(digest, self.read(bearer)?),
        };
        if token.expires <= now {
            return Err(TokenRefusal::Expired(token.expires));
        }
        if token.not_before > now {
            return Err(TokenRefusal::NotYetValid(token.not_before));
        }
        Ok(token)
    }

    /// Signs any claim set with the newest key.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.first().ok_or(KeyError::Sign)?.clone();
        drop(keys);
        jws::sign(&key, claims)
    }

    /// Whether one of the published keys signed this.
    pub(crate) fn signed(&self, token: &Jws<'_>) -> bool {
        let keys = self.keys();
        token.algorithm() == Some(Algorithm::Rs256)
            && keys
                .iter()
                .filter(|key| token.header("kid").is_none_or(|kid| kid == key.kid()))
                .any(|key| token.is_signed_by(Algorithm::Rs256, key.public_key()))
    }

    /// A seconds value drawn evenly from the range.
    pub(crate) fn draw_lifetime(&self, range: &std::ops::RangeInclusive<u32>) -> u32 {
        let (low, high) = (*range.start(), *range.end());
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u32(low..=high.max(low))
    }

    /// A fresh unique token id (`uti`), 22 characters.
    pub(crate) fn token_id(&self) -> String {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        (0..22).map(|_| random.alphanumeric()).collect()
    }

    fn read(&self, bearer: &str) -> Result<VerifiedToken, TokenRefusal> {
        let token = Jws::parse(bearer).ok_or(TokenRefusal::Malformed)?;
        if !self.signed(&token) {
            return Err(TokenRefusal::BadSignature);
        }
        let id = |names: &[&str]| names.iter().find_map(|name| token.claim(name)).ok_or(TokenRefusal::Malformed);
        let instant = |name: &str| {
            let seconds = token.date(name).ok().flatten().ok_or(TokenRefusal::Malformed)?;
            DateTime::from_timestamp(seconds, 0).ok_or(TokenRefusal::Malformed)
        };
        let roles = token
            .claims
            .get("roles")
            .and_then(Value::as_array)
            .map(|roles| roles.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        Ok(VerifiedToken {
            tenant: id(&["tid"])?.parse().map_err(|_| TokenRefusal::Malformed)?,
            // An id_token has neither: it is no access token, and an API refuses it.
            client_id: id(&["appid", "azp"])?.parse().map_err(|_| TokenRefusal::Malformed)?,
            roles: roles.unwrap_or_default(),
            scopes: token.claim("scp").map(|scp| scp.split(' ').map(str::to_owned).collect()).unwrap_or_default(),
            audience: id(&["aud"])?.to_owned(),
            not_before: instant("nbf")?,
            expires: instant("exp")?,
        })
    }

    fn remember(&self, digest: [u8; 32], token: VerifiedToken) -> Arc<VerifiedToken> {
        let token = Arc::new(token);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.tokens.insert(digest, Arc::clone(&token)).is_none() {
            seen.order.push_back(digest);
        }
        while seen.order.len() > REMEMBERED {
            if let Some(oldest) = seen.order.pop_front() {
                seen.tokens.remove(&oldest);
            }
        }
        token
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

fn truncate_to_seconds(instant: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(instant.timestamp(), 0).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn issuer() -> TokenIssuer {
        TokenIssuer::new(SigningKey::shared().unwrap(), 1)
    }

    fn now() -> DateTime<Utc> {
        "2026-05-04T10:00:00.75Z".parse().unwrap()
    }

    fn token() -> AccessToken {
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let client = "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap();
        AccessToken::app_only(tenant, client, "https://manage.office.com", &["ActivityFeed.Read"])
    }

    #[test]
    fn a_token_reads_the_same_from_memory_and_from_its_text() {
        let issuer = issuer();
        let issued = issuer.issue(&token(), now(), 3600).unwrap();
        let remembered = issuer.verify(&issued.text, now()).unwrap();
        assert_eq!(*remembered, issuer.read(&issued.text).unwrap());
        assert_eq!(remembered.roles, ["ActivityFeed.Read"]);
        assert_eq!(issued.expires_in, 3599);
    }

    #[test]
    fn a_token_ends_at_its_expiry_and_not_a_second_before() {
        let issuer = issuer();
        let issued = issuer.issue(&token(), now(), 60).unwrap();
        assert!(issuer.verify(&issued.text, issued.expires - TimeDelta::seconds(1)).is_ok());
        assert_eq!(issuer.verify(&issued.text, issued.expires), Err(TokenRefusal::Expired(issued.expires)));
        assert!(issuer.verify(&issued.text, issued.not_before).is_ok());
        assert_eq!(
            issuer.verify(&issued.text, issued.not_before - TimeDelta::seconds(1)),
            Err(TokenRefusal::NotYetValid(issued.not_before))
        );
    }

    #[test]
    fn a_token_without_roles_has_no_such_claim() {
        let issuer = issuer();
        let issued = issuer.issue(&AccessToken { roles: Vec::new(), ..token() }, now(), 60).unwrap();
        assert!(!Jws::parse(&issued.text).unwrap().claims.contains_key("roles"));
        assert!(issuer.verify(&issued.text, now()).unwrap().roles.is_empty());
    }

    #[test]
    fn altered_foreign_and_retired_tokens_are_refused() {
        let issuer = issuer();
        let issued = issuer.issue(&token(), now(), 60).unwrap();
        let (signed, _) = issued.text.rsplit_once('.').unwrap();
        assert_eq!(issuer.verify(&format!("{signed}.AAAA"), now()), Err(TokenRefusal::BadSignature));
        assert_eq!(issuer.verify("x", now()), Err(TokenRefusal::Malformed));
        let none = jws::unsigned(&json!({"tid": "x"}));
        assert_eq!(issuer.verify(&none, now()), Err(TokenRefusal::BadSignature));

        issuer.rotate(SigningKey::generate().unwrap());
        assert!(issuer.verify(&issued.text, now()).is_ok());
        issuer.retire_old_keys();
        assert_eq!(issuer.verify(&issued.text, now()), Err(TokenRefusal::BadSignature));
    }

    #[test]
    fn the_memory_of_tokens_is_bounded() {
        let issuer = issuer();
        let issued = issuer.issue(&token(), now(), 60).unwrap();
        let verified = issuer.verify(&issued.text, now()).unwrap();
        for number in 0..REMEMBERED {
            issuer.remember(sha256(&number.to_le_bytes()), (*verified).clone());
        }
        let seen = issuer.seen.read().unwrap();
        assert_eq!((seen.tokens.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!seen.tokens.contains_key(&sha256(issued.text.as_bytes())));
        drop(seen);
        assert!(issuer.verify(&issued.text, now()).is_ok());
    }
}
