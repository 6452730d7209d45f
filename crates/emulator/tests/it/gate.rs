//! Who is let in, and with which words the others are turned away (activity-api.md §3, §9).

use emulator::entra::tokens::AccessToken;
use emulator::world::{Limits, TenantSpec};
use emulator::{EmulatorOptions, WorldOptions};
use http::{Method, Request};
use protocol::cloud::CloudName;
use std::time::Duration;

use crate::client::{Client, call, client_id, control, emulator, emulator_with};

fn small() -> WorldOptions {
    WorldOptions { records_total: Some(60), tenants: 2, ..WorldOptions::default() }
}

#[tokio::test]
async fn without_a_token_nobody_gets_in() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let url = format!("{}/subscriptions/list", client.root());
    for value in [None, Some("Bearer"), Some("Bearer abc"), Some("Basic abc")] {
        let mut request = Request::get(&url);
        if let Some(value) = value {
            request = request.header("authorization", value);
        }
        let answer = call(&emulator, request.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 401, "{value:?}");
        assert_eq!(answer.text(), r#"{"Message":"Authorization has been denied for this request."}"#);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn an_expired_token_gets_an_empty_401() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let token = client.token();
    let url = format!("{}/subscriptions/list", client.root());
    let ask = || {
        Request::get(&url).header("authorization", format!("Bearer {token}")).body(axum::body::Body::empty()).unwrap()
    };
    emulator.world().clock().advance(Duration::from_millis(3_599_999));
    assert_eq!(call(&emulator, ask()).await.status, 200);
    emulator.world().clock().advance(Duration::from_millis(1));
    let answer = call(&emulator, ask()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (401, 0));
}

#[tokio::test]
async fn a_token_opens_its_own_tenant_only() {
    let emulator = emulator(small());
    let (first, second) = (emulator.world().tenant_ids()[0], emulator.world().tenant_ids()[1]);
    let client = Client::new(&emulator, first);
    let url = format!("https://manage.office.com/api/v1.0/{second}/activity/feed/subscriptions/list");
    let answer = client.get(&url).await;
    assert_eq!(answer.code(), "AF20010");
    assert!(answer.message().contains(&first.to_string()) && answer.message().contains(&second.to_string()));
}

#[tokio::test]
async fn a_tenant_in_the_url_must_be_a_guid() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let url = "https://manage.office.com/api/v1.0/contoso.onmicrosoft.com/activity/feed/subscriptions/list";
    let answer = client.get(url).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20013"));
}

#[tokio::test]
async fn the_permission_must_be_in_the_token() {
    let emulator = emulator(small());
    let mut client = Client::first(&emulator);
    client.roles = vec!["ServiceHealth.Read"];
    let answer = client.get(&format!("{}/subscriptions/list", client.root())).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "AF10001"));
    assert!(answer.message().contains("(ServiceHealth.Read)"), "{}", answer.message());
    client.roles = vec!["ActivityFeed.Read"];
    assert_eq!(client.get(&format!("{}/subscriptions/list", client.root())).await.status, 200);
}

#[tokio::test]
async fn a_token_of_another_cloud_or_resource_is_refused() {
    let spec = TenantSpec { cloud: CloudName::GccHigh, ..TenantSpec::default() };
    let emulator = emulator(WorldOptions { specs: vec![spec], tenants: 1, ..small() });
    let client = Client::first(&emulator);
    let ask = |audience: &str| {
        let token = AccessToken::app_only(client.tenant, client_id(), audience, &["ActivityFeed.Read"]);
        let token = emulator.tokens().issue(&token, emulator.world().now(), 3600).unwrap().text;
        let url = format!("https://manage.office365.us/api/v1.0/{}/activity/feed/subscriptions/list", client.tenant);
        Request::get(url).header("authorization", format!("Bearer {token}")).body(axum::body::Body::empty()).unwrap()
    };
    assert_eq!(call(&emulator, ask("https://manage.office365.us")).await.status, 200);
    assert_eq!(call(&emulator, ask("https://manage.office.com")).await.status, 401);
    assert_eq!(call(&emulator, ask("https://graph.microsoft.us")).await.status, 401);
}

#[tokio::test]
async fn deleted_and_half_set_up_tenants_are_told_apart() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let url = format!("{}/subscriptions/list", client.root());
    let change = |body: &'static str| {
        let path = format!("tenants/{}", client.tenant);
        let emulator = emulator.clone();
        async move { control(&emulator, "PATCH", &path, body).await.expect_ok() }
    };
    change(r#"{"misconfigured":true}"#).await;
    assert_eq!(client.get(&url).await.code(), "AF20012");
    change(r#"{"misconfigured":false,"deleted":true}"#).await;
    assert_eq!(client.get(&url).await.code(), "AF20011");
    change(r#"{"deleted":false}"#).await;
    assert_eq!(client.get(&url).await.status, 200);
}

#[tokio::test]
async fn a_publisher_must_be_a_guid_and_may_be_missing() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let url = format!("{}/subscriptions/list", client.root());
    let with = |publisher: &str| format!("{url}?PublisherIdentifier={publisher}");
    let answer = client.send(Method::GET, &with("TEST365LOGS"), "", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20002"));
    assert_eq!(client.send(Method::GET, &url, "", &[]).await.status, 200);
}

#[tokio::test]
async fn the_quota_is_counted_per_tenant_and_anonymous_callers_share_one() {
    let limits = Limits { requests_per_minute: Some(3), ..Limits::default() };
    let emulator = emulator(WorldOptions { limits, ..small() });
    let tenants = emulator.world().tenant_ids();
    let (one, two) = (Client::new(&emulator, tenants[0]), Client::new(&emulator, tenants[1]));
    let list = |client: &Client| format!("{}/subscriptions/list", client.root());
    for _ in 0..3 {
        assert_eq!(one.get(&list(&one)).await.status, 200);
    }
    let answer = one.get(&list(&one)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "AF429"));
    let publisher = crate::client::PUBLISHER;
    assert_eq!(answer.message(), format!("Too many requests. Method=GetSubscriptions, PublisherId={publisher}"));
    assert_eq!(two.get(&list(&two)).await.status, 200, "another tenant has its own");
    for client in [&one, &two, &one] {
        assert_eq!(client.send(Method::GET, &list(client), "", &[]).await.status, 200);
    }
    let anonymous = two.send(Method::GET, &list(&two), "", &[]).await;
    assert!(anonymous.message().ends_with("PublisherId=00000000-0000-0000-0000-000000000000"));
    emulator.world().clock().advance(Duration::from_secs(60));
    assert_eq!(one.get(&list(&one)).await.status, 200, "a minute later there is room again");
}

#[tokio::test]
async fn wrong_paths_and_methods_are_no_server_errors() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    assert_eq!(client.get(&format!("{}/subscriptions/lists", client.root())).await.status, 404);
    assert_eq!(client.get(&format!("{}/subscriptions/start?contentType=DLP.All", client.root())).await.status, 405);
    assert_eq!(client.post(&format!("{}/subscriptions/list", client.root()), "").await.status, 405);
    assert_eq!(client.get("https://manage.office.com/api/v1.0/x").await.status, 404);
}

#[tokio::test]
async fn every_answer_has_the_headers_of_the_service_and_the_worlds_date() {
    let emulator = emulator_with(EmulatorOptions { world: small(), ..EmulatorOptions::default() });
    let client = Client::first(&emulator);
    let answer = client.get(&format!("{}/subscriptions/list", client.root())).await;
    assert_eq!(answer.header("server"), Some("Microsoft-IIS/10.0"));
    assert_eq!(answer.header("x-aspnet-version"), Some("4.0.30319"));
    let date = emulator.world().now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    assert_eq!(answer.header("date"), Some(date.as_str()));
    let again = client.get(&format!("{}/subscriptions/list", client.root())).await;
    assert_ne!(answer.header("mise-correlation-id"), again.header("mise-correlation-id"));
    assert!(answer.header("etag").is_none());
}

#[tokio::test]
async fn friendly_names_come_in_one_language() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let url = Client::with_publisher(&format!("{}/resources/dlpSensitiveTypes", client.root()));
    let in_language = async |language: &str| client.send(Method::GET, &url, "", &[("accept-language", language)]).await;
    let english = in_language("en-US").await.expect_ok().json();
    assert!(english.as_array().unwrap().iter().any(|entry| entry["name"] == "Credit Card Number"));
    assert_ne!(in_language("de-DE").await.expect_ok().json(), english);
    assert_eq!(in_language("en-US, de-DE").await.code(), "AF20053");
    assert_eq!(in_language("en_US").await.code(), "AF20054");
    assert_eq!(client.get(&format!("{}/resources/other", client.root())).await.status, 404);
}
