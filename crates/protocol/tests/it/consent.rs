//! What comes back from Entra ID's pages, and what a redeemed code proves.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use protocol::cloud::{Cloud, CloudName, CustomCloud};
use protocol::consent::{
    Answer, CallbackFault, ConsentAsk, ConsentFault, Directory, MAX_CALLBACK_PARAMETERS, MAX_CALLBACK_QUERY,
    ProofProblem, RedeemError, SignIn, parse_callback, parse_redemption, redeem_code,
};
use protocol::response::Response;
use protocol::secret::{AuthorizationCode, ClientSecret, CodeVerifier};
use protocol::time::{Timestamp, parse_timestamp};
use protocol::token::{GrantCredential, TokenEndpoint};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::activity::tenant;

const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
const STATE: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
const CALLBACK: &str = "https://audit.example.com/consent/callback";
const NONCE: &str = "n-0S6_WzA2Mj";

fn now() -> Timestamp {
    parse_timestamp("2026-03-04T05:00:00Z").unwrap()
}

/// What a callback with our state is taken for, in a word.
fn taken_for(parameters: &str) -> String {
    match parse_callback(&format!("{parameters}&state={STATE}")) {
        Ok(callback) => match callback.answer {
            Answer::Code(code) => format!("code {}", code.expose()),
            Answer::AdminConsent { claimed } => format!("claims {claimed}"),
            Answer::Error(error) => ConsentFault::of_callback(&error).as_str().to_owned(),
        },
        Err(fault) => format!("{fault:?}"),
    }
}

#[test]
fn every_callback_of_the_reference_is_taken_for_what_it_is() {
    let declined =
        "AADSTS65004%3A+User+declined+to+consent.%0D%0ATrace+ID%3A+3f0a2d5c-0000-4000-8000-000000000001%0D%0A";
    let mine = tenant();
    for (parameters, expected) in [
        ("code=0.AXoA-_x&session_state=3f0a2d5c-0000-4000-8000-000000000002".to_owned(), "code 0.AXoA-_x".to_owned()),
        ("code=0.AXoA&session_state=x&admin_consent=True".into(), "code 0.AXoA".into()),
        (format!("tenant={mine}&admin_consent=True"), format!("claims {mine}")),
        (
            format!("admin_consent=True&tenant={mine}&scope=https%3A%2F%2Fmanage.office.com%2F.default"),
            format!("claims {mine}"),
        ),
        // admin_consent=True stands on failures too.
        (
            format!(
                "error=access_denied&error_description={declined}&error_uri=https%3A%2F%2Flogin.microsoftonline.com%2Ferror%3Fcode%3D65004&admin_consent=True"
            ),
            "declined".into(),
        ),
        (
            format!("admin_consent=True&tenant={mine}&error=consent_required&error_description={declined}"),
            "declined".into(),
        ),
        ("error=permission_denied&error_description=The+admin+canceled".into(), "declined".into()),
        ("error=access_denied&error_subcode=cancel".into(), "declined".into()),
        (
            "error=access_denied&error_uri=https%3A%2F%2Flogin.microsoftonline.com%2Ferror%3Fcode%3D90094".into(),
            "not_admin".into(),
        ),
        ("error=access_denied&error_description=AADSTS50020%3A+User+account".into(), "other_account".into()),
        ("error=invalid_client&error_description=AADSTS650051%3A+x".into(), "retired_permission".into()),
        ("error=server_error".into(), "microsoft_down".into()),
        ("error=temporarily_unavailable".into(), "microsoft_down".into()),
        ("error=invalid_resource".into(), "no_office_365".into()),
        ("error=interaction_required".into(), "challenge".into()),
        ("error=unauthorized_client".into(), "registration".into()),
        ("error=something_new&error_description=AADSTS999999%3A+x".into(), "unknown".into()),
        ("admin_consent=False".into(), "NoAnswer".into()),
        (format!("tenant={mine}"), "NoAnswer".into()),
        ("admin_consent=True&tenant=contoso.com".into(), "Malformed(\"tenant\")".into()),
        ("session_state=x".into(), "NoAnswer".into()),
        ("code=&error=".into(), "NoAnswer".into()),
    ] {
        assert_eq!(taken_for(&parameters), expected, "{parameters}");
    }
}

#[test]
fn every_number_has_its_page_wherever_it_turns_up() {
    let mut rows = 0;
    for line in include_str!("../fixtures/entra/consent.tsv").lines().filter(|line| !line.starts_with('#')) {
        let (code, expected) = line.split_once('\t').unwrap();
        rows += 1;
        for word in ["access_denied", "invalid_grant", "anything"] {
            let found = taken_for(&format!("error={word}&error_description=AADSTS{code}%3A+A+sentence."));
            assert_eq!(found, expected, "AADSTS{code} as {word} at the callback");
        }
        let body = json!({ "error": "invalid_grant", "error_codes": [code.parse::<u32>().unwrap()] }).to_string();
        let headers = HeaderMap::new();
        let refused = Response::new(StatusCode::BAD_REQUEST, &headers, body.as_bytes());
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let error = parse_redemption(&ask(&cloud), TokenEndpoint::V1, NONCE, &refused, now()).unwrap_err();
        assert_eq!(ConsentFault::of_redemption(&error).as_str(), expected, "AADSTS{code} at the redemption");
    }
    assert_eq!(rows, 87);
}

#[test]
fn every_page_says_what_happened_and_what_to_do() {
    for fault in ConsentFault::ALL {
        for text in [fault.explanation(), fault.next_step()] {
            assert!(text.ends_with('.') && text.len() > 20, "{fault:?}: {text}");
        }
        assert!(!fault.heading().ends_with('.'), "{fault:?}");
        let words = ConsentFault::ALL.iter().filter(|other| other.as_str() == fault.as_str()).count();
        assert_eq!(words, 1, "{fault:?}");
    }
}

#[test]
fn a_callback_with_anything_twice_or_malformed_is_refused() {
    let other = "AAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    for (query, expected) in [
        (format!("code=a&state={STATE}&state={other}"), CallbackFault::Repeated),
        (format!("code=a&code=b&state={STATE}"), CallbackFault::Repeated),
        (format!("code=a&%63ode=b&state={STATE}"), CallbackFault::Repeated),
        (format!("x=1&x=1&code=a&state={STATE}"), CallbackFault::Repeated),
        ("code=a".into(), CallbackFault::NoState),
        ("code=a&state=".into(), CallbackFault::NoState),
        (String::new(), CallbackFault::NoState),
        ("&&&".into(), CallbackFault::NoState),
        (format!("code=a&State={STATE}"), CallbackFault::NoState),
        (format!("code=a&state={}", &STATE[1..]), CallbackFault::Malformed("state")),
        (format!("code=a&state={STATE}A"), CallbackFault::Malformed("state")),
        (format!("code=a&state={}%2F", &STATE[1..]), CallbackFault::Malformed("state")),
        (format!("code=a&state={}%", &STATE[1..]), CallbackFault::Malformed("state")),
        (format!("code=a%0D%0Ab&state={STATE}"), CallbackFault::Malformed("code")),
        (format!("code=%FF&state={STATE}"), CallbackFault::Malformed("code")),
        (format!("code=%4&state={STATE}"), CallbackFault::Malformed("code")),
        (format!("%zz=1&code=a&state={STATE}"), CallbackFault::Malformed("parameter name")),
        (format!("error=%C3%28&state={STATE}"), CallbackFault::Malformed("error")),
        (format!("code={}&state={STATE}", "a".repeat(8 * 1024 + 1)), CallbackFault::Malformed("code")),
    ] {
        assert_eq!(parse_callback(&query).unwrap_err(), expected, "{query:.80}");
    }
    assert!(parse_callback(&format!("code={}&state={STATE}", "a".repeat(8 * 1024))).is_ok());
    // What only explains may be broken.
    assert_eq!(taken_for("error=access_denied&error_description=%FF%4+AADSTS65004:"), "declined");
}

#[test]
fn a_callback_is_read_to_its_limits_and_no_further() {
    let fill = |count: usize| (0..count).map(|number| format!("&p{number}=")).collect::<String>();
    let with = |count: usize| parse_callback(&format!("code=a&state={STATE}{}", fill(count)));
    assert!(with(MAX_CALLBACK_PARAMETERS - 2).is_ok());
    assert_eq!(with(MAX_CALLBACK_PARAMETERS - 1).unwrap_err(), CallbackFault::TooLarge);
    let head = format!("code=a&state={STATE}&x=");
    let long = |length: usize| parse_callback(&format!("{head}{}", "a".repeat(length - head.len())));
    assert!(long(MAX_CALLBACK_QUERY).is_ok());
    assert_eq!(long(MAX_CALLBACK_QUERY + 1).unwrap_err(), CallbackFault::TooLarge);
}

#[test]
fn nothing_of_a_callback_that_is_a_secret_is_printed() {
    let callback = parse_callback(&format!("code=0.AXoA-hidden&state={STATE}")).unwrap();
    let shown = format!("{callback:?}");
    assert!(!shown.contains("hidden") && !shown.contains(STATE), "{shown}");
}

fn ask(cloud: &Cloud) -> ConsentAsk<'_> {
    let (client_id, directory) = (CLIENT.parse().unwrap(), Directory::Common);
    ConsentAsk { cloud, client_id, redirect_uri: CALLBACK, directory }
}

fn jwt(claims: &Value) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    // As the v1 id_token may come: unsigned.
    format!("{}.{}.", part(json!({"typ":"JWT","alg":"none"}).to_string()), part(claims.to_string()))
}

fn access(tenant: &str) -> Value {
    json!({
        "aud": "https://manage.office.com", "iss": format!("https://sts.windows.net/{tenant}/"), "tid": tenant,
        "appid": CLIENT, "exp": now().timestamp() + 3600, "scp": "ActivityFeed.Read", "upn": "admin@contoso.example",
    })
}

fn id(tenant: &str) -> Value {
    json!({
        "aud": CLIENT, "iss": format!("https://login.microsoftonline.com/{tenant}/v2.0"), "tid": tenant,
        "exp": now().timestamp() + 3600, "nonce": NONCE, "preferred_username": "admin@contoso.example",
        "oid": "3f0a2d5c-0000-4000-8000-000000000007",
    })
}

fn redeemed(
    endpoint: TokenEndpoint,
    id_token: Option<Value>,
    access_token: Option<Value>,
) -> Result<SignIn, RedeemError> {
    let mut body = json!({ "token_type": "Bearer", "expires_in": "3599", "access_token": "opaque" });
    if let Some(claims) = id_token {
        body["id_token"] = json!(jwt(&claims));
    }
    if let Some(claims) = access_token {
        body["access_token"] = json!(jwt(&claims));
    }
    let (headers, body) = (HeaderMap::new(), body.to_string());
    let response = Response::new(StatusCode::OK, &headers, body.as_bytes());
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    parse_redemption(&ask(&cloud), endpoint, NONCE, &response, now())
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[test]
fn a_code_is_redeemed_where_it_was_asked_for_with_everything_that_binds_it() {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let secret = GrantCredential::Secret(ClientSecret::new("s+/="));
    let (code, verifier) = (AuthorizationCode::new("0.AXoA"), CodeVerifier::new("v".repeat(43).as_str()));
    let form = |directory: Directory, endpoint: TokenEndpoint| {
        let ask = ConsentAsk { directory, ..ask(&cloud) };
        let request = redeem_code(&ask, endpoint, &code, &verifier, &secret, Uuid::nil());
        let fields: std::collections::BTreeMap<_, _> =
            url::form_urlencoded::parse(request.body()).into_owned().collect();
        (request.url().to_string(), fields)
    };
    let (url, v1) = form(Directory::Common, TokenEndpoint::V1);
    assert_eq!(url, "https://login.microsoftonline.com/common/oauth2/token");
    assert_eq!(v1["resource"], "https://manage.office.com");
    let (url, v2) = form(Directory::Tenant(tenant()), TokenEndpoint::V2);
    assert_eq!(url, format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", tenant()));
    assert!(!v2.contains_key("resource"));
    for fields in [v1, v2] {
        assert_eq!(fields["grant_type"], "authorization_code");
        assert_eq!((fields["code"].as_str(), fields["redirect_uri"].as_str()), ("0.AXoA", CALLBACK));
        assert_eq!(fields["code_verifier"], "v".repeat(43));
        assert_eq!(fields["client_secret"], "s+/=");
    }
}

#[test]
fn the_tenant_is_the_tokens_own() {
    let mine = tenant().to_string();
    for (endpoint, id_token, access_token) in [
        (TokenEndpoint::V1, None, Some(access(&mine))),
        (TokenEndpoint::V1, Some(id(&mine)), Some(access(&mine.to_uppercase()))),
        (TokenEndpoint::V1, Some(with(id(&mine), "nonce", json!(null))), Some(access(&mine))),
        (TokenEndpoint::V2, Some(id(&mine)), None),
        // Five minutes past its end is a clock that differs.
        (TokenEndpoint::V2, Some(with(id(&mine), "exp", json!(now().timestamp() - 300))), None),
    ] {
        let found = redeemed(endpoint, id_token, access_token).unwrap();
        assert_eq!(found.tenant, tenant());
        assert_eq!(found.account.as_deref(), Some("admin@contoso.example"));
    }
}

#[test]
fn tokens_that_do_not_prove_this_sign_in_are_refused() {
    let (mine, other) = (tenant().to_string(), "00000000-0000-4000-8000-00000000000b");
    let personal = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let (v1, v2) = (TokenEndpoint::V1, TokenEndpoint::V2);
    let past = json!(now().timestamp() - 301);
    for (endpoint, id_token, access_token, expected) in [
        (v1, None, None, ProofProblem::NoTenant),
        (v2, None, Some(access(&mine)), ProofProblem::NoTenant),
        (v2, Some(with(id(&mine), "tid", json!("contoso.com"))), None, ProofProblem::NoTenant),
        (v1, Some(id(other)), Some(access(&mine)), ProofProblem::TenantsDiffer),
        (v1, None, Some(access(personal)), ProofProblem::PersonalAccount),
        (v1, None, Some(with(access(&mine), "appid", json!(other))), ProofProblem::OtherApp),
        (v2, Some(with(id(&mine), "aud", json!(other))), None, ProofProblem::OtherApp),
        (v1, None, Some(with(access(&mine), "aud", json!("https://graph.microsoft.com"))), ProofProblem::OtherResource),
        (
            v1,
            None,
            Some(with(access(&mine), "iss", json!(format!("https://sts.windows.net/{other}/")))),
            ProofProblem::OtherIssuer,
        ),
        (
            v2,
            Some(with(id(&mine), "iss", json!(format!("https://evil.example/x{mine}")))),
            None,
            ProofProblem::OtherIssuer,
        ),
        (v2, Some(with(id(&mine), "nonce", json!("another"))), None, ProofProblem::OtherNonce),
        (v2, Some(with(id(&mine), "nonce", json!(null))), None, ProofProblem::OtherNonce),
        (v1, Some(with(id(&mine), "nonce", json!("another"))), Some(access(&mine)), ProofProblem::OtherNonce),
        (v2, Some(with(id(&mine), "exp", past)), None, ProofProblem::Expired),
        (v2, Some(with(id(&mine), "exp", json!(null))), None, ProofProblem::Expired),
    ] {
        let error = redeemed(endpoint, id_token, access_token).unwrap_err();
        assert_eq!(error, RedeemError::NotProven(expected));
    }
}

#[test]
fn a_cloud_the_operator_described_may_name_its_audience_as_it_likes() {
    let root = "http://127.0.0.1:7000".to_owned();
    let cloud =
        Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None }).unwrap();
    let body = json!({ "access_token": jwt(&access(&tenant().to_string())) }).to_string();
    let headers = HeaderMap::new();
    let response = Response::new(StatusCode::OK, &headers, body.as_bytes());
    assert!(parse_redemption(&ask(&cloud), TokenEndpoint::V1, NONCE, &response, now()).is_ok());
}

#[test]
fn a_redemption_prints_no_token() {
    let secret = jwt(&access(&tenant().to_string()));
    let headers = HeaderMap::new();
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    for body in [format!(r#"{{"access_token":"{secret}"#), json!({ "token_type": 7, "id_token": secret }).to_string()] {
        let response = Response::new(StatusCode::OK, &headers, body.as_bytes());
        let error = parse_redemption(&ask(&cloud), TokenEndpoint::V1, NONCE, &response, now()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret[..40]), "{error:?}");
    }
}

/// Queries made of the pieces that matter, in any order and number, with noise between.
fn any_query() -> impl Strategy<Value = String> {
    let pieces = vec![
        "code=",
        "state=",
        STATE,
        "error=",
        "access_denied",
        "error_description=",
        "AADSTS65004%3A",
        "tenant=",
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11",
        "admin_consent=True",
        "&",
        "=",
        "%",
        "%00",
        "%FF",
        "+",
        "Trace ID:",
        "ü",
        "error?code=",
        "99999999999",
    ];
    let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_callback_makes_the_parser_panic_and_what_it_takes_has_a_state_of_ours(query in any_query()) {
        if let Ok(callback) = parse_callback(&query) {
            prop_assert_eq!(callback.state.as_str().len(), 43);
            prop_assert!(query.contains("state"), "{}", query);
            if let Answer::Error(error) = callback.answer {
                prop_assert!(error.description.chars().count() <= 513);
                let _ = ConsentFault::of_callback(&error).next_step();
            }
        }
    }

    #[test]
    fn no_answer_to_a_redemption_makes_the_parser_panic(
        claims in prop::collection::btree_map("(tid|iss|aud|exp|nonce|appid|oid|upn)", "(6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11|[a-z0-9/:.]{0,12})", 0..8),
        cut in 0_usize..200,
    ) {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let headers = HeaderMap::new();
        let body = json!({ "id_token": jwt(&json!(claims)), "access_token": jwt(&json!(claims)) }).to_string();
        for bytes in [body.as_bytes(), body.as_bytes().get(..cut).unwrap_or_default()] {
            let response = Response::new(StatusCode::OK, &headers, bytes);
            for endpoint in [TokenEndpoint::V1, TokenEndpoint::V2] {
                let _ = parse_redemption(&ask(&cloud), endpoint, NONCE, &response, now());
            }
        }
    }
}
