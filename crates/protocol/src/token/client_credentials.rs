//! The client-credentials grant at both endpoints, with a secret or an assertion (entra.md §5).
//!
//! Never puts the credential anywhere but into the body, and never asks for more than the cloud's one resource.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use uuid::Uuid;

use super::{TokenAsk, TokenEndpoint};
use crate::ids::ClientId;
use crate::redact::scrub;
use crate::request::Request;
use crate::secret::{ClientAssertion, ClientSecret};

/// What the app proves itself with.
#[derive(Debug, Clone)]
pub enum GrantCredential {
    /// A client secret's value (not its id).
    Secret(ClientSecret),
    /// An assertion: made from a certificate for this one request, or another issuer's token.
    Assertion(ClientAssertion),
}

impl GrantCredential {
    /// An answer's bytes without this credential, as it is and as a form holds it.
    pub fn scrub<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        let text = match self {
            Self::Secret(secret) => secret.expose(),
            Self::Assertion(assertion) => assertion.expose(),
        };
        let encoded: String = byte_serialize(text.as_bytes()).collect();
        match scrub(body, text) {
            Cow::Borrowed(body) => scrub(body, &encoded),
            Cow::Owned(clean) => Cow::Owned(scrub(&clean, &encoded).into_owned()),
        }
    }
}

/// Asks for an app-only token. `request_id` is a fresh GUID that Entra logs, so that an exchange can be found again.
pub fn client_credentials(ask: &TokenAsk<'_>, credential: &GrantCredential, request_id: Uuid) -> Request {
    let resource = ask.cloud.resource();
    let audience = match ask.endpoint {
        TokenEndpoint::V1 => ("resource", resource.to_owned()),
        TokenEndpoint::V2 => ("scope", format!("{resource}/.default")),
    };
    let grant = [("grant_type", "client_credentials"), (audience.0, &audience.1)];
    grant_request(ask.token_endpoint(), ask.client_id, &grant, credential, request_id)
}

/// What every grant has in common: the app, its credential, and the ids for support.
pub(crate) fn grant_request(
    endpoint: Url,
    client_id: ClientId,
    grant: &[(&str, &str)],
    credential: &GrantCredential,
    request_id: Uuid,
) -> Request {
    let mut form = Serializer::new(String::new());
    form.append_pair("client_id", &client_id.to_string()).extend_pairs(grant);
    match credential {
        GrantCredential::Secret(secret) => form.append_pair("client_secret", secret.expose()),
        GrantCredential::Assertion(assertion) => form
            .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .append_pair("client_assertion", assertion.expose()),
    };
    let request_id = HeaderValue::try_from(request_id.to_string()).expect("a GUID is visible ASCII");
    Request::form_post(endpoint, form.finish())
        .with_header(HeaderName::from_static("client-request-id"), request_id)
        .with_header(HeaderName::from_static("return-client-request-id"), HeaderValue::from_static("true"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cloud::{Cloud, CloudName};

    fn form(endpoint: TokenEndpoint, credential: &GrantCredential) -> (String, BTreeMap<String, String>) {
        let cloud = Cloud::preset(CloudName::GccHigh).unwrap();
        let ask = TokenAsk {
            cloud: &cloud,
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            client_id: "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap(),
            endpoint,
        };
        let request = client_credentials(&ask, credential, Uuid::from_u128(7)).into_unauthenticated().unwrap();
        assert_eq!(request.method(), http::Method::POST);
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
        assert_eq!(request.headers()["client-request-id"], "00000000-0000-0000-0000-000000000007");
        assert!(!request.headers().contains_key("authorization"));
        let fields = url::form_urlencoded::parse(request.body()).into_owned().collect();
        (request.uri().to_string(), fields)
    }

    #[test]
    fn v1_asks_for_a_resource_and_v2_for_a_scope() {
        let secret = GrantCredential::Secret(ClientSecret::new("x"));
        let (url, v1) = form(TokenEndpoint::V1, &secret);
        assert_eq!(url, "https://login.microsoftonline.us/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/oauth2/token");
        assert_eq!(v1["resource"], "https://manage.office365.us");
        assert!(!v1.contains_key("scope"));
        let (url, v2) = form(TokenEndpoint::V2, &secret);
        assert_eq!(url, "https://login.microsoftonline.us/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/oauth2/v2.0/token");
        assert_eq!(v2["scope"], "https://manage.office365.us/.default");
        assert!(!v2.contains_key("resource"));
        for fields in [v1, v2] {
            assert_eq!(fields["grant_type"], "client_credentials");
            assert_eq!(fields["client_id"], "a6099727-6b7b-482c-b509-1df309acc563");
        }
    }

    #[test]
    fn secrets_survive_the_form_encoding() {
        let odd = "a+b/c=d%e&f~g h";
        let (_, fields) = form(TokenEndpoint::V2, &GrantCredential::Secret(ClientSecret::new(odd)));
        assert_eq!(fields["client_secret"], odd);
        assert!(!fields.contains_key("client_assertion"));
    }

    #[test]
    fn an_assertion_comes_with_its_type_and_without_a_secret() {
        let (_, fields) = form(TokenEndpoint::V1, &GrantCredential::Assertion(ClientAssertion::new("h.c.s")));
        assert_eq!(fields["client_assertion"], "h.c.s");
        assert_eq!(fields["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert!(!fields.contains_key("client_secret"));
    }

    #[test]
    fn an_echoed_credential_goes_in_both_its_forms() {
        let credential = GrantCredential::Secret(ClientSecret::new("aa/bb cc"));
        let clean = credential.scrub(b"given aa/bb cc as client_secret=aa%2Fbb+cc&x");
        assert_eq!(clean.as_ref(), b"given (redacted) as client_secret=(redacted)&x");
        assert!(matches!(credential.scrub(b"aa/bb c"), Cow::Borrowed(_)));
    }
}
