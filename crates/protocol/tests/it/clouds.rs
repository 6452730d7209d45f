//! The table of entra.md §1, cloud by cloud, and what is derived from its rows.

use protocol::cloud::{Cloud, CloudName};
use protocol::ids::{ClientId, TenantId};
use protocol::secret::ClientSecret;
use protocol::token::{GrantCredential, TokenAsk, TokenEndpoint, client_credentials};

/// Name, login authority, resource and root of the Activity API, Graph root.
const CLOUDS: [(CloudName, &str, &str, &str); 5] = [
    (
        CloudName::Commercial,
        "https://login.microsoftonline.com",
        "https://manage.office.com",
        "https://graph.microsoft.com",
    ),
    (
        CloudName::Gcc,
        "https://login.microsoftonline.com",
        "https://manage-gcc.office.com",
        "https://graph.microsoft.com",
    ),
    (
        CloudName::GccHigh,
        "https://login.microsoftonline.us",
        "https://manage.office365.us",
        "https://graph.microsoft.us",
    ),
    (
        CloudName::Dod,
        "https://login.microsoftonline.us",
        "https://manage.protection.apps.mil",
        "https://dod-graph.microsoft.us",
    ),
    (
        CloudName::China,
        "https://login.partner.microsoftonline.cn",
        "https://manage.office365.cn",
        "https://microsoftgraph.chinacloudapi.cn",
    ),
];

#[test]
fn every_cloud_is_one_row_of_the_reference() {
    let tenant: TenantId = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
    let client_id: ClientId = "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap();
    let secret = GrantCredential::Secret(ClientSecret::new("x"));
    assert_eq!(CLOUDS.len() + 1, CloudName::ALL.len(), "all but custom");
    for (name, login, resource, graph) in CLOUDS {
        let cloud = Cloud::preset(name).unwrap();
        assert_eq!((cloud.login(), cloud.resource(), cloud.graph()), (login, resource, graph), "{name:?}");
        assert_eq!(cloud.feed_root(tenant), format!("{resource}/api/v1.0/{tenant}/activity/feed"));
        for (endpoint, path, field) in [
            (TokenEndpoint::V1, "oauth2/token", ("resource", resource.to_owned())),
            (TokenEndpoint::V2, "oauth2/v2.0/token", ("scope", format!("{resource}/.default"))),
        ] {
            let ask = TokenAsk { cloud: &cloud, tenant, client_id, endpoint };
            let request = client_credentials(&ask, &secret, uuid::Uuid::nil());
            assert_eq!(request.url().as_str(), format!("{login}/{tenant}/{path}"));
            let audience = url::form_urlencoded::parse(request.body()).find(|(name, _)| name == field.0).unwrap();
            assert_eq!(audience.1, field.1, "{name:?}");
        }
    }
}

#[test]
fn one_clouds_urls_are_refused_by_every_other() {
    let tenant: TenantId = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
    for (name, ..) in CLOUDS {
        let url = format!("{}/audit/x", Cloud::preset(name).unwrap().feed_root(tenant));
        for (other, ..) in CLOUDS {
            let accepted = Cloud::preset(other).unwrap().check_activity_url(tenant, &url).is_ok();
            assert_eq!(accepted, name == other, "{name:?}'s URL in {other:?}");
        }
    }
}
