//! Client credentials with a secret: what both endpoints answer, and what goes wrong in which words.

use base64::Engine as _;
use chrono::TimeDelta;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use http::{Request, StatusCode};

use super::*;
use crate::entra::errors::ROWS;
use crate::entra::tokens::service_principal_object_id;

#[tokio::test]
async fn v1_answers_with_strings_and_v2_with_numbers() {
    let service = Service::new();
    service.policy(|policy| policy.token_lifetime = 3600..=3600);
    let v1 = service.v1(CONTOSO, &[]).await;
    assert_eq!(v1.status, StatusCode::OK);
    let json = v1.json();
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(json["expires_in"], "3599");
    assert_eq!(json["ext_expires_in"], "3599");
    assert_eq!(json["resource"], MANAGE);
    let seconds = start().timestamp();
    assert_eq!(json["expires_on"], (seconds + 3600).to_string());
    assert_eq!(json["not_before"], (seconds - 300).to_string());

    let v2 = service.v2(CONTOSO, &[]).await;
    let json = v2.json();
    assert_eq!((&json["expires_in"], &json["ext_expires_in"]), (&3599.into(), &3599.into()));
    assert!(json.get("resource").is_none() && json.get("expires_on").is_none());
    for answer in [&v1, &v2] {
        assert!(answer.json().get("refresh_token").is_none());
        assert_eq!(answer.header("cache-control"), "no-store, no-cache");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
        assert_eq!(answer.header("date"), "Mon, 04 May 2026 10:00:00 GMT");
    }
}

#[tokio::test]
async fn both_endpoints_mint_v1_claims_for_the_management_api() {
    let service = Service::new();
    for answer in [service.v1(CONTOSO, &[]).await, service.v2(CONTOSO, &[]).await] {
        let claims = answer.claims();
        let object = service_principal_object_id(contoso(), client()).to_string();
        for (name, value) in [
            ("aud", MANAGE),
            ("iss", &format!("https://sts.windows.net/{CONTOSO}/")),
            ("idp", &format!("https://sts.windows.net/{CONTOSO}/")),
            ("tid", CONTOSO),
            ("appid", CLIENT),
            ("appidacr", "1"),
            ("oid", &object),
            ("sub", &object),
            ("ver", "1.0"),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        assert_eq!(claims["roles"], serde_json::json!(["ActivityFeed.Read", "ActivityFeed.ReadDlp"]));
        let lifetime = claims["exp"].as_i64().unwrap() - start().timestamp();
        assert!((3600..=5400).contains(&lifetime), "{lifetime}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(service.state.tokens().verify(&token, start()).unwrap().tenant, contoso());
    }
}

#[tokio::test]
async fn a_principal_without_a_grant_gets_a_token_without_roles() {
    let service = Service::new();
    service.install(fabrikam(), &[]);
    let answer = service.v1(FABRIKAM, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.claims().get("roles").is_none());
}

#[tokio::test]
async fn a_graph_token_carries_graph_roles_only() {
    let service = Service::new();
    service.install(fabrikam(), &["ActivityFeed.Read", "AuditLogsQuery.Read.All"]);
    let answer = service.v2(FABRIKAM, &[("scope", "https://graph.microsoft.com/.default")]).await;
    assert_eq!(answer.claims()["roles"], serde_json::json!(["AuditLogsQuery.Read.All"]));
}

#[tokio::test]
async fn the_tenant_may_be_a_domain_name_in_any_case() {
    let service = Service::new();
    assert_eq!(service.v1("Contoso.Example", &[]).await.claims()["tid"], CONTOSO);
    assert_eq!(service.v1(&CONTOSO.to_uppercase(), &[]).await.claims()["tid"], CONTOSO);
}

/// One broken thing at a time, and its number and status.
#[tokio::test]
async fn each_mistake_has_its_number() {
    let service = Service::new();
    let other = "11111111-2222-3333-4444-555555555555";
    let secret_id = service.apps.app(client()).unwrap().secrets[0].key_id.to_string();
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u64, u16, &'a str);
    let cases: &[Case<'_>] = &[
        (CONTOSO, &[("client_secret", "wrong")], 7_000_215, 401, "invalid_client"),
        (CONTOSO, &[("client_secret", &secret_id)], 7_000_215, 401, "invalid_client"),
        (CONTOSO, &[("client_secret", "")], 7_000_216, 401, "invalid_client"),
        (CONTOSO, &[("client_id", "")], 900_144, 400, "invalid_request"),
        (CONTOSO, &[("client_id", other)], 700_016, 400, "unauthorized_client"),
        (CONTOSO, &[("client_id", "not a guid")], 700_016, 400, "unauthorized_client"),
        (CONTOSO, &[("grant_type", "")], 900_144, 400, "invalid_request"),
        (CONTOSO, &[("grant_type", "password")], 70003, 400, "unsupported_grant_type"),
        (FABRIKAM, &[], 700_016, 400, "unauthorized_client"),
        (DELETED, &[], 90002, 400, "invalid_request"),
        (other, &[], 90002, 400, "invalid_request"),
        ("nowhere.example", &[], 90002, 400, "invalid_request"),
        ("nowhere", &[], 900_023, 400, "invalid_request"),
        ("common", &[], 9_001_023, 400, "invalid_request"),
        ("consumers", &[], 9_001_023, 400, "invalid_request"),
        ("organizations", &[], 50059, 400, "invalid_request"),
        (GOVERNMENT, &[], 900_382, 400, "invalid_request"),
    ];
    for (tenant, change, code, status, error) in cases {
        for answer in [service.v1(tenant, change).await, service.v2(tenant, change).await] {
            let named = format!("{tenant} {change:?}: {}", answer.body);
            assert_eq!(answer.code(), *code, "{named}");
            assert_eq!(answer.status.as_u16(), *status, "{named}");
            assert_eq!(answer.json()["error"], *error, "{named}");
        }
    }
}

#[tokio::test]
async fn each_version_wants_its_own_way_to_name_the_resource() {
    let service = Service::new();
    let cases = [("", 900_144), ("https://manage.office.com/", 500_011), ("https://example.com", 500_011)];
    for (resource, code) in cases {
        let answer = service.v1(CONTOSO, &[("resource", resource)]).await;
        assert_eq!((answer.code(), answer.status), (code, StatusCode::BAD_REQUEST), "{resource}");
    }
    let cases = [
        ("", 900_144),
        ("https://manage.office.com", 70011),
        ("https://manage.office.com/ActivityFeed.Read", 70011),
        ("openid https://manage.office.com/.default", 70011),
        ("https://manage.office.com//.default", 500_011),
        ("https://manage.office.com/.default https://graph.microsoft.com/.default", 700_022),
    ];
    for (scope, code) in cases {
        let answer = service.v2(CONTOSO, &[("scope", scope)]).await;
        assert_eq!((answer.code(), answer.status), (code, StatusCode::BAD_REQUEST), "{scope}");
    }
    assert_eq!(service.v2(CONTOSO, &[("resource", MANAGE)]).await.code(), 901_002);
    assert_eq!(service.v1(CONTOSO, &[("scope", "anything")]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_tenant_can_switch_the_app_off_or_block_it() {
    let service = Service::new();
    service.principal(contoso(), |principal| principal.blocked = true);
    let answer = service.v1(CONTOSO, &[]).await;
    assert_eq!(answer.code(), 53003);
    assert!(answer.json()["claims"].is_string());
    service.principal(contoso(), |principal| principal.disabled = true);
    assert_eq!(service.v1(CONTOSO, &[]).await.code(), 7_000_112);
    service.principal(contoso(), |principal| *principal = ServicePrincipal::default());
    assert_eq!(service.v1(CONTOSO, &[]).await.status, StatusCode::OK);
    service.apps.update(client(), |app| app.disabled = true);
    assert_eq!(service.v1(CONTOSO, &[]).await.code(), 7_000_112);
}

#[tokio::test]
async fn a_secret_ends_at_its_expiry_and_another_takes_over() {
    let service = Service::new();
    let expires = start() + TimeDelta::hours(1);
    service.apps.update(client(), |app| app.secrets[0].expires = Some(expires));
    service.advance(TimeDelta::seconds(3599));
    assert_eq!(service.v1(CONTOSO, &[]).await.status, StatusCode::OK);
    service.advance(TimeDelta::seconds(1));
    let answer = service.v1(CONTOSO, &[]).await;
    assert_eq!((answer.code(), answer.status), (7_000_222, StatusCode::UNAUTHORIZED));
    service.apps.add_secret(client(), "next", None);
    assert_eq!(service.v1(CONTOSO, &[("client_secret", "next")]).await.status, StatusCode::OK);
    assert!(service.apps.remove_secret(client(), "next"));
    assert_eq!(service.v1(CONTOSO, &[("client_secret", "next")]).await.code(), 7_000_215);
}

#[tokio::test]
async fn the_secret_may_come_by_http_basic() {
    let service = Service::new();
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = format!("{}:{}", encode(CLIENT), encode(SECRET));
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials));
    let request = Request::post(format!("/{CONTOSO}/oauth2/token"))
        .header(AUTHORIZATION, basic)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let body = format!("grant_type=client_credentials&resource={}", encode(MANAGE));
    assert_eq!(service.send(request, body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn only_a_posted_form_is_a_token_request() {
    let service = Service::new();
    assert_eq!(service.get(&format!("/{CONTOSO}/oauth2/token")).await.code(), 900_561);
    let json = r#"{"grant_type":"client_credentials"}"#.to_owned();
    let request = Request::post(format!("/{CONTOSO}/oauth2/token")).header(CONTENT_TYPE, "application/json");
    assert_eq!(service.send(request, json).await.code(), 900_144);
    let twice = [("grant_type", "client_credentials"), ("grant_type", "client_credentials")];
    assert_eq!(service.post(&format!("/{CONTOSO}/oauth2/token"), &twice).await.code(), 9_000_411);
    let huge = "a".repeat(super::super::MAX_BODY);
    assert_eq!(service.v1(CONTOSO, &[("client_secret", &huge)]).await.code(), 9_002_313);
    let request = Request::post(format!("/{CONTOSO}/oauth2/token"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ORIGIN, "https://browser.example");
    assert_eq!(service.send(request, "grant_type=client_credentials".into()).await.code(), 9_002_326);
    // Harmless, and seen in Microsoft's own scripts.
    let form =
        [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", SECRET), ("resource", MANAGE)];
    let answer = service.post(&format!("/{CONTOSO}/oauth2/token?api-version=1.0"), &form).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_public_client_may_show_no_secret_and_gets_no_app_token() {
    let service = Service::new();
    service.apps.update(client(), |app| app.public_client = true);
    assert_eq!(service.v1(CONTOSO, &[]).await.code(), 700_025);
    assert_eq!(service.v1(CONTOSO, &[("client_secret", "")]).await.code(), 7_000_216);
}

#[tokio::test]
async fn the_callers_request_id_is_the_correlation_id() {
    let service = Service::new();
    let id = "9f1c6e3a-1111-4222-8333-944445555666";
    let request = Request::post(format!("/{CONTOSO}/oauth2/token"))
        .header("client-request-id", id)
        .header("return-client-request-id", "true");
    let answer = service.send(request, String::new()).await;
    assert_eq!(answer.json()["correlation_id"], id);
    assert_eq!(answer.header("client-request-id"), id);
    let request = Request::post(format!("/{CONTOSO}/oauth2/token")).header("client-request-id", "\"<x>");
    let answer = service.send(request, String::new()).await;
    let given: uuid::Uuid = answer.json()["correlation_id"].as_str().unwrap().parse().unwrap();
    assert!(!given.is_nil());
    let json = answer.json();
    assert_eq!(json["timestamp"], "2026-05-04 10:00:00Z");
    assert_eq!(json["error_uri"], "https://login.microsoftonline.com/error?code=900144");
    assert_eq!(json["trace_id"], answer.header("x-ms-request-id"));
}

#[tokio::test]
async fn every_number_can_be_had_on_demand() {
    let service = Service::new();
    for row in ROWS {
        service.fail(EntraFailure::Aadsts(row.code));
        let answer = service.v1(CONTOSO, &[]).await;
        assert_eq!(answer.code(), u64::from(row.code));
        assert_eq!(answer.status.as_u16(), row.status, "{}", row.code);
        assert_eq!(answer.json()["error"], row.error, "{}", row.code);
    }
    service.fail(EntraFailure::Aadsts(70008));
    assert_eq!(service.v1(CONTOSO, &[]).await.json()["error_codes"], serde_json::json!([70002, 70008]));
    service.fail(EntraFailure::Aadsts(65001));
    assert_eq!(service.v1(CONTOSO, &[]).await.json()["suberror"], "consent_required");
    service.fail(EntraFailure::Aadsts(424_242));
    assert_eq!(service.v1(CONTOSO, &[]).await.code(), 424_242);
}

#[tokio::test]
async fn throttling_outages_and_cut_answers_can_be_had_on_demand() {
    let service = Service::new();
    service.fail(EntraFailure::Throttled { retry_after: Some(60) });
    let answer = service.v1(CONTOSO, &[]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "60"));
    service.fail(EntraFailure::Throttled { retry_after: None });
    assert!(service.v1(CONTOSO, &[]).await.headers.get("retry-after").is_none());
    service.fail(EntraFailure::Status(503));
    let answer = service.v1(CONTOSO, &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::SERVICE_UNAVAILABLE, "text/html"));
    service.fail(EntraFailure::TruncatedJson);
    assert!(serde_json::from_str::<Value>(&service.v1(CONTOSO, &[]).await.body).is_err());
}

#[tokio::test]
async fn the_date_header_can_be_off_while_the_token_is_right() {
    let service = Service::new();
    let date_offset = Some(TimeDelta::minutes(-7));
    service.fault(EntraFault { date_offset, ..EntraFault::default() });
    let answer = service.v1(CONTOSO, &[]).await;
    assert_eq!(answer.header("date"), "Mon, 04 May 2026 09:53:00 GMT");
    assert_eq!(answer.claims()["nbf"].as_i64(), Some(start().timestamp() - 300));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_comes_later_and_not_never() {
    let service = Service::new();
    let delay = Some(std::time::Duration::from_secs(30));
    service.fault(EntraFault { delay, ..EntraFault::default() });
    let before = tokio::time::Instant::now();
    assert_eq!(service.v1(CONTOSO, &[]).await.status, StatusCode::OK);
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn the_same_seed_repeats_tokens_ids_and_lifetimes() {
    let run = async || {
        let service = Service::new();
        let ok = service.v1(CONTOSO, &[]).await;
        let bad = service.v1(CONTOSO, &[("client_secret", "x")]).await;
        (ok.body, bad.body)
    };
    assert_eq!(run().await, run().await);
}

#[tokio::test]
async fn requests_are_counted_by_tenant_and_status() {
    let service = Service::new();
    service.v1(CONTOSO, &[]).await;
    service.v2(CONTOSO, &[]).await;
    service.v1(CONTOSO, &[("client_secret", "wrong")]).await;
    service.v1("nowhere.example", &[]).await;
    service.fail(EntraFailure::Reset);
    service.v1(CONTOSO, &[]).await;
    let counts: Vec<_> = service.state.requests().iter().map(|one| (one.tenant, one.status, one.count)).collect();
    let contoso = Some(contoso());
    assert_eq!(counts, [(None, 400, 1), (contoso, 0, 1), (contoso, 200, 2), (contoso, 401, 1)]);
    service.state.clear_requests();
    assert!(service.state.requests().is_empty());
}
