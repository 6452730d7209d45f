//! What goes over the wire for each operation.

use http::Method;
use protocol::activity::{
    Feed, Language, StartWebhook, WebhookSettings, Window, list_content, list_content_next, list_notifications,
    list_subscriptions, parse_list_content, resource_friendly_names, retrieve_content, start_subscription,
    stop_subscription,
};
use protocol::cloud::{Cloud, CloudName, CustomCloud, UrlRefused};
use protocol::ids::{ContentType, ContentUri};
use protocol::request::{Auth, Request};
use protocol::response::Response;
use protocol::secret::WebhookAuthId;
use protocol::time::parse_timestamp;

use crate::activity::{feed, tenant};

const ROOT: &str = "https://manage.office.com/api/v1.0/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/activity/feed";
const PUBLISHER: &str = "PublisherIdentifier=46b472a7-c68e-4adf-8ade-3db49497518e";

fn window() -> Window {
    let at = |text| parse_timestamp(text).unwrap();
    Window::new(at("2026-03-04T05:00:00Z"), at("2026-03-04T06:00:00Z")).unwrap()
}

#[track_caller]
fn check(request: &Request, method: Method, url: &str) {
    assert_eq!(request.method(), method);
    assert_eq!(request.url().as_str(), url);
    assert_eq!(request.auth(), Auth::Bearer);
    assert_eq!(request.headers()["accept"], "application/json");
    assert!(!request.headers().contains_key("authorization"));
}

#[test]
fn every_operation_goes_where_the_reference_says_and_names_the_publisher() {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let feed = feed(&cloud);
    let kind = ContentType::SharePoint;
    let times = "startTime=2026-03-04T05:00:00&endTime=2026-03-04T06:00:00";
    let start = start_subscription(&feed, &kind, &StartWebhook::Unmentioned);
    check(&start, Method::POST, &format!("{ROOT}/subscriptions/start?contentType=Audit.SharePoint&{PUBLISHER}"));
    assert_eq!(start.headers()["content-length"], "0");
    assert!(start.body().is_empty());
    let stop = stop_subscription(&feed, &kind);
    check(&stop, Method::POST, &format!("{ROOT}/subscriptions/stop?contentType=Audit.SharePoint&{PUBLISHER}"));
    assert_eq!(stop.headers()["content-length"], "0");
    check(&list_subscriptions(&feed), Method::GET, &format!("{ROOT}/subscriptions/list?{PUBLISHER}"));
    check(
        &list_content(&feed, &kind, window()),
        Method::GET,
        &format!("{ROOT}/subscriptions/content?contentType=Audit.SharePoint&{times}&{PUBLISHER}"),
    );
    check(
        &list_notifications(&feed, &kind, window()),
        Method::GET,
        &format!("{ROOT}/subscriptions/notifications?contentType=Audit.SharePoint&{times}&{PUBLISHER}"),
    );
    let names = resource_friendly_names(&feed, Some(&"en-US".parse().unwrap()));
    check(&names, Method::GET, &format!("{ROOT}/resources/dlpSensitiveTypes?{PUBLISHER}"));
    assert_eq!(names.headers()["accept-language"], "en-US");
    assert!(!resource_friendly_names(&feed, None).headers().contains_key("accept-language"));
}

#[test]
fn a_custom_cloud_behind_a_path_is_spoken_to_there() {
    let root = "https://proxy.example/microsoft/".to_owned();
    let cloud =
        Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None }).unwrap();
    let url = list_subscriptions(&feed(&cloud)).url().to_string();
    let expected = "https://proxy.example/microsoft/api/v1.0/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/activity/feed";
    assert_eq!(url, format!("{expected}/subscriptions/list?{PUBLISHER}"));
}

#[test]
fn a_start_sets_and_removes_a_webhook_by_its_body() {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let body = |webhook: &StartWebhook| {
        let request = start_subscription(&feed(&cloud), &ContentType::Exchange, webhook);
        assert_eq!(request.headers()["content-type"], "application/json; charset=utf-8");
        serde_json::from_slice::<serde_json::Value>(request.body()).unwrap()
    };
    assert_eq!(body(&StartWebhook::Remove), serde_json::json!({ "webhook": null }));
    let mut settings = WebhookSettings {
        address: "https://audit.example.com/webhook/x".parse().unwrap(),
        auth_id: WebhookAuthId::new("opaque"),
        expiration: None,
    };
    let expected = |expiration: &str| {
        let address = "https://audit.example.com/webhook/x";
        serde_json::json!({ "webhook": { "address": address, "authId": "opaque", "expiration": expiration } })
    };
    assert_eq!(body(&StartWebhook::Set(settings.clone())), expected(""));
    settings.expiration = parse_timestamp("2026-04-01T00:00:00Z");
    assert_eq!(body(&StartWebhook::Set(settings)), expected("2026-04-01T00:00:00Z"));
}

#[test]
fn a_blob_is_asked_for_by_its_uri_as_listed_plus_the_publisher() {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let listed = format!("{ROOT}/audit/20260304$20260304%24x$audit_sharepoint$Audit_SharePoint$emea0036");
    let uri: ContentUri = listed.parse().unwrap();
    check(&retrieve_content(&feed(&cloud), &uri).unwrap(), Method::GET, &format!("{listed}?{PUBLISHER}"));
    let foreign: ContentUri = listed.replace("manage.office.com", "evil.example").parse().unwrap();
    assert!(matches!(retrieve_content(&feed(&cloud), &foreign), Err(UrlRefused::ForeignOrigin { .. })));
}

fn next_of(feed: &Feed<'_>, header: &str) -> Result<Request, UrlRefused> {
    let mut headers = http::HeaderMap::new();
    headers.insert("NextPageUri", header.parse().unwrap());
    let response = Response::new(http::StatusCode::OK, &headers, b"[]");
    let page = parse_list_content(feed, &ContentType::SharePoint, &response).unwrap();
    list_content_next(feed, &page.next.unwrap())
}

#[test]
fn the_next_page_is_followed_verbatim_and_on_this_tenants_feed_only() {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let feed = feed(&cloud);
    let root = ROOT.replace("v1.0", "v1");
    let bare = format!("{root}/subscriptions/content?contentType=Audit.SharePoint&nextPage=20$15%3D&startTime=x");
    check(&next_of(&feed, &bare).unwrap(), Method::GET, &format!("{bare}&{PUBLISHER}"));
    let named = format!("{root}/subscriptions/content?PublisherIdentifier=other&nextPage=2");
    check(&next_of(&feed, &named).unwrap(), Method::GET, &named);
    let other_tenant = bare.replace(&tenant().to_string(), "00000000-0000-4000-8000-00000000000b");
    assert!(matches!(next_of(&feed, &other_tenant), Err(UrlRefused::ForeignPath { .. })));
    assert!(matches!(next_of(&feed, "http://manage.office.com/x"), Err(UrlRefused::ForeignOrigin { .. })));
    assert_eq!(next_of(&feed, "not a uri").unwrap_err(), UrlRefused::Unreadable);
}

#[test]
fn a_language_is_exactly_one_tag() {
    for text in ["en", "en-US", "zh-Hans-CN"] {
        assert!(text.parse::<Language>().is_ok(), "{text}");
    }
    for text in ["", "en,de", "en-US;q=0.5", "*", "en_US", "abcdefghi", "-en", "en-"] {
        assert!(text.parse::<Language>().is_err(), "{text}");
    }
}
