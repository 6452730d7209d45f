//! Client assertions, built with a JWT library: certificates, and tokens of trusted outside issuers.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::*;
use crate::app::{AppCertificate, CertificateError, FederatedCredential, FederatedKey, ManagedIdentity};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const OUTSIDE: &str = "https://token.actions.example";

/// A key with its certificate, valid 2026-01-01 to 2026-12-31.
struct Pair {
    key: EncodingKey,
    certificate: AppCertificate,
}

fn pairs() -> &'static [Pair; 2] {
    static PAIRS: OnceLock<[Pair; 2]> = OnceLock::new();
    PAIRS.get_or_init(|| [pair(), pair()])
}

fn pair() -> Pair {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 12, 31);
    let certificate = params.self_signed(&key).unwrap();
    // PKCS#8 of a 2048-bit RSA key is 26 bytes of wrapping around the PKCS#1 key.
    let pkcs1 = &key.serialized_der()[26..];
    Pair { key: EncodingKey::from_rsa_der(pkcs1), certificate: AppCertificate::from_pem(&certificate.pem()).unwrap() }
}

/// An assertion before it is signed.
struct Draft {
    header: Header,
    claims: Value,
}

impl Draft {
    /// RS256 with `x5t` for the v1 endpoint of Contoso, valid for ten minutes.
    fn new() -> Self {
        let mut header = Header::new(Algorithm::RS256);
        header.x5t = Some(URL_SAFE_NO_PAD.encode(pairs()[0].certificate.sha1));
        let now = start().timestamp();
        let claims = json!({
            "aud": format!("https://{HOST_NAME}/{CONTOSO}/oauth2/token"),
            "iss": CLIENT, "sub": CLIENT, "jti": "1", "nbf": now, "iat": now, "exp": now + 600,
        });
        Self { header, claims }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.claims[name] = value;
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self
    }

    fn header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    fn sign(&self) -> String {
        self.sign_with(&pairs()[0].key)
    }

    fn sign_with(&self, key: &EncodingKey) -> String {
        jsonwebtoken::encode(&self.header, &self.claims, key).unwrap()
    }
}

fn service() -> Service {
    let service = Service::new();
    assert!(service.apps.add_certificate(client(), pairs()[0].certificate.clone()));
    service
}

impl Service {
    async fn assert(&self, assertion: &str) -> Answer {
        let change = [("client_secret", ""), ("client_assertion_type", TYPE), ("client_assertion", assertion)];
        self.v1(CONTOSO, &change).await
    }
}

fn ps256(draft: Draft) -> Draft {
    draft.header(|header| {
        header.alg = Algorithm::PS256;
        header.x5t = None;
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(pairs()[0].certificate.sha256));
    })
}

#[tokio::test]
async fn both_documented_forms_are_accepted() {
    let service = service();
    let rs256 = service.assert(&Draft::new().sign()).await;
    assert_eq!(rs256.status, StatusCode::OK, "{rs256:?}");
    assert_eq!(rs256.claims()["appidacr"], "2");
    let ps256 = service.assert(&ps256(Draft::new().with("jti", "2".into())).sign()).await;
    assert_eq!(ps256.status, StatusCode::OK, "{ps256:?}");
    let mixed = Draft::new().with("jti", "3".into()).header(|header| {
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(pairs()[0].certificate.sha256));
    });
    assert_eq!(service.assert(&mixed.sign()).await.status, StatusCode::OK);
    let padded = Draft::new().with("jti", "4".into()).header(|header| {
        header.x5t = header.x5t.as_ref().map(|text| format!("{text}="));
    });
    assert_eq!(service.assert(&padded.sign()).await.status, StatusCode::OK, "as MSAL for Python sends it");
}

#[tokio::test]
async fn the_audience_is_a_token_endpoint_of_this_tenant_and_host() {
    let accepted = [
        format!("https://{HOST_NAME}/{CONTOSO}/oauth2/token"),
        format!("https://{HOST_NAME}/{CONTOSO}/oauth2/v2.0/token"),
        format!("https://{HOST_NAME}/contoso.example/oauth2/v2.0/token"),
        format!("https://{HOST_NAME}/{}/oauth2/token", CONTOSO.to_uppercase()),
        format!("https://login.windows.net/{CONTOSO}/oauth2/token"),
    ];
    let refused = [
        format!("https://{HOST_NAME}/{FABRIKAM}/oauth2/token"),
        format!("https://{HOST_NAME}/common/oauth2/token"),
        format!("https://{HOST_NAME}/{CONTOSO}/oauth2/token/"),
        format!("https://{HOST_NAME}/{CONTOSO}/oauth2/authorize"),
        format!("https://{HOST_NAME}/{CONTOSO}"),
        format!("https://login.microsoftonline.us/{CONTOSO}/oauth2/token"),
        format!("http://{HOST_NAME}/{CONTOSO}/oauth2/token"),
        MANAGE.to_owned(),
        String::new(),
    ];
    let service = service();
    service.policy(|policy| policy.refuse_assertion_reuse = false);
    for audience in accepted {
        let answer = service.assert(&Draft::new().with("aud", audience.clone().into()).sign()).await;
        assert_eq!(answer.status, StatusCode::OK, "{audience}: {}", answer.body);
    }
    for audience in refused {
        let answer = service.assert(&Draft::new().with("aud", audience.clone().into()).sign()).await;
        assert_eq!((answer.code(), answer.status.as_u16()), (700_023, 401), "{audience}");
    }
}

#[tokio::test]
async fn an_assertion_ends_at_its_exp_and_may_begin_five_minutes_ahead() {
    let service = service();
    let now = start().timestamp();
    let cases = [
        (now - 600, now + 1, None),
        (now - 600, now, Some(700_024)),
        (now + 300, now + 600, None),
        (now + 301, now + 600, Some(700_024)),
    ];
    for (index, (not_before, expires, expected)) in cases.into_iter().enumerate() {
        let draft = Draft::new().with("nbf", not_before.into()).with("exp", expires.into());
        let answer = service.assert(&draft.with("jti", index.into()).sign()).await;
        match expected {
            None => assert_eq!(answer.status, StatusCode::OK, "{}", answer.body),
            Some(code) => assert_eq!((answer.code(), answer.status.as_u16()), (code, 401)),
        }
    }
    let answer = service.assert(&Draft::new().with("exp", (now - 60).into()).sign()).await;
    let description = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(description.contains("Current time: 2026-05-04T10:00:00Z"), "{description}");
    assert!(description.contains("expiry time of assertion 2026-05-04T09:59:00Z"), "{description}");
    let lasting = Draft::new().with("exp", (now + 86_400 * 365).into()).with("jti", "long".into());
    assert_eq!(service.assert(&lasting.sign()).await.status, StatusCode::OK, "no upper bound is enforced");
}

#[tokio::test]
async fn an_assertion_works_once_unless_reuse_is_allowed() {
    let service = service();
    let once = Draft::new().sign();
    assert_eq!(service.assert(&once).await.status, StatusCode::OK);
    assert_eq!(service.assert(&once).await.code(), 700_024);
    let same_jti = Draft::new().with("extra", 1.into()).sign();
    assert_eq!(service.assert(&same_jti).await.code(), 700_024);
    let nameless = Draft::new().without("jti").sign();
    assert_eq!(service.assert(&nameless).await.status, StatusCode::OK);
    assert_eq!(service.assert(&nameless).await.code(), 700_024);
    service.policy(|policy| policy.refuse_assertion_reuse = false);
    assert_eq!(service.assert(&once).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_refused_assertion_is_not_used_up() {
    let service = service();
    let text = Draft::new().sign();
    let change = [
        ("client_secret", ""),
        ("client_assertion_type", TYPE),
        ("client_assertion", text.as_str()),
        ("resource", "https://example.com"),
    ];
    assert_eq!(service.v1(CONTOSO, &change).await.code(), 500_011);
    assert_eq!(service.assert(&text).await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_mistake_in_an_assertion_has_its_number() {
    let service = service();
    let other_key = &pairs()[1];
    let unregistered = URL_SAFE_NO_PAD.encode(other_key.certificate.sha1);
    let draft = Draft::new;
    let stranger = "11111111-2222-3333-4444-555555555555";
    let cases = [
        ("wrong key", draft().sign_with(&other_key.key), 700_027, 401),
        ("unregistered", draft().header(|header| header.x5t = Some(unregistered.clone())).sign(), 700_027, 401),
        ("no thumbprint", draft().header(|header| header.x5t = None).sign(), 700_027, 401),
        ("standard base64 or hex", draft().header(|header| header.x5t = Some("AB/+=".into())).sign(), 700_027, 401),
        (
            "two thumbprints that differ",
            draft()
                .header(|header| header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(other_key.certificate.sha256)))
                .sign(),
            700_027,
            401,
        ),
        ("iss is not sub", draft().with("sub", stranger.into()).sign(), 50048, 401),
        ("no sub", draft().without("sub").sign(), 50048, 401),
        ("another client", draft().with("sub", stranger.into()).with("iss", stranger.into()).sign(), 700_021, 401),
        ("no iss", draft().without("iss").sign(), 50027, 400),
        ("no exp", draft().without("exp").sign(), 50027, 400),
        ("exp as text", draft().with("exp", "1".into()).sign(), 50027, 400),
        ("RS512", draft().header(|header| header.alg = Algorithm::RS512).sign(), 50027, 400),
        ("no JWT", "abc".to_owned(), 50027, 400),
        ("unsigned", crate::entra::jws::unsigned(&draft().claims), 50027, 400),
    ];
    for (what, assertion, code, status) in cases {
        let answer = service.assert(&assertion).await;
        assert_eq!((answer.code(), answer.status.as_u16()), (code, status), "{what}: {}", answer.body);
    }
    let text = draft().sign();
    let change = [("client_secret", ""), ("client_assertion", text.as_str())];
    assert_eq!(service.v1(CONTOSO, &change).await.code(), 900_144);
    let change = [("client_secret", ""), ("client_assertion", text.as_str()), ("client_assertion_type", "saml")];
    assert_eq!(service.v1(CONTOSO, &change).await.code(), 90023);
}

#[tokio::test]
async fn a_certificate_can_be_rolled_over_while_the_service_runs() {
    let service = service();
    let next = &pairs()[1];
    let draft = |jti: &str| {
        Draft::new().with("jti", jti.into()).header(|header| {
            header.x5t = Some(URL_SAFE_NO_PAD.encode(next.certificate.sha1));
        })
    };
    assert_eq!(service.assert(&draft("1").sign_with(&next.key)).await.code(), 700_027);
    assert!(service.apps.add_certificate(client(), next.certificate.clone()));
    assert_eq!(service.assert(&draft("2").sign_with(&next.key)).await.status, StatusCode::OK);
    let old = pairs()[0].certificate.thumbprint().to_lowercase();
    assert!(service.apps.remove_certificate(client(), &old) && !service.apps.remove_certificate(client(), &old));
    assert_eq!(service.assert(&Draft::new().sign()).await.code(), 700_027);
}

#[tokio::test]
async fn an_expired_certificate_signs_nothing() {
    let service = service();
    service.advance("2026-12-31T00:00:01Z".parse::<DateTime<Utc>>().unwrap() - start());
    let now = service.world.now().timestamp();
    let draft = Draft::new().with("nbf", now.into()).with("exp", (now + 600).into());
    assert_eq!(service.assert(&draft.sign()).await.code(), 1_000_502);
}

#[test]
fn only_rsa_certificates_of_2048_bits_or_more_can_be_registered() {
    let elliptic = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    assert!(matches!(AppCertificate::from_pem(&elliptic), Err(CertificateError::NotRsa)));
    assert!(matches!(AppCertificate::from_pem("no pem"), Err(CertificateError::NoCertificate)));
    assert!(matches!(AppCertificate::from_der(b"x"), Err(CertificateError::Unreadable)));
    assert_eq!(pairs()[0].certificate.thumbprint().len(), 40);
}

/// Trust in one outside issuer, whose key is the second pair.
fn federated() -> Service {
    let service = Service::new();
    let (modulus, exponent) = components(&pairs()[1].certificate.public_key);
    let credential = FederatedCredential {
        issuer: OUTSIDE.to_owned(),
        subject: "repo:contoso/collector:ref:refs/heads/main".to_owned(),
        audience: FederatedCredential::AUDIENCE.to_owned(),
        jwks: Some(vec![FederatedKey { kid: "k1".to_owned(), modulus, exponent }]),
    };
    service.apps.update(client(), |app| {
        app.secrets.clear();
        app.federated.push(credential);
    });
    service
}

fn components(public_key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use x509_parser::prelude::FromDer as _;
    let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(public_key).unwrap();
    (key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus).to_vec(), key.exponent.to_vec())
}

fn outside() -> Draft {
    Draft::new()
        .with("iss", OUTSIDE.into())
        .with("sub", "repo:contoso/collector:ref:refs/heads/main".into())
        .with("aud", FederatedCredential::AUDIENCE.into())
        .header(|header| {
            header.x5t = None;
            header.kid = Some("k1".to_owned());
        })
}

#[tokio::test]
async fn a_trusted_issuers_token_is_proof_and_each_mismatch_has_its_number() {
    let service = federated();
    let outside_key = &pairs()[1].key;
    let answer = service.assert(&outside().sign_with(outside_key)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.claims()["appidacr"], "2");
    let listed = outside().with("aud", json!([FederatedCredential::AUDIENCE])).with("jti", "2".into());
    assert_eq!(service.assert(&listed.sign_with(outside_key)).await.status, StatusCode::OK);
    let cases = [
        (outside().with("iss", "https://other.example".into()), 700_211),
        (outside().with("iss", format!("{OUTSIDE}/").into()), 700_211),
        (outside().with("sub", "repo:contoso/other".into()), 700_213),
        (outside().with("sub", "repo:Contoso/collector:ref:refs/heads/main".into()), 7_002_138),
        (outside().with("aud", "api://azureadtokenexchange".into()), 700_212),
        (outside().header(|header| header.kid = Some("k2".to_owned())), 700_027),
        (outside().header(|header| header.alg = Algorithm::PS256), 50027),
        (outside().with("exp", start().timestamp().into()), 700_024),
    ];
    for (draft, code) in cases {
        let answer = service.assert(&draft.sign_with(outside_key)).await;
        assert_eq!(answer.code(), code, "{}", answer.body);
    }
    assert_eq!(service.assert(&outside().sign()).await.code(), 700_027);
}

#[tokio::test]
async fn a_managed_identitys_token_is_proof_and_any_other_token_of_ours_is_not() {
    let service = Service::new();
    let identity = ManagedIdentity {
        client_id: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
        object_id: "33333333-3333-4333-8333-333333333333".parse().unwrap(),
        tenant: contoso(),
        resource_id: Some("/subscriptions/s/resourceGroups/g/…/userAssignedIdentities/collector".to_owned()),
    };
    service.apps.add_managed_identity(identity.clone());
    let credential = FederatedCredential::managed_identity(&identity, &format!("https://{HOST_NAME}"));
    service.apps.update(client(), |app| app.federated.push(credential));
    let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api://AzureADTokenExchange";
    let request = Request::get(path).header("metadata", "true").header(HOST, "169.254.169.254");
    let token = service.send(request, String::new()).await.json()["access_token"].as_str().unwrap().to_owned();
    let answer = service.assert(&token).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.claims()["appid"], CLIENT);

    let own = service.v1(CONTOSO, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(service.assert(&own).await.code(), 700_222);
    service.advance(TimeDelta::hours(2));
    assert_eq!(service.assert(&token).await.code(), 700_024);
}
