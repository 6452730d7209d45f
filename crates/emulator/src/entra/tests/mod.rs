//! A small world around the login service, and a client that speaks to it through the router, for the tests beside this.
//!
//! Never uses a parser of ours on the answers: JSON is read as JSON, tokens by the `jsonwebtoken` crate.

mod assertion;
mod code;
mod consent;
mod imds;
mod metadata;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Request, StatusCode};
use protocol::cloud::CloudName;
use protocol::ids::{ClientId, TenantId};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{
    Directory, EntraCall, EntraFailure, EntraFault, EntraPolicy, EntraState, Grant, ServicePrincipal, SigningKey,
    TenantInfo, TokenIssuer, router,
};
use crate::app::{AppRegistration, AppRegistry};

pub(super) const CONTOSO: &str = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11";
pub(super) const FABRIKAM: &str = "0b9f2c35-3f1e-4a55-8a5e-6a8f4fb3a9d2";
pub(super) const DELETED: &str = "5e1bca2e-42cf-4f6e-b45f-6f0b1fd6bfb1";
pub(super) const GOVERNMENT: &str = "c0f3ad5d-5b7b-4a35-9d0e-8d4f6a9f5b11";
pub(super) const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
pub(super) const SECRET: &str = "s3cret+/=%";
pub(super) const REDIRECT: &str = "https://collector.example/consent/callback";
pub(super) const MANAGE: &str = "https://manage.office.com";
pub(super) const HOST_NAME: &str = "login.microsoftonline.com";

pub(super) struct World {
    now: Mutex<DateTime<Utc>>,
    principals: Mutex<HashMap<(TenantId, ClientId), ServicePrincipal>>,
    fault: Mutex<Option<EntraFault>>,
    policy: Mutex<EntraPolicy>,
}

impl Directory for World {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }

    fn find_tenant(&self, name: &str) -> Option<TenantInfo> {
        let name = name.to_ascii_lowercase();
        all_tenants().into_iter().find(|tenant| tenant.id.to_string() == name || tenant.domains.contains(&name))
    }

    fn tenants(&self, limit: usize) -> Vec<TenantInfo> {
        all_tenants().into_iter().filter(|tenant| !tenant.deleted).take(limit).collect()
    }

    fn service_principal(&self, tenant: TenantId, client: ClientId) -> Option<ServicePrincipal> {
        self.principals.lock().unwrap().get(&(tenant, client)).cloned()
    }

    fn consent(&self, tenant: TenantId, client: ClientId, granted: &Grant) {
        let mut principals = self.principals.lock().unwrap();
        let principal = principals.entry((tenant, client)).or_default();
        principal.roles.extend(granted.roles.iter().cloned());
        principal.scopes.extend(granted.scopes.iter().cloned());
    }

    fn entra_fault(&self, _call: &EntraCall) -> Option<EntraFault> {
        self.fault.lock().unwrap().clone()
    }

    fn policy(&self) -> EntraPolicy {
        self.policy.lock().unwrap().clone()
    }
}

fn all_tenants() -> Vec<TenantInfo> {
    let tenant = |id: &str, name: &str, domain: &str, cloud, deleted| TenantInfo {
        id: id.parse().unwrap(),
        display_name: name.to_owned(),
        domains: vec![domain.to_owned()],
        cloud,
        deleted,
    };
    vec![
        tenant(CONTOSO, "Contoso", "contoso.example", CloudName::Commercial, false),
        tenant(FABRIKAM, "Fabrikam <Ltd>", "fabrikam.example", CloudName::Gcc, false),
        tenant(DELETED, "Gone", "gone.example", CloudName::Commercial, true),
        tenant(GOVERNMENT, "Agency", "agency.example", CloudName::GccHigh, false),
    ]
}

/// The login service with Contoso as the app's home, where its service principal has both roles.
pub(super) struct Service {
    pub(super) world: Arc<World>,
    pub(super) apps: Arc<AppRegistry>,
    pub(super) state: EntraState,
    router: axum::Router,
}

pub(super) fn contoso() -> TenantId {
    CONTOSO.parse().unwrap()
}

pub(super) fn fabrikam() -> TenantId {
    FABRIKAM.parse().unwrap()
}

pub(super) fn client() -> ClientId {
    CLIENT.parse().unwrap()
}

pub(super) fn start() -> DateTime<Utc> {
    "2026-05-04T10:00:00Z".parse().unwrap()
}

impl Service {
    pub(super) fn new() -> Self {
        let world = Arc::new(World {
            now: Mutex::new(start()),
            principals: Mutex::default(),
            fault: Mutex::default(),
            policy: Mutex::default(),
        });
        let apps = Arc::new(AppRegistry::new());
        let mut app = AppRegistration::new(client(), contoso()).with_secret(SECRET).with_redirect_uri(REDIRECT);
        app.display_name = "Audit <collector>".to_owned();
        apps.register(app);
        let tokens = Arc::new(TokenIssuer::new(SigningKey::shared().unwrap(), 7));
        let state = EntraState::new(Arc::clone(&world) as Arc<dyn Directory>, Arc::clone(&apps), tokens, 7);
        let router = router(state.clone());
        let service = Self { world, apps, state, router };
        service.install(contoso(), &["ActivityFeed.Read", "ActivityFeed.ReadDlp"]);
        service
    }

    pub(super) fn install(&self, tenant: TenantId, roles: &[&str]) {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let principal = ServicePrincipal { roles, ..ServicePrincipal::default() };
        self.world.principals.lock().unwrap().insert((tenant, client()), principal);
    }

    pub(super) fn principal(&self, tenant: TenantId, change: impl FnOnce(&mut ServicePrincipal)) {
        change(self.world.principals.lock().unwrap().get_mut(&(tenant, client())).unwrap());
    }

    pub(super) fn uninstall(&self, tenant: TenantId) {
        self.world.principals.lock().unwrap().remove(&(tenant, client()));
    }

    pub(super) fn advance(&self, by: TimeDelta) {
        *self.world.now.lock().unwrap() += by;
    }

    pub(super) fn policy(&self, change: impl FnOnce(&mut EntraPolicy)) {
        change(&mut self.world.policy.lock().unwrap());
    }

    pub(super) fn fault(&self, fault: EntraFault) {
        *self.world.fault.lock().unwrap() = Some(fault);
    }

    pub(super) fn fail(&self, failure: EntraFailure) {
        self.fault(EntraFault { instead: Some(failure), ..EntraFault::default() });
    }

    pub(super) async fn send(&self, request: http::request::Builder, body: String) -> Answer {
        let host = request.headers_ref().unwrap().get(HOST).is_some();
        let request = if host { request } else { request.header(HOST, HOST_NAME) };
        let request = request.header("x-forwarded-proto", "https").body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    pub(super) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send(Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded"), body).await
    }

    /// A v1 client-credentials request with the secret, to which `change` is applied.
    pub(super) async fn v1(&self, tenant: &str, change: &[(&str, &str)]) -> Answer {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("resource", MANAGE),
        ];
        self.post(&format!("/{tenant}/oauth2/token"), &changed(&form, change)).await
    }

    /// The same at v2.
    pub(super) async fn v2(&self, tenant: &str, change: &[(&str, &str)]) -> Answer {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("scope", "https://manage.office.com/.default"),
        ];
        self.post(&format!("/{tenant}/oauth2/v2.0/token"), &changed(&form, change)).await
    }
}

/// `form` with the values of `change` put in; an empty value takes the parameter away.
pub(super) fn changed<'a>(form: &[(&'a str, &'a str)], change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = form.iter().filter(|(name, _)| !change.iter().any(|(other, _)| other == name));
    kept.chain(change.iter().filter(|(_, value)| !value.is_empty())).copied().collect()
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The AADSTS number, after checking that the body has the shape of entra.md §6.
    #[track_caller]
    pub(super) fn code(&self) -> u64 {
        let json = self.json();
        let codes = json["error_codes"].as_array().unwrap_or_else(|| panic!("no error: {self:?}"));
        let code = codes.last().unwrap().as_u64().unwrap();
        let description = json["error_description"].as_str().unwrap();
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        for line in ["\r\nTrace ID: ", "\r\nCorrelation ID: ", "\r\nTimestamp: 2026-"] {
            assert!(description.contains(line), "{description}");
        }
        code
    }

    #[track_caller]
    pub(super) fn claims(&self) -> Value {
        claims(self.json()["access_token"].as_str().unwrap())
    }

    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// Where a redirect leads to, and with what.
    #[track_caller]
    pub(super) fn redirect(&self) -> (String, HashMap<String, String>) {
        assert_eq!(self.status, StatusCode::FOUND, "{self:?}");
        let url = url::Url::parse(self.header("location")).unwrap();
        let encoded = url.fragment().or(url.query()).unwrap_or_default().to_owned();
        let pairs = url::form_urlencoded::parse(encoded.as_bytes()).into_owned().collect();
        (url.as_str().split(['?', '#']).next().unwrap().to_owned(), pairs)
    }
}

/// The claims of a token, its signature unchecked.
#[track_caller]
pub(super) fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}
