//! Tokens: the requests for them at both endpoints, the reading of what comes back, and what a token says of itself.
//!
//! Never signs, never stores and never renews; that a token is used for its own tenant and cloud only is
//! [`crate::request::Request::authorize`]'s work, which this room helps by giving out no token without both
//! ([`TenantToken`]).
//!
//! Source: <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

mod assertion;
mod claims;
mod client_credentials;
mod grant;
mod managed_identity;
mod number;
mod tenant_token;

use url::Url;

use crate::cloud::Cloud;
use crate::ids::{ClientId, TenantId};

pub use assertion::{ASSERTION_BACKDATE, ASSERTION_LIFETIME, AssertionAlgorithm, Thumbprint, UnsignedAssertion};
pub use claims::{ACTIVITY_FEED_READ, ACTIVITY_FEED_READ_DLP, OFFICE_365_MANAGEMENT_APIS, TokenClaims, TokenProblem};
pub(crate) use claims::{names_resource, payload};
pub(crate) use client_credentials::grant_request;
pub use client_credentials::{GrantCredential, client_credentials};
pub(crate) use grant::read_answer;
pub use grant::{DEFAULT_LIFETIME, MAX_TOKEN_BODY, TokenError, TokenGrant, UnreadableToken, parse_token};
pub use managed_identity::{
    IMDS_ROOT, IdentityEndpoint, IdentityError, IdentityName, IdentityToken, assertion_expires, identity_token, is_jwt,
    parse_identity_token,
};
pub(crate) use number::tolerant_number;
pub use tenant_token::TenantToken;

/// Which of the two token endpoints is spoken to. The version of the token follows the resource, not the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenEndpoint {
    /// `/oauth2/token`, which wants a `resource`.
    V1,
    /// `/oauth2/v2.0/token`, which wants a `scope`.
    V2,
}

/// For whom a token is asked, and where. The request and the reading of its answer take the same one.
#[derive(Debug, Clone, Copy)]
pub struct TokenAsk<'a> {
    /// The cloud: its login authority is asked, for its resource.
    pub cloud: &'a Cloud,
    /// The tenant the token shall be for.
    pub tenant: TenantId,
    /// The app.
    pub client_id: ClientId,
    /// Which endpoint.
    pub endpoint: TokenEndpoint,
}

impl TokenAsk<'_> {
    /// The token endpoint, tenant included: where the request goes, and the audience of its assertion.
    pub fn token_endpoint(&self) -> Url {
        let path = match self.endpoint {
            TokenEndpoint::V1 => "oauth2/token",
            TokenEndpoint::V2 => "oauth2/v2.0/token",
        };
        Url::parse(&format!("{}/{}/{path}", self.cloud.login(), self.tenant))
            .expect("a cloud's root is a URL, and neither a GUID nor our own path can spoil it")
    }
}
