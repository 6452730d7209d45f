//! What the login service asks the rest of the emulator: which tenants exist, what they consented to, what time it is.
//!
//! Never holds state of its own: the world behind the trait does, and tests bring a small one. Everything here is
//! synchronous and is called on the request path, so an implementation answers from memory.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use protocol::cloud::CloudName;
use protocol::ids::{ClientId, TenantId};
use uuid::Uuid;

use crate::entra::derive_guid;

/// The emulated Microsoft as the login service sees it.
pub trait Directory: Send + Sync + 'static {
    /// The emulator's clock. Every lifetime (tokens, codes, assertions, secrets) is judged by it.
    fn now(&self) -> DateTime<Utc>;

    /// The tenant of a GUID or of any of its domain names, in any letter case; `None` when it never existed.
    /// A deleted tenant is found, with [`TenantInfo::deleted`] set: Entra then answers as if it were not (90002).
    fn find_tenant(&self, name: &str) -> Option<TenantInfo>;

    /// At most `limit` tenants that are not deleted, for the account picker, in an order that does not change.
    fn tenants(&self, limit: usize) -> Vec<TenantInfo>;

    /// The app's object in a tenant; `None` when nobody there consented and nobody assigned a role (700016).
    ///
    /// An app registration has one in its home tenant from the start, without roles until an administrator grants them.
    fn service_principal(&self, tenant: TenantId, client: ClientId) -> Option<ServicePrincipal>;

    /// A person accepted: makes the service principal when it is absent, and adds the roles and scopes to it.
    /// Does not lift `disabled` or `blocked`.
    fn consent(&self, tenant: TenantId, client: ClientId, granted: &Grant);

    /// The people of a tenant that can sign in. The default is one global administrator and one ordinary user.
    fn accounts(&self, tenant: &TenantInfo) -> Vec<Account> {
        Account::standard_pair(tenant)
    }

    /// What shall go wrong with this request, if anything. Called once for each request, after its tenant and client are
    /// known and before anything about them is checked.
    fn entra_fault(&self, _call: &EntraCall) -> Option<EntraFault> {
        None
    }

    /// The switches of the login service. Called once for each request, so a change acts at once.
    fn policy(&self) -> EntraPolicy {
        EntraPolicy::default()
    }
}

/// A directory as the login service needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantInfo {
    /// Its GUID.
    pub id: TenantId,
    /// Shown on consent pages and in error texts.
    pub display_name: String,
    /// Its verified domain names, lower case, the initial (`….onmicrosoft.com`) one first.
    pub domains: Vec<String>,
    /// The cloud it lives in; a confidential client that asks another cloud's authority is refused (900382).
    pub cloud: CloudName,
    /// Gone: answered like one that never existed.
    pub deleted: bool,
}

/// The app's object in one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePrincipal {
    /// Names of application permissions granted there, such as `ActivityFeed.Read`. Empty: tokens without `roles`.
    pub roles: Vec<String>,
    /// Names of delegated permissions granted there for all users.
    pub scopes: Vec<String>,
    /// Switched off by the tenant's administrator (7000112).
    pub disabled: bool,
    /// Blocked by the tenant's Conditional Access for workload identities (53003).
    pub blocked: bool,
}

/// What an accepted consent page grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Application permissions; only an administrator's consent carries any.
    pub roles: Vec<String>,
    /// Delegated permissions.
    pub scopes: Vec<String>,
}

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user principal name, `name@domain`.
    pub upn: String,
    /// The name shown.
    pub display_name: String,
    /// The user's object id in its tenant.
    pub object_id: Uuid,
    /// A global administrator: may consent to application permissions.
    pub admin: bool,
}

impl Account {
    /// `admin@` and `user@` of the tenant's first domain, with object ids that follow from the tenant's.
    pub fn standard_pair(tenant: &TenantInfo) -> Vec<Self> {
        let domain = tenant.domains.first().cloned().unwrap_or_else(|| format!("{}.invalid", tenant.id));
        [("admin", "Global administrator", true), ("user", "Ordinary user", false)]
            .into_iter()
            .map(|(name, display_name, admin)| {
                let upn = format!("{name}@{domain}");
                let object_id = derive_guid(&["account", &tenant.id.to_string(), name]);
                Self { upn, display_name: display_name.to_owned(), object_id, admin }
            })
            .collect()
    }
}

/// Which of the login service's endpoints a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntraEndpoint {
    /// `oauth2/token` and `oauth2/v2.0/token`.
    Token,
    /// `oauth2/authorize` and `oauth2/v2.0/authorize`.
    Authorize,
    /// `adminconsent` and `v2.0/adminconsent`.
    AdminConsent,
    /// OpenID metadata, keys and instance discovery.
    Metadata,
    /// The managed identity endpoint of a virtual machine.
    ManagedIdentity,
}

impl EntraEndpoint {
    /// Its name in fault plans and counts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Authorize => "authorize",
            Self::AdminConsent => "admin_consent",
            Self::Metadata => "metadata",
            Self::ManagedIdentity => "managed_identity",
        }
    }
}

/// A request, as far as a fault plan may choose by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntraCall {
    /// Which endpoint.
    pub endpoint: EntraEndpoint,
    /// The tenant of the path, when the path names one that exists.
    pub tenant: Option<TenantId>,
    /// The client the request names, when that is a GUID.
    pub client: Option<ClientId>,
}

/// What goes wrong with one request. The default is nothing; the fields act together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntraFault {
    /// Wait this long before anything else.
    pub delay: Option<Duration>,
    /// The response's `Date` header is off by this much from the emulator's clock.
    pub date_offset: Option<TimeDelta>,
    /// Instead of the true answer.
    pub instead: Option<EntraFailure>,
}

/// An answer that replaces the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntraFailure {
    /// The error with this AADSTS number, in the body and with the status its row has (entra.md §6).
    Aadsts(u32),
    /// 429 without an error code; with `Retry-After` in seconds when given. Entra sends 60 (entra.md §5.5).
    Throttled {
        /// Seconds of the `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// A bare status, 400 to 599, with a short HTML page as gateways in front of Entra send it.
    Status(u16),
    /// A 200 whose JSON ends in the middle.
    TruncatedJson,
    /// The connection is reset and no answer comes.
    Reset,
}

/// How the login service behaves where Microsoft's behaviour varies or is not documented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntraPolicy {
    /// Seconds an access token lives, drawn evenly. Entra's default is 60 to 90 minutes.
    pub token_lifetime: RangeInclusive<u32>,
    /// Refuse a client assertion whose `jti` was used within its lifetime (700024). Entra's behaviour is undocumented.
    pub refuse_assertion_reuse: bool,
    /// Sign-in without a person: who answers the consent page.
    pub interaction: Interaction,
    /// Which of the two known forms a declined admin consent takes (entra.md §3.5).
    pub decline_form: DeclineForm,
    /// v1 code redemption hands out an id_token with `"alg":"none"`, as Microsoft's archived page shows.
    pub unsigned_v1_id_token: bool,
    /// Resources beyond the clouds' own and this machine's, that tokens are issued for: the audience strings.
    pub extra_resources: Vec<String>,
}

impl Default for EntraPolicy {
    fn default() -> Self {
        Self {
            token_lifetime: 3600..=5400,
            refuse_assertion_reuse: true,
            interaction: Interaction::Ask,
            decline_form: DeclineForm::Observed,
            unsigned_v1_id_token: false,
            extra_resources: Vec::new(),
        }
    }
}

/// Who answers a sign-in or consent page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interaction {
    /// A person, on a page; or a script that posts the page's form.
    #[default]
    Ask,
    /// At once, as the tenant's administrator, with yes.
    Accept,
    /// At once, as the tenant's administrator, with no (65004).
    Decline,
    /// At once, as somebody of another directory (50020).
    WrongUser,
}

/// How a declined admin consent comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeclineForm {
    /// As seen: `access_denied` with `admin_consent=True`.
    #[default]
    Observed,
    /// As documented: `permission_denied` on v1, `consent_required` with `admin_consent=True` on v2.
    Documented,
}
