//! Listing and reading content: pages, partial blobs, ids, expiry, compression, and one blob that is large.

use std::io::Read as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use emulator::WorldOptions;
use emulator::world::{BlobSizes, Duplicates, Lateness, Limits};
use http::Method;
use serde_json::Value;

use crate::client::{Client, emulator, minutes, start};

const KIND: &str = "Audit.Exchange";

fn calm() -> WorldOptions {
    WorldOptions {
        records_total: Some(600),
        tenants: 1,
        duplicates: Duplicates::none(),
        lateness: Lateness { share: 0.0, ..Lateness::default() },
        ..WorldOptions::default()
    }
}

async fn subscribed(options: WorldOptions) -> Client {
    let client = Client::first(&emulator(options));
    client.start(KIND).await.expect_ok();
    client
}

fn day() -> (DateTime<Utc>, DateTime<Utc>) {
    (start() - TimeDelta::hours(24), start())
}

fn created(entry: &Value) -> DateTime<Utc> {
    entry["contentCreated"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_entry_has_the_five_members_and_they_fit_together() {
    let client = subscribed(calm()).await;
    let entries = client.list_all(KIND, day().0, day().1).await;
    let entry = entries[0].as_object().unwrap();
    let names: Vec<&str> = entry.keys().map(String::as_str).collect();
    assert_eq!(names, ["contentCreated", "contentExpiration", "contentId", "contentType", "contentUri"]);
    let id = entry["contentId"].as_str().unwrap();
    let parts: Vec<&str> = id.split('$').collect();
    assert_eq!((parts[0].len(), parts[1].len(), parts[2], parts[3]), (23, 23, "audit_exchange", "Audit_Exchange"));
    assert_eq!(entry["contentUri"], format!("{}/audit/{id}", client.root()));
    let expires: DateTime<Utc> = entry["contentExpiration"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires - created(&entries[0]), TimeDelta::days(7));
    assert_eq!(entry["contentCreated"].as_str().unwrap().len(), "2017-10-13T18:00:51.748Z".len());
}

#[tokio::test]
async fn urls_name_the_host_the_request_named() {
    let client = subscribed(calm()).await;
    let token = client.token();
    let path = client.list_url(KIND, day().0, day().1).replace("https://manage.office.com", "");
    let request = http::Request::get(path)
        .header("host", "127.0.0.1:7000")
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = crate::client::call(&client.emulator, request).await.expect_ok().json();
    let uri = answer[0]["contentUri"].as_str().unwrap();
    assert!(uri.starts_with("http://127.0.0.1:7000/api/v1.0/"), "{uri}");
}

#[tokio::test]
async fn pages_give_every_entry_once_and_the_alias_leads_to_the_next() {
    let whole = subscribed(calm()).await.list_all(KIND, day().0, day().1).await;
    let limits = Limits { page_size: 4, ..Limits::default() };
    let client = subscribed(WorldOptions { limits, ..calm() }).await;
    let first = client.list(KIND, day().0, day().1).await.expect_ok();
    assert_eq!(first.json().as_array().unwrap().len(), 4);
    let next = first.header("NextPageUri").unwrap();
    assert!(
        next.contains("/api/v1/") && next.contains("&nextPage=") && !next.contains("PublisherIdentifier"),
        "{next}"
    );
    assert!(next.contains(&format!("startTime={}", day().0.format("%Y-%m-%dT%H:%M:%S"))));
    assert_eq!(client.list_all(KIND, day().0, day().1).await, whole);
}

#[tokio::test]
async fn the_page_size_is_the_limit_and_not_one_less() {
    let count = subscribed(calm()).await.list_all(KIND, day().0, day().1).await.len();
    for (size, has_next) in [(count, false), (count - 1, true)] {
        let limits = Limits { page_size: size, ..Limits::default() };
        let client = subscribed(WorldOptions { limits, ..calm() }).await;
        let answer = client.list(KIND, day().0, day().1).await.expect_ok();
        assert_eq!(answer.header("NextPageUri").is_some(), has_next, "{size} of {count}");
    }
}

#[tokio::test]
async fn a_page_token_dies_after_its_time_and_cannot_be_made_up() {
    let limits = Limits { page_size: 4, ..Limits::default() };
    let client = subscribed(WorldOptions { limits, ..calm() }).await;
    let first = client.list(KIND, day().0, day().1).await.expect_ok();
    let next = first.header("NextPageUri").unwrap().to_owned();
    client.emulator.world().clock().advance(Duration::from_millis(10 * 60_000 - 1));
    client.get(&next).await.expect_ok();
    client.emulator.world().clock().advance(Duration::from_millis(1));
    let answer = client.get(&next).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20031"));
    assert_eq!(client.get(&format!("{next}x")).await.code(), "AF20031");
    assert_eq!(client.get(&next.replace("Exchange", "General")).await.code(), "AF20031");
}

#[tokio::test]
async fn content_that_comes_between_two_pages_does_not_shift_them() {
    let limits = Limits { page_size: 4, ..Limits::default() };
    let lateness = Lateness { share: 0.5, min: Duration::from_secs(1), max: minutes(20 * 60), ..Lateness::default() };
    let client = subscribed(WorldOptions { limits, lateness, ..calm() }).await;
    let (from, until) = day();
    let before = client.list_all(KIND, from, until).await;
    let first = client.list(KIND, from, until).await.expect_ok();
    client.emulator.world().clock().advance(minutes(9));
    let mut entries = first.json().as_array().unwrap().clone();
    let mut next = first.header("NextPageUri").map(str::to_owned);
    while let Some(page) = next {
        let answer = client.get(&page).await.expect_ok();
        entries.extend(answer.json().as_array().unwrap().iter().cloned());
        next = answer.header("NextPageUri").map(str::to_owned);
    }
    assert_eq!(entries, before);
    client.emulator.world().clock().advance(minutes(20 * 60));
    assert!(client.list_all(KIND, from, until).await.len() > before.len(), "a window listed before gains entries");
}

#[tokio::test]
async fn a_window_is_half_open_on_creation() {
    let blobs = BlobSizes { aggregated: 0.0, ..BlobSizes::default() };
    let client = subscribed(WorldOptions { blobs, ..calm() }).await;
    let entries = client.list_all(KIND, day().0, day().1).await;
    // Queries have whole seconds: around the second an entry was created in, it is in exactly one of two windows.
    let second = created(&entries[3]);
    let second = second - TimeDelta::milliseconds(i64::from(second.timestamp_subsec_millis()));
    let has = |list: &[Value]| list.contains(&entries[3]);
    let before = client.list_all(KIND, second - TimeDelta::hours(1), second).await;
    let from_then = client.list_all(KIND, second, second + TimeDelta::hours(1)).await;
    let after = client.list_all(KIND, second + TimeDelta::seconds(1), second + TimeDelta::hours(1)).await;
    assert!(!has(&before) && has(&from_then) && !has(&after));
}

#[tokio::test]
async fn a_start_inside_an_aggregated_blob_gives_a_part_of_it_under_another_id() {
    let blobs = BlobSizes { aggregated: 1.0, ..BlobSizes::default() };
    let client = subscribed(WorldOptions { blobs, records_total: Some(4000), ..calm() }).await;
    let (from, until) = day();
    let entries = client.list_all(KIND, from, until).await;
    let stamp =
        |entry: &Value, part: usize| entry["contentId"].as_str().unwrap().split('$').nth(part).unwrap().to_owned();
    let spans = |entry: &Value| stamp(entry, 0)[..14] != stamp(entry, 1)[..14];
    let whole = entries.iter().find(|entry| spans(entry) && created(entry) > from + TimeDelta::hours(1)).unwrap();
    let all = client.records(whole["contentUri"].as_str().unwrap()).await;
    // From the second of its last piece on, only that piece is left.
    let second = created(whole).timestamp();
    let cut = DateTime::from_timestamp(second, 0).unwrap();
    let later = client.list_all(KIND, cut, until).await;
    assert!(!later.contains(whole));
    let part = later.iter().find(|entry| stamp(entry, 1) == stamp(whole, 1)).unwrap();
    assert_ne!(part["contentId"], whole["contentId"]);
    let right = client.records(part["contentUri"].as_str().unwrap()).await;
    assert!(!right.is_empty() && right.len() < all.len());
    // And the window before it gets the rest: tiles lose nothing.
    let earlier = client.list_all(KIND, from, cut).await;
    let rest = earlier.iter().find(|entry| stamp(entry, 0) == stamp(whole, 0)).unwrap();
    let left = client.records(rest["contentUri"].as_str().unwrap()).await;
    assert_eq!([left, right].concat(), all);
}

#[tokio::test]
async fn content_is_readable_until_the_millisecond_it_expires() {
    let client = subscribed(calm()).await;
    let entry = client.list_all(KIND, day().0, day().1).await[0].clone();
    let uri = entry["contentUri"].as_str().unwrap();
    let expires: DateTime<Utc> = entry["contentExpiration"].as_str().unwrap().parse().unwrap();
    client.emulator.world().clock().set(expires - TimeDelta::milliseconds(1));
    client.get(uri).await.expect_ok();
    client.emulator.world().clock().set(expires);
    let answer = client.get(uri).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20051"));
}

#[tokio::test]
async fn ids_that_lead_nowhere_are_told_apart() {
    let client = subscribed(calm()).await;
    let entry = client.list_all(KIND, day().0, day().1).await[0].clone();
    let uri = entry["contentUri"].as_str().unwrap();
    let id = entry["contentId"].as_str().unwrap();
    let mut unknown = id.to_owned();
    unknown.replace_range(20..23, if &id[20..23] == "000" { "001" } else { "000" });
    let answer = client.get(&uri.replace(id, &unknown)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "AF20050"));
    for mangled in ["x", &id.replace('$', "%2524"), &format!("{id}x")] {
        let answer = client.get(&uri.replace(id, mangled)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "AF20052"), "{mangled}");
        assert!(answer.message().starts_with("Blob key "));
    }
    client.get(&uri.replace('$', "%24")).await.expect_ok();
}

#[tokio::test]
async fn a_blob_comes_compressed_when_the_client_takes_it() {
    let client = subscribed(calm()).await;
    let entry = client.list_all(KIND, day().0, day().1).await[0].clone();
    let uri = Client::with_publisher(entry["contentUri"].as_str().unwrap());
    let plain = client.send(Method::GET, &uri, "", &[]).await.expect_ok();
    assert!(plain.header("content-encoding").is_none());
    for _ in 0..2 {
        let packed = client.send(Method::GET, &uri, "", &[("accept-encoding", "gzip, deflate")]).await.expect_ok();
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, plain.body);
    }
}

#[tokio::test]
async fn without_the_dlp_permission_detected_values_are_withheld() {
    let mut client = Client::first(&emulator(WorldOptions { records_total: Some(3000), ..calm() }));
    client.start("DLP.All").await.expect_ok();
    let (from, until) = day();
    let entries = client.list_all("DLP.All", from, until).await;
    let uri = entries[0]["contentUri"].as_str().unwrap().to_owned();
    let full = client.get(&uri).await.expect_ok().text();
    client.roles = vec!["ActivityFeed.Read"];
    let bare = client.get(&uri).await.expect_ok().text();
    assert!(full.contains("DetectedValues") && full.contains("\"SensitiveInfoDetectionIsIncluded\":true"));
    assert!(!bare.contains("DetectedValues") && bare.contains("\"SensitiveInfoDetectionIsIncluded\":false"));
}

#[tokio::test]
async fn a_huge_blob_is_one_array_of_about_the_size_asked_for() {
    let options = WorldOptions { huge_blob: Some(3 << 20), records_total: Some(100), ..calm() };
    let client = Client::first(&emulator(options));
    client.start("Audit.General").await.expect_ok();
    let entries = client.list_all("Audit.General", day().0, day().1).await;
    let mut largest = (0, 0);
    for entry in &entries {
        let records = client.records(entry["contentUri"].as_str().unwrap()).await;
        let bytes: usize = records.iter().map(|record| record.len() + 1).sum();
        largest = largest.max((bytes, records.len()));
    }
    assert!(largest.0 >= 3 << 20 && largest.0 < 4 << 20, "{largest:?}");
    assert!(largest.1 > 1500, "it is streamed");
}

#[tokio::test]
async fn omitted_times_mean_the_last_day() {
    let client = subscribed(calm()).await;
    let url = format!("{}/subscriptions/content?contentType={KIND}", client.root());
    let answer = client.get(&url).await.expect_ok().json();
    assert_eq!(answer.as_array().unwrap(), &client.list_all(KIND, day().0, day().1).await);
}

#[tokio::test]
async fn a_window_may_begin_seven_days_and_an_hour_back() {
    let client = subscribed(calm()).await;
    let edge = start() - TimeDelta::days(7) - TimeDelta::hours(1);
    client.list(KIND, edge, edge + TimeDelta::hours(1)).await.expect_ok();
    let before = edge - TimeDelta::seconds(1);
    assert_eq!(client.list(KIND, before, before + TimeDelta::hours(1)).await.code(), "AF20055");
}
