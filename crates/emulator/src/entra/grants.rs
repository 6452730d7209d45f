//! The token endpoints, v1 and v2: the client-credentials grant, and the door to the two grants that a person began.
//!
//! Never issues a token before tenant, app, resource and credential have been checked, in that order: it is the order in
//! which Entra's errors appear when several things are wrong. The person's grants go on in `code_grant`.

use axum::extract::Request;
use axum::response::Response;
use http::header::ORIGIN;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::AppRegistration;
use crate::entra::authority::Segment;
use crate::entra::client::Presented;
use crate::entra::directory::{EntraEndpoint, ServicePrincipal, TenantInfo};
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::keys::KeyError;
use crate::entra::reply::Call;
use crate::entra::resource::Api;
use crate::entra::tokens::{AccessToken, ClientAuth, IssuedToken, TokenVersion, UserClaims};
use crate::entra::{EntraState, Version, code_grant, or_error, read_body};

/// One request to a token endpoint.
pub(crate) struct TokenRequest {
    pub(crate) call: Call,
    pub(crate) version: Version,
    /// The path's first segment, as written.
    pub(crate) segment: String,
    pub(crate) form: Form,
    pub(crate) presented: Presented,
}

pub(crate) async fn token(state: EntraState, version: Version, segment: String, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut call = state.call(&parts);
    let form = read_body(body).await.and_then(|body| Form::from_body(&parts.headers, &body));
    let form = match form {
        Ok(form) => form,
        Err(error) => return call.error(&error),
    };
    let presented = Presented::of(&parts.headers, &form);
    let fault = state.suffer(&mut call, EntraEndpoint::Token, Some(&segment), presented.client_id.as_deref()).await;
    if let Some(failure) = fault {
        return call.failure(failure);
    }
    if parts.method != Method::POST {
        let text = format!("The endpoint only accepts POST requests. Received a {} request.", parts.method);
        return call.error(&EntraError::with_text(900_561, text));
    }
    let request = TokenRequest { call, version, segment, form, presented };
    let result = grant(&state, &request);
    or_error(&request.call, result)
}

fn grant(state: &EntraState, request: &TokenRequest) -> Result<Response, EntraError> {
    if let Some(origin) = request.call.headers.get(ORIGIN) {
        let text = format!(
            "Cross-origin token redemption is permitted only for the 'Single-Page Application' client-type. Request \
             origin: '{}'.",
            origin.to_str().unwrap_or_default()
        );
        return Err(EntraError::with_text(9_002_326, text));
    }
    let grant_type = request.form.require("grant_type")?;
    request.presented.client_id.as_deref().ok_or_else(|| EntraError::missing("client_id"))?;
    match grant_type {
        "client_credentials" => client_credentials(state, request),
        "authorization_code" => code_grant::redeem_code(state, request),
        "refresh_token" => code_grant::redeem_refresh_token(state, request),
        other => {
            let text = format!("The app requested an unsupported grant type '{other}'.");
            Err(EntraError::with_text(70003, text))
        }
    }
}

fn client_credentials(state: &EntraState, request: &TokenRequest) -> Result<Response, EntraError> {
    let call = &request.call;
    let segment = Segment::resolve(state.directory(), &call.origin, &request.segment)?;
    let tenant = match &segment {
        Segment::Tenant(tenant) => tenant,
        Segment::Common | Segment::Consumers => return Err(EntraError::new(9_001_023)),
        Segment::Organizations => return Err(EntraError::new(50059)),
    };
    let resource = match request.version {
        Version::V1 => request.form.require("resource")?.to_owned(),
        Version::V2 => default_scope(&request.form)?,
    };
    let client_id = request.presented.client_id.as_deref().unwrap_or_default();
    let (app, principal) = state.installed(client_id, tenant.id, &tenant.display_name)?;
    let api = find_api(call, &app, tenant, &resource)?;
    let client_auth = state.authenticate(call, &segment, &app, &request.presented, 7_000_216)?;
    if app.public_client {
        return Err(EntraError::new(7_000_216));
    }
    if principal.blocked {
        return Err(EntraError::new(53003));
    }
    let issued = Issue { state, call, app: &app, tenant, principal: &principal, client_auth };
    let token = issued.access_token(&resource, api, None)?;
    Ok(call.json(StatusCode::OK, &Value::Object(token_fields(request.version, &resource, &token))))
}

/// The resource of a v2 client-credentials request: `scope` must be exactly one `{resource}/.default`.
fn default_scope(form: &Form) -> Result<String, EntraError> {
    if form.get("resource").is_some() {
        return Err(EntraError::new(901_002));
    }
    let scope = form.require("scope")?;
    let mut resources: Vec<&str> = Vec::new();
    for one in scope.split(' ').filter(|one| !one.is_empty()) {
        let Some(resource) = one.strip_suffix("/.default") else {
            let text = format!(
                "The provided request must include a 'scope' input parameter. The provided value for the input parameter \
                 'scope' is not valid. The scope {scope} is not valid."
            );
            return Err(EntraError::with_text(70011, text));
        };
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    match resources.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(EntraError::missing("scope")),
        _ => Err(EntraError::new(700_022)),
    }
}

/// The API a resource text means in a tenant, or AADSTS500011.
pub(crate) fn find_api(
    call: &Call,
    app: &AppRegistration,
    tenant: &TenantInfo,
    resource: &str,
) -> Result<Api, EntraError> {
    Api::of(resource, app.client_id, &call.origin, &call.policy).ok_or_else(|| {
        let text = format!(
            "The resource principal named {resource} was not found in the tenant named {}. This can happen if the \
             application has not been installed by the administrator of the tenant or consented to by any user in the \
             tenant. You might have sent your authentication request to the wrong tenant.",
            tenant.display_name
        );
        EntraError::with_text(500_011, text)
    })
}

/// Everything a token is made from.
pub(crate) struct Issue<'a> {
    pub(crate) state: &'a EntraState,
    pub(crate) call: &'a Call,
    pub(crate) app: &'a AppRegistration,
    pub(crate) tenant: &'a TenantInfo,
    pub(crate) principal: &'a ServicePrincipal,
    pub(crate) client_auth: ClientAuth,
}

impl Issue<'_> {
    /// Mints an access token; app-only without a person.
    pub(crate) fn access_token(
        &self,
        resource: &str,
        api: Api,
        user: Option<UserClaims>,
    ) -> Result<IssuedToken, EntraError> {
        let roles = if user.is_some() { Vec::new() } else { api.permissions(&self.principal.roles) };
        // A property of the resource, not of the endpoint (entra.md §4).
        let version = match api {
            Api::TokenExchange => TokenVersion::V2 { issuer: format!("{}/{}/v2.0", self.call.origin, self.tenant.id) },
            Api::Management | Api::Graph | Api::Any | Api::Client => TokenVersion::V1,
        };
        let token = AccessToken {
            tenant: self.tenant.id,
            client_id: self.app.client_id,
            audience: resource.to_owned(),
            roles,
            client_auth: self.client_auth,
            user,
            version,
        };
        let tokens = self.state.tokens();
        let lifetime = tokens.draw_lifetime(&self.call.policy.token_lifetime);
        tokens.issue(&token, self.call.now, lifetime).map_err(signing_failed)
    }
}

/// The members every token response has: on v1 all values are strings, on v2 the numbers are numbers (entra.md §5.5).
pub(crate) fn token_fields(version: Version, resource: &str, token: &IssuedToken) -> serde_json::Map<String, Value> {
    let fields = match version {
        Version::V1 => json!({
            "token_type": "Bearer",
            "expires_in": token.expires_in.to_string(),
            "ext_expires_in": token.expires_in.to_string(),
            "expires_on": token.expires.timestamp().to_string(),
            "not_before": token.not_before.timestamp().to_string(),
            "resource": resource,
            "access_token": token.text,
        }),
        Version::V2 => json!({
            "token_type": "Bearer",
            "expires_in": token.expires_in,
            "ext_expires_in": token.expires_in,
            "access_token": token.text,
        }),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}

pub(crate) fn signing_failed(error: KeyError) -> EntraError {
    tracing::error!(%error, "a token could not be signed");
    EntraError::new(50000)
}
