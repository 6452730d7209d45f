//! Who the client is: the app named by `client_id`, and its proof by secret, certificate or federated assertion.
//!
//! Never issues anything. `assertion` checks signed proofs; the grants ask here first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use protocol::ids::{ClientId, TenantId};
use std::sync::Arc;

use crate::app::AppRegistration;
use crate::entra::authority::Segment;
use crate::entra::directory::ServicePrincipal;
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::reply::Call;
use crate::entra::tokens::ClientAuth;
use crate::entra::{EntraState, assertion};

/// The only `client_assertion_type` there is.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What the client says about itself, unproven.
#[derive(Debug, Default)]
pub(crate) struct Presented {
    /// `client_id`, as written.
    pub(crate) client_id: Option<String>,
    secret: Option<String>,
    assertion_type: Option<String>,
    assertion: Option<String>,
}

impl Presented {
    /// From the form, and from HTTP Basic where the form says nothing.
    pub(crate) fn of(headers: &HeaderMap, form: &Form) -> Self {
        let text = |name: &str| form.get(name).map(str::to_owned);
        let mut presented = Self {
            client_id: text("client_id"),
            secret: text("client_secret"),
            assertion_type: text("client_assertion_type"),
            assertion: text("client_assertion"),
        };
        if let Some((client_id, secret)) = basic(headers) {
            presented.client_id = presented.client_id.or(Some(client_id));
            presented.secret = presented.secret.or(Some(secret));
        }
        presented
    }
}

/// RFC 6749 §2.3.1: both parts are form-encoded before they are joined. A secret that was not encoded is read as well,
/// as far as it has no `%` or `+`.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((form_decode(user), form_decode(password)))
}

fn form_decode(text: &str) -> String {
    // A lone value parses as a name without value; `=` in it would end the name, so it is escaped first.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(escaped.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

impl EntraState {
    /// The registration of a client id, whoever asks for it.
    pub(crate) fn registration(
        &self,
        client_id: &str,
        directory_name: &str,
    ) -> Result<Arc<AppRegistration>, EntraError> {
        let app = client_id.parse::<ClientId>().ok().and_then(|client| self.apps().app(client));
        let app = app.ok_or_else(|| not_found(client_id, directory_name))?;
        if app.disabled {
            return Err(disabled(&app));
        }
        Ok(app)
    }

    /// The registration together with its object in one tenant.
    pub(crate) fn installed(
        &self,
        client_id: &str,
        tenant: TenantId,
        directory_name: &str,
    ) -> Result<(Arc<AppRegistration>, ServicePrincipal), EntraError> {
        let app = self.registration(client_id, directory_name)?;
        let principal = self
            .directory()
            .service_principal(tenant, app.client_id)
            .ok_or_else(|| not_found(client_id, directory_name))?;
        if principal.disabled {
            return Err(disabled(&app));
        }
        Ok((app, principal))
    }

    /// Checks the client's proof.
    pub(crate) fn authenticate(
        &self,
        call: &Call,
        segment: &Segment,
        app: &AppRegistration,
        presented: &Presented,
        missing: u32,
    ) -> Result<ClientAuth, EntraError> {
        let has_proof = presented.secret.is_some() || presented.assertion.is_some();
        if app.public_client {
            return if has_proof { Err(EntraError::new(700_025)) } else { Ok(ClientAuth::None) };
        }
        if let Some(assertion) = &presented.assertion {
            match presented.assertion_type.as_deref() {
                Some(JWT_BEARER) => {}
                Some(_) => {
                    return Err(EntraError::with_text(90023, "The value of 'client_assertion_type' is not supported."));
                }
                None => return Err(EntraError::missing("client_assertion_type")),
            }
            assertion::check(self, call, segment, app, assertion)?;
            return Ok(ClientAuth::Assertion);
        }
        let Some(secret) = &presented.secret else { return Err(EntraError::new(missing)) };
        check_secret(app, secret, call)?;
        Ok(ClientAuth::Secret)
    }
}

fn check_secret(app: &AppRegistration, presented: &str, call: &Call) -> Result<(), EntraError> {
    let matching: Vec<_> = app.secrets.iter().filter(|secret| secret.value == presented).collect();
    if matching.is_empty() {
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not \
             the client secret ID, for a secret added to app '{}'.",
            app.client_id
        );
        return Err(EntraError::with_text(7_000_215, text));
    }
    if matching.iter().any(|secret| secret.expires.is_none_or(|expires| call.now < expires)) {
        return Ok(());
    }
    let text = format!(
        "The provided client secret keys for app '{}' are expired. Create new keys for your app, or consider using \
         certificate credentials for added security.",
        app.client_id
    );
    Err(EntraError::with_text(7_000_222, text))
}

fn not_found(client_id: &str, directory_name: &str) -> EntraError {
    let text = format!(
        "Application with identifier '{client_id}' was not found in the directory '{directory_name}'. This can happen if \
         the application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You may have sent your authentication request to the wrong tenant."
    );
    EntraError::with_text(700_016, text)
}

fn disabled(app: &AppRegistration) -> EntraError {
    EntraError::with_text(7_000_112, format!("Application '{}'({}) is disabled.", app.client_id, app.display_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic_of(credentials: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("basic {}", STANDARD.encode(credentials)).parse().unwrap());
        basic(&headers)
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let secret = |text: &str| basic_of(&format!("id:{text}")).unwrap().1;
        assert_eq!(secret("a%2Bb%3D%25"), "a+b=%");
        assert_eq!(secret("plain=/&:x"), "plain=/&:x");
        assert_eq!(secret(""), "");
        assert!(basic_of("no colon").is_none());
    }

    #[test]
    fn the_form_wins_over_basic() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Basic {}", STANDARD.encode("a:s")).parse().unwrap());
        let form = Form::from_query(Some("client_id=b")).unwrap();
        let presented = Presented::of(&headers, &form);
        assert_eq!((presented.client_id.as_deref(), presented.secret.as_deref()), (Some("b"), Some("s")));
    }
}
