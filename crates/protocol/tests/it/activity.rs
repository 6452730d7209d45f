//! What each recorded answer of the Activity API must be taken for.

use std::collections::BTreeSet;

use protocol::activity::{
    Feed, Subscription, SubscriptionStatus, WebhookStatus, check_blob_response, error_in_blob, parse_blob_error,
    parse_list_content, parse_list_notifications, parse_list_subscriptions, parse_resource_friendly_names,
    parse_start_subscription, parse_stop_subscription,
};
use protocol::cloud::{Cloud, CloudName};
use protocol::error::{ApiError, Concern, Operation};
use protocol::ids::{ContentType, TenantId};
use protocol::response::Response;

use crate::fixtures;

pub(crate) fn tenant() -> TenantId {
    "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
}

pub(crate) fn feed(cloud: &Cloud) -> Feed<'_> {
    Feed::new(cloud, tenant(), "46b472a7-c68e-4adf-8ade-3db49497518e".parse().unwrap())
}

/// Parses an answer as that of `operation`; a summary of what was read, or the error.
pub(crate) fn parse(operation: Operation, response: &Response<'_>) -> Result<String, ApiError> {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let feed = feed(&cloud);
    let asked = ContentType::SharePoint;
    let next = |next: &Option<_>| if next.is_some() { " next" } else { "" };
    Ok(match operation {
        Operation::StartSubscription => subscription_summary(&parse_start_subscription(&asked, response)?),
        Operation::StopSubscription => {
            parse_stop_subscription(response)?;
            "stopped".to_owned()
        }
        Operation::ListSubscriptions => {
            let list = parse_list_subscriptions(response)?;
            let mut parts: Vec<String> = list.subscriptions.iter().map(subscription_summary).collect();
            parts.push(format!("unreadable={}", list.unreadable.len()));
            parts.join("; ")
        }
        Operation::ListContent => {
            let page = parse_list_content(&feed, &asked, response)?;
            let (contents, unreadable) = (page.contents.len(), page.unreadable.len());
            format!("contents={contents} unreadable={unreadable}{}", next(&page.next))
        }
        Operation::RetrieveContent => {
            let Ok(head) = check_blob_response(response.status, response.headers) else {
                return Err(parse_blob_error(response));
            };
            if let Some(error) = error_in_blob(response) {
                return Err(error);
            }
            format!("blob{}", next(&head.next))
        }
        Operation::ListNotifications => {
            let page = parse_list_notifications(&feed, &asked, response)?;
            let (attempts, unreadable) = (page.attempts.len(), page.unreadable.len());
            let succeeded = page.attempts.iter().filter(|attempt| attempt.succeeded()).count();
            let succeeded = if attempts > 0 { format!(" succeeded={succeeded}") } else { String::new() };
            format!("attempts={attempts} unreadable={unreadable}{succeeded}{}", next(&page.next))
        }
        Operation::ResourceFriendlyNames => format!("names={}", parse_resource_friendly_names(response)?.len()),
    })
}

fn subscription_summary(subscription: &Subscription) -> String {
    let status = match &subscription.status {
        SubscriptionStatus::Other(word) => format!("Other({word:?})"),
        status => format!("{status:?}"),
    };
    let webhook = match &subscription.webhook {
        Some(webhook) => {
            assert_eq!(webhook.expiration.is_some(), webhook.status == WebhookStatus::Expired);
            format!("+{:?} webhook", webhook.status)
        }
        None => String::new(),
    };
    format!("{}={status}{webhook}", subscription.content_type)
}

pub(crate) fn operation(name: &str) -> Operation {
    Operation::ALL.into_iter().find(|operation| operation.as_str() == name).unwrap_or_else(|| panic!("{name}?"))
}

#[test]
fn every_recorded_answer_is_taken_for_what_it_is() {
    let mut failures = Vec::new();
    for fixture in fixtures::all("activity") {
        let operation = operation(fixture.note("operation"));
        let (found, concern) = match parse(operation, &fixture.response()) {
            Ok(summary) => (summary, None),
            Err(error) => {
                assert_eq!(error.operation(), operation, "{}", fixture.name);
                let text = error.to_string();
                assert!(text.contains(operation.as_str()) && !text.ends_with('.'), "{}: {text}", fixture.name);
                (format!("{:?}", error.disposition()), Some(error.concern()))
            }
        };
        let expected = fixture.note("expect");
        let expected_concern = fixture.notes.get("concern").map(String::as_str);
        let concern = concern.map(|concern: Concern| format!("{concern:?}"));
        if found != expected || concern.as_deref() != expected_concern {
            failures.push(format!(
                "{}\n  expected {expected} ({expected_concern:?})\n  found    {found} ({concern:?})",
                fixture.name
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_code_and_every_deviation_has_a_fixture() {
    let fixtures = fixtures::all("activity");
    let covered: BTreeSet<&str> = fixtures
        .iter()
        .filter_map(|fixture| fixture.notes.get("covers"))
        .flat_map(|covers| covers.split(' '))
        .collect();
    let codes = [
        10001, 20001, 20002, 20003, 20010, 20011, 20012, 20013, 20020, 20021, 20022, 20023, 20024, 20030, 20031, 20050,
        20051, 20052, 20053, 20054, 20055, 429, 50000, 50005, 50006,
    ];
    let mut wanted: Vec<String> = codes.iter().map(|code| format!("AF{code}")).collect();
    wanted.extend((1..=18).map(|deviation| format!("D{deviation}")));
    wanted.extend(["429", "tenant-does-not-exist", "missing-time"].map(str::to_owned));
    let missing: Vec<&String> = wanted.iter().filter(|wanted| !covered.contains(wanted.as_str())).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
}

#[test]
fn an_error_keeps_what_support_and_the_operator_need() {
    let mut headers = http::HeaderMap::new();
    headers.insert("mise-correlation-id", "3f0a2d5c-0000-4000-8000-000000000001".parse().unwrap());
    headers.insert("date", "Wed, 04 Mar 2026 05:06:07 GMT".parse().unwrap());
    let body = br#"{"error":{"code":"AF20055","message":"Start time\r\n  is odd."}}"#;
    let response = Response::new(http::StatusCode::BAD_REQUEST, &headers, body);
    let ApiError::Answered(answer) = ApiError::from_response(Operation::ListContent, &response) else {
        panic!("not an answer")
    };
    assert_eq!(answer.correlation_id.as_deref(), Some("3f0a2d5c-0000-4000-8000-000000000001"));
    assert_eq!(answer.server_time.map(|time| time.timestamp()), Some(1_772_600_767));
    assert_eq!(answer.to_string(), "list_content was answered HTTP 400, AF20055: Start time is odd");
}

#[test]
fn an_unreadable_answer_keeps_its_first_bytes() {
    let headers = http::HeaderMap::new();
    let body = format!("<html>{}", "x".repeat(5000));
    let response = Response::new(http::StatusCode::OK, &headers, body.as_bytes());
    let Err(ApiError::Unreadable(answer)) = parse_list_subscriptions(&response) else { panic!("readable?") };
    assert_eq!(answer.body_length, 5006);
    assert_eq!(answer.excerpt.chars().count(), 513);
    assert!(answer.excerpt.starts_with("<html>xxx") && answer.excerpt.ends_with('…'));
}
