//! Why a consent did not succeed, in the words of the customer's admin: what happened, what to do next, and whose turn it is.
//!
//! Never shows Entra ID's own text, which anybody can write into a callback. The operator's sentences, for the same
//! errors, are in [`crate::entra`]; here nobody is expected to know what an app registration is.

use crate::consent::RedeemError;
use crate::consent::redemption::ProofProblem;
use crate::entra::{AppStep, ConsentStep, EntraDisposition, EntraError};
use crate::error::{AdminStep, BackOffCause};
use crate::token::{TokenError, TokenProblem};

use ConsentFault as Fault;

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mender {
    /// The person in front of the page, or a colleague.
    Customer,
    /// Whoever sent the link.
    Sender,
    /// Time.
    Nobody,
}

/// Why a consent did not succeed: a closed list, from every error of entra.md §6 and what our own checks find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsentFault {
    /// Cancel was pressed.
    Declined,
    /// The account may not consent for its organization.
    NotAdmin,
    /// Entra ID has passed the request to the organization's administrators.
    AwaitingApproval,
    /// The account is another organization's.
    OtherAccount,
    /// The account is a personal one.
    PersonalAccount,
    /// Another proof of identity is needed.
    Challenge,
    /// The registration asks for a permission that Microsoft has retired.
    RetiredPermission,
    /// The registration does not fit.
    Registration,
    /// The organization has no Office 365.
    NoOffice365,
    /// The organization is in another national cloud.
    WrongCloud,
    /// Conditional Access.
    PolicyBlocks,
    /// The organization demands an assignment.
    NotAssigned,
    /// The app is switched off.
    AppDisabled,
    /// Microsoft does not know the organization.
    TenantUnknown,
    /// The organization is managed by a partner, and the app is not authorised there.
    PartnerManaged,
    /// The attempt is no longer good.
    StartAgain,
    /// It went through, and the permission is not there.
    PermissionMissing,
    /// Microsoft has a fault.
    MicrosoftDown,
    /// Microsoft asks us to wait.
    Busy,
    /// The operator's credential or request is at fault.
    OurFault,
    /// An error nobody has described.
    Unknown,
}

impl ConsentFault {
    /// Every fault.
    pub const ALL: [Self; 21] = [
        Self::Declined,
        Self::NotAdmin,
        Self::AwaitingApproval,
        Self::OtherAccount,
        Self::PersonalAccount,
        Self::Challenge,
        Self::RetiredPermission,
        Self::Registration,
        Self::NoOffice365,
        Self::WrongCloud,
        Self::PolicyBlocks,
        Self::NotAssigned,
        Self::AppDisabled,
        Self::TenantUnknown,
        Self::PartnerManaged,
        Self::StartAgain,
        Self::PermissionMissing,
        Self::MicrosoftDown,
        Self::Busy,
        Self::OurFault,
        Self::Unknown,
    ];

    /// What an error means that came back to the callback: the number first, then OAuth's word.
    pub fn of_callback(error: &EntraError) -> Self {
        if let Some(fault) = error.code().and_then(of_number) {
            return fault;
        }
        if error.is_described() {
            return of_disposition(error.disposition());
        }
        match error.error.as_deref() {
            // Without a number, these are what pressing Cancel looks like (entra.md §3.5).
            Some("access_denied" | "permission_denied" | "consent_required") => Self::Declined,
            Some("unauthorized_client" | "invalid_request" | "invalid_scope" | "unsupported_response_type") => {
                Self::Registration
            }
            Some("invalid_resource") => Self::NoOffice365,
            Some("login_required" | "interaction_required") => Self::Challenge,
            Some("server_error" | "temporarily_unavailable") => Self::MicrosoftDown,
            _ => Self::Unknown,
        }
    }

    /// What the failure of a redemption means.
    pub fn of_redemption(error: &RedeemError) -> Self {
        match error {
            RedeemError::Entra(error) => of_token_answer(error),
            RedeemError::Unreadable(_) => Self::MicrosoftDown,
            RedeemError::NotProven(ProofProblem::PersonalAccount) => Self::PersonalAccount,
            RedeemError::NotProven(_) => Self::StartAgain,
        }
    }

    /// What it means that the consenting tenant gives out no token for the app.
    pub fn of_app_token(error: &TokenError) -> Self {
        match error {
            TokenError::Entra(error) => of_token_answer(error),
            TokenError::Unreadable(_) => Self::MicrosoftDown,
            TokenError::Unusable(TokenProblem::WrongAudience { .. }) => Self::WrongCloud,
            TokenError::Unusable(_) => Self::OurFault,
        }
    }

    /// What a fault of the app means to a customer.
    pub fn of_app_step(step: AppStep) -> Self {
        match step {
            AppStep::FixRegistration | AppStep::MakeMultitenant => Self::Registration,
            AppStep::FixCloud => Self::WrongCloud,
            AppStep::CorrectSecret
            | AppStep::RenewSecret
            | AppStep::CheckCredential
            | AppStep::UploadCertificate
            | AppStep::RotateCertificate
            | AppStep::CheckClock
            | AppStep::FixFederation
            | AppStep::ProvideAssertion => Self::OurFault,
        }
    }

    /// The word for machines. Never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::NotAdmin => "not_admin",
            Self::AwaitingApproval => "awaiting_approval",
            Self::OtherAccount => "other_account",
            Self::PersonalAccount => "personal_account",
            Self::Challenge => "challenge",
            Self::RetiredPermission => "retired_permission",
            Self::Registration => "registration",
            Self::NoOffice365 => "no_office_365",
            Self::WrongCloud => "wrong_cloud",
            Self::PolicyBlocks => "policy_blocks",
            Self::NotAssigned => "not_assigned",
            Self::AppDisabled => "app_disabled",
            Self::TenantUnknown => "tenant_unknown",
            Self::PartnerManaged => "partner_managed",
            Self::StartAgain => "start_again",
            Self::PermissionMissing => "permission_missing",
            Self::MicrosoftDown => "microsoft_down",
            Self::Busy => "busy",
            Self::OurFault => "our_fault",
            Self::Unknown => "unknown",
        }
    }

    /// The page's heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Declined => "The permission was declined",
            Self::NotAdmin => "An administrator is needed",
            Self::AwaitingApproval => "Your administrators have been asked",
            Self::OtherAccount => "This account belongs to another organization",
            Self::PersonalAccount => "This is a personal account",
            Self::Challenge => "Microsoft needs another proof of who you are",
            Self::RetiredPermission => "The application asks for a permission that no longer exists",
            Self::Registration => "The application is not set up correctly",
            Self::NoOffice365 => "Your organization has no Office 365 audit records",
            Self::WrongCloud => "Your organization is in another Microsoft cloud",
            Self::PolicyBlocks => "A Conditional Access policy blocks the connection",
            Self::NotAssigned => "Your organization demands an assignment",
            Self::AppDisabled => "The application is switched off",
            Self::TenantUnknown => "Microsoft does not know this organization",
            Self::PartnerManaged => "A partner manages this organization",
            Self::StartAgain => "This attempt is no longer valid",
            Self::PermissionMissing => "The permission has not arrived",
            Self::MicrosoftDown => "Microsoft's sign-in service does not work at the moment",
            Self::Busy => "Microsoft asks us to wait",
            Self::OurFault => "Something is wrong on our side",
            Self::Unknown => "Microsoft refused the connection",
        }
    }

    /// What happened, in a sentence or two.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Declined => "Somebody chose Cancel on Microsoft's page, so nothing was connected.",
            Self::NotAdmin => {
                "The permission is for your whole organization, and your account may not give it. Nothing was connected."
            }
            Self::AwaitingApproval => {
                "Microsoft has passed the request to the administrators of your organization. Nothing is connected until \
                 one of them approves it."
            }
            Self::OtherAccount => {
                "The account you signed in with is not a member of the organization to be connected. Nothing was connected."
            }
            Self::PersonalAccount => {
                "Audit records belong to organizations; a personal Microsoft account has none. Nothing was connected."
            }
            Self::Challenge => {
                "Your organization asks for another step, such as multi-factor authentication, and it was not finished."
            }
            Self::RetiredPermission => {
                "Microsoft has retired a permission that is on the application's list, and refuses the whole list \
                 (AADSTS650051). There is nothing wrong with your account."
            }
            Self::Registration => {
                "Microsoft refused the request because of how the application is registered. There is nothing wrong with \
                 your account."
            }
            Self::NoOffice365 => {
                "Microsoft's audit service does not exist in this organization, most often because it has no Office 365 \
                 subscription."
            }
            Self::WrongCloud => {
                "This link is for organizations of another Microsoft cloud than yours, for example commercial instead of \
                 government."
            }
            Self::PolicyBlocks => {
                "A policy of your organization keeps the application out, by its address, its risk or its device."
            }
            Self::NotAssigned => "Users or applications must be assigned in your organization before they may be used.",
            Self::AppDisabled => "The application is disabled in your organization or by its owner.",
            Self::TenantUnknown => "The organization this link is for was not found: it was deleted, or is elsewhere.",
            Self::PartnerManaged => {
                "Your organization is managed through a partner, and the application is not authorised for it yet."
            }
            Self::StartAgain => "It took too long, or it was completed or used already. Nothing was connected.",
            Self::PermissionMissing => {
                "Microsoft took the consent, and the application still has no permission to read audit records. After a \
                 first consent that can take Microsoft some minutes."
            }
            Self::MicrosoftDown => "Nothing was connected, and nothing is wrong with your account.",
            Self::Busy => "Too many requests were made in a short time. Nothing was connected.",
            Self::OurFault => {
                "Microsoft does not accept the credential or the request of this service. Nothing was connected, and \
                 nothing is wrong with your account."
            }
            Self::Unknown => "Microsoft gave a reason that this service does not know. Nothing was connected.",
        }
    }

    /// What to do next.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Declined => {
                "If that was a mistake, open the link again and choose Accept. If you have questions about what is read, \
                 ask whoever sent you the link."
            }
            Self::NotAdmin => {
                "Send the link to an administrator of your organization (a Global Administrator, for example), or open it \
                 again and sign in with an administrator's account."
            }
            Self::AwaitingApproval => "Ask an administrator to approve the request, then open the link again.",
            Self::OtherAccount => {
                "Open the link again in a private window and sign in with an administrator's account of the organization \
                 to be connected."
            }
            Self::PersonalAccount => "Open the link again and sign in with your work account.",
            Self::Challenge => "Open the link again and complete every step Microsoft asks for.",
            Self::RetiredPermission => {
                "Tell whoever sent you the link: the retired permission has to be removed from the app registration."
            }
            Self::Registration => "Tell whoever sent you the link, with the number below.",
            Self::NoOffice365 => {
                "Check that you signed in to the right organization. If you did, tell whoever sent you the link."
            }
            Self::WrongCloud => "Tell whoever sent you the link which Microsoft cloud your organization is in.",
            Self::PolicyBlocks => {
                "Look at the application's sign-ins in the Microsoft Entra admin center: they name the policy. Exclude the \
                 application from it, or allow this service's address, then open the link again."
            }
            Self::NotAssigned => {
                "In the Microsoft Entra admin center, under Enterprise applications, assign the application, then open the \
                 link again."
            }
            Self::AppDisabled => {
                "In the Microsoft Entra admin center, under Enterprise applications, allow sign-in to the application. If \
                 it is allowed there, tell whoever sent you the link."
            }
            Self::TenantUnknown => "Check with whoever sent you the link which organization it is meant for.",
            Self::PartnerManaged => "Have the partner, or an administrator of your own organization, consent first.",
            Self::StartAgain => "Open the link again and go through the steps without a long pause.",
            Self::PermissionMissing => {
                "Wait a few minutes and open the link again. If it stays, tell whoever sent you the link."
            }
            Self::MicrosoftDown | Self::Busy => "Open the link again in a few minutes.",
            Self::OurFault | Self::Unknown => "Tell whoever sent you the link, with the number below.",
        }
    }

    /// Whose turn it is.
    pub fn mender(self) -> Mender {
        match self {
            Self::Declined
            | Self::NotAdmin
            | Self::AwaitingApproval
            | Self::OtherAccount
            | Self::PersonalAccount
            | Self::Challenge
            | Self::PolicyBlocks
            | Self::NotAssigned
            | Self::AppDisabled
            | Self::PartnerManaged
            | Self::StartAgain => Mender::Customer,
            Self::RetiredPermission
            | Self::Registration
            | Self::NoOffice365
            | Self::WrongCloud
            | Self::TenantUnknown
            | Self::OurFault
            | Self::Unknown => Mender::Sender,
            Self::PermissionMissing | Self::MicrosoftDown | Self::Busy => Mender::Nobody,
        }
    }
}

/// The token endpoint's own refusals. A word without a number is the app's or the tenant's state, not a person's choice.
fn of_token_answer(error: &EntraError) -> Fault {
    error.code().and_then(of_number).unwrap_or_else(|| of_disposition(error.disposition()))
}

/// The numbers whose sentence for the customer is finer than the operator's step.
fn of_number(code: u32) -> Option<Fault> {
    Some(match code {
        650_051 => Fault::RetiredPermission,
        90_095 => Fault::AwaitingApproval,
        90_099 => Fault::PartnerManaged,
        50_105 | 501_051 => Fault::NotAssigned,
        90_038 | 900_382 | 900_432 => Fault::WrongCloud,
        1_000_031 | 90_036 => Fault::MicrosoftDown,
        // A redemption at the wrong segment, or a code for another app: whatever it was, a new attempt is a good one.
        700_005 => Fault::StartAgain,
        _ => return None,
    })
}

fn of_disposition(disposition: EntraDisposition) -> Fault {
    match disposition {
        EntraDisposition::RetryAfter { cause, .. } | EntraDisposition::BackOff { cause } => match cause {
            BackOffCause::Throttled => Fault::Busy,
            BackOffCause::ServiceFault => Fault::MicrosoftDown,
        },
        EntraDisposition::NeedsTenantAdmin(step) => match step {
            AdminStep::GiveConsent | AdminStep::GrantPermission => Fault::PermissionMissing,
            AdminStep::AllowApp => Fault::AppDisabled,
            AdminStep::AllowNetwork => Fault::PolicyBlocks,
            AdminStep::CheckTenant => Fault::TenantUnknown,
            AdminStep::CheckCloud | AdminStep::SubscribeToOffice365 => Fault::NoOffice365,
            AdminStep::EnableAuditing | AdminStep::AskMicrosoft => Fault::Unknown,
        },
        EntraDisposition::StopApp(step) => Fault::of_app_step(step),
        EntraDisposition::ConsentFailed(step) => match step {
            ConsentStep::Restart => Fault::StartAgain,
            ConsentStep::Declined => Fault::Declined,
            ConsentStep::OtherAccount => Fault::OtherAccount,
            ConsentStep::WaitForAdmin => Fault::NotAdmin,
            ConsentStep::Challenge => Fault::Challenge,
        },
        EntraDisposition::NewAssertion { .. } | EntraDisposition::Bug => Fault::OurFault,
        EntraDisposition::RetrySlowly => Fault::Unknown,
    }
}
