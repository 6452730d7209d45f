//! A sign-in request whose client and reply URL are known to be good, and the ways its answer reaches the reply URL.
//!
//! Never sends anything to a reply URL that is not registered: until client and reply URL are known to be good, errors are
//! shown on the page.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;

use crate::app::AppRegistration;
use crate::entra::authority::Segment;
use crate::entra::directory::{EntraEndpoint, EntraFailure};
use crate::entra::errors::EntraError;
use crate::entra::form::Form;
use crate::entra::interaction::Outcome;
use crate::entra::reply::Call;
use crate::entra::resource::Api;
use crate::entra::{EntraState, Version, page, read_parameters};

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
pub(crate) async fn begin(
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

impl Visit {
    /// The API a resource text means, or AADSTS500011.
    pub(crate) fn api(&self, resource: &str) -> Result<Api, EntraError> {
        Api::of(resource, self.app.client_id, &self.call.origin, &self.call.policy).ok_or_else(|| {
            let text = format!("The resource principal named {resource} was not found in the tenant.");
            EntraError::with_text(500_011, text)
        })
    }

    pub(crate) fn state_parameter(&self) -> Option<(&'static str, String)> {
        self.form.get("state").map(|state| ("state", state.to_owned()))
    }

    /// Sends an authorize error to the reply URL, or shows it when it must not go there.
    pub(crate) fn refuse(&self, error: &EntraError, cancelled: bool) -> Response {
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
    pub(crate) fn deliver(&self, answer: &[(&str, String)], fragment: bool) -> Response {
        match self.form.get("response_mode") {
            Some("form_post") => page::form_post(&self.call, &self.redirect_uri, answer),
            Some("fragment") => self.redirect('#', answer),
            None if fragment => self.redirect('#', answer),
            _ => self.redirect('?', answer),
        }
    }

    pub(crate) fn redirect(&self, separator: char, answer: &[(&str, String)]) -> Response {
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        let uri = &self.redirect_uri;
        let separator = if separator == '?' && uri.contains('?') { '&' } else { separator };
        self.call.redirect(&format!("{uri}{separator}{encoded}"))
    }

    /// Shows a page of this visit.
    pub(crate) fn show(&self, page: page::Page) -> Outcome {
        Outcome::Show(page.respond(&self.call, StatusCode::OK))
    }
}
