//! What access tokens say: the v1 and v2 claim sets, for apps and for people (entra.md §4).
//!
//! Never signs and never reads a clock; [`crate::entra::tokens`] does both.

use chrono::{DateTime, Utc};
use protocol::ids::{ClientId, TenantId};
use serde_json::{Value, json};

use crate::app::sha256;
use crate::entra::derive_guid;

/// What an access token is to say.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The tenant (`tid`).
    pub tenant: TenantId,
    /// The app (`appid`).
    pub client_id: ClientId,
    /// The resource (`aud`).
    pub audience: String,
    /// Application permissions. Empty: the claim is left out, as Entra does (entra.md §2).
    pub roles: Vec<String>,
    /// How the client proved itself (`appidacr`).
    pub client_auth: ClientAuth,
    /// The person, in delegated tokens.
    pub user: Option<UserClaims>,
    /// Which claim set: a property of the resource, not of the endpoint.
    pub version: TokenVersion,
}

impl AccessToken {
    /// An app-only token of the kind the Activity API takes.
    pub fn app_only(tenant: TenantId, client_id: ClientId, audience: &str, roles: &[&str]) -> Self {
        Self {
            tenant,
            client_id,
            audience: audience.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            client_auth: ClientAuth::Secret,
            user: None,
            version: TokenVersion::V1,
        }
    }

    /// The claim set. `object_id` is the caller's when it has one of its own; `fresh_id` makes `aio` and `uti`.
    pub(crate) fn claims(
        &self,
        object_id: Option<uuid::Uuid>,
        validity: (DateTime<Utc>, DateTime<Utc>),
        fresh_id: impl Fn() -> String,
    ) -> Value {
        let (token, (not_before, expires)) = (self, validity);
        let tenant = token.tenant.to_string();
        let client = token.client_id.to_string();
        let v1_issuer = format!("https://sts.windows.net/{tenant}/");
        let mut claims = json!({
            "aud": token.audience,
            "iat": not_before.timestamp(),
            "nbf": not_before.timestamp(),
            "exp": expires.timestamp(),
            "aio": fresh_id(),
            "rh": "0.",
            "tid": tenant,
            "uti": fresh_id(),
        });
        let mut set = |name: &str, value: Value| claims[name] = value;
        match &token.version {
            TokenVersion::V1 => {
                set("iss", json!(v1_issuer));
                set("ver", json!("1.0"));
                set("appid", json!(client));
                set("appidacr", json!(token.client_auth.as_claim()));
            }
            TokenVersion::V2 { issuer } => {
                set("iss", json!(issuer));
                set("ver", json!("2.0"));
                set("azp", json!(client));
                set("azpacr", json!(token.client_auth.as_claim()));
            }
        }
        if !token.roles.is_empty() {
            set("roles", json!(token.roles));
        }
        if let Some(user) = &token.user {
            set("oid", json!(user.object_id));
            set("sub", json!(pairwise_subject(user.object_id, &token.audience)));
            set("acr", json!("1"));
            set("amr", json!(["pwd"]));
            set("name", json!(user.name));
            set("unique_name", json!(user.upn));
            set("upn", json!(user.upn));
            set("scp", json!(user.scopes.join(" ")));
        } else {
            let object = object_id.unwrap_or_else(|| service_principal_object_id(token.tenant, token.client_id));
            set("oid", json!(object));
            set("sub", json!(object));
            set("idp", json!(v1_issuer));
        }
        claims
    }
}

/// The two claim sets of access tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenVersion {
    /// `ver` 1.0, issued by `https://sts.windows.net/{tid}/`: the Management API and Graph.
    V1,
    /// `ver` 2.0, with the issuer given.
    V2 {
        /// `{login}/{tid}/v2.0`.
        issuer: String,
    },
}

/// How a client proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not at all: a public client.
    None,
    /// With a secret.
    Secret,
    /// With a signed assertion.
    Assertion,
}

impl ClientAuth {
    /// The claim `appidacr` (entra.md §4).
    fn as_claim(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Secret => "1",
            Self::Assertion => "2",
        }
    }
}

/// The person a delegated token is about.
#[derive(Debug, Clone)]
pub struct UserClaims {
    /// `oid`.
    pub object_id: uuid::Uuid,
    /// `name`.
    pub name: String,
    /// `upn` and `unique_name`.
    pub upn: String,
    /// `scp`.
    pub scopes: Vec<String>,
}

/// The object id of an app's service principal in a tenant: the same in every run.
pub fn service_principal_object_id(tenant: TenantId, client: ClientId) -> uuid::Uuid {
    derive_guid(&["service principal", &tenant.to_string(), &client.to_string()])
}

/// A subject that differs by audience for the same person, as Entra's pairwise identifiers do.
pub(crate) fn pairwise_subject(object_id: uuid::Uuid, audience: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256(format!("{object_id} {audience}").as_bytes()))
}
