//! What each error of Entra ID must be taken for.

use http::{HeaderMap, StatusCode};
use protocol::cloud::{Cloud, CloudName};
use protocol::entra::{AppStep, EntraDisposition, EntraError, RetryClass};
use protocol::error::Concern;
use protocol::response::Response;
use protocol::time::parse_timestamp;
use protocol::token::{TokenError, parse_token};
use serde_json::json;

use crate::fixtures;
use crate::tokens::ask;

const TRACE: &str = "3f0a2d5c-0000-4000-8000-000000000001";
const CORRELATION: &str = "3f0a2d5c-0000-4000-8000-000000000002";
const SECRET: &str = "abc8Q~xYz.0_-1xYz.0_-1xYz.0_-1xYz.0_-1xY";

/// The error as it reaches a caller, through the token endpoint's parser.
fn read(status: u16, body: &str) -> EntraError {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let headers = HeaderMap::new();
    let response = Response::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes());
    let now = parse_timestamp("2026-03-04T05:06:07Z").unwrap();
    match parse_token(&ask(&cloud), &response, now) {
        Err(TokenError::Entra(error)) => *error,
        other => panic!("{other:?}"),
    }
}

/// The three shapes of a description: CR LF before the trace lines, blanks before them, none and no list of codes.
fn bodies(code: &str, error: &str, suberror: &str) -> [String; 3] {
    let sentence = format!("AADSTS{code}: The request was refused, it carried '{SECRET}'.");
    let lines = |gap: &str| {
        format!(
            "{sentence}{gap}Trace ID: {TRACE}{gap}Correlation ID: {CORRELATION}{gap}Timestamp: 2026-03-04 05:06:07Z"
        )
    };
    let number: u32 = code.parse().unwrap();
    let mut full = json!({
        "error": error, "error_description": lines("\r\n"), "error_codes": [number],
        "timestamp": "2026-03-04 05:06:07Z", "trace_id": TRACE, "correlation_id": CORRELATION,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    if suberror != "-" {
        full["suberror"] = json!(suberror);
    }
    let blanks = json!({ "error": error, "error_description": lines(" "), "error_codes": [number] });
    let bare = json!({ "error": error, "error_description": sentence });
    [full.to_string(), blanks.to_string(), bare.to_string()]
}

#[test]
fn every_number_of_the_table_is_taken_for_what_it_is() {
    let table = include_str!("../fixtures/entra/codes.tsv");
    let mut rows = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let [code, status, error, suberror, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?} has not five columns")
        };
        rows += 1;
        for (shape, body) in bodies(code, error, suberror).iter().enumerate() {
            let found = read(status.parse().unwrap(), body);
            assert_eq!(format!("{:?}", found.disposition()), expected, "{code}, shape {shape}");
            assert_eq!(found.code().map(|code| code.to_string()).as_deref(), Some(code));
            assert_eq!(found.error.as_deref(), Some(error));
            let trace = (shape < 2).then_some(TRACE);
            assert_eq!(found.trace_id.as_deref(), trace, "{code}, shape {shape}");
            assert_eq!(found.correlation_id.as_deref(), (shape < 2).then_some(CORRELATION), "{code}, shape {shape}");
            assert_eq!(found.timestamp.is_some(), shape == 0);
            let wanted = format!("AADSTS{code}: The request was refused, it carried '(redacted)'.");
            assert_eq!(found.description, wanted);
            let shown = format!("{found} {found:?} {}", found.remedy());
            assert!(!shown.contains("8Q~"), "{shown}");
            assert!(shown.contains(&format!("AADSTS{code}")), "{shown}");
        }
    }
    assert_eq!(rows, 87);
}

#[test]
fn every_recorded_answer_is_taken_for_what_it_is() {
    for fixture in fixtures::all("entra") {
        let found = EntraError::from_response(&fixture.response());
        assert_eq!(format!("{:?}", found.disposition()), fixture.note("expect"), "{}", fixture.name);
        let code = fixture.notes.get("code").map(|code| code.parse().unwrap());
        assert_eq!(found.code(), code, "{}", fixture.name);
        assert_eq!(found.trace_id.as_ref(), fixture.notes.get("trace"), "{}", fixture.name);
        for text in [found.problem(), found.remedy()] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text:?}", fixture.name);
        }
    }
}

#[test]
fn a_fault_of_the_credential_is_the_apps_and_one_of_consent_the_tenants() {
    let secret = read(401, r#"{"error":"invalid_client","error_codes":[7000222]}"#).disposition();
    assert_eq!((secret.concern(), secret.class()), (Concern::App, RetryClass::StopApp));
    let consent = read(400, r#"{"error":"invalid_grant","error_codes":[65001]}"#).disposition();
    assert_eq!((consent.concern(), consent.class()), (Concern::Tenant, RetryClass::Slowly));
    assert_eq!(read(503, "").disposition().class(), RetryClass::Now);
    assert_eq!(read(400, r#"{"error":"invalid_scope"}"#).disposition().class(), RetryClass::Bug);
    assert_eq!(
        read(400, r#"{"error":"access_denied","error_codes":[65004]}"#).disposition().class(),
        RetryClass::Person
    );
}

#[test]
fn an_operator_reads_the_problem_with_the_ids_support_asks_for() {
    let [body, ..] = bodies("7000222", "invalid_client", "-");
    let error = read(401, &body);
    assert_eq!(
        error.to_string(),
        format!("the client secret has expired (HTTP 401, invalid_client, AADSTS7000222, trace id {TRACE})")
    );
    assert_eq!(error.disposition(), EntraDisposition::StopApp(AppStep::RenewSecret));
    assert_eq!(error.timestamp, parse_timestamp("2026-03-04T05:06:07Z"));
}
