//! Whom a request is addressed to: the login host's cloud, and the first segment of the path.
//!
//! Never trusts the host for more than the choice of cloud. An unknown host (127.0.0.1, a test name) serves every cloud.

use protocol::cloud::CloudName;
use protocol::ids::TenantId;

use crate::entra::directory::{Directory, TenantInfo};
use crate::entra::errors::EntraError;
use crate::tls::Origin;

/// Login hosts that stand for one another, as instance discovery lists them.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) preferred_network: &'static str,
    pub(crate) preferred_cache: &'static str,
    pub(crate) aliases: &'static [&'static str],
    clouds: &'static [CloudName],
}

impl Environment {
    /// The clouds whose tenants it signs in; never empty.
    pub(crate) fn clouds(&self) -> &'static [CloudName] {
        self.clouds
    }
}

/// Every group of login hosts (entra.md §1; the aliases as Microsoft's instance discovery answers).
pub(crate) const ENVIRONMENTS: &[Environment] = &[
    Environment {
        preferred_network: "login.microsoftonline.com",
        preferred_cache: "login.windows.net",
        aliases: &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"],
        clouds: &[CloudName::Commercial, CloudName::Gcc],
    },
    Environment {
        preferred_network: "login.partner.microsoftonline.cn",
        preferred_cache: "login.partner.microsoftonline.cn",
        aliases: &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
        clouds: &[CloudName::China],
    },
    Environment {
        preferred_network: "login.microsoftonline.us",
        preferred_cache: "login.microsoftonline.us",
        aliases: &["login.microsoftonline.us", "login.usgovcloudapi.net"],
        clouds: &[CloudName::GccHigh, CloudName::Dod],
    },
];

/// The group a host belongs to.
pub(crate) fn environment(host: &str) -> Option<&'static Environment> {
    ENVIRONMENTS.iter().find(|environment| environment.aliases.contains(&host))
}

/// The first segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// `common`: any directory, and personal accounts, which the emulator has none of.
    Common,
    /// `organizations`: any directory.
    Organizations,
    /// `consumers`: personal accounts only.
    Consumers,
    /// One directory.
    Tenant(TenantInfo),
}

impl Segment {
    /// Finds out what a segment means.
    pub(crate) fn resolve(directory: &dyn Directory, origin: &Origin, text: &str) -> Result<Self, EntraError> {
        match text.to_ascii_lowercase().as_str() {
            "common" => return Ok(Self::Common),
            "organizations" => return Ok(Self::Organizations),
            "consumers" => return Ok(Self::Consumers),
            _ => {}
        }
        if text.parse::<TenantId>().is_err() && !text.contains('.') {
            let text = format!(
                "Specified tenant identifier '{text}' is neither a valid DNS name, nor a valid external domain."
            );
            return Err(EntraError::with_text(900_023, text));
        }
        let tenant = directory.find_tenant(text).filter(|tenant| !tenant.deleted).ok_or_else(|| {
            let text = format!(
                "Tenant '{text}' not found. Check to make sure you have the correct tenant ID and are signing into the \
                 correct cloud. Check with your subscription administrator, this may happen if there are no active \
                 subscriptions for the tenant."
            );
            EntraError::with_text(90002, text)
        })?;
        let foreign = environment(origin.host()).is_some_and(|environment| {
            tenant.cloud != CloudName::Custom && !environment.clouds.contains(&tenant.cloud)
        });
        if foreign {
            return Err(EntraError::new(900_382));
        }
        Ok(Self::Tenant(tenant))
    }

    /// What codes are bound to: the word, or the tenant's GUID however it was written.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Common => "common".to_owned(),
            Self::Organizations => "organizations".to_owned(),
            Self::Consumers => "consumers".to_owned(),
            Self::Tenant(tenant) => tenant.id.to_string(),
        }
    }

    pub(crate) fn tenant(&self) -> Option<&TenantInfo> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Common | Self::Organizations | Self::Consumers => None,
        }
    }
}
