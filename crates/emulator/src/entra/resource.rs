//! The resources tokens are issued for, and which permission belongs to which.
//!
//! Never grants anything. A resource is what a client writes into `resource=` or before `/.default` (entra.md §1, §2);
//! a name that is none gets AADSTS500011.

use protocol::cloud::{Cloud, CloudName};
use protocol::ids::ClientId;

use crate::entra::directory::EntraPolicy;
use crate::tls::Origin;

/// Application id of "Office 365 Management APIs" (entra.md §1).
const MANAGEMENT_APP_ID: &str = "c5393580-f805-4401-95e8-94b7a6ef2fc2";
/// Application id of Microsoft Graph (entra.md §2).
const GRAPH_APP_ID: &str = "00000003-0000-0000-c000-000000000000";

/// An API that tokens are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// Office 365 Management APIs.
    Management,
    /// Microsoft Graph.
    Graph,
    /// The audience of federated credentials.
    TokenExchange,
    /// The emulator under its own address, which serves all of them, or one the policy adds: every granted role counts.
    Any,
    /// The client itself.
    Client,
}

impl Api {
    /// Which API a resource text means; `None` when it means none. No text is trimmed or folded: with a trailing slash it
    /// is another resource.
    pub(crate) fn of(resource: &str, client: ClientId, origin: &Origin, policy: &EntraPolicy) -> Option<Self> {
        if resource == MANAGEMENT_APP_ID || presets().any(|cloud| cloud.resource() == resource) {
            return Some(Self::Management);
        }
        if resource == GRAPH_APP_ID || presets().any(|cloud| cloud.graph() == resource) {
            return Some(Self::Graph);
        }
        if resource.starts_with("api://AzureADTokenExchange") {
            let known = ["", "USGov", "China"]
                .iter()
                .any(|end| resource.strip_prefix("api://AzureADTokenExchange") == Some(end));
            return known.then_some(Self::TokenExchange);
        }
        let client = client.to_string();
        if resource == client || resource.strip_prefix("api://") == Some(&client) {
            return Some(Self::Client);
        }
        let ours = resource == origin.to_string() || is_loopback(resource);
        (ours || policy.extra_resources.iter().any(|extra| extra == resource)).then_some(Self::Any)
    }

    /// Those of the granted permissions that belong into a token for this API. One that no table knows belongs everywhere.
    pub(crate) fn permissions(self, granted: &[String]) -> Vec<String> {
        let belongs = |name: &&String| match (self, owner(name)) {
            (Self::Client | Self::TokenExchange, _) => false,
            (Self::Any, _) | (_, None) => true,
            (api, Some(owner)) => api == owner,
        };
        granted.iter().filter(belongs).cloned().collect()
    }
}

/// What a permission lets an app do, as the consent page says it.
pub(crate) fn describe_permission(name: &str) -> &str {
    match name {
        "ActivityFeed.Read" => "Read activity data for your organization",
        "ActivityFeed.ReadDlp" => "Read DLP policy events including detected sensitive data",
        "ServiceHealth.Read" => "Read service health information for your organization",
        "AuditLogsQuery.Read.All" => "Read audit logs data from all services",
        "ServiceHealth.Read.All" => "Read service health",
        "ServiceMessage.Read.All" => "Read service messages",
        "User.Read" => "Sign in and read user profile",
        "openid" | "profile" | "email" => "View your basic profile",
        "offline_access" => "Maintain access to data you have given it access to",
        other => other,
    }
}

/// The API a known permission belongs to (entra.md §2).
fn owner(permission: &str) -> Option<Api> {
    match permission {
        "ActivityFeed.Read"
        | "ActivityFeed.ReadDlp"
        | "ServiceHealth.Read"
        | "ActivityReports.Read"
        | "ThreatIntelligence.Read" => Some(Api::Management),
        "AuditLogsQuery.Read.All" | "ServiceHealth.Read.All" | "ServiceMessage.Read.All" | "User.Read" => {
            Some(Api::Graph)
        }
        _ => None,
    }
}

fn presets() -> impl Iterator<Item = Cloud> {
    CloudName::ALL.into_iter().filter_map(|(_, name)| Cloud::preset(name))
}

/// An origin on this machine: what `[cloud] name = "custom"` uses as its resource when it points to the emulator.
fn is_loopback(resource: &str) -> bool {
    let Ok(url) = url::Url::parse(resource) else { return false };
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    local && matches!(url.scheme(), "http" | "https") && !resource.ends_with('/') && url.path() == "/"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(resource: &str) -> Option<Api> {
        let client = "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap();
        let (parts, ()) = http::Request::builder().uri("http://emulator:7000/x").body(()).unwrap().into_parts();
        let policy = EntraPolicy { extra_resources: vec!["https://audit.test".into()], ..EntraPolicy::default() };
        Api::of(resource, client, &Origin::of(&parts), &policy)
    }

    #[test]
    fn resources_are_compared_as_written() {
        let cases = [
            ("https://manage.office.com", Some(Api::Management)),
            ("https://manage-gcc.office.com", Some(Api::Management)),
            ("https://manage.office365.us", Some(Api::Management)),
            ("https://manage.protection.apps.mil", Some(Api::Management)),
            ("c5393580-f805-4401-95e8-94b7a6ef2fc2", Some(Api::Management)),
            ("https://graph.microsoft.com", Some(Api::Graph)),
            ("api://AzureADTokenExchange", Some(Api::TokenExchange)),
            ("a6099727-6b7b-482c-b509-1df309acc563", Some(Api::Client)),
            ("http://emulator:7000", Some(Api::Any)),
            ("https://127.0.0.1:7443", Some(Api::Any)),
            ("https://audit.test", Some(Api::Any)),
            ("https://manage.office.com/", None),
            ("https://MANAGE.office.com", None),
            ("http://127.0.0.1:7000/", None),
            ("api://AzureADTokenExchangeMars", None),
            ("https://example.com", None),
            ("", None),
        ];
        for (resource, expected) in cases {
            assert_eq!(api(resource), expected, "{resource}");
        }
    }

    #[test]
    fn a_token_carries_only_its_own_resources_permissions() {
        let granted = ["ActivityFeed.Read", "ServiceHealth.Read.All", "Own.Role"].map(str::to_owned);
        assert_eq!(Api::Management.permissions(&granted), ["ActivityFeed.Read", "Own.Role"]);
        assert_eq!(Api::Graph.permissions(&granted), ["ServiceHealth.Read.All", "Own.Role"]);
        assert_eq!(Api::Any.permissions(&granted), granted);
        assert!(Api::TokenExchange.permissions(&granted).is_empty());
    }
}
