//! The token of an Azure managed identity, which stands in for a secret as a federated assertion (entra.md §5.4).
//!
//! Never used as a bearer token, and never asked for anything but the exchange's audience: an identity lives in one tenant
//! and cannot be consented to elsewhere, so it proves the app and the app asks for the tokens.
//!
//! Source: <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use url::Url;

use super::claims::TokenClaims;
use super::number::tolerant_number;
use crate::redact::redact;
use crate::request::Request;
use crate::response::{MAX_ERROR_BODY, Response};
use crate::secret::{AccessToken, ClientAssertion, IdentityHeader};
use crate::text::{decode, one_line};
use crate::time::Timestamp;

/// Where a virtual machine finds its metadata service: a link-local address that no proxy may be asked for.
pub const IMDS_ROOT: &str = "http://169.254.169.254";

/// What an identity's token is taken to live when nothing says how long.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// Who hands out the identity's tokens.
#[derive(Debug, Clone)]
pub enum IdentityEndpoint {
    /// The metadata service of a virtual machine or scale set, under this root.
    Imds(Url),
    /// App Service, Functions and Container Apps: what `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` say (unconfirmed).
    AppService {
        /// `IDENTITY_ENDPOINT`.
        endpoint: Url,
        /// `IDENTITY_HEADER`: proves that we run inside.
        header: IdentityHeader,
    },
}

/// Which of several identities is meant. Without one, the machine's only identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityName {
    /// Its client id.
    ClientId(String),
    /// Its object (principal) id.
    ObjectId(String),
    /// Its Azure resource id.
    ResourceId(String),
}

/// An identity's token for the exchange.
#[derive(Debug, Clone)]
pub struct IdentityToken {
    /// The token, as the assertion it is used for.
    pub assertion: ClientAssertion,
    /// How long it lives from the moment of the answer.
    pub lifetime: Duration,
}

/// Why there is no identity token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityError {
    /// The status.
    pub status: StatusCode,
    /// Its word for the error, when there is one.
    pub error: Option<String>,
    /// Its sentence, redacted and shortened.
    pub description: String,
}

/// Asks for the identity's token for `audience`, such as `api://AzureADTokenExchange`.
pub fn identity_token(endpoint: &IdentityEndpoint, name: Option<&IdentityName>, audience: &str) -> Request {
    match endpoint {
        IdentityEndpoint::Imds(root) => {
            let mut url = root.clone();
            url.set_path("/metadata/identity/oauth2/token");
            url.query_pairs_mut().clear().append_pair("api-version", "2018-02-01").append_pair("resource", audience);
            match name {
                Some(IdentityName::ClientId(id)) => url.query_pairs_mut().append_pair("client_id", id),
                Some(IdentityName::ObjectId(id)) => url.query_pairs_mut().append_pair("object_id", id),
                Some(IdentityName::ResourceId(id)) => url.query_pairs_mut().append_pair("msi_res_id", id),
                None => &mut url.query_pairs_mut(),
            };
            // Lower case: the service compares it letter for letter.
            Request::plain_get(url).with_header(HeaderName::from_static("metadata"), HeaderValue::from_static("true"))
        }
        IdentityEndpoint::AppService { endpoint, header } => {
            let mut url = endpoint.clone();
            url.query_pairs_mut().append_pair("api-version", "2019-08-01").append_pair("resource", audience);
            match name {
                Some(IdentityName::ClientId(id)) => url.query_pairs_mut().append_pair("client_id", id),
                Some(IdentityName::ObjectId(id)) => url.query_pairs_mut().append_pair("principal_id", id),
                Some(IdentityName::ResourceId(id)) => url.query_pairs_mut().append_pair("mi_res_id", id),
                None => &mut url.query_pairs_mut(),
            };
            let mut proof = HeaderValue::from_str(header.expose()).unwrap_or(HeaderValue::from_static(""));
            proof.set_sensitive(true);
            Request::plain_get(url).with_header(HeaderName::from_static("x-identity-header"), proof)
        }
    }
}

/// Reads the answer. `now` stands in for a `Date` header that is missing.
///
/// # Errors
/// When it is no token.
pub fn parse_identity_token(response: &Response<'_>, now: Timestamp) -> Result<IdentityToken, IdentityError> {
    let body = response.body.get(..MAX_ERROR_BODY).unwrap_or(response.body);
    let text = decode(body);
    let answer: Map<String, Value> = serde_json::from_str(text.trim()).unwrap_or_default();
    let field = |name: &str| answer.get(name).and_then(Value::as_str);
    let token = field("access_token").map(str::trim).filter(|token| is_jwt(token));
    let Some(token) = token.filter(|_| response.status.is_success()) else {
        let description = field("error_description").or(field("message")).unwrap_or(match answer.is_empty() {
            true => text.trim(),
            false => "no token that could be an assertion",
        });
        return Err(IdentityError {
            status: response.status,
            error: field("error").map(|error| one_line(&redact(error), 64)),
            description: one_line(&redact(description), 256),
        });
    };
    let seconds = |name: &str| answer.get(name).and_then(tolerant_number);
    let until = || {
        let until = Timestamp::from_timestamp(i64::try_from(seconds("expires_on")?).ok()?, 0)?;
        (until - response.date().unwrap_or(now)).to_std().ok()
    };
    let lifetime = seconds("expires_in").map(Duration::from_secs).or_else(until).unwrap_or(DEFAULT_LIFETIME);
    Ok(IdentityToken { assertion: ClientAssertion::new(token), lifetime })
}

/// Whether a text has the form of a signed JWT: three parts of base64url.
pub fn is_jwt(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// When another issuer's token ends by its own word; `None` when it does not say.
pub fn assertion_expires(assertion: &ClientAssertion) -> Option<Timestamp> {
    TokenClaims::read(&AccessToken::new(assertion.expose()))?.expires
}

impl IdentityError {
    /// Whether it passes by itself (entra.md §5.4): not found yet, throttled, faults, and a service that is updated.
    pub fn passes_by_itself(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::TOO_MANY_REQUESTS)
            || self.status.is_server_error()
            // A good status with a body that is none.
            || self.status.is_success()
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the managed identity's endpoint answered with HTTP {}", self.status.as_u16())?;
        if let Some(error) = &self.error {
            write!(f, " {error}")?;
        }
        if !self.description.is_empty() {
            write!(f, " ({})", self.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::time::parse_timestamp;

    const AUDIENCE: &str = "api://AzureADTokenExchange";

    fn now() -> Timestamp {
        parse_timestamp("2026-03-04T05:06:07Z").unwrap()
    }

    fn read(status: u16, body: &str) -> Result<IdentityToken, IdentityError> {
        let headers = HeaderMap::new();
        parse_identity_token(&Response::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes()), now())
    }

    #[test]
    fn a_machine_asks_its_metadata_service_with_its_header() {
        let imds = IdentityEndpoint::Imds(Url::parse(IMDS_ROOT).unwrap());
        let request = identity_token(&imds, None, AUDIENCE);
        assert_eq!(
            request.url().as_str(),
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api%3A%2F%2FAzureADTokenExchange"
        );
        assert_eq!(request.headers()["metadata"], "true");
        for (name, pair) in [
            (IdentityName::ClientId("c".into()), "&client_id=c"),
            (IdentityName::ObjectId("o".into()), "&object_id=o"),
            (IdentityName::ResourceId("/subscriptions/s".into()), "&msi_res_id=%2Fsubscriptions%2Fs"),
        ] {
            assert!(identity_token(&imds, Some(&name), AUDIENCE).url().as_str().ends_with(pair));
        }
    }

    #[test]
    fn an_app_service_is_asked_as_its_variables_say() {
        let endpoint = Url::parse("http://127.0.0.1:41741/msi/token/").unwrap();
        let service = IdentityEndpoint::AppService { endpoint, header: IdentityHeader::new("853b9a84") };
        let request = identity_token(&service, Some(&IdentityName::ClientId("c".into())), AUDIENCE);
        assert_eq!(
            request.url().as_str(),
            "http://127.0.0.1:41741/msi/token/?api-version=2019-08-01&resource=api%3A%2F%2FAzureADTokenExchange&client_id=c"
        );
        assert_eq!(request.headers()["x-identity-header"], "853b9a84");
        assert!(!format!("{service:?} {:?}", request.headers()).contains("853b9a84"));
    }

    #[test]
    fn lifetimes_come_from_either_field_and_numbers_may_be_strings() {
        for (fields, seconds) in [
            (r#""expires_in":"3599","expires_on":"1""#, 3599),
            (r#""expires_in":86399"#, 86_399),
            (r#""expires_on":"1772600867""#, 100),
            (r#""expires_on":"1""#, 300),
            (r#""x":1"#, 300),
        ] {
            let token = read(200, &format!(r#"{{"access_token":"a.b.c",{fields}}}"#)).unwrap();
            assert_eq!((token.assertion.expose(), token.lifetime.as_secs()), ("a.b.c", seconds), "{fields}");
        }
    }

    #[test]
    fn refusals_are_told_apart_from_what_passes() {
        let refused = read(400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#).unwrap_err();
        assert!(!refused.passes_by_itself());
        assert_eq!(
            refused.to_string(),
            "the managed identity's endpoint answered with HTTP 400 invalid_request (Identity not found)"
        );
        for status in [404, 410, 429, 500, 503] {
            assert!(read(status, "").unwrap_err().passes_by_itself(), "{status}");
        }
        for body in ["", "{}", r#"{"access_token":"no jwt"}"#, r#"{"access_token":"a.b"}"#, "[1]"] {
            assert!(read(200, body).unwrap_err().passes_by_itself(), "{body}");
        }
    }
}
