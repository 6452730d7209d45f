//! The managed identity endpoint: its header, its parameters, its strings.

use http::{Method, StatusCode};

use super::*;
use crate::app::ManagedIdentity;

const PATH: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://manage.office.com";

fn identity(number: u8) -> ManagedIdentity {
    ManagedIdentity {
        client_id: format!("{number}2222222-2222-4222-8222-222222222222").parse().unwrap(),
        object_id: format!("{number}3333333-3333-4333-8333-333333333333").parse().unwrap(),
        tenant: contoso(),
        resource_id: None,
    }
}

async fn ask(service: &Service, path: &str) -> Answer {
    service.send(Request::get(path).header("Metadata", "true"), String::new()).await
}

#[tokio::test]
async fn the_only_identity_gets_a_token_whose_numbers_are_strings() {
    let service = Service::new();
    service.apps.add_managed_identity(identity(1));
    let answer = ask(&service, PATH).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let json = answer.json();
    for name in ["expires_in", "expires_on", "not_before"] {
        assert!(json[name].as_str().unwrap().parse::<i64>().is_ok(), "{name}");
    }
    assert_eq!((&json["refresh_token"], &json["resource"]), (&"".into(), &MANAGE.into()));
    let claims = answer.claims();
    assert_eq!(claims["oid"], "13333333-3333-4333-8333-333333333333");
    assert_eq!(claims["appid"], "12222222-2222-4222-8222-222222222222");
    assert!(claims.get("roles").is_none());
}

#[tokio::test]
async fn without_the_header_or_through_a_proxy_nothing_is_given() {
    let service = Service::new();
    service.apps.add_managed_identity(identity(1));
    for request in [Request::get(PATH), Request::get(PATH).header("metadata", "True")] {
        let answer = service.send(request, String::new()).await;
        assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::BAD_REQUEST, &"bad_request_102".into()));
    }
    let forwarded = Request::get(PATH).header("metadata", "true").header("x-forwarded-for", "10.0.0.1");
    assert_eq!(service.send(forwarded, String::new()).await.status, StatusCode::FORBIDDEN);
    let posted = Request::builder().method(Method::POST).uri(PATH).header("metadata", "true");
    assert_eq!(service.send(posted, String::new()).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn one_of_several_identities_must_be_named() {
    let service = Service::new();
    assert_eq!(ask(&service, PATH).await.json()["error_description"], "Identity not found");
    service.apps.add_managed_identity(identity(1));
    service.apps.add_managed_identity(identity(2));
    assert_eq!(ask(&service, PATH).await.status, StatusCode::BAD_REQUEST);
    for named in ["client_id=22222222-2222-4222-8222-222222222222", "object_id=23333333-3333-4333-8333-333333333333"] {
        let answer = ask(&service, &format!("{PATH}&{named}")).await;
        assert_eq!(answer.claims()["oid"], "23333333-3333-4333-8333-333333333333", "{named}");
    }
    assert_eq!(ask(&service, &format!("{PATH}&client_id={CLIENT}")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_named() {
    let service = Service::new();
    service.apps.add_managed_identity(identity(1));
    let cases = [
        ("/metadata/identity/oauth2/token?resource=https://manage.office.com", "invalid_request"),
        ("/metadata/identity/oauth2/token?api-version=2018-02-01", "invalid_request"),
        ("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://x.example", "invalid_resource"),
    ];
    for (path, error) in cases {
        let answer = ask(&service, path).await;
        assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::BAD_REQUEST, &error.into()), "{path}");
    }
    service.fail(EntraFailure::Status(410));
    assert_eq!(ask(&service, PATH).await.status, StatusCode::GONE);
}

#[tokio::test]
async fn app_service_asks_for_its_own_header_and_says_when_a_token_ends() {
    const PATH: &str = "/msi/token?api-version=2019-08-01&resource=https://manage.office.com";
    let service = Service::new();
    service.apps.add_managed_identity(identity(1));
    service.apps.add_managed_identity(identity(2));
    let ask = async |path: &str, header: &str| {
        service.send(Request::get(path).header("X-IDENTITY-HEADER", header), String::new()).await
    };
    let named = format!("{PATH}&principal_id=23333333-3333-4333-8333-333333333333");
    assert_eq!(ask(&named, "853b9a84").await.status, StatusCode::UNAUTHORIZED, "nothing is open from the start");
    service.apps.open_app_service("853b9a84");
    for header in ["", "853b9a8", "853B9A84"] {
        assert_eq!(ask(&named, header).await.status, StatusCode::UNAUTHORIZED, "{header}");
    }
    let answer = ask(&named, "853b9a84").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.claims()["oid"], "23333333-3333-4333-8333-333333333333");
    assert!(answer.json()["expires_on"].as_str().unwrap().parse::<i64>().is_ok());
    assert!(answer.json().get("expires_in").is_none());
    assert_eq!(answer.json()["client_id"], "22222222-2222-4222-8222-222222222222");
    for (path, status) in [
        (PATH.to_owned(), StatusCode::BAD_REQUEST),
        (named.replace("2019-08-01", "2017-09-01"), StatusCode::BAD_REQUEST),
        (named.replace("principal_id=2", "principal_id=3"), StatusCode::BAD_REQUEST),
        ("/msi/token?api-version=2019-08-01".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(ask(&path, "853b9a84").await.status, status, "{path}");
    }
}
