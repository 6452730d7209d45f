//! What the token endpoint's answers must be taken for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use protocol::cloud::{Cloud, CloudName, CustomCloud};
use protocol::response::Response;
use protocol::time::{Timestamp, parse_timestamp};
use protocol::token::{
    DEFAULT_LIFETIME, MAX_TOKEN_BODY, TokenAsk, TokenEndpoint, TokenError, TokenGrant, TokenProblem, parse_token,
};
use serde_json::{Value, json};

use crate::activity::tenant;

const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";

fn now() -> Timestamp {
    parse_timestamp("2026-03-04T05:00:00Z").unwrap()
}

pub(crate) fn ask(cloud: &Cloud) -> TokenAsk<'_> {
    TokenAsk { cloud, tenant: tenant(), client_id: CLIENT.parse().unwrap(), endpoint: TokenEndpoint::V1 }
}

fn claims() -> Value {
    json!({
        "aud": "https://manage.office.com", "iss": format!("https://sts.windows.net/{}/", tenant()),
        "iat": now().timestamp(), "nbf": now().timestamp(), "exp": now().timestamp() + 3900, "ver": "1.0",
        "tid": tenant().to_string(), "roles": ["ActivityFeed.Read"], "appid": CLIENT, "appidacr": "2",
    })
}

fn jwt(claims: &Value) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part(json!({"typ":"JWT","alg":"RS256"}).to_string()), part(claims.to_string()))
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn parse_on(cloud: &Cloud, body: &[u8]) -> Result<TokenGrant, TokenError> {
    let headers = HeaderMap::new();
    parse_token(&ask(cloud), &Response::new(StatusCode::OK, &headers, body), now())
}

fn parse(body: &Value) -> Result<TokenGrant, TokenError> {
    parse_on(&Cloud::preset(CloudName::Commercial).unwrap(), body.to_string().as_bytes())
}

fn granted(claims: &Value) -> Result<TokenGrant, TokenError> {
    parse(&json!({"token_type":"Bearer","expires_in":"3599","access_token":jwt(claims)}))
}

#[test]
fn v1_writes_its_numbers_as_strings_and_v2_as_numbers() {
    let v1 = json!({"token_type":"Bearer","expires_in":"3599","ext_expires_in":"0","expires_on":"1772604299",
        "not_before":"1772600400","resource":"https://manage.office.com","access_token":jwt(&claims())});
    let v2 = json!({"token_type":"bearer","expires_in":3599,"ext_expires_in":3599,"refresh_in":1800,"access_token":jwt(&claims())});
    for (body, refresh_in) in [(v1, None), (v2, Some(Duration::from_secs(1800)))] {
        let grant = parse(&body).unwrap();
        assert_eq!(grant.lifetime, Duration::from_secs(3599));
        assert_eq!(grant.refresh_in, refresh_in);
        assert_eq!(grant.token.tenant(), tenant());
        assert_eq!(grant.token.resource(), "https://manage.office.com");
        assert_eq!(grant.problems, []);
        assert!(grant.permits_reading());
        let read = grant.claims.unwrap();
        assert_eq!(read.version.as_deref(), Some("1.0"));
        assert!(read.has_role("ActivityFeed.Read") && !read.has_role("ActivityFeed.ReadDlp"));
    }
}

#[test]
fn a_lifetime_that_is_not_told_is_worked_out() {
    let token = jwt(&claims());
    let lifetime = |body: Value| parse(&body).unwrap().lifetime.as_secs();
    let expires_on = now().timestamp() + 1200;
    assert_eq!(lifetime(json!({"access_token":token,"expires_on":expires_on.to_string()})), 1200);
    assert_eq!(lifetime(json!({"access_token":token,"expires_in":"soon"})), 3900);
    assert_eq!(lifetime(json!({"access_token":"opaque"})), DEFAULT_LIFETIME.as_secs());
    assert_eq!(lifetime(json!({"access_token":token,"expires_in":u64::MAX})), 48 * 60 * 60);
    assert_eq!(lifetime(json!({"access_token":token,"expires_in":0})), 0);
}

#[test]
fn advice_to_renew_after_the_end_is_ignored() {
    let refresh = |refresh_in: u64| {
        parse(&json!({"access_token":"opaque","expires_in":3600,"refresh_in":refresh_in})).unwrap().refresh_in
    };
    assert_eq!(refresh(3599), Some(Duration::from_secs(3599)));
    assert_eq!(refresh(3600), None);
}

#[test]
fn an_opaque_token_is_used_for_what_it_was_asked_for() {
    let token = |text: &str| parse(&json!({"access_token":text,"expires_in":60}));
    for text in ["opaque", "a.b", "a.b.c.d", "!!.!!.!!", "e30.bm90IGpzb24.x"] {
        let grant = token(text).unwrap();
        assert_eq!((grant.claims, grant.problems), (None, vec![]), "{text}");
    }
}

#[test]
fn another_tenants_token_is_never_used() {
    let other = "00000000-0000-4000-8000-00000000000b";
    let error = granted(&with("tid", json!(other))).unwrap_err();
    let expected = TokenProblem::WrongTenant { expected: tenant(), found: other.parse().unwrap() };
    assert_eq!(error, TokenError::Unusable(expected));
    assert!(granted(&with("tid", json!(tenant().to_string().to_uppercase()))).is_ok());
}

#[test]
fn another_clouds_token_is_never_used() {
    let error = granted(&with("aud", json!("https://manage-gcc.office.com"))).unwrap_err();
    assert!(matches!(error, TokenError::Unusable(TokenProblem::WrongAudience { .. })));
    for same in ["https://manage.office.com", "https://manage.office.com/", "c5393580-f805-4401-95e8-94b7a6ef2fc2"] {
        assert_eq!(granted(&with("aud", json!(same))).unwrap().problems, [], "{same}");
    }
}

#[test]
fn a_cloud_the_operator_described_may_name_its_audience_as_it_likes() {
    let root = "http://127.0.0.1:7000".to_owned();
    let cloud =
        Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None }).unwrap();
    let body = json!({"access_token":jwt(&claims()),"expires_in":60}).to_string();
    let grant = parse_on(&cloud, body.as_bytes()).unwrap();
    assert!(matches!(grant.problems[..], [TokenProblem::WrongAudience { .. }]));
    let other = json!({"access_token":jwt(&with("tid", json!("00000000-0000-4000-8000-00000000000b")))}).to_string();
    assert!(matches!(parse_on(&cloud, other.as_bytes()), Err(TokenError::Unusable(TokenProblem::WrongTenant { .. }))));
}

#[test]
fn a_token_without_the_role_says_that_the_permission_is_missing() {
    for (roles, shown) in
        [(json!(null), "none"), (json!([]), "none"), (json!(["ServiceHealth.Read"]), "ServiceHealth.Read")]
    {
        let grant = granted(&with("roles", roles)).unwrap();
        assert!(!grant.permits_reading());
        let problem = grant.problems[0].to_string();
        assert_eq!(problem, format!("the application permission ActivityFeed.Read is missing; granted are: {shown}"));
    }
    let several = granted(&with("roles", json!(["ServiceHealth.Read", "ActivityFeed.Read"]))).unwrap();
    assert!(several.permits_reading());
}

#[test]
fn the_lesser_oddities_are_told_and_do_not_stop_collection() {
    let problem = |claims: &Value| granted(claims).unwrap().problems;
    let other = "00000000-0000-4000-8000-00000000000c";
    assert!(matches!(problem(&with("appid", json!(other)))[..], [TokenProblem::WrongApp { .. }]));
    assert!(matches!(problem(&with("iss", json!("https://evil.example/")))[..], [TokenProblem::WrongIssuer { .. }]));
    assert!(matches!(problem(&with("exp", json!(now().timestamp())))[..], [TokenProblem::AlreadyExpired { .. }]));
    assert_eq!(problem(&with("exp", json!(now().timestamp() + 1))), []);
}

#[test]
fn an_answer_without_a_usable_token_is_unreadable_and_shows_no_secret() {
    let secret = jwt(&claims());
    let bodies = [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        format!(r#"{{"access_token":"{secret}"#),
        json!({"access_token":format!("{secret}\r\nx: y")}).to_string(),
        json!({"token_type":secret,"access_token":secret}).to_string(),
        json!({"token_type":"mac","access_token":secret}).to_string(),
        json!({"access_token":7}).to_string(),
        format!("{}{}", json!({"access_token":"x"}), " ".repeat(MAX_TOKEN_BODY)),
    ];
    for body in bodies {
        let error = parse_on(&Cloud::preset(CloudName::Commercial).unwrap(), body.as_bytes()).unwrap_err();
        assert!(matches!(error, TokenError::Unreadable(_)), "{body}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&secret[..40]), "{shown}");
    }
}

#[test]
fn an_error_with_a_good_status_is_still_an_error() {
    let error = parse(&json!({"error":"invalid_client","error_codes":[7000222]})).unwrap_err();
    assert!(matches!(error, TokenError::Entra(error) if error.code() == Some(7_000_222)));
}

#[test]
fn a_grant_prints_no_token() {
    let shown = format!("{:?}", granted(&claims()).unwrap());
    assert!(shown.contains("redacted") && !shown.contains("eyJ"), "{shown}");
}
