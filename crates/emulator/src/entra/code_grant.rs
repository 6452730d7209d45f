//! The grants a person began: an authorization code redeemed once, and the refresh tokens that follow from it.
//!
//! Never lets a failed attempt use up a code: it is marked redeemed only when its tokens are handed out.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::app::{AppRegistration, sha256};
use crate::entra::authority::Segment;
use crate::entra::claims::pairwise_subject;
use crate::entra::directory::TenantInfo;
use crate::entra::errors::EntraError;
use crate::entra::grants::{Issue, TokenRequest, find_api, signing_failed, token_fields};
use crate::entra::jws;
use crate::entra::reply::Call;
use crate::entra::resource::Api;
use crate::entra::store::{Authorized, Challenge, Code, REFRESH_DAYS, Refresh};
use crate::entra::tokens::UserClaims;
use crate::entra::{EntraState, Version};

/// Scopes that ask for no resource.
pub(crate) const OPENID_SCOPES: [&str; 5] = ["openid", "profile", "email", "offline_access", "address"];
/// What a v2 scope without a resource belongs to, and what OpenID scopes alone get a token for.
const GRAPH: &str = "https://graph.microsoft.com";

/// The template id of the role, as `wids` has it.
/// <https://learn.microsoft.com/en-us/entra/identity/role-based-access-control/permissions-reference>
const GLOBAL_ADMINISTRATOR: &str = "62e90394-69f5-4237-9190-012177145e10";
/// What the claim holds for everybody (observed, msgraph-sdk-powershell #1782).
const ANY_USER: &str = "b79fbf4d-3ef9-4689-8143-76b194e85509";

pub(crate) fn redeem_code(state: &EntraState, request: &TokenRequest) -> Result<Response, EntraError> {
    let call = &request.call;
    let segment = Segment::resolve(state.directory(), &call.origin, &request.segment)?;
    let text = request.form.require("code")?;
    let redirect_uri = request.form.require("redirect_uri")?;
    refuse_resource_on_v2(request)?;
    let app = registered(state, request, &segment)?;
    let client_auth = state.authenticate(call, &segment, &app, &request.presented, 7_000_218)?;

    let code = state.store().codes.get_mut(text).cloned().ok_or_else(|| EntraError::new(70000))?;
    check_code(&code, request, &app, &segment, redirect_uri)?;
    let resource = resource_of(request, &code.authorized)?;
    let response = respond(state, request, &app, client_auth, &code.authorized, resource)?;
    if let Some(code) = state.store().codes.get_mut(text) {
        // Two redemptions at once: the second finds it redeemed.
        if code.redeemed {
            return Err(EntraError::new(54005));
        }
        code.redeemed = true;
    }
    Ok(response)
}

fn check_code(
    code: &Code,
    request: &TokenRequest,
    app: &AppRegistration,
    segment: &Segment,
    redirect_uri: &str,
) -> Result<(), EntraError> {
    if code.authorized.client != app.client_id {
        return Err(EntraError::new(70000));
    }
    if code.segment != segment.key() {
        return Err(EntraError::new(700_005));
    }
    if code.redeemed {
        return Err(EntraError::new(54005));
    }
    if request.call.now >= code.expires() {
        return Err(EntraError::new(70008));
    }
    if code.redirect_uri != redirect_uri {
        let text = format!(
            "The reply address '{redirect_uri}' does not match the reply address '{}' provided when requesting \
             Authorization code.",
            code.redirect_uri
        );
        return Err(EntraError::with_text(500_112, text));
    }
    check_verifier(code.challenge.as_ref(), request.form.get("code_verifier"))
}

fn check_verifier(challenge: Option<&Challenge>, verifier: Option<&str>) -> Result<(), EntraError> {
    let Some(challenge) = challenge else { return Ok(()) };
    let matches = match (challenge, verifier.filter(|verifier| (43..=128).contains(&verifier.len()))) {
        (_, None) => false,
        (Challenge::Plain(expected), Some(verifier)) => expected == verifier,
        (Challenge::S256(expected), Some(verifier)) => *expected == URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes())),
    };
    if matches { Ok(()) } else { Err(EntraError::new(501_481)) }
}

pub(crate) fn redeem_refresh_token(state: &EntraState, request: &TokenRequest) -> Result<Response, EntraError> {
    let call = &request.call;
    let segment = Segment::resolve(state.directory(), &call.origin, &request.segment)?;
    let text = request.form.require("refresh_token")?;
    refuse_resource_on_v2(request)?;
    let app = registered(state, request, &segment)?;
    let client_auth = state.authenticate(call, &segment, &app, &request.presented, 7_000_218)?;

    let refresh = state.store().refresh_tokens.get_mut(text).cloned();
    let refresh = refresh.filter(|refresh| refresh.authorized.client == app.client_id);
    let refresh = refresh.ok_or_else(|| EntraError::new(70000))?;
    if segment.tenant().is_some_and(|tenant| tenant.id != refresh.authorized.tenant) {
        return Err(EntraError::new(50020).named("invalid_grant"));
    }
    if call.now >= refresh.last_used + TimeDelta::days(REFRESH_DAYS) {
        let text = format!(
            "The refresh token has expired due to inactivity. The token was issued on {} and was inactive for \
             {REFRESH_DAYS}.00:00:00.",
            refresh.issued.format("%Y-%m-%dT%H:%M:%SZ")
        );
        return Err(EntraError::with_text(700_082, text));
    }
    let resource = resource_of(request, &refresh.authorized)?;
    let response = respond(state, request, &app, client_auth, &refresh.authorized, resource)?;
    if let Some(refresh) = state.store().refresh_tokens.get_mut(text) {
        refresh.last_used = call.now;
    }
    Ok(response)
}

/// What the access token is for, and the v2 scopes it was asked with.
struct Wanted {
    resource: String,
    scopes: Vec<String>,
}

fn refuse_resource_on_v2(request: &TokenRequest) -> Result<(), EntraError> {
    let refused = request.version == Version::V2 && request.form.get("resource").is_some();
    if refused { Err(EntraError::new(901_002)) } else { Ok(()) }
}

fn registered(
    state: &EntraState,
    request: &TokenRequest,
    segment: &Segment,
) -> Result<std::sync::Arc<AppRegistration>, EntraError> {
    let client_id = request.presented.client_id.as_deref().unwrap_or_default();
    let directory = segment.tenant().map_or("Microsoft.com", |tenant| tenant.display_name.as_str());
    state.registration(client_id, directory)
}

fn resource_of(request: &TokenRequest, authorized: &Authorized) -> Result<Wanted, EntraError> {
    match request.version {
        Version::V1 => {
            let named = request.form.get("resource");
            if let (Some(named), Some(agreed)) = (named, authorized.resource.as_deref()) {
                // A refresh token is good for every resource; a code only for the one it was asked with.
                let is_code = request.form.get("code").is_some();
                if is_code && named != agreed {
                    return Err(EntraError::with_text(
                        70000,
                        "The 'resource' does not match the one provided when requesting Authorization code.",
                    ));
                }
            }
            let resource = named.or(authorized.resource.as_deref()).ok_or_else(|| EntraError::missing("resource"))?;
            Ok(Wanted { resource: resource.to_owned(), scopes: Vec::new() })
        }
        Version::V2 => {
            let scopes = match request.form.get("scope") {
                Some(scope) => split_scope(scope),
                None => authorized.scopes.clone(),
            };
            let resource = single_resource(&scopes)?;
            Ok(Wanted { resource, scopes })
        }
    }
}

pub(crate) fn split_scope(scope: &str) -> Vec<String> {
    scope.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// The one resource that v2 scopes name; Graph when they name none.
pub(crate) fn single_resource(scopes: &[String]) -> Result<String, EntraError> {
    let mut found: Option<&str> = None;
    for scope in scopes.iter().filter(|scope| !OPENID_SCOPES.contains(&scope.as_str())) {
        let resource = scope.rsplit_once('/').map_or(GRAPH, |(resource, _)| resource);
        if found.is_some_and(|found| found != resource) {
            return Err(EntraError::new(28000));
        }
        found = Some(resource);
    }
    Ok(found.unwrap_or(GRAPH).to_owned())
}

fn respond(
    state: &EntraState,
    request: &TokenRequest,
    app: &AppRegistration,
    client_auth: crate::entra::tokens::ClientAuth,
    authorized: &Authorized,
    wanted: Wanted,
) -> Result<Response, EntraError> {
    let call = &request.call;
    let directory = state.directory();
    let tenant = directory
        .find_tenant(&authorized.tenant.to_string())
        .filter(|tenant| !tenant.deleted)
        .ok_or_else(|| EntraError::new(90002))?;
    let principal = directory.service_principal(tenant.id, app.client_id).ok_or_else(|| not_consented(app))?;
    if principal.disabled {
        return Err(EntraError::new(7_000_112));
    }
    if principal.blocked {
        return Err(EntraError::new(53003));
    }
    let api = find_api(call, app, &tenant, &wanted.resource)?;
    let granted = delegated(api, &principal.scopes);
    let user = UserClaims {
        object_id: authorized.account.object_id,
        name: authorized.account.display_name.clone(),
        upn: authorized.account.upn.clone(),
        scopes: granted.clone(),
    };
    let issue = Issue { state, call, app, tenant: &tenant, principal: &principal, client_auth };
    let token = issue.access_token(&wanted.resource, api, Some(user))?;
    let mut fields = token_fields(request.version, &wanted.resource, &token);
    fields.insert("scope".to_owned(), json!(scope_text(request.version, &wanted, &granted)));
    let asked =
        |scope: &str| wanted.scopes.iter().any(|one| one == scope) || authorized.scopes.iter().any(|one| one == scope);
    if request.version == Version::V1 || asked("offline_access") {
        fields.insert("refresh_token".to_owned(), json!(new_refresh_token(state, call, authorized, &wanted)));
    }
    if request.version == Version::V1 || asked("openid") {
        let id_token = id_token(state, call, app, &tenant, authorized, request.version, None)?;
        fields.insert("id_token".to_owned(), json!(id_token));
    }
    if request.form.get("client_info") == Some("1") {
        fields.insert("client_info".to_owned(), json!(client_info(authorized)));
    }
    Ok(call.json(StatusCode::OK, &Value::Object(fields)))
}

/// `scp` of the token: never empty, since a person's token always carries a delegated permission.
fn delegated(api: Api, granted: &[String]) -> Vec<String> {
    let granted: Vec<String> =
        api.permissions(granted).into_iter().filter(|scope| !OPENID_SCOPES.contains(&scope.as_str())).collect();
    match (granted.is_empty(), api) {
        (false, _) => granted,
        (true, Api::Graph) => vec!["User.Read".to_owned()],
        (true, _) => vec!["user_impersonation".to_owned()],
    }
}

/// v1 lists bare names; v2 lists the OpenID scopes and the names with their resource.
fn scope_text(version: Version, wanted: &Wanted, granted: &[String]) -> String {
    match version {
        Version::V1 => granted.join(" "),
        Version::V2 => {
            let openid = wanted
                .scopes
                .iter()
                .filter(|scope| OPENID_SCOPES.contains(&scope.as_str()) && scope.as_str() != "offline_access");
            let named = granted.iter().map(|name| format!("{}/{name}", wanted.resource));
            openid.cloned().chain(named).collect::<Vec<_>>().join(" ")
        }
    }
}

fn new_refresh_token(state: &EntraState, call: &Call, authorized: &Authorized, wanted: &Wanted) -> String {
    let text = state.fresh_text("0.AX", 180);
    let mut authorized = authorized.clone();
    authorized.resource = Some(wanted.resource.clone());
    if !wanted.scopes.is_empty() {
        authorized.scopes.clone_from(&wanted.scopes);
    }
    // A later id_token belongs to no authorize request any more.
    authorized.nonce = None;
    let refresh = Refresh { authorized, issued: call.now, last_used: call.now };
    state.store().refresh_tokens.insert(text.clone(), refresh);
    text
}

/// The id_token: RS256, except on v1 when the policy asks for the unsigned form of the archived documentation.
/// `code` is given when one is handed out beside it, for `c_hash`.
pub(crate) fn id_token(
    state: &EntraState,
    call: &Call,
    app: &AppRegistration,
    tenant: &TenantInfo,
    authorized: &Authorized,
    version: Version,
    code: Option<&str>,
) -> Result<String, EntraError> {
    let account = &authorized.account;
    let (issued, lifetime) = (call.now.timestamp(), 3900);
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    set("aud", json!(app.client_id));
    set("iat", json!(issued - 300));
    set("nbf", json!(issued - 300));
    set("exp", json!(issued - 300 + lifetime));
    set("name", json!(account.display_name));
    set("oid", json!(account.object_id));
    set("sub", json!(pairwise_subject(account.object_id, &app.client_id.to_string())));
    set("tid", json!(tenant.id));
    set("uti", json!(state.tokens().token_id()));
    set("rh", json!("0."));
    if app.directory_role_claims {
        let roles: &[&str] = if account.admin { &[GLOBAL_ADMINISTRATOR, ANY_USER] } else { &[ANY_USER] };
        set("wids", json!(roles));
    }
    if let Some(nonce) = &authorized.nonce {
        set("nonce", json!(nonce));
    }
    if let Some(code) = code {
        let digest = sha256(code.as_bytes());
        set("c_hash", json!(URL_SAFE_NO_PAD.encode(digest.split_at(16).0)));
    }
    match version {
        Version::V1 => {
            set("iss", json!(format!("https://sts.windows.net/{}/", tenant.id)));
            set("ver", json!("1.0"));
            set("amr", json!(["pwd"]));
            set("unique_name", json!(account.upn));
            set("upn", json!(account.upn));
        }
        Version::V2 => {
            set("iss", json!(format!("{}/{}/v2.0", call.origin, tenant.id)));
            set("ver", json!("2.0"));
            set("preferred_username", json!(account.upn));
        }
    }
    let claims = Value::Object(claims);
    if version == Version::V1 && call.policy.unsigned_v1_id_token {
        return Ok(jws::unsigned(&claims));
    }
    state.tokens().sign(&claims).map_err(signing_failed)
}

/// What MSAL keys its cache by.
pub(crate) fn client_info(authorized: &Authorized) -> String {
    URL_SAFE_NO_PAD.encode(json!({"uid": authorized.account.object_id, "utid": authorized.tenant}).to_string())
}

fn not_consented(app: &AppRegistration) -> EntraError {
    let text = format!(
        "The user or administrator has not consented to use the application with ID '{}' named '{}'. Send an interactive \
         authorization request for this user and resource.",
        app.client_id, app.display_name
    );
    EntraError::with_text(65001, text)
}
