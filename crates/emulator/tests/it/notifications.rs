//! Webhooks: validation, notifications, retries, disabling, expiry, and the list of attempts.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use emulator::webhook::{HookPolicy, HookPost, Outbound, PostFuture};
use emulator::world::{Duplicates, Lateness, Limits};
use emulator::{Emulator, EmulatorOptions, WorldOptions};
use serde_json::{Value, json};

use crate::client::{Client, control, emulator_with, minutes, start};

const KIND: &str = "Audit.Exchange";

/// An endpoint that answers as it is told, and remembers what it got.
#[derive(Default)]
struct Endpoint {
    posts: Mutex<Vec<HookPost>>,
    /// The next answers; 200 when there is none.
    answers: Mutex<Vec<Result<u16, String>>>,
}

impl Endpoint {
    fn taken(&self) -> Vec<HookPost> {
        std::mem::take(&mut self.posts.lock().unwrap())
    }

    fn will_answer(&self, answers: &[Result<u16, String>]) {
        *self.answers.lock().unwrap() = answers.to_vec();
    }
}

impl Outbound for Endpoint {
    fn post(&self, post: HookPost) -> PostFuture<'_> {
        self.posts.lock().unwrap().push(post);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.is_empty() { Ok(200) } else { answers.remove(0) };
        Box::pin(async move { answer })
    }
}

fn ready() -> (Emulator, Client, Arc<Endpoint>) {
    let endpoint = Arc::new(Endpoint::default());
    let world = WorldOptions {
        tenants: 1,
        records_total: Some(0),
        live_rate: 60.0,
        duplicates: Duplicates::none(),
        lateness: Lateness { share: 0.2, min: minutes(10), max: minutes(50), ..Lateness::default() },
        limits: Limits { start_wait: minutes(0), phantom_within: minutes(0), ..Limits::default() },
        ..WorldOptions::default()
    };
    let outbound: Arc<dyn Outbound> = Arc::clone(&endpoint) as _;
    let hooks = HookPolicy { batch: 7, retry_first: minutes(1), retry_longest: minutes(4), disable_after: 4 };
    let options = EmulatorOptions { world, outbound: Some(outbound), hooks, ..EmulatorOptions::default() };
    let emulator = emulator_with(options);
    let client = Client::first(&emulator);
    (emulator, client, endpoint)
}

async fn start_with(client: &Client, webhook: &Value) -> crate::client::Answer {
    let body = json!({ "webhook": webhook }).to_string();
    client.post(&format!("{}/subscriptions/start?contentType={KIND}", client.root()), &body).await
}

fn hook() -> Value {
    json!({"address":"https://hook.example/audit","authId":"s3cret","expiration":""})
}

fn ids(posts: &[HookPost]) -> Vec<String> {
    let elements = posts.iter().flat_map(|post| serde_json::from_str::<Vec<Value>>(&post.body).unwrap());
    elements.map(|element| element["contentId"].as_str().unwrap().to_owned()).collect()
}

async fn webhook_status(client: &Client) -> Value {
    let list = client.get(&format!("{}/subscriptions/list", client.root())).await.expect_ok().json();
    list[0]["webhook"]["status"].clone()
}

#[tokio::test]
async fn a_start_with_a_webhook_asks_the_endpoint_first() {
    let (_, client, endpoint) = ready();
    let answer = start_with(&client, &hook()).await.expect_ok().json();
    let expected = json!({"status":"enabled","address":"https://hook.example/audit","authId":"s3cret","expiration":""});
    assert_eq!(answer["webhook"], expected);
    let posts = endpoint.taken();
    assert_eq!(posts.len(), 1);
    let header = |name: &str| posts[0].headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.clone());
    assert_eq!(header("Content-Type").unwrap(), "application/json; charset=utf-8");
    assert_eq!(header("Webhook-AuthID").unwrap(), "s3cret");
    let body: Value = serde_json::from_str(&posts[0].body).unwrap();
    assert_eq!(body["validationCode"], header("Webhook-ValidationCode").unwrap());
}

#[tokio::test]
async fn anything_but_200_makes_no_subscription() {
    let (_, client, endpoint) = ready();
    for answer in [Ok(201), Ok(204), Ok(302), Ok(500), Err("The endpoint cannot be reached.".to_owned())] {
        endpoint.will_answer(&[answer]);
        let refused = start_with(&client, &hook()).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "AF20021"));
        assert!(refused.message().contains("https://hook.example/audit"));
    }
    let list = client.get(&format!("{}/subscriptions/list", client.root())).await.expect_ok();
    assert_eq!(list.text(), "[]");
}

#[tokio::test]
async fn a_failed_change_leaves_the_old_webhook() {
    let (_, client, endpoint) = ready();
    start_with(&client, &hook()).await.expect_ok();
    endpoint.will_answer(&[Ok(404)]);
    assert_eq!(start_with(&client, &json!({"address":"https://other.example/"})).await.code(), "AF20021");
    let list = client.get(&format!("{}/subscriptions/list", client.root())).await.expect_ok().json();
    assert_eq!(list[0]["webhook"]["address"], "https://hook.example/audit");
}

#[tokio::test]
async fn addresses_and_expirations_are_checked() {
    let (emulator, client, _) = ready();
    assert_eq!(start_with(&client, &json!({"address":"http://hook.example/"})).await.code(), "AF20021");
    assert_eq!(start_with(&client, &json!({"authId":"x"})).await.code(), "AF20001");
    let now = emulator.world().now();
    let until =
        |at: chrono::DateTime<chrono::Utc>| json!({"address":"https://h.example/","expiration":at.to_rfc3339()});
    assert_eq!(start_with(&client, &until(now)).await.code(), "AF20003");
    start_with(&client, &until(now + TimeDelta::milliseconds(1))).await.expect_ok();
    assert_eq!(
        start_with(&client, &json!({"address":"https://h.example/","expiration":"soon"})).await.code(),
        "AF20002"
    );
}

#[tokio::test]
async fn a_doubly_encoded_body_is_passed_over() {
    let (_, client, endpoint) = ready();
    let body = serde_json::to_string(&json!({ "webhook": hook() }).to_string()).unwrap();
    let url = format!("{}/subscriptions/start?contentType={KIND}", client.root());
    let answer = client.post(&url, &body).await.expect_ok().json();
    assert_eq!(answer["webhook"], Value::Null);
    assert!(endpoint.taken().is_empty());
}

#[tokio::test]
async fn a_repeated_start_changes_removes_or_is_refused_as_no_change() {
    let (_, client, _) = ready();
    start_with(&client, &hook()).await.expect_ok();
    assert_eq!(start_with(&client, &hook()).await.code(), "AF20024");
    let other = json!({"address":"https://other.example/","authId":"s3cret","expiration":""});
    assert_eq!(start_with(&client, &other).await.expect_ok().json()["webhook"]["address"], "https://other.example/");
    assert_eq!(start_with(&client, &Value::Null).await.expect_ok().json()["webhook"], Value::Null);
    assert_eq!(client.start(KIND).await.code(), "AF20024");
}

#[tokio::test]
async fn every_content_is_told_of_once_when_it_becomes_available() {
    let (emulator, client, endpoint) = ready();
    start_with(&client, &hook()).await.expect_ok();
    endpoint.taken();
    let mut told = Vec::new();
    for _ in 0..90 {
        emulator.world().clock().advance(minutes(2));
        emulator.notifier().deliver_due().await;
        let posts = endpoint.taken();
        for post in &posts {
            assert_eq!(post.headers[0], ("Content-Type", "application/json; utf-8".to_owned()));
            assert_eq!(post.headers[1], ("Webhook-AuthID", "s3cret".to_owned()));
            let elements: Vec<Value> = serde_json::from_str(&post.body).unwrap();
            assert!((1..=7).contains(&elements.len()));
            let names: Vec<&str> = elements[0].as_object().unwrap().keys().map(String::as_str).collect();
            let expected = [
                "clientId",
                "contentCreated",
                "contentExpiration",
                "contentId",
                "contentType",
                "contentUri",
                "tenantId",
            ];
            assert_eq!(names, expected);
        }
        told.extend(ids(&posts));
    }
    let listed = client.list_all(KIND, start(), emulator.world().now()).await;
    let mut listed: Vec<String> = listed.iter().map(|entry| entry["contentId"].as_str().unwrap().to_owned()).collect();
    assert!(listed.len() > 5);
    listed.sort();
    told.sort();
    assert_eq!(told, listed);
}

#[tokio::test]
async fn failures_are_retried_with_growing_gaps_until_the_webhook_is_disabled() {
    let (emulator, client, endpoint) = ready();
    start_with(&client, &hook()).await.expect_ok();
    endpoint.taken();
    endpoint.will_answer(&vec![Ok(503); 100]);
    emulator.world().clock().advance(minutes(40));
    emulator.notifier().deliver_due().await;
    let first = ids(&endpoint.taken());
    assert!(!first.is_empty());
    // The gaps are one, two and four minutes; half a minute earlier nothing is tried.
    for gap in [1, 2, 4] {
        emulator.world().clock().advance(minutes(gap) - std::time::Duration::from_millis(1));
        assert_eq!(emulator.notifier().deliver_due().await, 0, "before {gap} minutes have passed");
        emulator.world().clock().advance(std::time::Duration::from_millis(1));
        assert!(emulator.notifier().deliver_due().await > 0);
        let again = ids(&endpoint.taken());
        assert!(first.iter().all(|id| again.contains(id)), "{first:?} {again:?}");
    }
    assert_eq!(webhook_status(&client).await, "disabled");
    emulator.world().clock().advance(minutes(60));
    assert_eq!(emulator.notifier().deliver_due().await, 0);
    // Polling still works, and a start call revives the webhook.
    assert!(!client.list_all(KIND, start(), emulator.world().now()).await.is_empty());
    endpoint.will_answer(&[]);
    start_with(&client, &hook()).await.expect_ok();
    assert_eq!(webhook_status(&client).await, "enabled");
    emulator.world().clock().advance(minutes(60));
    assert!(emulator.notifier().deliver_due().await > 0);
}

#[tokio::test]
async fn an_expired_webhook_is_silent_and_content_goes_on() {
    let (emulator, client, endpoint) = ready();
    let until = (emulator.world().now() + TimeDelta::minutes(30)).to_rfc3339();
    start_with(&client, &json!({"address":"https://h.example/","expiration":until})).await.expect_ok();
    emulator.world().clock().advance(minutes(29));
    assert_eq!(webhook_status(&client).await, "enabled");
    emulator.world().clock().advance(minutes(1));
    assert_eq!(webhook_status(&client).await, "expired");
    endpoint.taken();
    emulator.world().clock().advance(minutes(60));
    emulator.notifier().deliver_due().await;
    assert!(endpoint.taken().is_empty());
    assert!(!client.list_all(KIND, start(), emulator.world().now()).await.is_empty());
}

#[tokio::test]
async fn a_webhook_can_vanish_while_its_subscription_stays() {
    let (emulator, client, endpoint) = ready();
    start_with(&client, &hook()).await.expect_ok();
    endpoint.taken();
    let path = format!("tenants/{}", client.tenant);
    control(&emulator, "PATCH", &path, r#"{"lose_webhooks":true}"#).await.expect_ok();
    let list = client.get(&format!("{}/subscriptions/list", client.root())).await.expect_ok().json();
    assert_eq!((&list[0]["webhook"], &list[0]["contentType"]), (&Value::Null, &json!(KIND)));
    emulator.world().clock().advance(minutes(60));
    assert_eq!(emulator.notifier().deliver_due().await, 0);
    start_with(&client, &hook()).await.expect_ok();
}

#[tokio::test]
async fn attempts_can_be_listed_with_their_outcome() {
    let (emulator, client, endpoint) = ready();
    let list = |client: &Client, until: chrono::DateTime<chrono::Utc>| {
        let (from, until) = (start().format("%Y-%m-%dT%H:%M:%S"), until.format("%Y-%m-%dT%H:%M:%S"));
        let url = format!("{}/subscriptions/notifications?contentType={KIND}", client.root());
        format!("{url}&startTime={from}&endTime={until}")
    };
    assert_eq!(client.get(&list(&client, start() + TimeDelta::hours(1))).await.code(), "AF20022");
    start_with(&client, &hook()).await.expect_ok();
    emulator.world().clock().advance(minutes(90));
    endpoint.will_answer(&[Ok(500)]);
    control(&emulator, "POST", "notifications", "").await.expect_ok();
    emulator.world().clock().advance(minutes(2));
    control(&emulator, "POST", "notifications", "").await.expect_ok();
    let attempts = client.get(&list(&client, emulator.world().now())).await.expect_ok().json();
    let statuses: Vec<&str> =
        attempts.as_array().unwrap().iter().map(|entry| entry["notificationStatus"].as_str().unwrap()).collect();
    assert!(statuses.contains(&"failed") && statuses.contains(&"success"), "{statuses:?}");
    assert!(attempts[0]["notificationSent"].as_str().unwrap().ends_with('Z'));
    client.stop(KIND).await.expect_ok();
    assert_eq!(client.get(&list(&client, emulator.world().now())).await.code(), "AF20023");
}
