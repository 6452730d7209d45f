//! Entra ID: token endpoints, sign-in and consent, OpenID metadata and keys, and the managed identity endpoint.
//!
//! Never keeps a tenant's state: tenants, consents, faults and the clock are behind [`Directory`], registrations in
//! [`AppRegistry`], signing keys and tokens in [`TokenIssuer`]. Behaviour follows entra.md; what Microsoft does not
//! document and a switch decides is in [`EntraPolicy`].

mod admin_consent;
mod assertion;
mod authority;
mod authorize;
mod claims;
mod client;
mod code_grant;
mod counts;
pub mod directory;
mod errors;
mod form;
mod grants;
mod imds;
mod interaction;
mod jws;
mod keys;
mod metadata;
mod outside;
mod page;
mod reply;
mod resource;
mod store;
#[cfg(test)]
mod tests;
pub mod tokens;
mod visit;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::routing::{any, get};
use http::request::Parts;
use protocol::ids::ClientId;
use uuid::Uuid;

pub(crate) use authority::ENVIRONMENTS;
pub use counts::EntraRequestCount;
pub use directory::{
    Account, DeclineForm, Directory, EntraCall, EntraEndpoint, EntraFailure, EntraFault, EntraPolicy, Grant,
    Interaction, ServicePrincipal, TenantInfo,
};
pub use keys::{KeyError, SigningKey};
pub use outside::OutsideIssuer;
pub use tokens::TokenIssuer;

use crate::app::AppRegistry;
use crate::entra::counts::Counts;
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::reply::Call;
use crate::entra::store::Store;

/// Bytes of the largest request body read; the longest real one is a form with a client assertion of a few KiB.
const MAX_BODY: usize = 128 * 1024;

/// The two generations of Entra's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// `oauth2/token`, with `resource=`.
    V1,
    /// `oauth2/v2.0/token`, with `scope=`.
    V2,
}

/// The login service; cheap to clone.
#[derive(Clone)]
pub struct EntraState(Arc<Inner>);

struct Inner {
    directory: Arc<dyn Directory>,
    apps: Arc<AppRegistry>,
    tokens: Arc<TokenIssuer>,
    store: Mutex<Store>,
    random: Mutex<fastrand::Rng>,
    counts: Counts,
}

impl EntraState {
    /// A login service over a directory. The seed makes codes, refresh tokens and trace ids repeat.
    pub fn new(directory: Arc<dyn Directory>, apps: Arc<AppRegistry>, tokens: Arc<TokenIssuer>, seed: u64) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        Self(Arc::new(Inner { directory, apps, tokens, store: Mutex::default(), random, counts: Counts::default() }))
    }

    /// The registrations.
    pub fn apps(&self) -> &AppRegistry {
        &self.0.apps
    }

    /// The token issuer.
    pub fn tokens(&self) -> &TokenIssuer {
        &self.0.tokens
    }

    /// How often each endpoint was asked, by tenant and status.
    pub fn requests(&self) -> Vec<EntraRequestCount> {
        self.0.counts.all()
    }

    /// Starts counting anew.
    pub fn clear_requests(&self) {
        self.0.counts.clear();
    }

    pub(crate) fn directory(&self) -> &dyn Directory {
        &*self.0.directory
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fresh_id(&self) -> Uuid {
        let mut random = self.0.random.lock().unwrap_or_else(PoisonError::into_inner);
        uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid()
    }

    /// Text for a code or token: `length` letters and digits after the prefix.
    pub(crate) fn fresh_text(&self, prefix: &str, length: usize) -> String {
        let mut random = self.0.random.lock().unwrap_or_else(PoisonError::into_inner);
        prefix.chars().chain((0..length).map(|_| random.alphanumeric())).collect()
    }

    pub(crate) fn call(&self, parts: &Parts) -> Call {
        Call::new(parts, self.directory().now(), self.directory().policy(), || self.fresh_id())
    }

    /// Lets the fault plan act: waits, shifts the `Date` header, and says what to answer instead, if anything.
    pub(crate) async fn suffer(
        &self,
        call: &mut Call,
        endpoint: EntraEndpoint,
        segment: Option<&str>,
        client: Option<&str>,
    ) -> Option<EntraFailure> {
        let tenant = segment.and_then(|segment| self.directory().find_tenant(segment)).map(|tenant| tenant.id);
        let client = client.and_then(|client| client.parse::<ClientId>().ok());
        let asked = EntraCall { endpoint, tenant, client };
        let fault = self.directory().entra_fault(&asked);
        call.asked = Some(asked);
        let fault = fault?;
        if let Some(delay) = fault.delay {
            tokio::time::sleep(delay).await;
            call.now = self.directory().now();
        }
        if let Some(offset) = fault.date_offset {
            call.date_offset = offset;
        }
        fault.instead
    }
}

impl fmt::Debug for EntraState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntraState").field("tokens", &self.0.tokens).finish_non_exhaustive()
    }
}

/// Every path of the login service. Hosts decide nothing: merge it with the APIs' routers on one listener.
pub fn router(state: EntraState) -> Router {
    Router::new()
        .route(
            "/{tenant}/oauth2/token",
            any(|State(state), Path(tenant): Path<String>, request| grants::token(state, Version::V1, tenant, request)),
        )
        .route(
            "/{tenant}/oauth2/v2.0/token",
            any(|State(state), Path(tenant): Path<String>, request| grants::token(state, Version::V2, tenant, request)),
        )
        .merge(authorize::routes())
        .merge(metadata::routes())
        .route("/metadata/identity/oauth2/token", any(imds::token))
        .route("/msi/token", any(imds::app_service_token))
        .route("/error", get(page::error_number))
        .layer(map_response_with_state(state.clone(), counts::count))
        .with_state(state)
}

/// Reads a whole body of at most [`MAX_BODY`].
async fn read_body(body: axum::body::Body) -> Result<bytes::Bytes, EntraError> {
    axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| EntraError::new(9_002_313))
}

/// Query and form body together, as the sign-in endpoints take them.
async fn read_parameters(request: Request) -> (Parts, Result<Form, EntraError>) {
    let (parts, body) = request.into_parts();
    let form = async {
        let body = read_body(body).await?;
        Form::from_query(parts.uri.query())?.and(Form::from_body(&parts.headers, &body)?)
    };
    let form = form.await;
    (parts, form)
}

/// Runs a handler that fails with an error to be told as JSON.
fn or_error(call: &Call, result: Result<Response, EntraError>) -> Response {
    result.unwrap_or_else(|error| call.error(&error))
}

/// A GUID that follows from texts, the same in every run: the first 16 bytes of their digest, marked as version 8.
pub(crate) fn derive_guid(parts: &[&str]) -> Uuid {
    let digest = crate::app::sha256(parts.join("\u{1f}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.split_at(16).0);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
