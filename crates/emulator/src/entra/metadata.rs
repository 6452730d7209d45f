//! OpenID metadata, signing keys and instance discovery, v1 and v2 (entra.md §7).
//!
//! Never names a host of its own: every URL begins with the origin the request was sent to. The tenant-independent
//! documents carry the literal `{tenantid}` in their issuer.

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use std::collections::HashMap;

use protocol::cloud::CloudName;

use crate::entra::authority::{ENVIRONMENTS, Segment, environment};
use crate::entra::directory::EntraEndpoint;
use crate::entra::errors::EntraError;
use crate::entra::reply::Call;
use crate::entra::{EntraState, Version};
use crate::tls::Origin;

pub(crate) fn routes() -> Router<EntraState> {
    let configuration = |version| {
        get(move |State(state), Path(tenant): Path<String>, request| configuration(state, version, tenant, request))
    };
    let keys =
        |version| get(move |State(state), Path(tenant): Path<String>, request| keys(state, version, tenant, request));
    Router::new()
        .route("/{tenant}/.well-known/openid-configuration", configuration(Version::V1))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", configuration(Version::V2))
        .route("/{tenant}/discovery/keys", keys(Version::V1))
        .route("/{tenant}/discovery/v2.0/keys", keys(Version::V2))
        .route("/{tenant}/discovery/instance", get(instance))
}

/// The path's segment and how its tenant is written in URLs: a domain becomes the GUID.
struct Addressed {
    call: Call,
    segment: Segment,
}

impl Addressed {
    fn in_urls(&self) -> String {
        self.segment.key()
    }

    fn in_issuer(&self) -> String {
        match &self.segment {
            Segment::Tenant(tenant) => tenant.id.to_string(),
            // The tenant of personal accounts (entra.md §4).
            Segment::Consumers => "9188040d-6c67-4c5b-b112-36a304b66dad".to_owned(),
            Segment::Common | Segment::Organizations => "{tenantid}".to_owned(),
        }
    }

    fn issuer(&self, version: Version) -> String {
        match version {
            Version::V1 => format!("https://sts.windows.net/{}/", self.in_issuer()),
            Version::V2 => format!("{}/{}/v2.0", self.call.origin, self.in_issuer()),
        }
    }
}

async fn begin(state: &EntraState, segment: &str, parts: &Parts) -> Result<Addressed, Response> {
    let mut call = state.call(parts);
    if let Some(failure) = state.suffer(&mut call, EntraEndpoint::Metadata, Some(segment), None).await {
        return Err(call.failure(failure));
    }
    match Segment::resolve(state.directory(), &call.origin, segment) {
        Ok(segment) => Ok(Addressed { call, segment }),
        // Metadata has its own name for this (entra.md §7).
        Err(error) if error.code == 90002 => Err(call.error(&error.named("invalid_tenant"))),
        Err(error) => Err(call.error(&error)),
    }
}

async fn configuration(state: EntraState, version: Version, segment: String, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match begin(&state, &segment, &parts).await {
        Ok(addressed) => {
            let document = document(&addressed, version);
            addressed.call.json(StatusCode::OK, &document)
        }
        Err(response) => response,
    }
}

fn document(addressed: &Addressed, version: Version) -> Value {
    let base = format!("{}/{}", addressed.call.origin, addressed.in_urls());
    let host = addressed.call.origin.host();
    let by_host = environment(host).map(|environment| instance_name(environment.clouds()[0]));
    let region = addressed.segment.tenant().map_or((None, None, None), |tenant| region_of(tenant.cloud));
    let (oauth, keys) = match version {
        Version::V1 => ("oauth2", "discovery/keys"),
        Version::V2 => ("oauth2/v2.0", "discovery/v2.0/keys"),
    };
    json!({
        "token_endpoint": format!("{base}/{oauth}/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{base}/{keys}"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "issuer": addressed.issuer(version),
        "request_uri_parameter_supported": false,
        "authorization_endpoint": format!("{base}/{oauth}/authorize"),
        "http_logout_supported": true,
        "end_session_endpoint": format!("{base}/{oauth}/logout"),
        "claims_supported": [
            "sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid", "ver", "c_hash", "oid"
        ],
        "tenant_region_scope": region.0,
        "tenant_region_sub_scope": region.1,
        "cloud_instance_name": region.2.or(by_host).unwrap_or(host),
    })
}

/// What the metadata of a tenant of this cloud says of its place: region scope, sub-scope, and cloud instance (observed;
/// Microsoft documents the last only).
fn region_of(cloud: CloudName) -> (Option<&'static str>, Option<&'static str>, Option<&'static str>) {
    let (scope, sub_scope) = match cloud {
        CloudName::Commercial => (Some("NA"), None),
        CloudName::Gcc => (Some("NA"), Some("GCC")),
        CloudName::GccHigh => (Some("USGov"), Some("DODCON")),
        CloudName::Dod => (Some("USGov"), Some("DOD")),
        CloudName::China => (Some("AS"), None),
        CloudName::Custom => return (None, None, None),
    };
    (scope, sub_scope, Some(instance_name(cloud)))
}

fn instance_name(cloud: CloudName) -> &'static str {
    match cloud {
        CloudName::Commercial | CloudName::Gcc | CloudName::Custom => "microsoftonline.com",
        CloudName::GccHigh | CloudName::Dod => "microsoftonline.us",
        CloudName::China => "partner.microsoftonline.cn",
    }
}

async fn keys(state: EntraState, version: Version, segment: String, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match begin(&state, &segment, &parts).await {
        Ok(addressed) => {
            let issuer = addressed.issuer(version);
            let keys: Vec<Value> = state.tokens().keys().iter().map(|key| key.jwk(&issuer)).collect();
            addressed.call.json(StatusCode::OK, &json!({"keys": keys}))
        }
        Err(response) => response,
    }
}

/// Which hosts stand for one another. Any host may be asked about any other, as MSAL does it.
async fn instance(
    State(state): State<EntraState>,
    Path(_segment): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let mut call = state.call(&parts);
    if let Some(failure) = state.suffer(&mut call, EntraEndpoint::Metadata, None, None).await {
        return call.failure(failure);
    }
    match discover(&call.origin, query.get("authorization_endpoint").map(String::as_str)) {
        Some(answer) => call.json(StatusCode::OK, &answer),
        None => call.error(&EntraError::new(50049)),
    }
}

fn discover(origin: &Origin, endpoint: Option<&str>) -> Option<Value> {
    let asked = url::Url::parse(endpoint?).ok()?;
    let host = match asked.port() {
        Some(port) => format!("{}:{port}", asked.host_str()?),
        None => asked.host_str()?.to_owned(),
    };
    let here = format!("{}://{host}", asked.scheme()) == origin.to_string();
    if environment(&host).is_none() && !here {
        return None;
    }
    let tenant = asked.path_segments()?.next().filter(|segment| !segment.is_empty())?;
    let mut metadata: Vec<Value> = ENVIRONMENTS
        .iter()
        .map(|environment| {
            json!({
                "preferred_network": environment.preferred_network,
                "preferred_cache": environment.preferred_cache,
                "aliases": environment.aliases,
            })
        })
        .collect();
    if environment(&host).is_none() {
        metadata.push(json!({"preferred_network": host, "preferred_cache": host, "aliases": [host]}));
    }
    Some(json!({
        "tenant_discovery_endpoint":
            format!("{}://{host}/{tenant}/v2.0/.well-known/openid-configuration", asked.scheme()),
        "api-version": "1.1",
        "metadata": metadata,
    }))
}
