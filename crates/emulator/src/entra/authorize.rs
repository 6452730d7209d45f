//! The authorize endpoints, v1 and v2: what the app asks for, and the code or id_token it gets.
//!
//! Never decides who the person is or what they answer: that is `interaction`'s business. Client and reply URL have been
//! checked by `visit` before anything here runs.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;

use crate::app::AppRegistration;
use crate::entra::admin_consent::admin_consent;
use crate::entra::code_grant::{client_info, id_token, single_resource, split_scope};
use crate::entra::directory::EntraEndpoint;
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::interaction::{Ask, Outcome, Person, visit as meet};
use crate::entra::store::{Authorized, Challenge, Code};
use crate::entra::visit::{Visit, begin};
use crate::entra::{EntraState, Version, page};

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
pub(crate) fn delegated_names(app: &AppRegistration, scopes: &[String]) -> Vec<String> {
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
