//! The life of a subscription: start, throttle, repetition, stop, phantom, and what can be read in between.

use std::time::Duration;

use chrono::TimeDelta;
use emulator::WorldOptions;
use emulator::world::{Limits, StartThrottleScope, TenantSpec};
use protocol::ids::{ClientId, ContentType};

use crate::client::{Client, KINDS, control, emulator, minutes, start};

fn small() -> WorldOptions {
    let limits = Limits { list_status_missing: 0.0, ..Limits::default() };
    WorldOptions { records_total: Some(200), tenants: 1, live_rate: 20.0, limits, ..WorldOptions::default() }
}

async fn listed(client: &Client) -> Vec<(String, String)> {
    let answer = client.get(&format!("{}/subscriptions/list", client.root())).await.expect_ok().json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    answer.as_array().unwrap().iter().map(|entry| (text(&entry["contentType"]), text(&entry["status"]))).collect()
}

#[tokio::test]
async fn a_start_enables_and_the_list_shows_it() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    assert_eq!(listed(&client).await, []);
    let answer = client.start("Audit.SharePoint").await.expect_ok().json();
    assert_eq!(answer, serde_json::json!({"contentType":"Audit.SharePoint","status":"enabled","webhook":null}));
    assert_eq!(listed(&client).await, [("Audit.SharePoint".to_owned(), "enabled".to_owned())]);
}

#[tokio::test]
async fn a_content_type_is_answered_as_it_was_spelt() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    client.start("audit.Sharepoint").await.expect_ok();
    assert_eq!(listed(&client).await[0].0, "audit.Sharepoint");
    let answer = client.start("Audit.Everything").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20020"));
    let answer = client.post(&format!("{}/subscriptions/start", client.root()), "").await;
    assert_eq!(answer.code(), "AF20001");
}

#[tokio::test]
async fn five_types_start_in_a_row_but_none_twice_within_fifteen_minutes() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    for kind in KINDS {
        client.start(kind).await.expect_ok();
    }
    emulator.world().clock().advance(Duration::from_secs(374));
    let answer = client.start("Audit.General").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "429"));
    let expected = "Too many frequent subscription start requests. Please retry again after 8m 46s.";
    assert_eq!(answer.message(), expected);
    emulator.world().clock().advance(Duration::from_millis(525_999));
    assert_eq!(client.start("Audit.General").await.status, 403);
    emulator.world().clock().advance(Duration::from_millis(1));
    let answer = client.start("Audit.General").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20024"));
    assert_eq!(answer.message(), "The subscription is already enabled. No property change.");
}

#[tokio::test]
async fn the_wait_can_be_for_the_whole_application() {
    let limits = Limits { start_scope: StartThrottleScope::Application, ..Limits::default() };
    let emulator = emulator(WorldOptions { limits, ..small() });
    let client = Client::first(&emulator);
    client.start("Audit.General").await.expect_ok();
    assert_eq!(client.start("Audit.Exchange").await.code(), "429");
    let mut other = Client::first(&emulator);
    other.client = ClientId::from_uuid(protocol_guid());
    other.start("Audit.Exchange").await.expect_ok();
}

fn protocol_guid() -> uuid::Uuid {
    "0b1d3c7e-1111-4222-8333-444455556666".parse().unwrap()
}

#[tokio::test]
async fn two_applications_do_not_see_each_others_subscriptions() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    client.start("Audit.General").await.expect_ok();
    let mut other = Client::first(&emulator);
    other.client = ClientId::from_uuid(protocol_guid());
    assert_eq!(listed(&other).await, []);
    let now = start();
    assert_eq!(other.list("Audit.General", now - TimeDelta::hours(1), now).await.code(), "AF20023");
}

#[tokio::test]
async fn what_was_never_started_or_was_stopped_cannot_be_listed() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let (from, until) = (start() - TimeDelta::hours(20), start());
    let answer = client.list("Audit.Exchange", from, until).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20023"));
    assert_eq!(answer.message(), "The subscription was disabled.");
    assert_eq!(client.stop("Audit.Exchange").await.code(), "AF20022");
    client.start("Audit.Exchange").await.expect_ok();
    let entries = client.list_all("Audit.Exchange", from, until).await;
    assert!(!entries.is_empty());
    let stopped = client.stop("Audit.Exchange").await.expect_ok();
    assert!(stopped.body.is_empty());
    assert_eq!(client.list("Audit.Exchange", from, until).await.code(), "AF20023");
    assert_eq!(client.get(entries[0]["contentUri"].as_str().unwrap()).await.code(), "AF20023");
}

#[tokio::test]
async fn content_of_a_stopped_time_never_comes_back() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let clock = emulator.world().clock();
    client.start("Audit.Exchange").await.expect_ok();
    clock.advance(minutes(120));
    client.stop("Audit.Exchange").await.expect_ok();
    let stopped = emulator.world().now();
    clock.advance(minutes(120));
    client.start("Audit.Exchange").await.expect_ok();
    let restarted = emulator.world().now();
    clock.advance(minutes(121));
    let created: Vec<_> = client
        .list_all("Audit.Exchange", start() - TimeDelta::hours(1), emulator.world().now())
        .await
        .iter()
        .map(|entry| entry["contentCreated"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap())
        .collect();
    assert!(created.iter().any(|at| *at < stopped) && created.iter().any(|at| *at >= restarted));
    assert!(!created.iter().any(|at| *at >= stopped && *at < restarted), "{created:?}");
    // The truth knows that nobody was told.
    let lost = emulator.world().contents().filter(|content| {
        content.content_type == ContentType::Exchange && content.created >= stopped && content.created < restarted
    });
    assert!(lost.map(|content| content.published).all(|published| !published));
}

#[tokio::test]
async fn a_start_right_after_a_stop_is_a_phantom_until_it_is_started_again() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    let clock = emulator.world().clock();
    client.start("Audit.General").await.expect_ok();
    clock.advance(minutes(16));
    client.stop("Audit.General").await.expect_ok();
    clock.advance(Duration::from_secs(899));
    let answer = client.start("Audit.General").await.expect_ok().json();
    assert_eq!(answer["status"], "enabled");
    assert_eq!(listed(&client).await, []);
    let now = emulator.world().now();
    assert_eq!(client.list("Audit.General", now - TimeDelta::hours(1), now).await.code(), "AF20023");
    clock.advance(minutes(15));
    client.start("Audit.General").await.expect_ok();
    assert_eq!(listed(&client).await, [("Audit.General".to_owned(), "enabled".to_owned())]);
}

#[tokio::test]
async fn fifteen_minutes_after_a_stop_a_start_is_real() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    client.start("Audit.General").await.expect_ok();
    client.stop("Audit.General").await.expect_ok();
    emulator.world().clock().advance(minutes(15));
    client.start("Audit.General").await.expect_ok();
    assert!(listed(&client).await.contains(&("Audit.General".to_owned(), "enabled".to_owned())));
}

#[tokio::test]
async fn the_real_service_lists_nothing_from_before_the_start() {
    let emulator = emulator(WorldOptions { history_before_subscription: false, ..small() });
    let client = Client::first(&emulator);
    assert_eq!(emulator.world().truth().contents, 0, "nobody has been told anything");
    client.start("Audit.Exchange").await.expect_ok();
    emulator.world().clock().advance(minutes(90));
    let entries =
        client.list_all("Audit.Exchange", start() - TimeDelta::hours(20), start() + TimeDelta::minutes(90)).await;
    assert!(!entries.is_empty());
    let began = start().format("%Y-%m-%dT%H:%M:%S").to_string();
    assert!(entries.iter().all(|entry| entry["contentCreated"].as_str().unwrap() >= began.as_str()));
    assert_eq!(emulator.world().truth().contents, entries.len() as u64);
}

#[tokio::test]
async fn auditing_that_is_off_looks_like_a_missing_tenant_with_a_stack_trace() {
    let spec = TenantSpec { auditing: false, ..TenantSpec::default() };
    let emulator = emulator(WorldOptions { specs: vec![spec], ..small() });
    let client = Client::first(&emulator);
    let answer = client.start("Audit.SharePoint").await;
    assert_eq!(answer.status, 400);
    let code = answer.code();
    assert!(code.starts_with("StartSubscription [CorrId=") && code.ends_with("][AppId"), "{code}");
    assert!(code.contains(",ContentType=Audit.SharePoint,"));
    let message = answer.message();
    assert!(message.contains(&format!("DataServiceException: Tenant {} does not exist.", client.tenant)), "{message}");
    let lost_first_letter = &client.client.to_string()[1..];
    assert!(message.starts_with(lost_first_letter), "{message}");
    emulator.world().set_auditing(client.tenant, true);
    emulator.world().clock().advance(minutes(15));
    client.start("Audit.SharePoint").await.expect_ok();
}

#[tokio::test]
async fn auditing_switched_off_ends_the_feed_and_what_happened_meanwhile_is_gone() {
    let emulator = emulator(WorldOptions { live_rate: 100.0, ..small() });
    let client = Client::first(&emulator);
    let clock = emulator.world().clock();
    client.start("Audit.Exchange").await.expect_ok();
    clock.advance(minutes(60));
    let off = emulator.world().now();
    control(&emulator, "PATCH", &format!("tenants/{}", client.tenant), r#"{"auditing":false}"#).await.expect_ok();
    clock.advance(minutes(120));
    let on = emulator.world().now();
    emulator.world().set_auditing(client.tenant, true);
    clock.advance(minutes(61));
    let entries = client.list_all("Audit.Exchange", start(), emulator.world().now()).await;
    let created = |entry: &serde_json::Value| {
        entry["contentCreated"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    };
    assert!(entries.iter().any(|entry| created(entry) < off) && entries.iter().any(|entry| created(entry) >= on));
    assert!(entries.iter().all(|entry| created(entry) < off || created(entry) >= on));
}

#[tokio::test]
async fn a_type_without_a_licence_answers_500() {
    let spec = TenantSpec { content_types: vec![ContentType::Exchange], ..TenantSpec::default() };
    let emulator = emulator(WorldOptions { specs: vec![spec], ..small() });
    let client = Client::first(&emulator);
    client.start("Audit.Exchange").await.expect_ok();
    let answer = client.start("DLP.All").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "AF50000"));
}

#[tokio::test]
async fn a_list_may_leave_out_a_status() {
    let limits = Limits { list_status_missing: 1.0, ..Limits::default() };
    let emulator = emulator(WorldOptions { limits, ..small() });
    let client = Client::first(&emulator);
    client.start("Audit.Exchange").await.expect_ok();
    assert_eq!(listed(&client).await, [("Audit.Exchange".to_owned(), "-".to_owned())]);
}
