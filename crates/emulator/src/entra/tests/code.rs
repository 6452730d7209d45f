//! Redeeming codes and refresh tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::consent::{ADMIN, USER, v1_authorize, v2_authorize};
use super::*;
use crate::app::sha256;

const ACCEPT: [(&str, &str); 2] = [("emulator_account", ADMIN), ("emulator_decision", "accept")];
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

async fn v1_code(service: &Service, segment: &str, change: &[(&str, &str)]) -> String {
    let all: Vec<_> = ACCEPT.iter().chain(change).copied().collect();
    service.get(&v1_authorize(segment, &all)).await.redirect().1["code"].clone()
}

async fn v2_code(service: &Service, change: &[(&str, &str)]) -> String {
    let all: Vec<_> = ACCEPT.iter().chain(change).copied().collect();
    service.get(&v2_authorize("common", &all)).await.redirect().1["code"].clone()
}

async fn redeem(service: &Service, path: &str, code: &str, change: &[(&str, &str)]) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("code", code),
        ("redirect_uri", REDIRECT),
    ];
    service.post(path, &changed(&form, change)).await
}

const V1: &str = "/common/oauth2/token";
const V2: &str = "/common/oauth2/v2.0/token";

#[tokio::test]
async fn a_v1_code_brings_tokens_whose_tid_is_the_tenant_that_consented() {
    let service = Service::new();
    let code = v1_code(&service, "common", &[("nonce", "n1")]).await;
    let answer = redeem(&service, V1, &code, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let json = answer.json();
    for name in ["expires_in", "expires_on", "not_before", "resource", "scope", "refresh_token", "id_token"] {
        assert!(json[name].is_string(), "{name}");
    }
    let access = answer.claims();
    assert_eq!((&access["tid"], &access["aud"]), (&FABRIKAM.into(), &MANAGE.into()));
    assert_eq!((&access["upn"], &access["scp"]), (&ADMIN.into(), &"user_impersonation".into()));
    assert!(access.get("roles").is_none());
    let id = claims(json["id_token"].as_str().unwrap());
    assert_eq!((&id["aud"], &id["nonce"], &id["ver"]), (&CLIENT.into(), &"n1".into(), &"1.0".into()));
    assert_eq!(id["iss"], format!("https://sts.windows.net/{FABRIKAM}/"));
}

#[tokio::test]
async fn the_v1_id_token_can_be_the_unsigned_one_of_the_archived_page() {
    let service = Service::new();
    service.policy(|policy| policy.unsigned_v1_id_token = true);
    let code = v1_code(&service, "common", &[]).await;
    let json = redeem(&service, V1, &code, &[]).await.json();
    let token = json["id_token"].as_str().unwrap();
    assert!(token.ends_with('.'), "{token}");
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], "none");
}

#[tokio::test]
async fn a_v2_code_brings_what_its_scopes_ask_for() {
    let service = Service::new();
    let code = v2_code(&service, &[("nonce", "n2")]).await;
    let answer = redeem(&service, V2, &code, &[("client_info", "1")]).await;
    let json = answer.json();
    assert!(json["expires_in"].is_i64() && json["ext_expires_in"].is_i64());
    assert!(json.get("refresh_token").is_none(), "offline_access was not asked for");
    let scope = json["scope"].as_str().unwrap();
    assert_eq!(scope, "openid profile https://graph.microsoft.com/User.Read");
    let info = URL_SAFE_NO_PAD.decode(json["client_info"].as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&info).unwrap()["utid"], FABRIKAM);

    let token = json["id_token"].as_str().unwrap();
    let keys: JwkSet = serde_json::from_str(&service.get("/common/discovery/v2.0/keys").await.body).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[CLIENT]);
    validation.set_issuer(&[format!("https://login.microsoftonline.com/{FABRIKAM}/v2.0")]);
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let id = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims;
    assert_eq!((&id["nonce"], &id["preferred_username"]), (&"n2".into(), &ADMIN.into()));

    let code = v2_code(&service, &[("scope", "offline_access https://manage.office.com/ActivityFeed.Read")]).await;
    let json = redeem(&service, V2, &code, &[]).await.json();
    assert!(json["refresh_token"].is_string() && json.get("id_token").is_none());
    assert_eq!(json["scope"], "https://manage.office.com/ActivityFeed.Read");
    assert_eq!(redeem(&service, V2, &v2_code(&service, &[]).await, &[("resource", MANAGE)]).await.code(), 901_002);
}

#[tokio::test]
async fn a_code_works_once() {
    let service = Service::new();
    let code = v1_code(&service, "common", &[]).await;
    assert_eq!(redeem(&service, V1, &code, &[]).await.status, StatusCode::OK);
    let again = redeem(&service, V1, &code, &[]).await;
    assert_eq!(
        (again.code(), again.status, &again.json()["error"]),
        (54005, StatusCode::BAD_REQUEST, &"invalid_grant".into())
    );
}

#[tokio::test]
async fn a_code_lives_ten_minutes() {
    let service = Service::new();
    let (early, late) = (v1_code(&service, "common", &[]).await, v1_code(&service, "common", &[]).await);
    service.advance(TimeDelta::seconds(599));
    assert_eq!(redeem(&service, V1, &early, &[]).await.status, StatusCode::OK);
    service.advance(TimeDelta::seconds(1));
    assert_eq!(redeem(&service, V1, &late, &[]).await.code(), 70008);
}

#[tokio::test]
async fn a_code_belongs_to_its_segment_client_reply_url_and_resource() {
    let service = Service::new();
    let code = v1_code(&service, "common", &[]).await;
    let at = |segment: &str| format!("/{segment}/oauth2/token");
    assert_eq!(redeem(&service, &at(FABRIKAM), &code, &[]).await.code(), 700_005);
    assert_eq!(redeem(&service, &at("organizations"), &code, &[]).await.code(), 700_005);
    assert_eq!(redeem(&service, V1, &code, &[("redirect_uri", "https://collector.example/x")]).await.code(), 500_112);
    assert_eq!(redeem(&service, V1, &code, &[("redirect_uri", "")]).await.code(), 900_144);
    assert_eq!(redeem(&service, V1, &code, &[("resource", "https://graph.microsoft.com")]).await.code(), 70000);
    assert_eq!(redeem(&service, V1, "nonsense", &[]).await.code(), 70000);
    assert_eq!(redeem(&service, V1, &code, &[("client_secret", "")]).await.code(), 7_000_218);
    assert_eq!(redeem(&service, V1, &code, &[("client_secret", "wrong")]).await.code(), 7_000_215);
    let other = "11111111-2222-3333-4444-555555555555";
    service.apps.register(AppRegistration::new(other.parse().unwrap(), contoso()).with_secret("o"));
    let stolen = [("client_id", other), ("client_secret", "o")];
    assert_eq!(redeem(&service, V1, &code, &stolen).await.code(), 70000);
    // None of that used it up.
    assert_eq!(redeem(&service, V1, &code, &[("resource", MANAGE)]).await.status, StatusCode::OK);

    let code = v1_code(&service, FABRIKAM, &[]).await;
    assert_eq!(redeem(&service, &at("fabrikam.example"), &code, &[]).await.status, StatusCode::OK);
    let code = v1_code(&service, "common", &[("resource", "")]).await;
    assert_eq!(redeem(&service, V1, &code, &[]).await.code(), 900_144);
    assert_eq!(redeem(&service, V1, &code, &[("resource", MANAGE)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_challenged_code_wants_its_verifier() {
    let service = Service::new();
    let challenge = URL_SAFE_NO_PAD.encode(sha256(VERIFIER.as_bytes()));
    assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "the example of RFC 7636");
    for (challenge, method) in [(challenge.as_str(), "S256"), (VERIFIER, "plain")] {
        let asked = [("code_challenge", challenge), ("code_challenge_method", method)];
        let code = v2_code(&service, &asked).await;
        let wrong = VERIFIER.replace('d', "e");
        for verifier in ["", "short", wrong.as_str()] {
            assert_eq!(redeem(&service, V2, &code, &[("code_verifier", verifier)]).await.code(), 501_481);
        }
        assert_eq!(redeem(&service, V2, &code, &[("code_verifier", VERIFIER)]).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn consent_taken_back_before_redemption_is_65001() {
    let service = Service::new();
    let code = v1_code(&service, "common", &[]).await;
    service.uninstall(fabrikam());
    let answer = redeem(&service, V1, &code, &[]).await;
    assert_eq!((answer.code(), &answer.json()["suberror"]), (65001, &"consent_required".into()));
}

async fn refresh(service: &Service, path: &str, token: &str, change: &[(&str, &str)]) -> Answer {
    let form =
        [("grant_type", "refresh_token"), ("client_id", CLIENT), ("client_secret", SECRET), ("refresh_token", token)];
    service.post(path, &changed(&form, change)).await
}

#[tokio::test]
async fn a_refresh_token_brings_new_tokens_for_any_resource_until_it_rests_too_long() {
    let service = Service::new();
    let code = v1_code(&service, "common", &[]).await;
    let first = redeem(&service, V1, &code, &[]).await.json()["refresh_token"].as_str().unwrap().to_owned();
    service.advance(TimeDelta::hours(2));
    let answer = refresh(&service, V1, &first, &[]).await;
    assert_eq!((&answer.claims()["aud"], &answer.claims()["tid"]), (&MANAGE.into(), &FABRIKAM.into()));
    let second = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let graph = refresh(&service, V1, &second, &[("resource", "https://graph.microsoft.com")]).await;
    assert_eq!(graph.claims()["aud"], "https://graph.microsoft.com");
    let v2 = refresh(&service, V2, &second, &[("scope", "https://manage.office.com/.default offline_access")]).await;
    assert_eq!(v2.claims()["aud"], MANAGE);
    assert!(v2.json()["refresh_token"].is_string());

    assert_eq!(refresh(&service, V1, "nonsense", &[]).await.code(), 70000);
    assert_eq!(refresh(&service, &format!("/{CONTOSO}/oauth2/token"), &second, &[]).await.code(), 50020);
    assert_eq!(refresh(&service, &format!("/{FABRIKAM}/oauth2/token"), &second, &[]).await.status, StatusCode::OK);
    assert_eq!(refresh(&service, V1, &second, &[("client_secret", "x")]).await.code(), 7_000_215);

    service.advance(TimeDelta::days(90) - TimeDelta::seconds(1));
    assert_eq!(refresh(&service, V1, &second, &[]).await.status, StatusCode::OK);
    service.advance(TimeDelta::days(90));
    assert_eq!(refresh(&service, V1, &second, &[]).await.code(), 700_082);
}

#[tokio::test]
async fn a_hybrid_answer_binds_its_code_to_the_id_token() {
    let service = Service::new();
    let change = [
        ("response_type", "code id_token"),
        ("nonce", "n"),
        ("emulator_account", USER),
        ("emulator_decision", "accept"),
    ];
    let (_, answer) = service.get(&v2_authorize("common", &change)).await.redirect();
    let id = claims(&answer["id_token"]);
    let digest = sha256(answer["code"].as_bytes());
    assert_eq!(id["c_hash"], URL_SAFE_NO_PAD.encode(&digest[..16]));
    assert_eq!(redeem(&service, V2, &answer["code"], &[]).await.status, StatusCode::OK);
}
