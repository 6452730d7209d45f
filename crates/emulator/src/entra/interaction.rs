//! The person in front of a sign-in: which account, and yes or no. Answered on pages, by a script, or by the policy.
//!
//! Never redirects: it says how the visit ended, and `authorize` puts that into the right parameters. No password is ever
//! asked for; choosing an account is signing in.
//!
//! A script answers without a browser by adding two parameters, in the query or in a posted form: `emulator_account` (a
//! user principal name) and `emulator_decision` (`accept` or `cancel`).

use axum::response::Response;

use crate::entra::authority::Segment;
use crate::entra::code_grant::OPENID_SCOPES;
use crate::entra::directory::{Account, Grant, Interaction, TenantInfo};
use crate::entra::errors::EntraError;
use crate::entra::page::{AccountsPage, ConsentPage, Page};
use crate::entra::visit::Visit;

/// Accounts shown on one page; any other can be typed.
const SHOWN_TENANTS: usize = 25;

/// What the visit needs from the person.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Application permissions.
    pub(crate) roles: Vec<String>,
    /// Delegated permissions.
    pub(crate) scopes: Vec<String>,
    /// Only an administrator may answer.
    pub(crate) for_organization: bool,
    /// Ask even if everything has been granted before.
    pub(crate) even_if_granted: bool,
    /// Ask which account even if the request gives a hint.
    pub(crate) choose_account: bool,
    /// Show no page.
    pub(crate) silent: bool,
}

/// A signed-in person.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) tenant: TenantInfo,
    pub(crate) account: Account,
}

/// How a visit ended, or the page it goes on with.
#[derive(Debug)]
pub(crate) enum Outcome {
    Show(Response),
    Accepted(Person),
    Refused { error: EntraError, cancelled: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Accept,
    Cancel,
}

pub(crate) fn visit(visit: &Visit, ask: &Ask) -> Outcome {
    let decision = decision(visit);
    let person = match sign_in(visit, ask, decision) {
        Ok(person) => person,
        Err(outcome) => return *outcome,
    };
    let foreign = match &visit.segment {
        Segment::Tenant(tenant) => tenant.id != person.tenant.id,
        Segment::Consumers => true,
        Segment::Common | Segment::Organizations => false,
    };
    if foreign {
        return refused(not_in_tenant(visit, &person));
    }
    consent(visit, ask, decision, person)
}

fn decision(visit: &Visit) -> Option<Decision> {
    match (visit.form.get("emulator_decision"), visit.call.policy.interaction) {
        (Some("accept"), _) => Some(Decision::Accept),
        (Some(_), _) => Some(Decision::Cancel),
        (None, Interaction::Accept) => Some(Decision::Accept),
        (None, Interaction::Decline) => Some(Decision::Cancel),
        (None, Interaction::Ask | Interaction::WrongUser) => None,
    }
}

/// Who is signed in; otherwise the account page, or why there is none.
fn sign_in(visit: &Visit, ask: &Ask, decision: Option<Decision>) -> Result<Person, Box<Outcome>> {
    let choose = ask.choose_account || visit.form.get("emulator_choose").is_some();
    let hint = if choose { None } else { visit.form.get("login_hint") };
    if let Some(upn) = visit.form.get("emulator_account").or(hint) {
        return find_person(visit, upn).ok_or_else(|| {
            let error = EntraError::with_text(
                50034,
                format!(
                    "The user account '{upn}' does not exist in any directory. To sign into this application, the account \
                     must be added to the directory."
                ),
            );
            Box::new(accounts_page(visit, Some(&error)))
        });
    }
    match visit.call.policy.interaction {
        Interaction::WrongUser => Err(Box::new(refused(EntraError::new(50020)))),
        Interaction::Accept | Interaction::Decline => {
            administrator(visit).ok_or_else(|| Box::new(refused(EntraError::new(50034))))
        }
        Interaction::Ask if ask.silent => Err(Box::new(refused(EntraError::new(50058)))),
        Interaction::Ask if decision == Some(Decision::Cancel) => Err(Box::new(cancelled())),
        Interaction::Ask => Err(Box::new(accounts_page(visit, None))),
    }
}

fn consent(visit: &Visit, ask: &Ask, decision: Option<Decision>, person: Person) -> Outcome {
    let directory = visit.state.directory();
    let principal = directory.service_principal(person.tenant.id, visit.app.client_id);
    if principal.as_ref().is_some_and(|principal| principal.disabled) {
        let text = format!("Application '{}'({}) is disabled.", visit.app.client_id, visit.app.display_name);
        return refused(EntraError::with_text(7_000_112, text));
    }
    let granted = principal.is_some_and(|principal| {
        ask.roles.iter().all(|role| principal.roles.contains(role))
            // Signing in itself is granted with the app's presence.
            && ask.scopes.iter().all(|scope| is_openid(scope) || principal.scopes.contains(scope))
    });
    if granted && !ask.even_if_granted {
        return Outcome::Accepted(person);
    }
    if ask.silent {
        return refused(EntraError::new(65001).named("consent_required"));
    }
    let needs_admin = ask.for_organization || !ask.roles.is_empty();
    if needs_admin && !person.account.admin {
        return match decision {
            Some(_) => refused(EntraError::new(90094)),
            None => visit.show(Page::needs_admin(&visit.app, &person, &visit.form)),
        };
    }
    match decision {
        None => visit.show(Page::consent(&ConsentPage {
            app: &visit.app,
            person: &person,
            roles: &ask.roles,
            scopes: &ask.scopes,
            for_organization: needs_admin,
            redirect_uri: &visit.redirect_uri,
            form: &visit.form,
        })),
        Some(Decision::Cancel) => cancelled(),
        Some(Decision::Accept) => {
            let grant = Grant { roles: ask.roles.clone(), scopes: ask.scopes.clone() };
            directory.consent(person.tenant.id, visit.app.client_id, &grant);
            Outcome::Accepted(person)
        }
    }
}

fn find_person(visit: &Visit, upn: &str) -> Option<Person> {
    let (_, domain) = upn.rsplit_once('@')?;
    let tenant = visit.state.directory().find_tenant(domain).filter(|tenant| !tenant.deleted)?;
    let accounts = visit.state.directory().accounts(&tenant);
    let account = accounts.into_iter().find(|account| account.upn.eq_ignore_ascii_case(upn))?;
    Some(Person { tenant, account })
}

/// Whom the policy signs in: the administrator of the path's tenant, of the hinted one, or of the first there is.
fn administrator(visit: &Visit) -> Option<Person> {
    let directory = visit.state.directory();
    let hinted = || directory.find_tenant(visit.form.get("domain_hint")?);
    let tenant = match visit.segment.tenant() {
        Some(tenant) => tenant.clone(),
        None => hinted().or_else(|| directory.tenants(1).into_iter().next())?,
    };
    let account = directory.accounts(&tenant).into_iter().find(|account| account.admin)?;
    Some(Person { tenant, account })
}

fn accounts_page(visit: &Visit, problem: Option<&EntraError>) -> Outcome {
    let directory = visit.state.directory();
    let tenants = match visit.segment.tenant() {
        Some(tenant) => vec![tenant.clone()],
        None => directory.tenants(SHOWN_TENANTS),
    };
    let people: Vec<Person> = tenants
        .into_iter()
        .flat_map(|tenant| {
            let accounts = directory.accounts(&tenant);
            accounts.into_iter().map(move |account| Person { tenant: tenant.clone(), account })
        })
        .collect();
    visit.show(Page::accounts(&AccountsPage {
        app: &visit.app,
        people: &people,
        problem: problem.map(|error| error.text.as_str()),
        form: &visit.form,
    }))
}

fn not_in_tenant(visit: &Visit, person: &Person) -> EntraError {
    let tenant = visit.segment.tenant().map_or("consumers", |tenant| tenant.display_name.as_str());
    let text = format!(
        "User account '{}' from identity provider 'https://sts.windows.net/{}/' does not exist in tenant '{tenant}' and \
         cannot access the application '{}'({}) in that tenant. The account needs to be added as an external user in the \
         tenant first. Sign out and sign in again with a different account.",
        person.account.upn, person.tenant.id, visit.app.client_id, visit.app.display_name
    );
    EntraError::with_text(50020, text)
}

fn is_openid(scope: &str) -> bool {
    OPENID_SCOPES.contains(&scope)
}

fn refused(error: EntraError) -> Outcome {
    Outcome::Refused { error, cancelled: false }
}

fn cancelled() -> Outcome {
    Outcome::Refused { error: EntraError::new(65004), cancelled: true }
}
