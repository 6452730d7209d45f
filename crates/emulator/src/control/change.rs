//! What can be changed while the emulator runs: the clock, tenants, applications, the fault plan.
//!
//! Never takes a key it does not know: a test with a misspelt switch would test nothing.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use http::{Response, StatusCode};
use protocol::ids::{ClientId, ContentType, TenantId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{about_clock, about_tenant, answer, refused};
use crate::app::{AppCertificate, AppRegistration, FederatedCredential, FederatedKey};
use crate::emulator::Emulator;
use crate::faults::FaultPlan;
use crate::units::parse_duration;
use crate::world::TenantSpec;
use crate::world::options::MAX_LIVE_RATE;

#[expect(clippy::result_large_err, reason = "the error is the answer, and it is made once a request")]
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Response<Body>> {
    serde_json::from_slice(body).map_err(|error| refused(StatusCode::BAD_REQUEST, &error.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    /// A time to jump to, RFC 3339.
    now: Option<String>,
    /// A span to jump forward, such as `1h`.
    advance: Option<String>,
    /// True: stand still from now on.
    frozen: Option<bool>,
    /// Emulated seconds per real second, from now on.
    speed: Option<f64>,
}

/// `PUT clock`. The members act in the order now, advance, frozen, speed.
pub(super) async fn clock(State(emulator): State<Emulator>, body: Bytes) -> Response<Body> {
    let change: ClockChange = match read(&body) {
        Ok(change) => change,
        Err(refused) => return refused,
    };
    let clock = emulator.world().clock();
    if let Some(text) = &change.now {
        let Ok(to) = chrono::DateTime::parse_from_rfc3339(text) else {
            return refused(StatusCode::BAD_REQUEST, "now must be a time such as 2026-01-31T12:00:00Z");
        };
        clock.set(to.with_timezone(&chrono::Utc));
    }
    if let Some(text) = &change.advance {
        match parse_duration(text) {
            Ok(by) => clock.advance(by),
            Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    match (change.frozen, change.speed) {
        (Some(true), _) => clock.freeze(),
        (_, Some(speed)) if (0.0..=1e6).contains(&speed) => clock.run(speed),
        (_, Some(_)) => return refused(StatusCode::BAD_REQUEST, "speed must be between 0 and 1000000"),
        (Some(false), None) => clock.run(1.0),
        (None, None) => {}
    }
    answer(StatusCode::OK, &about_clock(clock))
}

/// `PUT faults`: a plan as TOML, or as JSON `{"preset": …, "seed": …}`.
pub(super) async fn faults(State(emulator): State<Emulator>, body: Bytes) -> Response<Body> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Preset {
        preset: String,
        #[serde(default)]
        seed: u64,
    }
    let text = String::from_utf8_lossy(&body);
    let plan = if text.trim_start().starts_with('{') {
        match read::<Preset>(&body) {
            Ok(named) => FaultPlan::preset(&named.preset, named.seed),
            Err(refused) => return refused,
        }
    } else {
        FaultPlan::parse(&text)
    };
    match plan {
        Ok(plan) => {
            let rules = plan.rules.len();
            emulator.world().set_faults(plan);
            answer(StatusCode::OK, &json!({ "rules": rules }))
        }
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            refused(StatusCode::BAD_REQUEST, &format!("{error}{source}"))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    id: Option<TenantId>,
    name: Option<String>,
    domain: Option<String>,
    seats: Option<u32>,
    #[serde(default = "yes")]
    auditing: bool,
    #[serde(default = "yes")]
    consented: bool,
    #[serde(default)]
    content_types: Vec<ContentType>,
    /// Records of its past, over the world's history.
    #[serde(default)]
    history_records: u64,
    /// Records per minute from now on.
    #[serde(default)]
    live_rate: f64,
}

fn yes() -> bool {
    true
}

/// `POST tenants`.
pub(super) async fn add_tenant(State(emulator): State<Emulator>, body: Bytes) -> Response<Body> {
    let new: NewTenant = match read(&body) {
        Ok(new) => new,
        Err(refused) => return refused,
    };
    let spec = TenantSpec {
        id: new.id,
        name: new.name,
        domain: new.domain,
        seats: new.seats,
        auditing: new.auditing,
        consented: new.consented,
        content_types: new.content_types,
        ..TenantSpec::default()
    };
    if new.history_records > 1_000_000_000 || !(0.0..=MAX_LIVE_RATE).contains(&new.live_rate) {
        return refused(StatusCode::BAD_REQUEST, "history_records may be up to 1000000000, live_rate up to 100000");
    }
    match emulator.world().add_tenant(&spec, new.history_records, new.live_rate) {
        Ok(id) => match emulator.world().tenant(id) {
            Some(tenant) => answer(StatusCode::CREATED, &about_tenant(&tenant)),
            None => refused(StatusCode::INTERNAL_SERVER_ERROR, "the tenant vanished"),
        },
        Err(error) => refused(StatusCode::CONFLICT, &error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantChange {
    auditing: Option<bool>,
    deleted: Option<bool>,
    misconfigured: Option<bool>,
    content_types: Option<Vec<ContentType>>,
    /// The application the next two members are about.
    client_id: Option<ClientId>,
    /// The application permissions granted to it.
    roles: Option<Vec<String>>,
    /// False: its consent is taken back.
    consented: Option<bool>,
    /// Its service principal is switched off.
    disabled: Option<bool>,
    /// Conditional Access blocks it.
    blocked: Option<bool>,
    /// True: the tenant's webhooks vanish, and its subscriptions stay enabled (D13).
    lose_webhooks: Option<bool>,
}

/// `PATCH tenants/{id}`.
pub(super) async fn tenant(State(emulator): State<Emulator>, Path(id): Path<String>, body: Bytes) -> Response<Body> {
    let change: TenantChange = match read(&body) {
        Ok(change) => change,
        Err(refused) => return refused,
    };
    let world = emulator.world();
    let Some(tenant) = world.tenant_named(&id.to_ascii_lowercase()) else {
        return refused(StatusCode::NOT_FOUND, &format!("there is no tenant {id}"));
    };
    let about_client =
        change.roles.is_some() || change.consented.is_some() || change.disabled.is_some() || change.blocked.is_some();
    if about_client && change.client_id.is_none() {
        return refused(StatusCode::BAD_REQUEST, "roles, consented, disabled and blocked need client_id");
    }
    let now = world.now_millis();
    world.change_tenant(tenant.id(), |state| {
        if let Some(on) = change.auditing {
            state.set_auditing(on, now);
        }
        state.deleted = change.deleted.unwrap_or(state.deleted);
        state.misconfigured = change.misconfigured.unwrap_or(state.misconfigured);
        if let Some(kinds) = &change.content_types {
            state.licensed.clone_from(kinds);
        }
        let Some(client) = change.client_id.filter(|_| about_client) else { return };
        let mut principal = state.principal(client).cloned().unwrap_or_default();
        if let Some(roles) = &change.roles {
            principal.roles.clone_from(roles);
        }
        principal.disabled = change.disabled.unwrap_or(principal.disabled);
        principal.blocked = change.blocked.unwrap_or(principal.blocked);
        state.principals.insert(client, (change.consented != Some(false)).then_some(principal));
    });
    if change.lose_webhooks == Some(true) {
        world.lose_webhooks(tenant.id());
    }
    answer(StatusCode::OK, &about_tenant(&tenant))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewApp {
    client_id: ClientId,
    home_tenant: Option<TenantId>,
    display_name: Option<String>,
    #[serde(default)]
    secrets: Vec<String>,
    /// PEM texts.
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    multitenant: Option<bool>,
    permissions: Option<Vec<String>>,
    /// Outside issuers whose tokens are taken as proof of the app.
    #[serde(default)]
    federated: Vec<NewTrust>,
    /// True: id_tokens tell the account's directory roles (`wids`).
    #[serde(default)]
    directory_role_claims: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTrust {
    issuer: String,
    subject: String,
    audience: Option<String>,
    /// The issuer's published key set, as under its `jwks_uri`.
    jwks: serde_json::Value,
}

impl NewTrust {
    fn into_credential(self) -> Result<FederatedCredential, &'static str> {
        let keys = FederatedKey::of_set(&self.jwks);
        if keys.is_empty() {
            return Err(
                "jwks must hold an RSA key, as the issuer publishes them: {\"keys\":[{\"kty\":\"RSA\",\"n\":…,\"e\":…}]}",
            );
        }
        let audience = self.audience.unwrap_or_else(|| FederatedCredential::AUDIENCE.to_owned());
        Ok(FederatedCredential { issuer: self.issuer, subject: self.subject, audience, jwks: Some(keys) })
    }
}

/// `POST apps`: registers an application, or replaces the one with its client id.
pub(super) async fn add_app(State(emulator): State<Emulator>, body: Bytes) -> Response<Body> {
    let new: NewApp = match read(&body) {
        Ok(new) => new,
        Err(refused) => return refused,
    };
    let home = match new.home_tenant.or_else(|| emulator.world().tenant_ids().first().copied()) {
        Some(home) => home,
        None => {
            return refused(StatusCode::BAD_REQUEST, "the world has no tenant to be the app's home; give home_tenant");
        }
    };
    let mut app = AppRegistration::new(new.client_id, home);
    for secret in &new.secrets {
        app = app.with_secret(secret);
    }
    for uri in &new.redirect_uris {
        app = app.with_redirect_uri(uri);
    }
    for pem in &new.certificates {
        match AppCertificate::from_pem(pem) {
            Ok(certificate) => app = app.with_certificate(certificate),
            Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    if new.federated.len() > AppRegistration::MAX_FEDERATED {
        return refused(StatusCode::BAD_REQUEST, "an app has at most 20 federated credentials");
    }
    for trust in new.federated {
        match trust.into_credential() {
            Ok(credential) => app.federated.push(credential),
            Err(problem) => return refused(StatusCode::BAD_REQUEST, problem),
        }
    }
    app.display_name = new.display_name.unwrap_or(app.display_name);
    app.multitenant = new.multitenant.unwrap_or(app.multitenant);
    app.permissions = new.permissions.unwrap_or(app.permissions);
    app.directory_role_claims = new.directory_role_claims;
    emulator.apps().register(app);
    answer(StatusCode::CREATED, &json!({ "client_id": new.client_id.to_string() }))
}
