//! What an app-only token says of itself, read without its signature: it came straight from the token endpoint over TLS.
//!
//! Never required: access tokens are opaque by contract, and one that cannot be read is used for what it was asked for.
//! Source of the checks: entra.md §4.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::TokenAsk;
use super::number::tolerant_number;
use crate::cloud::CloudName;
use crate::error::AdminStep;
use crate::ids::{ClientId, TenantId};
use crate::secret::AccessToken;
use crate::text::one_line;
use crate::time::Timestamp;

/// The role that every call of the Activity API needs.
pub const ACTIVITY_FEED_READ: &str = "ActivityFeed.Read";
/// The role that opens the sensitive values in `DLP.All` records.
pub const ACTIVITY_FEED_READ_DLP: &str = "ActivityFeed.ReadDlp";
/// The application id of "Office 365 Management APIs", a fifth name of the resource in every cloud (entra.md §1).
pub const OFFICE_365_MANAGEMENT_APIS: &str = "c5393580-f805-4401-95e8-94b7a6ef2fc2";

/// More roles than this are not kept.
const MAX_ROLES: usize = 64;
/// Longer texts than this are cut.
const MAX_TEXT: usize = 256;

/// The claims this program looks at. Each may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenClaims {
    /// `tid`: whose token it is.
    pub tenant: Option<TenantId>,
    /// `roles`: the application permissions that were granted.
    pub roles: Vec<String>,
    /// `aud`: which resource it is for.
    pub audience: Option<String>,
    /// `appid` (version 1) or `azp` (version 2): which app it was given to.
    pub app: Option<ClientId>,
    /// `iss`: who made it.
    pub issuer: Option<String>,
    /// `ver`: `1.0` or `2.0`, by the resource's setting.
    pub version: Option<String>,
    /// `exp`, by the server's clock.
    pub expires: Option<Timestamp>,
    /// `iat`, by the server's clock.
    pub issued: Option<Timestamp>,
}

/// What is wrong with a token that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    /// It is another tenant's. Never used.
    #[error("the token is for tenant {found} and not for {expected}")]
    WrongTenant {
        /// The tenant that was asked for.
        expected: TenantId,
        /// The token's.
        found: TenantId,
    },
    /// It is for another resource, such as another cloud's. Never used on a cloud of Microsoft's; where the operator
    /// described the cloud, its login and its resource are one party.
    #[error("the token is for {found} and not for {expected}")]
    WrongAudience {
        /// The resource that was asked for.
        expected: String,
        /// The token's.
        found: String,
    },
    /// It was given to another app.
    #[error("the token was given to app {found} and not to {expected}")]
    WrongApp {
        /// Our app.
        expected: ClientId,
        /// The token's.
        found: ClientId,
    },
    /// Its issuer is not one for the token's tenant.
    #[error("the token's issuer {issuer} is not the tenant's")]
    WrongIssuer {
        /// The issuer.
        issuer: String,
    },
    /// The role [`ACTIVITY_FEED_READ`] is missing: "token acquired" is not "consent is complete" (entra.md §2). Right
    /// after consent it may still appear; ask for fresh tokens for a while.
    #[error("the application permission ActivityFeed.Read is missing; granted are: {}", roles_text(.found))]
    PermissionMissing {
        /// The roles it has.
        found: Vec<String>,
    },
    /// By its own account it has expired: one of the two clocks is wrong. Its lifetime is counted without clocks.
    #[error("the token says it expired at {expired}; check this machine's clock")]
    AlreadyExpired {
        /// When, by the server's clock.
        expired: Timestamp,
    },
}

impl TokenProblem {
    /// The tenant admin's step that mends it, where there is one.
    pub fn admin_step(&self) -> Option<AdminStep> {
        match self {
            Self::PermissionMissing { .. } => Some(AdminStep::GrantPermission),
            Self::WrongTenant { .. }
            | Self::WrongAudience { .. }
            | Self::WrongApp { .. }
            | Self::WrongIssuer { .. }
            | Self::AlreadyExpired { .. } => None,
        }
    }

    /// Whether the token must not be used at all.
    pub(super) fn forbids_use(&self, cloud: CloudName) -> bool {
        match self {
            Self::WrongTenant { .. } => true,
            Self::WrongAudience { .. } => cloud != CloudName::Custom,
            Self::WrongApp { .. }
            | Self::WrongIssuer { .. }
            | Self::PermissionMissing { .. }
            | Self::AlreadyExpired { .. } => false,
        }
    }
}

impl TokenClaims {
    /// Reads the payload of a JWT. `None` when the token is none: then it is opaque, as it may be.
    pub(super) fn read(token: &AccessToken) -> Option<Self> {
        let claims = payload(token.expose())?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(|text| one_line(text, MAX_TEXT));
        let time = |name: &str| {
            let seconds = claims.get(name).and_then(tolerant_number)?;
            Timestamp::from_timestamp(i64::try_from(seconds).ok()?, 0)
        };
        Some(Self {
            tenant: text("tid").and_then(|tid| tid.parse().ok()),
            roles: roles(claims.get("roles")),
            audience: text("aud"),
            app: text("appid").or_else(|| text("azp")).and_then(|app| app.parse().ok()),
            issuer: text("iss"),
            version: text("ver"),
            expires: time("exp"),
            issued: time("iat"),
        })
    }

    /// Whether `role` was granted.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|granted| granted == role)
    }

    /// Everything that is wrong with the token, for what was asked; the worst first. A claim that is missing is not wrong,
    /// but for the roles: without any, nothing was granted.
    pub(super) fn problems(&self, ask: &TokenAsk<'_>, now: Timestamp) -> Vec<TokenProblem> {
        let mut problems = Vec::new();
        if let Some(found) = self.tenant.filter(|found| *found != ask.tenant) {
            problems.push(TokenProblem::WrongTenant { expected: ask.tenant, found });
        }
        let expected = ask.cloud.resource();
        if let Some(found) = self.audience.as_ref().filter(|found| !names_resource(found, expected)) {
            problems.push(TokenProblem::WrongAudience { expected: expected.to_owned(), found: found.clone() });
        }
        if let Some(found) = self.app.filter(|found| *found != ask.client_id) {
            problems.push(TokenProblem::WrongApp { expected: ask.client_id, found });
        }
        let tenant = ask.tenant.to_string();
        if let Some(issuer) = self.issuer.as_ref().filter(|issuer| !issuer.to_ascii_lowercase().contains(&tenant)) {
            problems.push(TokenProblem::WrongIssuer { issuer: issuer.clone() });
        }
        if !self.has_role(ACTIVITY_FEED_READ) {
            problems.push(TokenProblem::PermissionMissing { found: self.roles.clone() });
        }
        if let Some(expired) = self.expires.filter(|expires| *expires <= now) {
            problems.push(TokenProblem::AlreadyExpired { expired });
        }
        problems
    }
}

/// The payload of a JWT. Its signature is not looked at; an unsigned one ends with a dot all the same.
pub(crate) fn payload(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let payload = GeneralPurpose::new(&URL_SAFE, lenient).decode(payload).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// The resource by its URI, or by the application id that a version 2 token would carry.
pub(crate) fn names_resource(audience: &str, resource: &str) -> bool {
    audience.trim_end_matches('/') == resource || audience.eq_ignore_ascii_case(OFFICE_365_MANAGEMENT_APIS)
}

fn roles(value: Option<&Value>) -> Vec<String> {
    let text = |role: &Value| role.as_str().map(|role| one_line(role, MAX_TEXT));
    match value {
        Some(Value::Array(roles)) => roles.iter().filter_map(text).take(MAX_ROLES).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn roles_text(roles: &[String]) -> String {
    if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
}
