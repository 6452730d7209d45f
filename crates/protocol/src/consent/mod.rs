//! Consent: the pages of Entra ID a customer's admin is sent to, what comes back to the callback, the redemption of a code,
//! and what each failure means to the person in front of it (entra.md §3, §4).
//!
//! Never believes the callback: its query is a stranger's text. Whose tenant it is, only a token says that the token
//! endpoint itself has handed out, over TLS, for this flow ([`parse_redemption`]).
//!
//! Sources: <https://learn.microsoft.com/en-us/office/office-365-management-api/get-started-with-office-365-management-apis>,
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-admin-consent>,
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow>

mod callback;
mod fault;
mod pages;
mod redemption;
mod role;

use std::fmt;

use url::Url;

use crate::cloud::Cloud;
use crate::ids::{ClientId, TenantId};

pub use callback::{
    Answer, Callback, CallbackFault, MAX_CALLBACK_PARAMETERS, MAX_CALLBACK_QUERY, StateText, parse_callback,
};
pub use fault::{ConsentFault, Mender};
pub use pages::{CodeChallenge, admin_consent_page, authorize_page, sign_in_page};
pub use redemption::{ProofProblem, RedeemError, SignIn, parse_redemption, redeem_code};
pub use role::AdminRole;

/// The directory segment of a sign-in page's address. A code is redeemed at the segment it was asked of (AADSTS700005).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directory {
    /// Any account; for v1, where the tenant is unknown. v2's admin consent does not take it (entra.md §3.3).
    Common,
    /// Any account of an organization; v2 only.
    Organizations,
    /// This tenant's accounts only.
    Tenant(TenantId),
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common => f.write_str("common"),
            Self::Organizations => f.write_str("organizations"),
            Self::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

/// For which app consent is asked, on which cloud, and where the answer goes.
#[derive(Debug, Clone, Copy)]
pub struct ConsentAsk<'a> {
    /// Its login authority shows the pages.
    pub cloud: &'a Cloud,
    /// The app.
    pub client_id: ClientId,
    /// The registered redirect URI, letter for letter (AADSTS50011).
    pub redirect_uri: &'a str,
    /// Whose accounts may answer.
    pub directory: Directory,
}

impl ConsentAsk<'_> {
    /// An address of the login authority, directory included.
    fn login_url(&self, path: &str) -> Url {
        Url::parse(&format!("{}/{}/{path}", self.cloud.login(), self.directory))
            .expect("a cloud's root is a URL, and neither a directory segment nor our own path can spoil it")
    }
}
