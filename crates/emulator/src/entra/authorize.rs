//! The sign-in endpoints: `authorize`, which ends with a code, and `adminconsent`, which ends with a yes or no.
//!
//! Never sends anything to a reply URL that is not registered: until client and reply URL are known to be good, errors are
//! shown on the page. Who the person is and what they answer is `interaction`'s business.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;

use crate::app::AppRegistration;
use crate::entra::authority::Segment;
use crate::entra::code_grant::{OPENID_SCOPES, client_info, id_token, single_resource, split_scope};
use crate::entra::directory::{DeclineForm, EntraEndpoint, EntraFailure};
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::interaction::{Ask, Outcome, Person, visit as meet};
use crate::entra::reply::Call;
use crate::entra::resource::Api;
use crate::entra::store::{Authorized, Challenge, Code};
use crate::entra::{EntraState, Version, page, read_parameters};

pub(crate) fn routes() -> Router<EntraState> {
    let authorize = |version| {
        get(move |State(state), Path(tenant): Path<String>, request| authorize(state, version, tenant, request))
            .post(move |State(state), Path(tenant): Path<String>, request| authorize(state, version, tenant, request))
    };
    let consent = |version| {
        get(move |State(state), Path(tenant): Path<String>, request| admin_consent(state, version, tenant, request))
            .post(move |State(state), Path(tenant): Path<String>, request| {
                admin_consent(state, version, tenant, request)
            })
    };
    Router::new()
        .route("/{tenant}/oauth2/authorize", authorize(Version::V1))
        .route("/{tenant}/oauth2/v2.0/authorize", authorize(Version::V2))
        .route("/{tenant}/adminconsent", consent(Version::V1))
        .route("/{tenant}/v2.0/adminconsent", consent(Version::V2))
        .route("/{tenant}/oauth2/logout", get(page::signed_out))
        .route("/{tenant}/oauth2/v2.0/logout", get(page::signed_out))
}

/// A request whose client and reply URL are known to be good: from here on, errors go to the reply URL.
pub(crate) struct Visit {
    pub(crate) state: EntraState,
    pub(crate) call: Call,
    pub(crate) version: Version,
    pub(crate) segment: Segment,
    pub(crate) app: Arc<AppRegistration>,
    pub(crate) form: Form,
    pub(crate) redirect_uri: String,
}

/// A visit that could begin, or the answer it ended with.
async fn begin(
    state: EntraState,
    version: Version,
    segment: &str,
    endpoint: EntraEndpoint,
    request: Request,
) -> Result<(Visit, Option<EntraError>), Response> {
    let (parts, form) = read_parameters(request).await;
    let mut call = state.call(&parts);
    let form = form.map_err(|error| page::error(&call, &error))?;
    let failure = state.suffer(&mut call, endpoint, Some(segment), form.get("client_id")).await;
    let demanded = match failure {
        None => None,
        Some(EntraFailure::Aadsts(code)) => Some(EntraError::new(code)),
        Some(failure) => return Err(call.failure(failure)),
    };
    match check_client(&state, &call, segment, &form) {
        Ok((segment, app, redirect_uri)) => {
            Ok((Visit { state, call, version, segment, app, form, redirect_uri }, demanded))
        }
        Err(error) => Err(page::error(&call, demanded.as_ref().unwrap_or(&error))),
    }
}

fn check_client(
    state: &EntraState,
    call: &Call,
    segment: &str,
    form: &Form,
) -> Result<(Segment, Arc<AppRegistration>, String), EntraError> {
    let client_id = form.require("client_id")?;
    let segment = Segment::resolve(state.directory(), &call.origin, segment)?;
    let directory_name = segment.tenant().map_or("Microsoft.com", |tenant| tenant.display_name.as_str());
    let app = state.registration(client_id, directory_name)?;
    let redirect_uri = check_redirect_uri(&app, form.get("redirect_uri"))?;
    if !app.multitenant {
        match segment.tenant() {
            None => {
                let text = format!(
                    "Application '{}'({}) is not configured as a multi-tenant application. Usage of the /common endpoint \
                     is not supported for such apps. Use a tenant-specific endpoint or configure the application to be \
                     multi-tenant.",
                    app.client_id, app.display_name
                );
                return Err(EntraError::with_text(50194, text));
            }
            Some(tenant) if tenant.id != app.home_tenant => return Err(EntraError::new(700_016)),
            Some(_) => {}
        }
    }
    Ok((segment, app, redirect_uri))
}

fn check_redirect_uri(app: &AppRegistration, asked: Option<&str>) -> Result<String, EntraError> {
    let Some(asked) = asked else {
        return app.redirect_uris.first().cloned().ok_or_else(|| EntraError::new(500_113));
    };
    if app.redirect_uris.iter().any(|registered| registered == asked || differ_in_loopback_port(registered, asked)) {
        return Ok(asked.to_owned());
    }
    let text = format!(
        "The redirect URI '{asked}' specified in the request does not match the redirect URIs configured for the \
         application '{}'. Make sure the redirect URI sent in the request matches one added to your application.",
        app.client_id
    );
    Err(EntraError::with_text(50011, text))
}

/// RFC 8252 §7.3, as Entra does it: for http on this machine the port is not compared.
fn differ_in_loopback_port(registered: &str, asked: &str) -> bool {
    let (Ok(mut registered), Ok(mut asked)) = (url::Url::parse(registered), url::Url::parse(asked)) else {
        return false;
    };
    let loopback = |url: &url::Url| url.scheme() == "http" && matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
    if !loopback(&registered) || !loopback(&asked) || asked.fragment().is_some() {
        return false;
    }
    registered.set_port(None).is_ok() && asked.set_port(None).is_ok() && registered == asked
}

async fn authorize(state: EntraState, version: Version, segment: String, request: Request) -> Response {
    let (visit, demanded) = match begin(state, version, &segment, EntraEndpoint::Authorize, request).await {
        Ok(begun) => begun,
        Err(response) => return response,
    };
    if let Some(error) = demanded {
        return visit.refuse(&error, false);
    }
    let wish = match Wish::read(&visit) {
        Ok(wish) => wish,
        Err(error) => return visit.refuse(&error, false),
    };
    match meet(&visit, &wish.ask()) {
        Outcome::Show(response) => response,
        Outcome::Accepted(person) => match wish.grant(&visit, &person) {
            Ok(response) => response,
            Err(error) => visit.refuse(&error, false),
        },
        Outcome::Refused { error, cancelled } => visit.refuse(&error, cancelled),
    }
}

/// What an authorize request asks for, once its parameters have been read.
struct Wish {
    code: bool,
    id_token: bool,
    resource: Option<String>,
    scopes: Vec<String>,
    /// Delegated permissions that v2 scopes name.
    delegated: Vec<String>,
    roles: Vec<String>,
    challenge: Option<Challenge>,
    prompt: Option<String>,
}

impl Wish {
    fn read(visit: &Visit) -> Result<Self, EntraError> {
        let form = &visit.form;
        let (code, id_token) = match form.require("response_type")? {
            "code" => (true, false),
            "id_token" => (false, true),
            "code id_token" | "id_token code" => (true, true),
            other => {
                let text = format!("The app requested an unsupported response type '{other}'.");
                return Err(EntraError::with_text(70005, text));
            }
        };
        match form.get("response_mode") {
            None | Some("fragment" | "form_post") => {}
            Some("query") if !id_token => {}
            Some(other) => {
                let text = format!("The app requested '{other}', an unsupported value of 'response_mode'.");
                return Err(EntraError::with_text(70007, text));
            }
        }
        if id_token && form.get("nonce").is_none() {
            return Err(EntraError::missing("nonce"));
        }
        let challenge = read_challenge(form)?;
        let prompt = form.get("prompt").map(str::to_owned);
        let known = match (visit.version, prompt.as_deref()) {
            (_, None | Some("login" | "select_account" | "consent" | "none")) => true,
            (version, Some("admin_consent")) => version == Version::V1,
            (_, Some(_)) => false,
        };
        if !known {
            return Err(EntraError::with_text(90023, "Unsupported 'prompt' value."));
        }
        let mut wish = Self {
            code,
            id_token,
            resource: None,
            scopes: Vec::new(),
            delegated: Vec::new(),
            roles: Vec::new(),
            challenge,
            prompt,
        };
        match visit.version {
            Version::V1 => wish.read_v1(visit)?,
            Version::V2 => wish.read_v2(visit)?,
        }
        Ok(wish)
    }

    /// v1 ignores `scope`: what is consented to is the registration's static list.
    fn read_v1(&mut self, visit: &Visit) -> Result<(), EntraError> {
        if let Some(resource) = visit.form.get("resource") {
            visit.api(resource)?;
            self.resource = Some(resource.to_owned());
        }
        self.roles.clone_from(&visit.app.permissions);
        self.delegated.clone_from(&visit.app.delegated_permissions);
        Ok(())
    }

    /// v2 consents to the delegated permissions named in `scope`, never to application permissions (entra.md §3.4).
    fn read_v2(&mut self, visit: &Visit) -> Result<(), EntraError> {
        if visit.form.get("resource").is_some() {
            return Err(EntraError::new(901_002));
        }
        self.scopes = split_scope(visit.form.require("scope")?);
        if self.id_token && !self.scopes.iter().any(|scope| scope == "openid") {
            return Err(EntraError::with_text(70005, "response_type 'id_token' requires the 'openid' scope."));
        }
        visit.api(&single_resource(&self.scopes)?)?;
        self.delegated = delegated_names(&visit.app, &self.scopes);
        Ok(())
    }

    fn ask(&self) -> Ask {
        let prompt = self.prompt.as_deref();
        Ask {
            roles: self.roles.clone(),
            scopes: self.delegated.clone(),
            for_organization: prompt == Some("admin_consent"),
            even_if_granted: matches!(prompt, Some("admin_consent" | "consent")),
            choose_account: matches!(prompt, Some("select_account" | "login")),
            silent: prompt == Some("none"),
        }
    }

    fn grant(self, visit: &Visit, person: &Person) -> Result<Response, EntraError> {
        let (state, call) = (&visit.state, &visit.call);
        let authorized = Authorized {
            client: visit.app.client_id,
            tenant: person.tenant.id,
            account: person.account.clone(),
            resource: self.resource,
            scopes: self.scopes,
            nonce: visit.form.get("nonce").map(str::to_owned),
        };
        let mut answer: Vec<(&str, String)> = Vec::new();
        let code = self.code.then(|| state.fresh_text("0.AX", 120));
        if self.id_token {
            let token = id_token(state, call, &visit.app, &person.tenant, &authorized, visit.version, code.as_deref())?;
            answer.push(("id_token", token));
        }
        if visit.form.get("client_info") == Some("1") {
            answer.push(("client_info", client_info(&authorized)));
        }
        if let Some(code) = code {
            answer.insert(0, ("code", code.clone()));
            let issued = Code {
                authorized,
                segment: visit.segment.key(),
                redirect_uri: visit.redirect_uri.clone(),
                challenge: self.challenge,
                issued: call.now,
                redeemed: false,
            };
            state.store().codes.insert(code, issued);
        }
        answer.extend(visit.state_parameter());
        answer.push(("session_state", state.fresh_id().to_string()));
        if self.prompt.as_deref() == Some("admin_consent") {
            answer.push(("admin_consent", "True".to_owned()));
        }
        Ok(visit.deliver(&answer, self.id_token))
    }
}

/// PKCE: 43 to 128 characters; the method is `plain` unless it is named (RFC 7636 §4.3).
fn read_challenge(form: &Form) -> Result<Option<Challenge>, EntraError> {
    let method = form.get("code_challenge_method");
    let Some(challenge) = form.get("code_challenge") else {
        return match method {
            None => Ok(None),
            Some(_) => Err(EntraError::new(50147)),
        };
    };
    if !(43..=128).contains(&challenge.len()) {
        return Err(EntraError::new(501_491));
    }
    match method.unwrap_or("plain") {
        "S256" => Ok(Some(Challenge::S256(challenge.to_owned()))),
        "plain" => Ok(Some(Challenge::Plain(challenge.to_owned()))),
        _ => Err(EntraError::with_text(50147, "The value of 'code_challenge_method' is not supported.")),
    }
}

/// The delegated permissions that scopes name: `…/.default` stands for those of the registration.
fn delegated_names(app: &AppRegistration, scopes: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for scope in scopes {
        let name = match scope.rsplit_once('/') {
            Some((_, ".default")) => {
                names.extend(app.delegated_permissions.iter().cloned());
                continue;
            }
            Some((_, name)) => name,
            None => scope,
        };
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    names
}

impl Visit {
    /// The API a resource text means, or AADSTS500011.
    fn api(&self, resource: &str) -> Result<Api, EntraError> {
        Api::of(resource, self.app.client_id, &self.call.origin, &self.call.policy).ok_or_else(|| {
            let text = format!("The resource principal named {resource} was not found in the tenant.");
            EntraError::with_text(500_011, text)
        })
    }

    fn state_parameter(&self) -> Option<(&'static str, String)> {
        self.form.get("state").map(|state| ("state", state.to_owned()))
    }

    /// Sends an authorize error to the reply URL, or shows it when it must not go there.
    fn refuse(&self, error: &EntraError, cancelled: bool) -> Response {
        if error.stays_on_page() {
            return page::error(&self.call, error);
        }
        let mut answer = vec![("error", error.error.to_owned())];
        if cancelled {
            answer.push(("error_subcode", "cancel".to_owned()));
        }
        answer.push(("error_description", self.call.describe(error)));
        answer.push(("error_uri", self.call.error_uri(error)));
        answer.extend(self.state_parameter());
        let fragment = self.form.get("response_type").is_some_and(|kind| kind.contains("id_token"));
        self.deliver(&answer, fragment)
    }

    /// By the response mode asked for; without one, the query, or the fragment when an id_token is among the answers.
    fn deliver(&self, answer: &[(&str, String)], fragment: bool) -> Response {
        match self.form.get("response_mode") {
            Some("form_post") => page::form_post(&self.call, &self.redirect_uri, answer),
            Some("fragment") => self.redirect('#', answer),
            None if fragment => self.redirect('#', answer),
            _ => self.redirect('?', answer),
        }
    }

    fn redirect(&self, separator: char, answer: &[(&str, String)]) -> Response {
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        let uri = &self.redirect_uri;
        let separator = if separator == '?' && uri.contains('?') { '&' } else { separator };
        self.call.redirect(&format!("{uri}{separator}{encoded}"))
    }
}

async fn admin_consent(state: EntraState, version: Version, segment: String, request: Request) -> Response {
    let (visit, demanded) = match begin(state, version, &segment, EntraEndpoint::AdminConsent, request).await {
        Ok(begun) => begun,
        Err(response) => return response,
    };
    if let Some(error) = demanded {
        return visit.decline(&error);
    }
    let (ask, scope) = match visit.consent_asked() {
        Ok(asked) => asked,
        Err(error) => return visit.refuse(&error, false),
    };
    match meet(&visit, &ask) {
        Outcome::Show(response) => response,
        Outcome::Refused { error, .. } => visit.decline(&error),
        Outcome::Accepted(person) => {
            let tenant = ("tenant", person.tenant.id.to_string());
            let yes = ("admin_consent", "True".to_owned());
            let answer: Vec<_> = match scope {
                None => [tenant].into_iter().chain(visit.state_parameter()).chain([yes]).collect(),
                Some(scope) => [yes, tenant, ("scope", scope)].into_iter().chain(visit.state_parameter()).collect(),
            };
            visit.redirect('?', &answer)
        }
    }
}

impl Visit {
    /// What an admin-consent request asks for, and on v2 the `scope` its success repeats.
    fn consent_asked(&self) -> Result<(Ask, Option<String>), EntraError> {
        let mut ask = Ask {
            roles: Vec::new(),
            scopes: Vec::new(),
            for_organization: true,
            even_if_granted: true,
            choose_account: false,
            silent: false,
        };
        if self.version == Version::V1 {
            ask.roles.clone_from(&self.app.permissions);
            ask.scopes.clone_from(&self.app.delegated_permissions);
            return Ok((ask, None));
        }
        if matches!(self.segment, Segment::Common | Segment::Consumers) {
            // Observed: v2 falls through to the authorize endpoint's own complaint (entra.md §3.3).
            return Err(EntraError::missing("response_type"));
        }
        let scope = self.form.require("scope")?;
        let scopes = split_scope(scope);
        for one in scopes.iter().filter(|one| !OPENID_SCOPES.contains(&one.as_str())) {
            let resource = single_resource(std::slice::from_ref(one))?;
            let api = self.api(&resource)?;
            if one.ends_with("/.default") {
                ask.roles.extend(api.permissions(&self.app.permissions));
            }
        }
        ask.scopes = delegated_names(&self.app, &scopes);
        Ok((ask, Some(scopes.join(" "))))
    }

    /// A declined or failed admin consent: `admin_consent=True` all the same, and no `tenant` (entra.md §3.5).
    fn decline(&self, error: &EntraError) -> Response {
        if error.stays_on_page() {
            return page::error(&self.call, error);
        }
        let documented = self.call.policy.decline_form == DeclineForm::Documented && error.code == 65004;
        let yes = ("admin_consent", "True".to_owned());
        let description = ("error_description", self.call.describe(error));
        let answer: Vec<_> = match (documented, self.version) {
            (true, Version::V1) => vec![("error", "permission_denied".to_owned()), description],
            (true, Version::V2) => vec![yes, ("error", "consent_required".to_owned()), description],
            (false, _) => {
                vec![("error", error.error.to_owned()), description, ("error_uri", self.call.error_uri(error)), yes]
            }
        };
        let answer: Vec<_> = answer.into_iter().chain(self.state_parameter()).collect();
        self.redirect('?', &answer)
    }

    /// Shows a page of this visit.
    pub(crate) fn show(&self, page: page::Page) -> Outcome {
        Outcome::Show(page.respond(&self.call, StatusCode::OK))
    }
}
