//! An outside issuer, as a Kubernetes cluster or GitHub is one: it signs tokens that an app trusts as federated credentials,
//! and publishes its keys.
//!
//! Never the login service's own: it has keys of its own, which may be replaced while tokens of the old ones are about.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::app::{FederatedCredential, FederatedKey};
use crate::entra::jws;
use crate::entra::keys::{KeyError, SigningKey};

/// An issuer with one signing key. Its address is a name: nobody fetches anything there.
#[derive(Debug, Clone)]
pub struct OutsideIssuer {
    issuer: String,
    key: SigningKey,
}

impl OutsideIssuer {
    /// An issuer of this name, with a fresh key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(issuer: &str) -> Result<Self, KeyError> {
        Ok(Self { issuer: issuer.to_owned(), key: SigningKey::generate()? })
    }

    /// Its name, as the tokens' `iss` has it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token, signed with RS256.
    ///
    /// # Errors
    /// When signing fails.
    pub fn token(
        &self,
        subject: &str,
        audience: &str,
        issued: DateTime<Utc>,
        lifetime: TimeDelta,
    ) -> Result<String, KeyError> {
        let claims = json!({
            "iss": self.issuer,
            "sub": subject,
            "aud": [audience],
            "iat": issued.timestamp(),
            "nbf": issued.timestamp(),
            "exp": (issued + lifetime).timestamp(),
        });
        jws::sign(&self.key, &claims)
    }

    /// Its published key set, as under `jwks_uri`.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.key.jwk(&self.issuer)] })
    }

    /// An app's trust in one subject of this issuer.
    pub fn trust(&self, subject: &str) -> FederatedCredential {
        FederatedCredential {
            issuer: self.issuer.clone(),
            subject: subject.to_owned(),
            audience: FederatedCredential::AUDIENCE.to_owned(),
            jwks: Some(FederatedKey::of_set(&self.jwks())),
        }
    }
}
