//! The clouds: which login authority, resource, Activity API root and Graph root belong together.
//!
//! Never mixes two rows: one authority can mint tokens for several government roots, and the wrong root refuses them
//! (entra.md §1). Also the guard of promise 7: [`Cloud::check_activity_url`] says whether a URL may be given a token.

use std::net::IpAddr;

use url::{Host, Url};

use crate::ids::TenantId;

/// A cloud that Microsoft runs, or one described by the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloud {
    name: CloudName,
    login: Url,
    resource: String,
    activity: Url,
    graph: Url,
}

/// The names `[cloud] name` may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloudName {
    /// Worldwide ("Enterprise").
    Commercial,
    /// US government community cloud, on the worldwide login authority.
    Gcc,
    /// US government, GCC High.
    GccHigh,
    /// US Department of Defense.
    Dod,
    /// China, run by 21Vianet. Experimental: Microsoft's Activity API reference does not list it.
    China,
    /// Described key by key in the configuration.
    Custom,
}

impl CloudName {
    /// Every name, as the configuration writes it.
    pub const ALL: [(&'static str, CloudName); 6] = [
        ("commercial", Self::Commercial),
        ("gcc", Self::Gcc),
        ("gcc_high", Self::GccHigh),
        ("dod", Self::Dod),
        ("china", Self::China),
        ("custom", Self::Custom),
    ];

    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commercial => "commercial",
            Self::Gcc => "gcc",
            Self::GccHigh => "gcc_high",
            Self::Dod => "dod",
            Self::China => "china",
            Self::Custom => "custom",
        }
    }
}

/// The roots of a cloud the operator describes. Each is an origin, such as `https://host:8443`, with at most a path prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomCloud {
    /// The login authority.
    pub login: String,
    /// The Activity API root, before `/api/v1.0`.
    pub activity: String,
    /// Microsoft Graph's root; the Activity API root when absent.
    pub graph: Option<String>,
    /// The resource (audience) tokens are asked for; the Activity API root when absent.
    pub resource: Option<String>,
}

/// Why a cloud cannot be used as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// A root is not an absolute URL.
    #[error("cloud.{key} must be an absolute URL such as https://127.0.0.1:7000, not {text:?}")]
    NotAUrl {
        /// The key under `[cloud]`.
        key: &'static str,
        /// What was given.
        text: String,
    },
    /// Plain http to a host that is not this machine: tokens would cross a network in clear.
    #[error("cloud.{key} must use https: plain http is accepted for loopback addresses only, and {text:?} is none")]
    PlainHttp {
        /// The key under `[cloud]`.
        key: &'static str,
        /// What was given.
        text: String,
    },
    /// A root with a query, fragment, user or password.
    #[error("cloud.{key} must be a root without query, fragment or user name, not {text:?}")]
    NotARoot {
        /// The key under `[cloud]`.
        key: &'static str,
        /// What was given.
        text: String,
    },
}

/// Why a URL the feed handed us may not be given a bearer token (activity-api.md §8). Never shows query text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// Not a URL at all, or one with a user name in it.
    #[error("the URL cannot be read")]
    Unreadable,
    /// The scheme, host or port is not the configured cloud's.
    #[error("the URL points to {found} and not to the configured cloud at {expected}")]
    ForeignOrigin {
        /// Where it points.
        found: String,
        /// Where it should.
        expected: String,
    },
    /// The path is not one of this tenant's Activity API paths.
    #[error("the URL's path is not an Activity API path of tenant {tenant}")]
    ForeignPath {
        /// The tenant whose token was to be sent.
        tenant: TenantId,
    },
    /// The token was issued for another cloud's resource than the one the request goes to.
    #[error("the token was issued for {issued_for} and not for {expected}")]
    ForeignToken {
        /// The resource it was issued for.
        issued_for: String,
        /// The configured cloud's resource.
        expected: String,
    },
}

impl Cloud {
    /// A cloud by name. `None` for [`CloudName::Custom`], which has no preset.
    pub fn preset(name: CloudName) -> Option<Self> {
        let (login, activity, graph) = match name {
            CloudName::Commercial => {
                ("https://login.microsoftonline.com", "https://manage.office.com", "https://graph.microsoft.com")
            }
            CloudName::Gcc => {
                ("https://login.microsoftonline.com", "https://manage-gcc.office.com", "https://graph.microsoft.com")
            }
            CloudName::GccHigh => {
                ("https://login.microsoftonline.us", "https://manage.office365.us", "https://graph.microsoft.us")
            }
            CloudName::Dod => (
                "https://login.microsoftonline.us",
                "https://manage.protection.apps.mil",
                "https://dod-graph.microsoft.us",
            ),
            CloudName::China => (
                "https://login.partner.microsoftonline.cn",
                "https://manage.office365.cn",
                "https://microsoftgraph.chinacloudapi.cn",
            ),
            CloudName::Custom => return None,
        };
        let root = |text: &str| Url::parse(text).expect("the preset table holds absolute URLs");
        Some(Self {
            name,
            login: root(login),
            // The resource is written without a trailing slash: with one it is another audience (entra.md §1).
            resource: activity.to_owned(),
            activity: root(activity),
            graph: root(graph),
        })
    }

    /// A cloud from its described roots.
    ///
    /// # Errors
    /// When a root is no URL, is no root, or is plain http to anything but loopback.
    pub fn custom(described: &CustomCloud) -> Result<Self, CloudError> {
        let activity = root("activity", &described.activity)?;
        let resource = match &described.resource {
            Some(text) => text.trim_end_matches('/').to_owned(),
            None => activity.as_str().trim_end_matches('/').to_owned(),
        };
        let graph = match &described.graph {
            Some(text) => root("graph", text)?,
            None => activity.clone(),
        };
        Ok(Self { name: CloudName::Custom, login: root("login", &described.login)?, resource, activity, graph })
    }

    /// Which cloud this is.
    pub fn name(&self) -> CloudName {
        self.name
    }

    /// The login authority, with no trailing slash.
    pub fn login(&self) -> &str {
        self.login.as_str().trim_end_matches('/')
    }

    /// The audience of tokens that are exchanged for others: what federated credentials and managed identities are made
    /// out to (entra.md §5.3).
    pub fn token_exchange_audience(&self) -> &'static str {
        match self.name {
            CloudName::Commercial | CloudName::Gcc | CloudName::Custom => "api://AzureADTokenExchange",
            CloudName::GccHigh | CloudName::Dod => "api://AzureADTokenExchangeUSGov",
            CloudName::China => "api://AzureADTokenExchangeChina",
        }
    }

    /// The resource (audience) to ask tokens for, with no trailing slash.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Microsoft Graph's root, with no trailing slash.
    pub fn graph(&self) -> &str {
        self.graph.as_str().trim_end_matches('/')
    }

    /// `{root}/api/v1.0/{tenant}/activity/feed`, with no trailing slash.
    pub fn feed_root(&self, tenant: TenantId) -> String {
        format!("{}/api/v1.0/{tenant}/activity/feed", self.activity.as_str().trim_end_matches('/'))
    }

    /// Reads a URL that is about to be given `tenant`'s token, and refuses every one that is not this cloud's, this
    /// tenant's, and the Activity API's.
    ///
    /// # Errors
    /// See [`UrlRefused`]; nothing of the URL but its origin is repeated.
    pub fn check_activity_url(&self, tenant: TenantId, text: &str) -> Result<Url, UrlRefused> {
        let url = Url::parse(text).map_err(|_| UrlRefused::Unreadable)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefused::Unreadable);
        }
        if url.origin() != self.activity.origin() {
            return Err(UrlRefused::ForeignOrigin {
                found: url.origin().ascii_serialization(),
                expected: self.activity.origin().ascii_serialization(),
            });
        }
        let refused = || UrlRefused::ForeignPath { tenant };
        let prefix = self.activity.path().trim_end_matches('/');
        let path = url.path().strip_prefix(prefix).ok_or_else(refused)?.to_ascii_lowercase();
        // `Url` has resolved `..` already. A content id may hold an encoded slash; a server that decodes before it routes
        // must not be led out of the tenant by one.
        let decoded = path.replace("%2f", "/").replace("%5c", "/").replace("%2e", ".");
        if decoded.split('/').any(|segment| segment == "." || segment == "..") || path.contains("//") {
            return Err(refused());
        }
        let rest = path
            .strip_prefix("/api/v1.0/")
            // The sample NextPageUri says v1 where the documentation says v1.0 (activity-api.md §2.4).
            .or_else(|| path.strip_prefix("/api/v1/"))
            .ok_or_else(refused)?;
        let rest = rest.strip_prefix(&tenant.to_string()).ok_or_else(refused)?;
        if !rest.starts_with("/activity/feed/") {
            return Err(refused());
        }
        Ok(url)
    }
}

fn root(key: &'static str, text: &str) -> Result<Url, CloudError> {
    let not_a_url = || CloudError::NotAUrl { key, text: text.to_owned() };
    let url = Url::parse(text.trim()).map_err(|_| not_a_url())?;
    if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
        return Err(not_a_url());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(CloudError::NotARoot { key, text: url.origin().ascii_serialization() });
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(CloudError::PlainHttp { key, text: text.to_owned() });
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
    }

    fn custom(root: &str) -> Result<Cloud, CloudError> {
        Cloud::custom(&CustomCloud { login: root.into(), activity: root.into(), graph: None, resource: None })
    }

    #[test]
    fn presets_carry_no_trailing_slash() {
        for (text, name) in CloudName::ALL {
            assert_eq!(name.as_str(), text);
            let Some(cloud) = Cloud::preset(name) else { continue };
            for url in [cloud.login(), cloud.resource(), cloud.graph(), &cloud.feed_root(tenant())] {
                assert!(url.starts_with("https://") && !url.ends_with('/'), "{url}");
            }
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for root in ["http://127.0.0.1:7000", "http://localhost:7000/", "http://[::1]:7000", "https://proxy.example/x"]
        {
            assert!(custom(root).is_ok(), "{root}");
        }
        assert!(matches!(custom("http://10.0.0.1:7000"), Err(CloudError::PlainHttp { key: "activity", .. })));
        assert!(matches!(custom("http://localhost.example"), Err(CloudError::PlainHttp { .. })));
        assert!(matches!(custom("manage.office.com"), Err(CloudError::NotAUrl { .. })));
        assert!(matches!(custom("ftp://127.0.0.1"), Err(CloudError::NotAUrl { .. })));
        assert!(matches!(custom("https://user:pw@host"), Err(CloudError::NotARoot { .. })));
    }

    #[test]
    fn a_token_goes_only_to_this_cloud_this_tenant_and_the_activity_api() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let t = tenant();
        let accepted = [
            format!("https://manage.office.com/api/v1.0/{t}/activity/feed/audit/2017$2017$audit"),
            format!("https://manage.office.com:443/api/v1/{t}/activity/feed/subscriptions/content?nextPage=1"),
            format!("https://manage.office.com/api/v1.0/{t}/activity/feed/audit/a%2Fb$c"),
            format!("https://MANAGE.office.com/api/v1.0/{}/activity/feed/audit/x", t.to_string().to_uppercase()),
        ];
        for url in accepted {
            assert!(cloud.check_activity_url(t, &url).is_ok(), "{url}");
        }
        let refused = [
            format!("http://manage.office.com/api/v1.0/{t}/activity/feed/audit/x"),
            format!("https://manage.office.com:8443/api/v1.0/{t}/activity/feed/audit/x"),
            format!("https://manage.office.com.example/api/v1.0/{t}/activity/feed/audit/x"),
            format!("https://user@manage.office.com/api/v1.0/{t}/activity/feed/audit/x"),
            format!("https://manage-gcc.office.com/api/v1.0/{t}/activity/feed/audit/x"),
            "https://manage.office.com/api/v1.0/00000000-0000-0000-0000-000000000001/activity/feed/audit/x".into(),
            format!("https://manage.office.com/api/v1.0/{t}/ServiceComms/Services"),
            format!("https://manage.office.com/api/v1.0/{t}/activity/feed/../../../evil"),
            format!("https://manage.office.com/api/v1.0/{t}/activity/feed/..%2f..%2fevil"),
            format!("https://manage.office.com/api/v1.0/{t}/activity/feed/audit/a%2F%2e%2E%5cevil"),
            format!("https://manage.office.com/x/api/v1.0/{t}/activity/feed/audit/x"),
            "not a url".into(),
        ];
        for url in refused {
            assert!(cloud.check_activity_url(t, &url).is_err(), "{url}");
        }
    }
}
