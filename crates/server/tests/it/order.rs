//! In which order a small budget is spent: what is about to expire before everything, then the fresh before the backlog, and
//! no content type behind another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use emulator::FaultPlan;
use http::Request;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use crate::hostile::{Forged, Forger};
use crate::rig::{Rig, small_world};

/// A content by its number, with its type and time.
type Known = (usize, ContentType, Timestamp);

/// A feed that lists `contents` wherever they belong, and keeps in `fetched` the order in which they are asked for.
fn forge(request: &Request<Vec<u8>>, tenant: TenantId, contents: &[Known], fetched: &Mutex<Vec<usize>>) -> Forged {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    if path.contains("/oauth2") {
        return Some((200, r#"{"access_token":"token","expires_in":3599}"#.to_owned()));
    }
    if path.ends_with("/subscriptions/list") {
        let entry = |known: &ContentType| format!(r#"{{"contentType":"{known}","status":"enabled"}}"#);
        let all: Vec<_> = ContentType::KNOWN.iter().map(entry).collect();
        return Some((200, format!("[{}]", all.join(","))));
    }
    if let Some((_, number)) = path.split_once("/audit/1$") {
        let number: usize = number.parse().unwrap();
        fetched.lock().unwrap().push(number);
        return Some((200, format!(r#"[{{"Id":"{number}","CreationTime":"2026-03-09T00:00:00"}}]"#)));
    }
    let root = format!("http://127.0.0.1:7000/api/v1.0/{tenant}/activity/feed");
    let value = |name: &str| {
        let pair = query.split('&').find(|pair| pair.starts_with(name))?;
        let text = pair.split_once('=')?.1.replace("%3A", ":");
        protocol::time::parse_timestamp(&format!("{}Z", text.trim_end_matches('Z')))
    };
    let (from, until) = (value("startTime")?, value("endTime")?);
    let is_asked = |(_, content_type, created): &&Known| {
        query.contains(&format!("contentType={content_type}")) && from <= *created && *created < until
    };
    let entry = |(number, content_type, created): &Known| {
        let created = created.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        format!(
            r#"{{"contentType":"{content_type}","contentId":"1${number}","contentUri":"{root}/audit/1${number}","contentCreated":"{created}"}}"#
        )
    };
    let entries: Vec<_> = contents.iter().filter(is_asked).map(entry).collect();
    Some((200, format!("[{}]", entries.join(","))))
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_expire_comes_first_then_the_fresh_then_the_backlog_of_all_types_alike() {
    let mut rig = Rig::new(small_world(81, 1, 20), FaultPlan::default()).await;
    rig.settings.collect.content_types = vec![ContentType::Exchange, ContentType::General];
    rig.settings.collect.requests_per_minute = 600;
    rig.settings.limits.fetches_per_tenant = 1;
    let (tenant, now) = (rig.tenants()[0], rig.now());
    // Numbers 0.. are about to expire, 100.. are a backlog, 200.. are fresh; even ones of one type, odd ones of the other.
    let content = |number: usize, age: TimeDelta| {
        let content_type = if number.is_multiple_of(2) { ContentType::Exchange } else { ContentType::General };
        (number, content_type, now - age - TimeDelta::seconds(number as i64))
    };
    let mut contents: Vec<Known> = Vec::new();
    contents.extend((0..20).map(|number| content(number, TimeDelta::hours(160))));
    contents.extend((100..200).map(|number| content(number, TimeDelta::hours(80))));
    contents.extend((200..220).map(|number| content(number, TimeDelta::minutes(10))));
    let fetched = Arc::new(Mutex::new(Vec::new()));
    let collector = {
        let fetched = Arc::clone(&fetched);
        let forge = move |request: &Request<Vec<u8>>| forge(request, tenant, &contents, &fetched);
        rig.collector_over(Arc::new(Forger { inner: rig.transport(), forge }))
    };
    tokio::select! {
        report = collector.run(std::future::pending()) => panic!("{report:?}"),
        () = tokio::time::sleep(Duration::from_secs(1200)) => {}
    }
    let fetched = fetched.lock().unwrap().clone();
    assert_eq!(fetched.len(), 140, "each of them once: {fetched:?}");
    let place = |group: std::ops::Range<usize>| -> Vec<usize> {
        let found = fetched.iter().enumerate().filter(|(_, number)| group.contains(number));
        found.map(|(place, _)| place).collect()
    };
    let mean = |places: &[usize]| places.iter().sum::<usize>() / places.len();
    let (urgent, backlog, fresh) = (place(0..20), place(100..200), place(200..220));
    // Listings go on beside fetches, and what is not listed yet cannot be fetched: a few of the backlog come before.
    assert!(mean(&urgent) < 40 && mean(&fresh) < 50 && mean(&backlog) > 70, "{fetched:?}");
    // Of the backlog, neither type waits for the other to be through.
    let even: Vec<usize> = backlog.iter().copied().filter(|place| fetched[*place].is_multiple_of(2)).collect();
    let odd: Vec<usize> = backlog.iter().copied().filter(|place| !fetched[*place].is_multiple_of(2)).collect();
    assert!(mean(&even).abs_diff(mean(&odd)) < 15, "{fetched:?}");
}

/// Each form in which the service says "not so fast" (activity-api.md §7): the tenant is left alone for as long as it said,
/// and then everything is had.
#[tokio::test(start_paused = true)]
async fn every_form_of_throttling_is_heeded_for_as_long_as_it_says() {
    for (seed, rule, least) in [
        (91, "status = 403", 20),
        (92, "status = 429", 20),
        (93, "status = 429\nretry_after = \"97s\"", 97),
        (94, "status = 403\nretry_after = \"45s\"", 45),
    ] {
        let plan = format!("[[rule]]\noperations = [\"content\"]\neffect = \"throttle\"\nfirst = 1\n{rule}\n");
        let mut rig = Rig::new(small_world(seed, 1, 60), FaultPlan::parse(&plan).unwrap()).await;
        rig.settings.limits.listings_per_tenant = 1;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let forge = {
            let asked = Arc::clone(&asked);
            move |request: &Request<Vec<u8>>| -> Forged {
                if request.uri().path().ends_with("/subscriptions/content") {
                    asked.lock().unwrap().push(tokio::time::Instant::now());
                }
                None
            }
        };
        let collector = rig.collector_over(Arc::new(Forger { inner: rig.transport(), forge }));
        let report = collector.collect_once(&[], std::future::pending()).await.unwrap();
        assert!(report.is_complete(), "{rule}: {report:#?}");
        assert!(!rig.emulator.world().faults_struck().is_empty(), "{rule}: it never struck");
        let asked = asked.lock().unwrap().clone();
        let waited = (asked[1] - asked[0]).as_secs();
        assert!(waited >= least && waited <= 2 * least.max(30), "{rule}: asked again after {waited} s");
        rig.check_all_there().await;
    }
}
