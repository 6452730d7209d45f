//! OpenID metadata, keys and instance discovery, read as any OpenID client reads them.

use http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::*;

#[tokio::test]
async fn every_url_of_the_document_begins_where_the_client_asked() {
    let service = Service::new();
    for (host, origin) in
        [(HOST_NAME, "https://login.microsoftonline.com"), ("127.0.0.1:7443", "https://127.0.0.1:7443")]
    {
        for (path, oauth) in [("", "oauth2"), ("v2.0/", "oauth2/v2.0")] {
            let path = format!("/{CONTOSO}/{path}.well-known/openid-configuration");
            let json = service.send(Request::get(path).header(HOST, host), String::new()).await.json();
            assert_eq!(json["token_endpoint"], format!("{origin}/{CONTOSO}/{oauth}/token"));
            assert_eq!(json["authorization_endpoint"], format!("{origin}/{CONTOSO}/{oauth}/authorize"));
            assert!(json["jwks_uri"].as_str().unwrap().starts_with(origin));
        }
    }
}

#[tokio::test]
async fn the_issuer_is_the_tenants_or_a_template() {
    let service = Service::new();
    let sts = format!("https://sts.windows.net/{CONTOSO}/");
    let v2 = format!("https://login.microsoftonline.com/{CONTOSO}/v2.0");
    let cases = [
        (CONTOSO, "", sts.as_str()),
        ("contoso.example", "", &sts),
        (CONTOSO, "v2.0/", &v2),
        ("contoso.example", "v2.0/", &v2),
        ("common", "", "https://sts.windows.net/{tenantid}/"),
        ("common", "v2.0/", "https://login.microsoftonline.com/{tenantid}/v2.0"),
        ("organizations", "v2.0/", "https://login.microsoftonline.com/{tenantid}/v2.0"),
        ("consumers", "v2.0/", "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"),
    ];
    for (tenant, version, issuer) in cases {
        let json = service.get(&format!("/{tenant}/{version}.well-known/openid-configuration")).await.json();
        assert_eq!(json["issuer"], issuer, "{tenant} {version}");
    }
}

#[tokio::test]
async fn an_unknown_tenant_has_no_document() {
    let service = Service::new();
    for tenant in ["nowhere.example", DELETED] {
        let answer = service.get(&format!("/{tenant}/v2.0/.well-known/openid-configuration")).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, 90002));
        assert_eq!(answer.json()["error"], "invalid_tenant");
    }
}

#[tokio::test]
async fn a_token_verifies_with_the_published_keys_and_a_library_of_others() {
    let service = Service::new();
    service.state.tokens().rotate(SigningKey::generate().unwrap());
    let token = service.v2(CONTOSO, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    for path in ["discovery/keys", "discovery/v2.0/keys"] {
        let answer = service.get(&format!("/common/{path}")).await;
        let keys: JwkSet = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(keys.keys.len(), 2);
        let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[MANAGE]);
        validation.set_issuer(&[format!("https://sts.windows.net/{CONTOSO}/")]);
        validation.validate_exp = false;
        let verified =
            jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap();
        assert_eq!(verified.claims["tid"], CONTOSO);
    }
    let tenant_keys = service.get(&format!("/{CONTOSO}/discovery/v2.0/keys")).await.json();
    assert_eq!(tenant_keys["keys"][0]["issuer"], format!("https://login.microsoftonline.com/{CONTOSO}/v2.0"));
}

#[tokio::test]
async fn instance_discovery_knows_microsofts_hosts_and_our_own() {
    let service = Service::new();
    let ask = async |host: &str, endpoint: &str| {
        let path = format!("/common/discovery/instance?api-version=1.1&authorization_endpoint={endpoint}");
        service.send(Request::get(path).header(HOST, host), String::new()).await
    };
    let answer = ask(HOST_NAME, &format!("https://login.windows.net/{CONTOSO}/oauth2/v2.0/authorize")).await.json();
    assert_eq!(
        answer["tenant_discovery_endpoint"],
        format!("https://login.windows.net/{CONTOSO}/v2.0/.well-known/openid-configuration")
    );
    assert_eq!(answer["metadata"][0]["preferred_network"], HOST_NAME);
    let answer = ask("127.0.0.1:7443", "https://127.0.0.1:7443/common/oauth2/v2.0/authorize").await.json();
    let metadata = answer["metadata"].as_array().unwrap();
    assert_eq!(metadata.last().unwrap()["aliases"], serde_json::json!(["127.0.0.1:7443"]));
    for endpoint in ["https://evil.example/common/oauth2/v2.0/authorize", "", "nonsense"] {
        let answer = ask(HOST_NAME, endpoint).await;
        assert_eq!((answer.code(), &answer.json()["error"]), (50049, &"invalid_instance".into()), "{endpoint}");
    }
}

#[tokio::test]
async fn a_government_login_host_serves_government_tenants_only() {
    let service = Service::new();
    let ask = async |host: &str, tenant: &str| {
        let path = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        service.send(Request::get(path).header(HOST, host), String::new()).await.status
    };
    assert_eq!(ask("login.microsoftonline.us", GOVERNMENT).await, StatusCode::OK);
    assert_eq!(ask("login.microsoftonline.us", CONTOSO).await, StatusCode::BAD_REQUEST);
    assert_eq!(ask(HOST_NAME, GOVERNMENT).await, StatusCode::BAD_REQUEST);
    assert_eq!(ask(HOST_NAME, FABRIKAM).await, StatusCode::OK);
    assert_eq!(ask("127.0.0.1:7000", GOVERNMENT).await, StatusCode::OK);
}
