//! The control API: what can be asked and changed while it runs.

use chrono::{DateTime, TimeDelta, Utc};
use emulator::WorldOptions;
use emulator::world::ContentTruth;
use serde_json::{Value, json};

use crate::client::{Client, KINDS, client_id, control, emulator, start};

fn small() -> WorldOptions {
    WorldOptions { records_total: Some(100), tenants: 2, ..WorldOptions::default() }
}

#[tokio::test]
async fn about_says_all_a_client_must_know() {
    let emulator = emulator(small());
    let about = control(&emulator, "GET", "about", "").await.expect_ok().json();
    assert_eq!(about["apps"][0]["client_id"], client_id().to_string());
    assert_eq!(about["apps"][0]["secrets"][0], emulator::DEFAULT_SECRET);
    assert_eq!(about["tenants"].as_array().unwrap().len(), 2);
    assert_eq!(about["tenants"][0]["id"], emulator.world().tenant_ids()[0].to_string());
    assert_eq!((&about["seed"], &about["clock"]["frozen"]), (&json!(1), &json!(true)));
}

#[tokio::test]
async fn the_clock_is_set_and_advanced_and_nonsense_changes_nothing() {
    let emulator = emulator(small());
    let now = |answer: Value| answer["now"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let advanced = control(&emulator, "PUT", "clock", r#"{"advance":"1h"}"#).await.expect_ok().json();
    assert_eq!(now(advanced), start() + TimeDelta::hours(1));
    let set = control(&emulator, "PUT", "clock", r#"{"now":"2026-06-01T00:00:00Z"}"#).await.expect_ok().json();
    assert_eq!(now(set), "2026-06-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
    for body in [r#"{"advance":"1"}"#, r#"{"now":"noon"}"#, r#"{"nwo":"x"}"#, "", r#"{"speed":-1}"#] {
        assert_eq!(control(&emulator, "PUT", "clock", body).await.status, 400, "{body}");
    }
    let got = control(&emulator, "GET", "clock", "").await.expect_ok().json();
    assert_eq!(now(got), "2026-06-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
}

#[tokio::test]
async fn a_tenant_that_is_added_has_its_own_feed() {
    let emulator = emulator(small());
    let body = json!({"name":"Neu GmbH","seats":50,"history_records":80,"consented":false}).to_string();
    let made = control(&emulator, "POST", "tenants", &body).await;
    assert_eq!(made.status, 201);
    let id = made.json()["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(made.json()["domain"], "neugmbh.onmicrosoft.com");
    let client = Client::new(&emulator, id);
    for kind in KINDS {
        client.start(kind).await.expect_ok();
    }
    let (read, _) = client.read_everything(TimeDelta::hours(24)).await;
    assert!(read.len() > 60 && read.len() <= 81, "{}", read.len());
    let again = json!({"id":id}).to_string();
    assert_eq!(control(&emulator, "POST", "tenants", &again).await.status, 409);
}

#[tokio::test]
async fn consent_is_given_and_taken_back_for_one_application() {
    use emulator::entra::Directory as _;
    let emulator = emulator(small());
    let tenant = emulator.world().tenant_ids()[0];
    let roles = || emulator.world().service_principal(tenant, client_id()).map(|principal| principal.roles);
    assert_eq!(roles().unwrap(), ["ActivityFeed.Read", "ActivityFeed.ReadDlp"]);
    let change = |body: Value| {
        let (emulator, path) = (emulator.clone(), format!("tenants/{tenant}"));
        async move { control(&emulator, "PATCH", &path, &body.to_string()).await }
    };
    change(json!({"client_id":client_id(),"roles":["ActivityFeed.Read"]})).await.expect_ok();
    assert_eq!(roles().unwrap(), ["ActivityFeed.Read"]);
    change(json!({"client_id":client_id(),"consented":false})).await.expect_ok();
    assert_eq!(roles(), None);
    assert_eq!(change(json!({"roles":[]})).await.status, 400);
    assert_eq!(change(json!({"rolls":[]})).await.status, 400);
    assert_eq!(control(&emulator, "PATCH", "tenants/nobody", "{}").await.status, 404);
}

#[tokio::test]
async fn applications_are_registered_while_it_runs() {
    let emulator = emulator(small());
    let id = "7d3c1d1c-54a5-4b62-a9a6-2c8d8f8ab001";
    let body = json!({"client_id":id,"secrets":["one","two"],"redirect_uris":["https://app.example/cb"]}).to_string();
    assert_eq!(control(&emulator, "POST", "apps", &body).await.status, 201);
    let app = emulator.apps().app(id.parse().unwrap()).unwrap();
    assert_eq!((app.secrets.len(), app.redirect_uris.len()), (2, 1));
    let bad = json!({"client_id":id,"certificates":["no pem"]}).to_string();
    assert_eq!(control(&emulator, "POST", "apps", &bad).await.status, 400);
}

#[tokio::test]
async fn truth_can_be_asked_for_one_tenant_and_one_type() {
    let emulator = emulator(small());
    let tenant = emulator.world().tenant_ids()[1];
    let one = control(&emulator, "GET", &format!("truth?tenant={tenant}"), "").await.expect_ok().text();
    let expected: Vec<ContentTruth> = emulator.world().contents().filter(|content| content.tenant == tenant).collect();
    assert_eq!(one.lines().count(), expected.len());
    let first: Value = serde_json::from_str(one.lines().next().unwrap()).unwrap();
    assert_eq!((&first["content_id"], &first["published"]), (&json!(expected[0].content_id), &json!(true)));
    let path = format!("truth/records?tenant={tenant}&content_type=Audit.Exchange");
    let records = control(&emulator, "GET", &path, "").await.expect_ok().text();
    let feeds = emulator.world().truth().feeds;
    let feed =
        feeds.iter().find(|feed| feed.tenant == tenant && feed.content_type.as_str() == "Audit.Exchange").unwrap();
    assert_eq!(records.lines().count() as u64, feed.records);
    assert_eq!(control(&emulator, "GET", "truth?tenant=x", "").await.status, 400);
    assert_eq!(control(&emulator, "GET", "truth/records?set=all", "").await.status, 400);
}

#[tokio::test]
async fn requests_are_counted_until_they_are_cleared() {
    let emulator = emulator(small());
    let client = Client::first(&emulator);
    for kind in ["Audit.General", "Audit.Exchange"] {
        client.start(kind).await.expect_ok();
    }
    let counts = emulator.requests();
    assert_eq!(counts.len(), 1);
    assert_eq!((counts[0].operation, counts[0].status, counts[0].count), ("start", 200, 2));
    control(&emulator, "DELETE", "requests", "").await.expect_ok();
    assert!(emulator.requests().is_empty());
}
