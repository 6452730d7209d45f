//! The kinds of trouble with Entra ID, and which answer is which.
//!
//! Never one alarm a tenant for a fault that all tenants share: what is wrong with the app's own credential stops the app,
//! once (entra.md §6).

use std::time::Duration;

use http::StatusCode;

use super::{EntraError, table};
use crate::error::{AdminStep, BackOffCause, Concern};

/// What the token endpoint asks for when it throttles without saying how long (entra.md §5.5).
pub const THROTTLE_WAIT: Duration = Duration::from_secs(60);

/// The wait after a request loop was detected (50196): something asks far too often, and a minute would not end it.
pub const LOOP_WAIT: Duration = Duration::from_secs(15 * 60);

/// What is to be done about an error of Entra ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntraDisposition {
    /// Ask again, no sooner than this.
    RetryAfter {
        /// The wait.
        wait: Duration,
        /// Why.
        cause: BackOffCause,
    },
    /// Ask again, with growing waits, and use the old token while it lives.
    BackOff {
        /// Why.
        cause: BackOffCause,
    },
    /// Ask once more with a new assertion; if that gets the same answer, it is the operator's.
    NewAssertion {
        /// What a repetition means.
        if_repeated: AppStep,
    },
    /// The tenant's own state: tell the operator the step, and look again slowly.
    NeedsTenantAdmin(AdminStep),
    /// The app's own fault, the same for all tenants: stop asking, raise one alarm.
    StopApp(AppStep),
    /// The consent that is under way did not succeed. From a daemon's grant: nothing to retry.
    ConsentFailed(ConsentStep),
    /// An error nobody has described: show it as it is, and try again slowly.
    RetrySlowly,
    /// The request was wrong; sending it again cannot help. Show it as our fault.
    Bug,
}

/// What the operator can mend, for all tenants at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppStep {
    /// The client secret is wrong, or its id was pasted.
    CorrectSecret,
    /// The client secret has expired.
    RenewSecret,
    /// The credential is refused, and nothing says why.
    CheckCredential,
    /// The certificate is not registered on the app.
    UploadCertificate,
    /// The certificate is revoked, or outside its own validity.
    RotateCertificate,
    /// This machine's clock is wrong.
    CheckClock,
    /// The federated credential does not match issuer, audience or subject.
    FixFederation,
    /// There is no token to present as the federated credential, or an old one.
    ProvideAssertion,
    /// The app registration does not fit.
    FixRegistration,
    /// The app is registered for a single tenant.
    MakeMultitenant,
    /// The app, or the request, is another cloud's.
    FixCloud,
}

/// Why a consent did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsentStep {
    /// Begin again: the code is used up, expired or malformed, or its verifier does not fit.
    Restart,
    /// The person declined.
    Declined,
    /// The account is another directory's.
    OtherAccount,
    /// An administrator has to approve.
    WaitForAdmin,
    /// The person has to pass another challenge.
    Challenge,
}

/// The four classes of entra.md §6, and the leg that has a person before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// Network, 5xx, 429, transient codes.
    Now,
    /// State owned by the customer.
    Slowly,
    /// Credential faults: one alarm, not a thousand.
    StopApp,
    /// Ours.
    Bug,
    /// A person has to act before anything can be asked again.
    Person,
}

impl EntraDisposition {
    /// Its class.
    pub fn class(self) -> RetryClass {
        match self {
            Self::RetryAfter { .. } | Self::BackOff { .. } | Self::NewAssertion { .. } => RetryClass::Now,
            Self::NeedsTenantAdmin(_) | Self::RetrySlowly => RetryClass::Slowly,
            Self::StopApp(_) => RetryClass::StopApp,
            Self::ConsentFailed(_) => RetryClass::Person,
            Self::Bug => RetryClass::Bug,
        }
    }

    /// How far the trouble reaches.
    pub fn concern(self) -> Concern {
        match self {
            Self::StopApp(_) => Concern::App,
            Self::RetryAfter { .. }
            | Self::BackOff { .. }
            | Self::NewAssertion { .. }
            | Self::NeedsTenantAdmin(_)
            | Self::ConsentFailed(_)
            | Self::RetrySlowly
            | Self::Bug => Concern::Tenant,
        }
    }

    /// What is wrong, in the operator's words; a fragment without a full stop.
    pub fn problem(self) -> &'static str {
        match self {
            Self::RetryAfter { cause, .. } | Self::BackOff { cause } => match cause {
                BackOffCause::Throttled => "Entra ID is throttling token requests",
                BackOffCause::ServiceFault => "Entra ID has a fault of its own",
            },
            Self::NewAssertion { if_repeated } => if_repeated.problem(),
            Self::NeedsTenantAdmin(step) => step.problem(),
            Self::StopApp(step) => step.problem(),
            Self::ConsentFailed(step) => step.problem(),
            Self::RetrySlowly => "Entra ID answered with an error that is not in the table",
            Self::Bug => "Entra ID refused the form of the request",
        }
    }

    /// The step that mends it; a sentence without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::RetryAfter { .. } | Self::BackOff { .. } => "nothing to do: it is retried by itself",
            Self::NewAssertion { if_repeated } => if_repeated.remedy(),
            Self::NeedsTenantAdmin(step) => step.remedy(),
            Self::StopApp(step) => step.remedy(),
            Self::ConsentFailed(step) => step.remedy(),
            Self::RetrySlowly => "look the AADSTS number up at https://login.microsoftonline.com/error",
            Self::Bug => "please report this with the trace id and the time",
        }
    }
}

impl AppStep {
    /// What is wrong, in the operator's words; a fragment without a full stop.
    pub fn problem(self) -> &'static str {
        match self {
            Self::CorrectSecret => "the client secret is wrong",
            Self::RenewSecret => "the client secret has expired",
            Self::CheckCredential => "Entra ID refuses the app's credential",
            Self::UploadCertificate => "the certificate is not registered on the app",
            Self::RotateCertificate => "the certificate is revoked or outside its validity",
            Self::CheckClock => "the assertion is outside its validity by Entra ID's clock",
            Self::FixFederation => "the federated credential does not match the token presented",
            Self::ProvideAssertion => "there is no valid token to present as the federated credential",
            Self::FixRegistration => "the app registration does not fit the request",
            Self::MakeMultitenant => "the app is registered for a single tenant",
            Self::FixCloud => "the app and the tenant are in different clouds",
        }
    }

    /// The step that mends it; a sentence without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::CorrectSecret => "put the secret's value (not its id) into the credential's file or variable",
            Self::RenewSecret => "add a new secret to the app registration, or better a certificate, and configure it",
            Self::CheckCredential => "check app.client_id and [[app.credential]] against the app registration",
            Self::UploadCertificate => {
                "upload the certificate of [[app.credential]] to the app registration; allow a few minutes after that"
            }
            Self::RotateCertificate => "make a new certificate, upload it to the app registration, and configure it",
            Self::CheckClock => "set this machine's clock by NTP",
            Self::FixFederation => {
                "compare issuer, subject and audience of the federated credential, letter for letter; allow a few \
                 minutes after a change"
            }
            Self::ProvideAssertion => {
                "see that whatever writes token_file renews it, or that the managed identity is assigned to this machine"
            }
            Self::FixRegistration => "correct the app registration: permissions, redirect URI, platform",
            Self::MakeMultitenant => "set the app's supported accounts to any organizational directory",
            Self::FixCloud => "set [cloud] name to the cloud the app is registered in; each cloud needs its own app",
        }
    }

    /// Whether it is the credential that was refused, so that another one may be accepted.
    pub fn is_credentials(self) -> bool {
        match self {
            Self::CorrectSecret
            | Self::RenewSecret
            | Self::CheckCredential
            | Self::UploadCertificate
            | Self::RotateCertificate
            | Self::CheckClock
            | Self::FixFederation
            | Self::ProvideAssertion => true,
            Self::FixRegistration | Self::MakeMultitenant | Self::FixCloud => false,
        }
    }

    /// For how long after the credential was registered the same answer may still mean "not yet everywhere".
    pub fn settles_within(self) -> Option<Duration> {
        match self {
            Self::UploadCertificate | Self::FixFederation => Some(Duration::from_secs(5 * 60)),
            Self::CorrectSecret
            | Self::RenewSecret
            | Self::CheckCredential
            | Self::RotateCertificate
            | Self::CheckClock
            | Self::ProvideAssertion
            | Self::FixRegistration
            | Self::MakeMultitenant
            | Self::FixCloud => None,
        }
    }
}

impl ConsentStep {
    /// What is wrong, in the operator's words; a fragment without a full stop.
    pub fn problem(self) -> &'static str {
        match self {
            Self::Restart => "the consent attempt is no longer valid",
            Self::Declined => "consent was declined",
            Self::OtherAccount => "the account belongs to another directory",
            Self::WaitForAdmin => "an administrator has to approve the consent",
            Self::Challenge => "Entra ID asks the person for another proof",
        }
    }

    /// The step that mends it; a sentence without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Restart => "open the consent link again",
            Self::Declined => "send a new consent link when the tenant's admin is ready to accept",
            Self::OtherAccount => "sign in with an administrator account of the tenant to be connected",
            Self::WaitForAdmin => "wait for the tenant's administrator, or send the link to them",
            Self::Challenge => "sign in again and complete the challenge",
        }
    }
}

/// Throttling first, by status; then the number; then `error`; then the status.
pub(super) fn of_error(error: &EntraError) -> EntraDisposition {
    let row = error.code().and_then(table::row).map(|row| row.disposition);
    if error.status == StatusCode::TOO_MANY_REQUESTS {
        let told = error.retry_after.unwrap_or(THROTTLE_WAIT);
        let wait = if row == Some(table::LOOP) { told.max(LOOP_WAIT) } else { told };
        return EntraDisposition::RetryAfter { wait, cause: BackOffCause::Throttled };
    }
    let found = row.or_else(|| error.error.as_deref().and_then(of_word)).unwrap_or_else(|| of_status(error.status));
    match (found, error.retry_after) {
        (EntraDisposition::BackOff { cause }, Some(wait)) => EntraDisposition::RetryAfter { wait, cause },
        (EntraDisposition::RetryAfter { wait, cause }, Some(told)) => {
            EntraDisposition::RetryAfter { wait: wait.max(told), cause }
        }
        (other, _) => other,
    }
}

/// OAuth's words, for numbers that are not in the table.
fn of_word(error: &str) -> Option<EntraDisposition> {
    Some(match error {
        "invalid_client" => EntraDisposition::StopApp(AppStep::CheckCredential),
        "unauthorized_client" | "invalid_grant" | "consent_required" => {
            EntraDisposition::NeedsTenantAdmin(AdminStep::GiveConsent)
        }
        "access_denied" => EntraDisposition::NeedsTenantAdmin(AdminStep::AllowApp),
        "invalid_resource" => EntraDisposition::NeedsTenantAdmin(AdminStep::CheckCloud),
        "invalid_tenant" => EntraDisposition::NeedsTenantAdmin(AdminStep::CheckTenant),
        "interaction_required" | "login_required" => EntraDisposition::ConsentFailed(ConsentStep::Challenge),
        "invalid_request" | "invalid_scope" | "unsupported_grant_type" | "unsupported_response_type" => {
            EntraDisposition::Bug
        }
        "temporarily_unavailable" | "server_error" => EntraDisposition::BackOff { cause: BackOffCause::ServiceFault },
        "slow_down" => EntraDisposition::BackOff { cause: BackOffCause::Throttled },
        _ => return None,
    })
}

fn of_status(status: StatusCode) -> EntraDisposition {
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return EntraDisposition::BackOff { cause: BackOffCause::ServiceFault };
    }
    EntraDisposition::RetrySlowly
}
