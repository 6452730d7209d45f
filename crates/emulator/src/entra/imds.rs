//! The token endpoints of managed identities: a virtual machine's metadata service, and App Service's (entra.md §5.4).
//!
//! Never asks for a credential: being able to reach it is the credential, which is why the one insists on a header that a
//! browser or a proxy would not send, and the other on a text that only its own apps have in their environment.
//!
//! Source of App Service's: <https://learn.microsoft.com/en-us/azure/app-service/overview-managed-identity> (REST endpoint
//! reference); with which status it refuses is not documented.

use axum::extract::{Request, State};
use axum::response::Response;
use http::{Method, StatusCode};
use protocol::cloud::Cloud;
use serde_json::json;

use crate::app::ManagedIdentity;
use crate::entra::EntraState;
use crate::entra::directory::EntraEndpoint;
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::grants::signing_failed;
use crate::entra::reply::Call;
use crate::entra::resource::Api;
use crate::entra::tokens::{AccessToken, ClientAuth, IssuedToken, TokenVersion};

pub(crate) async fn token(State(state): State<EntraState>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut call = state.call(&parts);
    let form = match Form::from_query(parts.uri.query()) {
        Ok(form) => form,
        Err(error) => return call.error(&error),
    };
    if let Some(failure) = state.suffer(&mut call, EntraEndpoint::ManagedIdentity, None, form.get("client_id")).await {
        return call.failure(failure);
    }
    if parts.method != Method::GET {
        return refuse(&call, StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "Only GET is supported.");
    }
    if parts.headers.get("metadata").is_none_or(|value| value.as_bytes() != b"true") {
        return refuse(&call, StatusCode::BAD_REQUEST, "bad_request_102", "Required metadata header not specified");
    }
    if parts.headers.contains_key("x-forwarded-for") {
        return refuse(&call, StatusCode::FORBIDDEN, "forbidden", "A forwarded request is not served.");
    }
    for name in ["api-version", "resource"] {
        if form.get(name).is_none() {
            let text = format!("Required query variable '{name}' is missing");
            return refuse(&call, StatusCode::BAD_REQUEST, "invalid_request", &text);
        }
    }
    let Some(identity) = find_identity(&state, &form) else {
        return refuse(&call, StatusCode::BAD_REQUEST, "invalid_request", "Identity not found");
    };
    let resource = form.get("resource").unwrap_or_default();
    match issue(&state, &call, &identity, resource) {
        Ok(token) => {
            let body = json!({
                "access_token": token.text,
                "client_id": identity.client_id,
                "expires_in": token.expires_in.to_string(),
                "expires_on": token.expires.timestamp().to_string(),
                "ext_expires_in": token.expires_in.to_string(),
                "not_before": token.not_before.timestamp().to_string(),
                "refresh_token": "",
                "resource": resource,
                "token_type": "Bearer",
            });
            call.json(StatusCode::OK, &body)
        }
        Err(error) => {
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
            refuse(&call, status, error.error, &call.describe(&error))
        }
    }
}

/// App Service, Functions, Container Apps: their variable `IDENTITY_ENDPOINT` leads here.
pub(crate) async fn app_service_token(State(state): State<EntraState>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut call = state.call(&parts);
    let form = match Form::from_query(parts.uri.query()) {
        Ok(form) => form,
        Err(error) => return call.error(&error),
    };
    if let Some(failure) = state.suffer(&mut call, EntraEndpoint::ManagedIdentity, None, form.get("client_id")).await {
        return call.failure(failure);
    }
    if parts.method != Method::GET {
        return refuse(&call, StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "Only GET is supported.");
    }
    let header = parts.headers.get("x-identity-header");
    if !header.is_some_and(|header| state.apps().is_identity_header(header.as_bytes())) {
        return refuse(&call, StatusCode::UNAUTHORIZED, "unauthorized", "X-IDENTITY-HEADER is missing or wrong.");
    }
    // The older version names its parameters and its header otherwise.
    if form.get("api-version") != Some("2019-08-01") {
        return refuse(&call, StatusCode::BAD_REQUEST, "invalid_request", "api-version must be 2019-08-01.");
    }
    let Some(resource) = form.get("resource") else {
        return refuse(&call, StatusCode::BAD_REQUEST, "invalid_request", "'resource' is missing");
    };
    let Some(identity) = named(&state, form.get("client_id"), form.get("principal_id"), form.get("mi_res_id")) else {
        return refuse(&call, StatusCode::BAD_REQUEST, "invalid_request", "No managed identity of that name.");
    };
    match issue(&state, &call, &identity, resource) {
        // When it ends, and not how long it lives.
        Ok(token) => call.json(
            StatusCode::OK,
            &json!({
                "access_token": token.text,
                "expires_on": token.expires.timestamp().to_string(),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": identity.client_id,
            }),
        ),
        Err(error) => {
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
            refuse(&call, status, error.error, &call.describe(&error))
        }
    }
}

/// The identity the query names; without a name, the only one there is.
fn find_identity(state: &EntraState, form: &Form) -> Option<ManagedIdentity> {
    named(state, form.get("client_id"), form.get("object_id"), form.get("msi_res_id"))
}

fn named(
    state: &EntraState,
    client: Option<&str>,
    object: Option<&str>,
    resource: Option<&str>,
) -> Option<ManagedIdentity> {
    let identities = state.apps().managed_identities();
    if client.is_none() && object.is_none() && resource.is_none() {
        return if identities.len() == 1 { identities.into_iter().next() } else { None };
    }
    let same = |asked: Option<&str>, own: &str| asked.is_none_or(|asked| asked.eq_ignore_ascii_case(own));
    identities.into_iter().find(|identity| {
        same(client, &identity.client_id.to_string())
            && same(object, &identity.object_id.to_string())
            && same(resource, identity.resource_id.as_deref().unwrap_or_default())
    })
}

fn issue(
    state: &EntraState,
    call: &Call,
    identity: &ManagedIdentity,
    resource: &str,
) -> Result<IssuedToken, EntraError> {
    let tenant = state
        .directory()
        .find_tenant(&identity.tenant.to_string())
        .filter(|tenant| !tenant.deleted)
        .ok_or_else(|| EntraError::new(90002))?;
    let api = Api::of(resource, identity.client_id, &call.origin, &call.policy).ok_or_else(|| {
        let text = format!("The application named {resource} was not found in the tenant named {}.", tenant.id);
        EntraError::with_text(50001, text)
    })?;
    let principal = state.directory().service_principal(tenant.id, identity.client_id).unwrap_or_default();
    // Not this endpoint's own origin: a token for the exchange is trusted by the login authority's name.
    let login = Cloud::preset(tenant.cloud).map_or_else(|| call.origin.to_string(), |cloud| cloud.login().to_owned());
    let token = AccessToken {
        tenant: tenant.id,
        client_id: identity.client_id,
        audience: resource.to_owned(),
        roles: api.permissions(&principal.roles),
        client_auth: ClientAuth::Assertion,
        user: None,
        version: match api {
            Api::TokenExchange => TokenVersion::V2 { issuer: format!("{login}/{}/v2.0", tenant.id) },
            Api::Management | Api::Graph | Api::Any | Api::Client => TokenVersion::V1,
        },
    };
    let lifetime = state.tokens().draw_lifetime(&call.policy.token_lifetime);
    let object = Some(identity.object_id);
    state.tokens().issue_as(&token, object, call.now, lifetime).map_err(signing_failed)
}

fn refuse(call: &Call, status: StatusCode, error: &str, description: &str) -> Response {
    call.json(status, &json!({"error": error, "error_description": description}))
}
