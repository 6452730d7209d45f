//! What strangers, and Microsoft, may post to the webhook.

use http::HeaderMap;
use protocol::activity::{
    EntryProblem, MAX_NOTIFICATION_BODY, MAX_NOTIFIED_CONTENTS, WEBHOOK_VALIDATION_CODE_HEADER, WebhookCall,
    WebhookError, parse_webhook_call,
};
use protocol::cloud::{Cloud, CloudName};

use crate::activity::tenant;

fn call(code: Option<&str>, body: &[u8]) -> Result<WebhookCall, WebhookError> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json; utf-8".parse().unwrap());
    headers.insert("webhook-authid", "opaque".parse().unwrap());
    if let Some(code) = code {
        headers.insert(WEBHOOK_VALIDATION_CODE_HEADER, code.parse().unwrap());
    }
    parse_webhook_call(&Cloud::preset(CloudName::Commercial).unwrap(), &headers, body)
}

fn entry(tenant: &str, host: &str) -> String {
    format!(
        r#"{{"tenantId":"{tenant}","clientId":"a6099727-6b7b-482c-b509-1df309acc563","contentType":"Audit.SharePoint","contentId":"8$8","contentUri":"https://{host}/api/v1.0/{tenant}/activity/feed/audit/8$8","contentCreated":"2026-03-04T05:59:00.123Z","contentExpiration":"2026-03-11T05:59:00.123Z"}}"#
    )
}

#[test]
fn a_validation_carries_the_same_code_in_header_and_body() {
    let code = |text: &str| format!(r#"{{"validationCode":"{text}"}}"#);
    let accepted = Ok(WebhookCall::Validation { code: "abc".into() });
    assert_eq!(call(Some("abc"), code("abc").as_bytes()), accepted);
    assert_eq!(call(Some("abc"), format!("\u{FEFF} {}", code("abc")).as_bytes()), accepted);
    assert_eq!(call(Some("abc"), code("abd").as_bytes()), Err(WebhookError::CodesDiffer));
    assert_eq!(call(None, code("abc").as_bytes()), Err(WebhookError::CodesDiffer));
    assert_eq!(call(Some("abc"), b"{}"), Err(WebhookError::CodesDiffer));
    assert_eq!(call(Some(""), code("").as_bytes()), Err(WebhookError::CodesDiffer));
    let long = "a".repeat(1025);
    assert!(call(Some(&long[..1024]), code(&long[..1024]).as_bytes()).is_ok());
    assert_eq!(call(Some(&long), code(&long).as_bytes()), Err(WebhookError::CodesDiffer));
}

#[test]
fn a_notification_may_name_several_tenants_and_a_forged_entry_costs_no_other() {
    let (a, b) = (tenant().to_string(), "00000000-0000-4000-8000-00000000000b");
    let forged = entry(&a, "evil.example");
    let crossed = entry(&a, "manage.office.com").replacen(&a, b, 1);
    let (good_a, good_b) = (entry(&a, "manage.office.com"), entry(b, "manage.office.com"));
    let body = format!("[{good_a},{forged},{crossed},{good_b},{{}}]");
    let Ok(WebhookCall::Notification { contents, unreadable }) = call(None, body.as_bytes()) else {
        panic!("no notification")
    };
    assert_eq!(contents.iter().map(|content| content.tenant.to_string()).collect::<Vec<_>>(), [a.as_str(), b]);
    assert!(contents.iter().all(|content| content.client.is_some()));
    assert_eq!(unreadable.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(matches!(unreadable[0].problem, EntryProblem::Refused(_)));
    assert!(matches!(unreadable[1].problem, EntryProblem::Refused(_)));
    assert_eq!(unreadable[2].problem, EntryProblem::Missing { member: "tenantId" });
}

#[test]
fn header_and_body_must_agree_on_what_the_call_is() {
    assert_eq!(call(Some("abc"), b"[]"), Err(WebhookError::Contradiction));
    for body in ["", "null", "1", "\"x\"", "[1", "{", "[]]"] {
        assert!(matches!(call(None, body.as_bytes()), Err(WebhookError::Malformed { .. })), "{body}");
    }
}

#[test]
fn size_and_count_are_bounded_on_both_sides_of_the_limit() {
    let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    assert!(call(None, list(MAX_NOTIFIED_CONTENTS).as_bytes()).is_ok());
    let over = call(None, list(MAX_NOTIFIED_CONTENTS + 1).as_bytes());
    assert!(matches!(over, Err(WebhookError::Malformed { problem }) if problem.contains("more than 5000 entries")));
    let padded = |length: usize| format!("[]{}", " ".repeat(length - 2));
    assert!(call(None, padded(MAX_NOTIFICATION_BODY).as_bytes()).is_ok());
    let length = MAX_NOTIFICATION_BODY + 1;
    assert_eq!(call(None, padded(length).as_bytes()), Err(WebhookError::TooLong { length }));
}
