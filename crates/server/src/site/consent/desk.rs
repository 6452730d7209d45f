//! The way of one person: link, Microsoft's page, callback, live page. Each step reads the ledger anew and writes one row.
//!
//! Never takes a tenant from an address: a tenant is stored only after a token of the token endpoint has named it, for this
//! browser and this flow, and an app-only token of that tenant carries the permission. Whatever fails, no tenant is stored.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::consent::{
    Acceptance, Claimant, ConsentFlow, DoorRules, FLOW_LIFETIME, Invitation, Leg, PERMISSION_PATIENCE, Standing, Taken,
    TenantRefusal, VISIT_LIFETIME, Visit, may_connect, may_take_on,
};
use engine::model::TenantState;
use engine::tile::collect_from;
use engine::time::later;
use ledger::{Ledger, LedgerError};
use protocol::consent::{
    Answer, CallbackFault, ConsentAsk, ConsentFault, Directory, RedeemError, SignIn, admin_consent_page,
    authorize_page, parse_callback, sign_in_page,
};
use protocol::entra::EntraError;
use protocol::ids::TenantId;
use protocol::secret::AuthorizationCode;
use protocol::time::Timestamp;
use protocol::token::{TokenEndpoint, TokenError};
use tokio::time::Instant;
use url::Url;

use super::browser::{Binding, Secret, new_state, state_digest};
use super::pages::Ending;
use super::{ConsentMethod, ConsentSettings};
use crate::collector::Reception;
use crate::tokens::TokenCause;
use crate::tokens::consent::{Redemption, RedemptionFailure};

/// Where the callback is, on the public site: the redirect URI that is registered.
pub const CALLBACK_PATH: &str = "/consent/callback";

/// Journeys that may begin at once, and how fast more become possible: an invitation to a thousand customers at nine in the
/// morning passes; somebody who opens one link in a loop does not fill the ledger.
const STARTS_AT_ONCE: f64 = 100.0;
const STARTS_PER_SECOND: f64 = 10.0;

/// Between two looks at whether a permission has arrived.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Tenants whose last look is remembered.
const LOOKS_MAX: usize = 4096;

/// Why a journey ended without a tenant, and Microsoft's error if there was one.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) error: Option<Box<EntraError>>,
}

impl From<Ending> for Ended {
    fn from(ending: Ending) -> Self {
        Self { ending, error: None }
    }
}

impl From<CallbackFault> for Ended {
    fn from(fault: CallbackFault) -> Self {
        Ending::Malformed(fault).into()
    }
}

impl From<LedgerError> for Ended {
    fn from(error: LedgerError) -> Self {
        tracing::error!(error = %crate::chain(&error), "a consent could not be written down");
        Ending::Unwell.into()
    }
}

/// Where a callback leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// To another page of Microsoft's.
    Microsoft(Url),
    /// To the live page of this tenant.
    Live(TenantId),
}

/// What the live page has to show.
#[derive(Debug)]
pub(super) enum Progress {
    /// The tenant has proven itself; its permission is awaited.
    Waiting(ConsentFault),
    /// It was taken on.
    Connected,
}

/// Receives people.
pub(super) struct Desk {
    pub(super) reception: Reception,
    pub(super) settings: ConsentSettings,
    redirect_uri: String,
    starts: Mutex<(f64, Instant)>,
    looks: Mutex<HashMap<TenantId, (Instant, ConsentFault)>>,
}

impl Desk {
    pub(super) fn new(reception: Reception, settings: ConsentSettings) -> Self {
        let redirect_uri = settings.url.page(CALLBACK_PATH);
        let starts = Mutex::new((STARTS_AT_ONCE, Instant::now()));
        Self { reception, settings, redirect_uri, starts, looks: Mutex::default() }
    }

    /// A person opened a link: where to send it.
    pub(super) async fn start(&self, link: &Secret, browser: &Secret) -> Result<Url, Ended> {
        let now = self.now();
        let found = self.ledger().invitation_by_secret(link.digest()).await?;
        let invitation = found.ok_or(Ending::UnknownLink)?;
        still_open(&invitation, now)?;
        if !self.admits() {
            return Err(Ending::Crowded.into());
        }
        let leg = match self.settings.method {
            ConsentMethod::V1 => Leg::Authorize,
            ConsentMethod::V2 => Leg::AdminConsent,
        };
        self.send_off(browser, &invitation, leg, invitation.tenant).await
    }

    /// Notes that an answer may come, and makes the address of the page that gives it.
    async fn send_off(
        &self,
        browser: &Secret,
        invitation: &Invitation,
        leg: Leg,
        tenant: Option<TenantId>,
    ) -> Result<Url, Ended> {
        let now = self.now();
        let state = new_state();
        let flow = ConsentFlow {
            state: state_digest(&state),
            browser: browser.digest(),
            invitation: invitation.number,
            leg,
            tenant,
            expires_at: later(now, FLOW_LIFETIME),
        };
        self.ledger().begin_consent(flow, now).await?;
        let binding = Binding::of(browser, &state);
        let ask = self.ask(leg, tenant);
        Ok(match leg {
            Leg::Authorize => authorize_page(&ask, &state, &binding.nonce, &binding.challenge()),
            Leg::AdminConsent => admin_consent_page(&ask, &state),
            Leg::SignIn => sign_in_page(&ask, &state, &binding.nonce, &binding.challenge()),
        })
    }

    /// A person came back.
    pub(super) async fn conclude(&self, query: &str, browser: Option<&Secret>) -> Result<Onward, Ended> {
        let callback = parse_callback(query)?;
        let browser = browser.ok_or(Ending::OtherBrowser)?;
        let now = self.now();
        let digest = state_digest(&callback.state);
        let flow = match self.ledger().take_consent(digest, browser.digest(), now).await? {
            Taken::Flow(flow) => flow,
            Taken::OtherBrowser => return Err(Ending::OtherBrowser.into()),
            Taken::Unknown => return Err(Ending::UnknownFlow.into()),
        };
        let invitation = self.ledger().invitation(flow.invitation).await?.ok_or(Ending::UnknownLink)?;
        still_open(&invitation, now)?;
        match (flow.leg, callback.answer) {
            (_, Answer::Error(error)) => {
                let ending = Ending::Microsoft(ConsentFault::of_callback(&error));
                Err(Ended { ending, error: Some(Box::new(error)) })
            }
            (Leg::Authorize | Leg::SignIn, Answer::Code(code)) => {
                let binding = Binding::of(browser, &callback.state);
                let sign_in = self.redeem(&flow, &code, &binding).await?;
                if flow.leg == Leg::SignIn && flow.tenant != Some(sign_in.tenant) {
                    return Err(Ending::OtherTenant.into());
                }
                self.receive(browser, &invitation, sign_in).await
            }
            (Leg::AdminConsent, Answer::AdminConsent { claimed }) => {
                // A claim that could not be accepted anyway ends here; any other has yet to be proven.
                self.may_connect(&invitation, claimed)?;
                self.send_off(browser, &invitation, Leg::SignIn, Some(claimed)).await.map(Onward::Microsoft)
            }
            (Leg::Authorize | Leg::SignIn, Answer::AdminConsent { .. }) | (Leg::AdminConsent, Answer::Code(_)) => {
                Err(Ending::WrongAnswer.into())
            }
        }
    }

    async fn redeem(&self, flow: &ConsentFlow, code: &AuthorizationCode, binding: &Binding) -> Result<SignIn, Ended> {
        let endpoint = if flow.leg == Leg::Authorize { TokenEndpoint::V1 } else { TokenEndpoint::V2 };
        let ask = self.ask(flow.leg, flow.tenant);
        let redemption = Redemption { ask, endpoint, code, verifier: &binding.verifier, nonce: &binding.nonce };
        self.reception.tokens().redeem(&redemption).await.map_err(|failure| {
            tracing::warn!(error = %crate::chain(&failure), "a code was not redeemed");
            match failure {
                RedemptionFailure::Transport(_) => Ending::Microsoft(ConsentFault::MicrosoftDown).into(),
                RedemptionFailure::NoCredential => Ending::Microsoft(ConsentFault::OurFault).into(),
                RedemptionFailure::Answer(error) => {
                    let ending = Ending::Microsoft(ConsentFault::of_redemption(&error));
                    let error = if let RedeemError::Entra(error) = error { Some(error) } else { None };
                    Ended { ending, error }
                }
            }
        })
    }

    /// A tenant has proven itself: it is taken on if its permission is there, and waited for if it may be on its way.
    async fn receive(&self, browser: &Secret, invitation: &Invitation, sign_in: SignIn) -> Result<Onward, Ended> {
        let tenant = sign_in.tenant;
        let there = self.ledger().tenant(tenant).await?;
        let was_offboarded = there.is_some_and(|there| there.state == TenantState::Removed);
        let claimant = Claimant { tenant, role: sign_in.role, was_offboarded };
        may_take_on(&self.rules(invitation), &claimant)
            .map_err(|refusal| turned_away(invitation, &claimant.tenant, refusal))?;
        let now = self.now();
        let visit = Visit {
            browser: browser.digest(),
            tenant,
            invitation: invitation.number,
            account: sign_in.account,
            proven_at: now,
            accepted_at: None,
            expires_at: later(now, VISIT_LIFETIME),
        };
        let looked = self.look(tenant).await;
        match &looked {
            Err(ended) if !may_arrive(ended) => return looked.map(|()| Onward::Live(tenant)),
            Err(_) | Ok(()) => {}
        }
        self.ledger().prove_consent(visit.clone(), now).await?;
        if looked.is_ok() {
            self.accept(&visit).await?;
        }
        Ok(Onward::Live(tenant))
    }

    /// How it stands for a browser that has proven its tenant; takes the tenant on when its permission has arrived.
    pub(super) async fn progress(&self, browser: Option<&Secret>, tenant: TenantId) -> Result<Progress, Ended> {
        let now = self.now();
        let browser = browser.ok_or(Ending::NoVisit)?.digest();
        let visit = self.ledger().consent_visit(browser, tenant, now).await?.ok_or(Ending::NoVisit)?;
        if visit.accepted_at.is_some() {
            return Ok(Progress::Connected);
        }
        if now >= later(visit.proven_at, PERMISSION_PATIENCE) {
            return Err(Ending::Microsoft(ConsentFault::PermissionMissing).into());
        }
        let looked = match self.recent_look(tenant) {
            Some(fault) => Err(Ending::Microsoft(fault).into()),
            None => self.look(tenant).await,
        };
        match looked {
            Ok(()) => {
                self.accept(&visit).await?;
                Ok(Progress::Connected)
            }
            Err(Ended { ending: Ending::Microsoft(fault), .. }) if passes(fault) => Ok(Progress::Waiting(fault)),
            Err(ended) => Err(ended),
        }
    }

    /// Whether an app-only token of the tenant carries the permission.
    async fn look(&self, tenant: TenantId) -> Result<(), Ended> {
        let (fault, error) = match self.reception.tokens().look(tenant).await {
            Ok(grant) if grant.permits_reading() => return Ok(()),
            Ok(_) => (ConsentFault::PermissionMissing, None),
            Err(TokenCause::Transport(_) | TokenCause::NoProof(_)) => (ConsentFault::MicrosoftDown, None),
            Err(TokenCause::App { step, .. }) => (ConsentFault::of_app_step(step), None),
            Err(TokenCause::Token(error)) => {
                let fault = ConsentFault::of_app_token(&error);
                (fault, if let TokenError::Entra(error) = error { Some(error) } else { None })
            }
        };
        tracing::info!(%tenant, fault = fault.as_str(), "a tenant that consented gives no token to read with yet");
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, (at, _)| at.elapsed() < LOOK_AGAIN);
        if looks.len() < LOOKS_MAX {
            looks.insert(tenant, (Instant::now(), fault));
        }
        Err(Ended { ending: Ending::Microsoft(fault), error })
    }

    fn recent_look(&self, tenant: TenantId) -> Option<ConsentFault> {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(&tenant).filter(|(at, _)| at.elapsed() < LOOK_AGAIN).map(|(_, fault)| *fault)
    }

    async fn accept(&self, visit: &Visit) -> Result<(), Ended> {
        let (now, tenant) = (self.now(), visit.tenant);
        let accepted = self.ledger().accept_consent(visit.browser, tenant, collect_from(now), now).await?;
        match accepted {
            Acceptance::Added | Acceptance::CameBack | Acceptance::WasHere => {
                let (invitation, acceptance) = (visit.invitation.0, accepted.as_str());
                tracing::info!(%tenant, invitation, acceptance, "a tenant has consented");
                self.reception.metrics().consent(acceptance);
                self.reception.welcome(tenant);
                Ok(())
            }
            Acceptance::Repeated => Ok(()),
            Acceptance::Refused(standing) => Err(Ending::Link(standing).into()),
            Acceptance::NoVisit => Err(Ending::NoVisit.into()),
        }
    }

    fn may_connect(&self, invitation: &Invitation, tenant: TenantId) -> Result<(), Ended> {
        let rules = self.rules(invitation);
        may_connect(rules.invited, rules.allowed, tenant).map_err(|refusal| turned_away(invitation, &tenant, refusal))
    }

    fn rules(&self, invitation: &Invitation) -> DoorRules<'_> {
        DoorRules {
            invited: invitation.tenant,
            allowed: self.settings.allowed_tenants.as_deref(),
            role_required: self.settings.role_required,
        }
    }

    fn ask(&self, leg: Leg, tenant: Option<TenantId>) -> ConsentAsk<'_> {
        let directory = match (leg, tenant) {
            (_, Some(tenant)) => Directory::Tenant(tenant),
            (Leg::Authorize, None) => Directory::Common,
            (Leg::AdminConsent | Leg::SignIn, None) => Directory::Organizations,
        };
        let settings = self.reception.settings();
        let client_id = settings.app.client_id;
        ConsentAsk { cloud: &settings.cloud, client_id, redirect_uri: &self.redirect_uri, directory }
    }

    /// Whether one more journey may begin now.
    fn admits(&self) -> bool {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *starts;
        let left = (left + since.elapsed().as_secs_f64() * STARTS_PER_SECOND).min(STARTS_AT_ONCE);
        let admits = left >= 1.0;
        *starts = (if admits { left - 1.0 } else { left }, Instant::now());
        admits
    }

    pub(super) fn ledger(&self) -> &dyn Ledger {
        self.reception.ledger()
    }

    fn now(&self) -> Timestamp {
        self.reception.clock().now()
    }
}

fn turned_away(invitation: &Invitation, tenant: &TenantId, refusal: TenantRefusal) -> Ended {
    tracing::warn!(%tenant, invitation = invitation.number.0, reason = refusal.as_str(), "a tenant that may not be connected");
    Ending::Refused(refusal).into()
}

fn still_open(invitation: &Invitation, now: Timestamp) -> Result<(), Ended> {
    match invitation.standing(now) {
        Standing::Open => Ok(()),
        standing => Err(Ending::Link(standing).into()),
    }
}

/// What may still become good without anybody doing something.
fn passes(fault: ConsentFault) -> bool {
    matches!(fault, ConsentFault::PermissionMissing | ConsentFault::MicrosoftDown | ConsentFault::Busy)
}

fn may_arrive(ended: &Ended) -> bool {
    matches!(ended.ending, Ending::Microsoft(fault) if passes(fault))
}
