//! Each thing that can go wrong, as a client sees it.

use chrono::TimeDelta;
use emulator::faults::FaultPlan;
use emulator::{Emulator, WorldOptions};
use serde_json::Value;

use crate::client::{Answer, Client, control, emulator, start};

const KIND: &str = "Audit.Exchange";

async fn ready() -> (Emulator, Client) {
    let emulator = emulator(WorldOptions { records_total: Some(1500), tenants: 1, ..WorldOptions::default() });
    let client = Client::first(&emulator);
    client.start(KIND).await.expect_ok();
    (emulator, client)
}

/// The entries of a day that can be read whole, before anything is broken.
async fn entries(client: &Client) -> Vec<Value> {
    client.list_all(KIND, start() - TimeDelta::hours(24), start()).await
}

async fn under(plan: &str) -> (Client, Answer, Answer) {
    let (emulator, client) = ready().await;
    let uri = entries(&client).await[0]["contentUri"].as_str().unwrap().to_owned();
    emulator.world().set_faults(FaultPlan::parse(&format!("[[rule]]\nevery = 1\n{plan}")).unwrap());
    let listing = client.list(KIND, start() - TimeDelta::hours(24), start()).await;
    let blob = client.get(&uri).await;
    (client, listing, blob)
}

#[tokio::test]
async fn throttling_has_each_of_its_forms() {
    let (_, listing, blob) = under("effect = \"throttle\"").await;
    assert_eq!((listing.status.as_u16(), listing.code().as_str()), (403, "AF429"));
    assert!(listing.message().starts_with("Too many requests. Method=GetContents, PublisherId="));
    assert!(blob.message().contains("Method=GetBlob"));
    let (_, listing, _) = under("effect = \"throttle\"\nstatus = 429\nretry_after = \"30s\"").await;
    assert_eq!((listing.status.as_u16(), listing.header("retry-after")), (429, Some("30")));
    let (_, listing, _) = under("effect = \"throttle\"\nsingle_quotes = true").await;
    assert!(listing.text().starts_with("{'error':{'code':'AF429','message':'Too many"), "{}", listing.text());
}

#[tokio::test]
async fn server_errors_have_each_of_their_bodies() {
    let (_, listing, _) = under("effect = \"server_error\"\nstatus = 503").await;
    assert_eq!(listing.status, 503);
    assert!(listing.text().contains("<h2>Service Unavailable</h2>"));
    let (_, listing, _) = under("effect = \"server_error\"\nstatus = 500\nbody = \"envelope\"").await;
    assert_eq!(listing.code(), "AF50000");
    let (_, listing, _) = under("effect = \"server_error\"\nstatus = 502\nbody = \"empty\"").await;
    assert_eq!((listing.status.as_u16(), listing.body.len()), (502, 0));
}

#[tokio::test]
async fn a_good_token_can_be_refused_in_each_of_three_ways() {
    let (_, listing, _) = under("effect = \"unauthorized\"").await;
    assert_eq!((listing.status.as_u16(), listing.body.len()), (401, 0));
    let (_, listing, _) = under("effect = \"unauthorized\"\nbody = \"message\"").await;
    assert!(listing.text().starts_with("{\"Message\":"));
    let (_, listing, _) = under("effect = \"unauthorized\"\nbody = \"envelope\"").await;
    assert_eq!((listing.status.as_u16(), listing.code().as_str()), (401, "AF10001"));
    assert!(listing.message().contains("set () sent"));
}

#[tokio::test]
async fn connections_break_before_and_in_the_middle_of_answers() {
    for effect in ["reset", "close", "lost_answer"] {
        let (_, listing, blob) = under(&format!("effect = \"{effect}\"")).await;
        assert!(listing.cut && listing.broken && blob.cut, "{effect}");
    }
    let (client, listing, blob) = under("effect = \"truncate\"\nshare = 0.5").await;
    assert!(listing.status == 200 && listing.broken && blob.broken);
    client.emulator.world().set_faults(FaultPlan::default());
    let whole = client.list(KIND, start() - TimeDelta::hours(24), start()).await.expect_ok();
    assert_eq!(listing.body, whole.body[..whole.body.len() / 2]);
    let (_, clean, _) = under("effect = \"truncate\"\nshare = 0.5\nclean = true").await;
    assert!(clean.status == 200 && !clean.broken && !clean.cut);
    assert_eq!(clean.body, listing.body);
}

#[tokio::test]
async fn a_lost_answer_was_carried_out() {
    let (emulator, client) = ready().await;
    let plan = "[[rule]]\nfirst = 1\neffect = \"lost_answer\"\noperations = [\"start\"]";
    emulator.world().set_faults(FaultPlan::parse(plan).unwrap());
    assert!(client.start("Audit.General").await.cut);
    let listed = client.get(&format!("{}/subscriptions/list", client.root())).await.expect_ok().json();
    assert!(listed.as_array().unwrap().iter().any(|entry| entry["contentType"] == "Audit.General"));
    assert_eq!(client.start("Audit.General").await.code(), "429");
}

#[tokio::test]
async fn successes_can_be_none() {
    let (_, listing, blob) = under("effect = \"error_as_success\"").await;
    assert_eq!((listing.status.as_u16(), listing.code().as_str(), blob.code().as_str()), (200, "AF50000", "AF50000"));
    let (_, listing, _) = under("effect = \"empty_success\"").await;
    assert_eq!((listing.status.as_u16(), listing.body.len()), (200, 0));
    let (_, listing, blob) = under("effect = \"null_uri\"").await;
    assert_eq!(listing.json()[0]["contentUri"], Value::Null);
    assert!(listing.json()[1]["contentUri"].is_string() && listing.json()[0]["contentId"].is_string());
    blob.expect_ok();
    let (_, listing, blob) = under("effect = \"byte_order_mark\"").await;
    assert!(listing.body.starts_with(b"\xef\xbb\xbf[") && blob.body.starts_with(b"\xef\xbb\xbf["));
}

#[tokio::test]
async fn an_empty_page_leads_to_the_full_one() {
    let (emulator, client) = ready().await;
    let whole = entries(&client).await;
    emulator.world().set_faults(FaultPlan::parse("[[rule]]\nfirst = 1\neffect = \"empty_page\"").unwrap());
    let first = client.list(KIND, start() - TimeDelta::hours(24), start()).await.expect_ok();
    assert_eq!(first.text(), "[]");
    let next = client.get(first.header("NextPageUri").unwrap()).await.expect_ok();
    assert_eq!(next.json().as_array().unwrap(), &whole);
    assert!(next.header("NextPageUri").is_none());
}

#[tokio::test]
async fn slow_bodies_and_delays_change_no_byte() {
    tokio::time::pause();
    let (_, slow, _) = under("effect = \"slow\"\nbytes_per_second = 5000").await;
    let (_, late, _) = under("effect = \"delay\"\nby = \"90s\"").await;
    let (client, ..) = under("effect = \"byte_order_mark\"").await;
    client.emulator.world().set_faults(FaultPlan::default());
    let plain = client.list(KIND, start() - TimeDelta::hours(24), start()).await.expect_ok();
    assert_eq!(slow.expect_ok().body, plain.body);
    assert_eq!(late.expect_ok().body, plain.body);
}

#[tokio::test]
async fn poison_blobs_never_work_and_the_truth_sets_them_apart() {
    for (form, broken) in
        [("server_error", 500), ("not_found", 404), ("truncated", 200), ("reset", 502), ("invalid_id", 400)]
    {
        let (emulator, client) = ready().await;
        let entries = entries(&client).await;
        let before = emulator.world().truth();
        let plan = format!("seed = 2\n[[rule]]\nprobability = 0.3\neffect = \"poison\"\nform = \"{form}\"");
        emulator.world().set_faults(FaultPlan::parse(&plan).unwrap());
        let mut poisoned = 0;
        for entry in &entries {
            let uri = entry["contentUri"].as_str().unwrap();
            let (first, second) = (client.get(uri).await, client.get(uri).await);
            let works = |answer: &Answer| answer.status == 200 && !answer.broken && !answer.cut;
            assert_eq!(works(&first), works(&second), "{form}");
            if !works(&first) {
                assert_eq!(first.status, broken);
                poisoned += 1;
            }
        }
        assert!(poisoned > 0 && poisoned < entries.len(), "{form}: {poisoned} of {}", entries.len());
        let after = emulator.world().truth();
        assert!(after.poison_contents >= poisoned as u64 && after.poison_records > 0);
        assert_eq!(after.records + after.poison_records, before.records, "no record is counted twice or dropped");
    }
}

#[tokio::test]
async fn an_element_that_is_no_record_stands_among_good_ones() {
    let (emulator, client) = ready().await;
    let entries = entries(&client).await;
    let good: Vec<_> =
        futures_util::future::join_all(entries.iter().map(|entry| client.get(entry["contentUri"].as_str().unwrap())))
            .await;
    emulator.world().set_faults(FaultPlan::parse("[[rule]]\nprobability = 1.0\neffect = \"not_a_record\"").unwrap());
    let before = emulator.world().truth();
    assert_eq!(before.not_records, before.contents);
    for (entry, good) in entries.iter().zip(good) {
        let bad = client.get(entry["contentUri"].as_str().unwrap()).await.expect_ok();
        let (good, bad) = (good.text(), bad.text());
        assert!(bad.len() > good.len());
        // Taking out what was put in gives the good body back.
        let common = good.bytes().zip(bad.bytes()).take_while(|(a, b)| a == b).count();
        let added = bad.len() - good.len();
        let restored = (0..=common).rev().any(|at| {
            bad.is_char_boundary(at)
                && bad.is_char_boundary(at + added)
                && format!("{}{}", &bad[..at], &bad[at + added..]) == good
        });
        assert!(restored, "{bad}");
    }
}

#[tokio::test]
async fn plans_can_be_set_while_it_runs_and_their_strikes_are_counted() {
    let (emulator, client) = ready().await;
    let plan = "[[rule]]\nname = \"down\"\nfirst = 2\neffect = \"server_error\"\noperations = [\"content\"]";
    let answer = control(&emulator, "PUT", "faults", plan).await.expect_ok();
    assert_eq!(answer.json()["rules"], 1);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.list(KIND, start() - TimeDelta::hours(2), start()).await.status.as_u16());
    }
    assert_eq!(statuses, [503, 503, 200]);
    let requests = control(&emulator, "GET", "requests", "").await.expect_ok().json();
    assert_eq!(requests["faults"][0], serde_json::json!({"rule":"down","count":2}));
    let counted = requests["requests"].as_array().unwrap();
    assert!(
        counted.iter().any(|entry| entry["operation"] == "content" && entry["status"] == 503 && entry["count"] == 2)
    );
    control(&emulator, "PUT", "faults", r#"{"preset":"ten-percent","seed":4}"#).await.expect_ok();
    assert_eq!(control(&emulator, "PUT", "faults", "[[rule]]\neffect = \"x\"\nfirst = 1").await.status, 400);
}

#[tokio::test]
async fn the_login_service_suffers_too() {
    let (emulator, client) = ready().await;
    emulator.world().set_faults(FaultPlan::parse("[[rule]]\nfirst = 1\neffect = \"aadsts\"\nnumber = 90033").unwrap());
    let secret = url::form_urlencoded::byte_serialize(emulator::DEFAULT_SECRET.as_bytes()).collect::<String>();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={secret}&resource=https%3A%2F%2Fmanage.office.com",
        client.client
    );
    let ask = || {
        let url = format!("https://login.microsoftonline.com/{}/oauth2/token", client.tenant);
        let request = http::Request::post(url).header("content-type", "application/x-www-form-urlencoded");
        crate::client::call(&emulator, request.body(axum::body::Body::from(form.clone())).unwrap())
    };
    let first = ask().await;
    assert!(first.text().contains("AADSTS90033"), "{}", first.text());
    let second = ask().await.expect_ok().json();
    assert!(second["access_token"].is_string());
    let tokens: Vec<_> = emulator.requests().into_iter().filter(|count| count.operation == "token").collect();
    assert!(tokens.iter().all(|count| count.tenant == Some(client.tenant) && count.count == 1));
    assert_eq!(tokens.len(), 2, "{tokens:?}");
}
