//! The admin-consent endpoints, v1 and v2: an administrator says yes or no for the whole tenant, and no code is issued.
//!
//! Never names the tenant when the answer is no; `admin_consent=True` stands there all the same (entra.md §3.5).

use axum::extract::Request;
use axum::response::Response;

use crate::entra::authority::Segment;
use crate::entra::authorize::delegated_names;
use crate::entra::code_grant::{OPENID_SCOPES, single_resource, split_scope};
use crate::entra::directory::{DeclineForm, EntraEndpoint};
use crate::entra::errors::EntraError;
use crate::entra::interaction::{Ask, Outcome, visit as meet};
use crate::entra::visit::{Visit, begin};
use crate::entra::{EntraState, Version, page};

pub(crate) async fn admin_consent(state: EntraState, version: Version, segment: String, request: Request) -> Response {
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
}
