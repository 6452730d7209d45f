//! Whatever arrives, no parser panics, and what it keeps is bounded.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use protocol::activity::parse_webhook_call;
use protocol::cloud::{Cloud, CloudName};
use protocol::entra::EntraError;
use protocol::error::{ApiError, MAX_EXCERPT, MAX_MESSAGE, Operation};
use protocol::ids::{ContentUri, TenantId};
use protocol::response::Response;
use protocol::time::parse_timestamp;
use protocol::token::{TokenError, parse_token};

use crate::activity::{feed, parse};
use crate::fixtures;
use crate::tokens::ask;

/// Every parser of the crate on one answer.
fn parse_everything(response: &Response<'_>) {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    for operation in Operation::ALL {
        if let Err(error) = parse(operation, response) {
            assert_bounded(&error);
        }
        assert_bounded(&ApiError::from_response(operation, response));
    }
    let error = EntraError::from_response(response);
    let _ = (error.disposition(), error.to_string());
    assert!(error.description.chars().count() <= 513 && error.codes.len() <= 8);
    let now = parse_timestamp("2026-03-04T05:06:07Z").unwrap();
    match parse_token(&ask(&cloud), response, now) {
        Ok(grant) => assert_eq!(grant.token.tenant(), ask(&cloud).tenant),
        Err(TokenError::Unreadable(error)) => assert!(error.excerpt.chars().count() <= MAX_EXCERPT + 1),
        Err(error) => drop(error.disposition()),
    }
    let _ = parse_webhook_call(&cloud, response.headers, response.body);
    let _ = response.retry_after_at(now);
}

fn assert_bounded(error: &ApiError) {
    let _ = (error.disposition(), error.concern(), error.to_string());
    match error {
        ApiError::Answered(answer) => {
            assert!(answer.message.chars().count() <= MAX_MESSAGE + 1);
            assert!(answer.code.to_string().chars().count() <= 1024);
        }
        ApiError::Unreadable(answer) => assert!(answer.excerpt.chars().count() <= MAX_EXCERPT + 1),
    }
}

#[test]
fn no_truncation_of_any_fixture_makes_a_parser_panic() {
    for folder in ["activity", "entra"] {
        for fixture in fixtures::all(folder) {
            for end in 0..fixture.body.len() {
                let response = Response::new(fixture.status, &fixture.headers, &fixture.body[..end]);
                if end % 7 == 0 || end + 40 > fixture.body.len() {
                    parse_everything(&response);
                } else if let Some(name) = fixture.notes.get("operation") {
                    let _ = parse(crate::activity::operation(name), &response);
                } else {
                    let _ = EntraError::from_response(&response).disposition();
                }
            }
        }
    }
}

#[test]
fn a_truncated_listing_is_never_taken_for_a_shorter_one() {
    for fixture in fixtures::all("activity") {
        if fixture.notes.get("operation").map(String::as_str) != Some("list_content") || !fixture.status.is_success() {
            continue;
        }
        for end in 0..fixture.body.len() {
            let response = Response::new(fixture.status, &fixture.headers, &fixture.body[..end]);
            assert!(parse(Operation::ListContent, &response).is_err(), "{} cut at {end}", fixture.name);
        }
    }
}

#[test]
fn an_error_body_of_any_length_is_read_to_its_limit_only() {
    let headers = HeaderMap::new();
    let mut body = vec![b' '; protocol::response::MAX_ERROR_BODY];
    body.extend_from_slice(br#"{"error":{"code":"AF20051","message":"m"}}"#);
    let beyond =
        ApiError::from_response(Operation::RetrieveContent, &Response::new(StatusCode::BAD_REQUEST, &headers, &body));
    assert_eq!(format!("{:?}", beyond.disposition()), "RetrySlowly");
    let within = ApiError::from_response(
        Operation::RetrieveContent,
        &Response::new(StatusCode::BAD_REQUEST, &headers, &body[42..]),
    );
    assert_eq!(format!("{:?}", within.disposition()), "Gone(Expired)");
}

#[test]
fn deep_nesting_and_endless_repetition_are_survived() {
    let headers = HeaderMap::new();
    for unit in ["[", "{\"error\":", "'code':", "\"code\":'", "<title>", "AF", "AF20051 ", "{\"a\":[", "8m ", "AADSTS"]
    {
        let body = unit.repeat(100_000);
        for status in [StatusCode::OK, StatusCode::BAD_REQUEST] {
            parse_everything(&Response::new(status, &headers, body.as_bytes()));
        }
    }
}

#[test]
fn more_entries_than_a_page_may_have_are_refused_and_not_cut() {
    let headers = HeaderMap::new();
    let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let parsed = |body: &str| parse(Operation::ListContent, &Response::new(StatusCode::OK, &headers, body.as_bytes()));
    assert_eq!(parsed(&list(20_000)).unwrap(), "contents=0 unreadable=20000");
    assert!(parsed(&list(20_001)).unwrap_err().to_string().contains("more than 20000 entries"));
}

fn any_status() -> impl Strategy<Value = StatusCode> {
    (100_u16..600).prop_map(|code| StatusCode::from_u16(code).unwrap())
}

/// Names the parsers look at, with any bytes a header may hold.
fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let names = ["retry-after", "date", "nextpageuri", "nextpageurl", "webhook-validationcode", "content-length"];
    let pair = (prop::sample::select(names.to_vec()), prop::collection::vec(32_u8..=255, 0..80));
    prop::collection::vec(pair, 0..4).prop_map(|pairs| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        headers
    })
}

/// Bytes that begin like something a parser knows.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{\"error\":",
        "{",
        "}",
        "[",
        "]",
        "\"code\":",
        "'code':'",
        "\"message\":",
        "\"AF20023\"",
        "AF429",
        "null",
        "\"",
        "'",
        ",",
        ":",
        "<title>",
        "</title>",
        "\u{FEFF}",
        "\\u0000",
        "{\"access_token\":\"",
        "eyJ.eyJ.",
        "\"expires_in\":",
        "-1e999",
        "\"contentId\":\"x$y\"",
        "\"contentUri\":",
        "\"tenantId\":",
        "AADSTS7000215:",
        "Trace ID:",
        "\u{E4}",
    ]);
    let piece = prop_oneof![
        3 => pieces.prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop_oneof![
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(any::<u8>(), 0..256),
    ]
}

proptest! {
    #[test]
    fn no_answer_makes_a_parser_panic(status in any_status(), headers in any_headers(), body in any_body()) {
        parse_everything(&Response::new(status, &headers, &body));
    }

    #[test]
    fn no_uri_is_given_a_token_that_is_not_this_tenants(path in "[a-zA-Z0-9/.%$?&#@:\\\\-]{0,60}") {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let feed = feed(&cloud);
        let other: TenantId = "00000000-0000-4000-8000-00000000000b".parse().unwrap();
        for text in [
            format!("https://manage.office.com{path}"),
            format!("https://manage.office.com/api/v1.0/{}/activity/feed/{path}", feed.tenant),
            format!("https://manage.office.com/api/v1.0/{other}/activity/feed/{path}"),
        ] {
            let Ok(uri) = text.parse::<ContentUri>() else { continue };
            if let Ok(request) = protocol::activity::retrieve_content(&feed, &uri) {
                let url = request.url();
                prop_assert_eq!(url.origin().ascii_serialization(), "https://manage.office.com");
                let prefix = format!("/api/v1.0/{}/activity/feed/", feed.tenant);
                prop_assert!(url.path().starts_with(&prefix), "{}", url);
                prop_assert!(request.url().query().is_some_and(|query| query.to_lowercase().contains("publisheridentifier=")));
            }
        }
    }
}
